package history

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// Change is what happened to a run since its last Save.
type Change struct {
	Run       Run             // its head: Entries, Phases and Log in it are not looked at
	Entries   []NumberedEntry // those that changed
	Phases    []Phase         // those that ended
	PhaseFrom int             // number of the first of them in the run
	Log       []LogLine
	LogFrom   int
}

// NumberedEntry is an entry and its place in the run.
type NumberedEntry struct {
	N int
	Entry
}

// Begin records a new run. If another run has its idempotency key, that one is returned and begun is false.
func (s *Store) Begin(ctx context.Context, r Run) (first Run, begun bool, err error) {
	err = s.update(ctx, func(tx *sql.Tx) error {
		first, begun = r, true
		if r.IdempotencyKey != "" {
			known, err := scanRun(tx.QueryRowContext(ctx, `SELECT `+runColumns+` FROM runs WHERE key = ?`, r.IdempotencyKey))
			if err == nil {
				first, begun = known, false
				return nil
			} else if !errors.Is(err, sql.ErrNoRows) {
				return err
			}
		}
		first.Seq, err = s.put(ctx, tx, r)
		return err
	})
	if err != nil {
		return r, false, fmt.Errorf("record run %s: %w", r.ID, err)
	}
	return first, begun, nil
}

// Save records what happened to a run, all or nothing. It records the whole head each time, so that a run whose
// beginning was not recorded (the disk was full, the history set aside) is there in the end.
func (s *Store) Save(ctx context.Context, c Change) error {
	err := s.update(ctx, func(tx *sql.Tx) error {
		seq, err := s.put(ctx, tx, c.Run)
		if err != nil {
			return err
		}
		if err := putEntries(ctx, tx, seq, c.Run.Function, c.Entries); err != nil {
			return err
		}
		if err := putPhases(ctx, tx, seq, c.PhaseFrom, c.Phases); err != nil {
			return err
		}
		return putLog(ctx, tx, seq, c.LogFrom, c.Log)
	})
	if err != nil {
		return fmt.Errorf("record run %s: %w", c.Run.ID, err)
	}
	return nil
}

func (s *Store) put(ctx context.Context, tx *sql.Tx, r Run) (seq int64, err error) {
	owner, err := s.own()
	if err != nil {
		return 0, err
	}
	event := string(r.Event)
	if event == "" {
		event = "{}"
	}
	err = tx.QueryRowContext(ctx, `INSERT INTO runs (id, function, job, trigger, actor, retry_of, key, event, status, reason, queued, started, ended,
			attempts, error, hint, tables, done, skipped, failed, log_dropped, owner)
		VALUES (?, ?, ?, ?, ?, ?, NULLIF(?, ''), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET status = excluded.status, reason = excluded.reason, started = excluded.started, ended = excluded.ended,
			attempts = excluded.attempts, error = excluded.error, hint = excluded.hint, tables = excluded.tables, done = excluded.done,
			skipped = excluded.skipped, failed = excluded.failed, log_dropped = excluded.log_dropped
		RETURNING seq`,
		r.ID, r.Function, r.Job, r.Trigger, r.Actor, r.RetryOf, r.IdempotencyKey, event, r.Status, r.Reason, millis(r.Queued), millis(r.Started), millis(r.Ended),
		r.Attempts, r.Error, r.Hint, r.Counts.Tables, r.Counts.Done, r.Counts.Skipped, r.Counts.Failed, r.LogDropped, owner).Scan(&seq)
	return seq, err
}

func putEntries(ctx context.Context, tx *sql.Tx, seq int64, function string, entries []NumberedEntry) error {
	if len(entries) == 0 {
		return nil
	}
	put, err := tx.PrepareContext(ctx, `INSERT INTO entries (run, n, tbl, status, reason, duration_ms, attempts, report) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (run, n) DO UPDATE SET status = excluded.status, reason = excluded.reason, duration_ms = excluded.duration_ms,
			attempts = excluded.attempts, report = excluded.report`)
	if err != nil {
		return err
	}
	defer put.Close()
	latest, err := tx.PrepareContext(ctx, `INSERT OR REPLACE INTO latest (function, tbl, run, n) VALUES (?, ?, ?, ?)`)
	if err != nil {
		return err
	}
	defer latest.Close()
	for _, e := range entries {
		if _, err := put.ExecContext(ctx, seq, e.N, e.Table, e.Status, e.Reason, e.DurationMS, e.Attempts, string(e.Report)); err != nil {
			return err
		}
		if e.Status == EntryPending || e.Status == EntryRunning {
			continue
		}
		if _, err := latest.ExecContext(ctx, function, e.Table, seq, e.N); err != nil {
			return err
		}
	}
	return nil
}

func putPhases(ctx context.Context, tx *sql.Tx, seq int64, from int, phases []Phase) error {
	for i, p := range phases {
		_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO phases (run, n, name, tbl, attempt, started, duration_ms, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			seq, from+i, p.Name, p.Table, p.Attempt, millis(p.Started), p.DurationMS, p.Bytes)
		if err != nil {
			return err
		}
	}
	return nil
}

func putLog(ctx context.Context, tx *sql.Tx, seq int64, from int, lines []LogLine) error {
	for i, l := range lines {
		_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO log (run, n, time, level, tbl, message, attrs) VALUES (?, ?, ?, ?, ?, ?, ?)`,
			seq, from+i, millis(l.Time), l.Level, l.Table, l.Message, l.Attrs)
		if err != nil {
			return err
		}
	}
	return nil
}

// JobState is where a schedule stands: the newest slot it has served (zero if none) and whether it is paused.
func (s *Store) JobState(ctx context.Context, name string) (slot time.Time, paused bool, err error) {
	var ms int64
	err = s.view(func(db *sql.DB) error {
		return db.QueryRowContext(ctx, `SELECT slot, paused FROM jobs WHERE name = ?`, name).Scan(&ms, &paused)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return time.Time{}, false, nil
	}
	if err != nil {
		return time.Time{}, false, fmt.Errorf("read state of job %s: %w", name, err)
	}
	return fromMillis(ms), paused, nil
}

// SetJobSlot keeps the newest slot that a schedule has served.
func (s *Store) SetJobSlot(ctx context.Context, name string, slot time.Time) error {
	return s.setJob(ctx, name, `INSERT INTO jobs (name, slot) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET slot = excluded.slot`, millis(slot))
}

// SetJobPaused keeps whether a schedule is paused.
func (s *Store) SetJobPaused(ctx context.Context, name string, paused bool) error {
	return s.setJob(ctx, name, `INSERT INTO jobs (name, paused) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET paused = excluded.paused`, paused)
}

func (s *Store) setJob(ctx context.Context, name, statement string, v any) error {
	err := s.update(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, statement, name, v)
		return err
	})
	if err != nil {
		return fmt.Errorf("keep state of job %s: %w", name, err)
	}
	return nil
}

// Prune removes ended runs, and events, that are too many or too old by the store's options. It returns how many runs.
func (s *Store) Prune(ctx context.Context) (removed int, err error) {
	before := millis(s.opts.Now().Add(-s.opts.KeepAge))
	for {
		n, err := s.pruneRuns(ctx, before)
		removed += n
		if err != nil {
			return removed, fmt.Errorf("prune history: %w", err)
		}
		if n == 0 {
			break
		}
	}
	err = s.update(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM events WHERE time < ? OR sequence <= (SELECT max(sequence) FROM events) - ?`, before, s.opts.KeepEvents)
		return err
	})
	if err == nil {
		err = s.update(ctx, func(tx *sql.Tx) error { return drain(ctx, tx) })
	}
	if err != nil {
		return removed, fmt.Errorf("prune history: %w", err)
	}
	return removed, nil
}

// drain gives free pages back; the pragma does one page a row.
func drain(ctx context.Context, tx *sql.Tx) error {
	rows, err := tx.QueryContext(ctx, `PRAGMA incremental_vacuum(5000)`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
	}
	return rows.Err()
}

// pruneRuns removes a few runs at a time: one with 10,000 tables has as many rows, and others wait meanwhile.
func (s *Store) pruneRuns(ctx context.Context, before int64) (n int, err error) {
	err = s.update(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT seq FROM runs WHERE ended <> 0 AND (ended < ? OR
			seq <= (SELECT seq FROM runs ORDER BY seq DESC LIMIT 1 OFFSET ?)) ORDER BY seq LIMIT 20`, before, s.opts.KeepRuns)
		if err != nil {
			return err
		}
		seqs, err := integers(rows)
		if err != nil {
			return err
		}
		for _, seq := range seqs {
			for _, statement := range []string{`DELETE FROM entries WHERE run = ?`, `DELETE FROM phases WHERE run = ?`, `DELETE FROM log WHERE run = ?`, `DELETE FROM runs WHERE seq = ?`} {
				if _, err := tx.ExecContext(ctx, statement, seq); err != nil {
					return err
				}
			}
		}
		n = len(seqs)
		return nil
	})
	return n, err
}

func integers(rows *sql.Rows) (all []int64, err error) {
	defer rows.Close()
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, rows.Err()
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// unknownError is the id of no run. It is fs.ErrNotExist.
type unknownError struct{ id string }

func (e *unknownError) Error() string { return "no run has the id " + e.id }
func (e *unknownError) Unwrap() error { return fs.ErrNotExist }

func notFound(id string) error { return &unknownError{id} }

func rawOrNil(text string) json.RawMessage {
	if text == "" {
		return nil
	}
	return json.RawMessage(text)
}
