// What the admin API answers, as docs/admin-api.md says.

export interface Session { name: string; role: "viewer" | "operator"; expires_at: string; version: string; build: string; without?: string[] }
export interface Counts { tables: number; done: number; skipped: number; failed: number }
export interface LastRun { run_id: string; status: string; reason?: string; at: string; duration_ms: number }

export interface Table {
  table: string; path: string; health: string; reason?: string; state: string; missing?: boolean;
  bytes?: number; wal_bytes?: number; free_bytes?: number; free_ratio?: number; threshold?: number; page_size?: number; page_count?: number;
  journal_mode?: string; auto_vacuum?: string; encoding?: string;
  last_backup?: string; backup?: string; rpo_ms?: number; backup_age_ms?: number; last_proved?: string;
  next?: Record<string, string>; free_history?: { at: string; ratio: number }[]; last?: Record<string, LastRun>;
  running?: { run_id: string; function: string };
}

export interface Notice { id: string; text: string; hint?: string }
export interface Fleet {
  sentence: string; tone: "good" | "careful" | "bad"; tables: number; bytes: number; free_bytes: number; unwell: number;
  notices?: Notice[]; problems?: { path: string; reason: string; detail?: string; hint?: string }[]; alerts_open: number; sequence: number;
  active?: Run[]; version: string; build: string;
}

export interface Entry {
  table?: string; status: string; reason?: string; detail?: string; notes?: string[]; duration_ms?: number; blocked_ms?: number; retried?: unknown;
  error?: string; hint?: string; [field: string]: unknown;
}

export interface Phase { name: string; table?: string; attempt?: number; started_at: string; duration_ms: number; bytes?: number }
export interface LogLine { time: string; level: string; table?: string; message: string; attrs?: Record<string, unknown> }
export interface Run {
  id: string; function: string; job?: string; trigger: string; actor?: string; retry_of?: string; event?: unknown; status: string; reason?: string;
  queued_at: string; started_at?: string; ended_at?: string; duration_ms: number; attempts: number; error?: string; hint?: string; counts: Counts;
  entries?: Entry[]; phases?: Phase[]; log?: LogLine[]; log_dropped?: number;
}

export interface RunRecord { run_id: string; function: string; trigger: string; actor?: string; started_at: string; ended_at?: string; entry: Entry }
export interface Job { name: string; function: string; schedule: string; timezone?: string; state: string; last?: string; next: string[] }
export interface Backup {
  backup: string; table: string; created: string; size: number; encrypted?: boolean; proved?: string; failed?: boolean | string; degraded?: boolean; superseded?: boolean;
}

export interface Holder { pid: number; name?: string }
export interface Plan {
  plan: string; expires_at: string; table: string; backup: string; created: string; age_ms?: number; proved?: string; size?: number; file_size?: number;
  record_count?: number; destination: string;
  replaces?: { file_size?: number; record_count?: number; problem?: string; processes?: Holder[]; changes?: { sql_table: string; now: number; backup: number }[] };
  passed_over?: { backup: string; reason: string; detail?: string }[]; bucket?: string;
}

export interface TableResult extends Entry {
  run_id: string; backup_used?: string; record_count?: number; file_size?: number; quarantine?: string; method?: string;
}

export interface Message {
  type: string; sequence?: number; timestamp?: string; id?: string; table?: string; run_id?: string; function?: string; status?: string; phase?: string;
  done?: number; total?: number; note?: string; counts?: Counts; results?: Entry[]; detail?: string; reason?: string; error?: string; hint?: string; lost?: number;
  reset?: boolean; build?: string; version?: string; received?: number; trigger?: string; duration_ms?: number;
}

export interface Alert {
  key: string; severity: string; since: string; told?: string; times: number; hint?: string; run_id?: string; count: number;
  members: { function: string; table?: string; reason: string; detail?: string }[];
}

export interface Delivery { id: string; channel: string; status: string; attempts: number; created: string; next?: string; error?: string; body?: { data?: { title?: string } } }
