// What is known now, and how it stays so: one WebSocket a tab, which goes on after the last event that was seen. Where the service has no
// stream of events, we ask again and again.

import { signal, batch } from "@preact/signals";
import { type Problem, get, oneByOne } from "./api";
import type { Fleet, Message, Session, Table } from "./types";

export const session = signal<Session | null | undefined>(undefined); // undefined: not asked yet
export const fleet = signal<Fleet | undefined>(undefined);
export const tables = signal<Table[] | undefined>(undefined);
export const feed = signal<Message[]>([]); // newest first
export const progress = signal<Record<string, Message>>({}); // by run id
export const connection = signal<"connecting" | "live" | "polling" | "disconnected">("connecting");
export const upgraded = signal(false);
export const changed = signal(0); // counts what may have changed what is shown
export const now = signal(Date.now());

const maxFeed = 500;
let socket: WebSocket | undefined;
let last = -1; // sequence number of the newest event seen; -1: none yet
let wait = 500;
let refreshing: number | undefined;
let retrying: number | undefined;
let polling: number | undefined;

/** lacks tells whether the service is one that does not serve a part of the API. */
export const lacks = (part: string) => session.value?.without?.includes(part) ?? false;

setInterval(() => { now.value = Date.now(); }, 1000);

export async function refresh(): Promise<void> {
  const whole = get<Fleet>("/fleet");
  if (lacks("stream")) await whole; // one after the other: two at a time would be answered by two, who both look at all tables
  const [f, t] = await Promise.all([whole, get<{ tables: Table[] }>("/tables")]);
  batch(() => { fleet.value = f; tables.value = t.tables; });
}

const together = 150; // ms: events that come within are answered by one refresh
const later = 5_000; // ms, after a refresh that failed

/** soon refreshes once for many events that come together. */
export function soon(): void {
  refreshing ??= window.setTimeout(() => {
    refreshing = undefined;
    changed.value++;
    refreshed();
  }, together);
}

const refreshed = oneByOne(() => refresh().catch(() => { clearTimeout(retrying); retrying = retry(soon); }));

/** retry asks again what failed while the stream is live, which may be silent for hours; without it, all is asked again when it is back. */
export function retry(ask: () => void): number {
  return window.setTimeout(() => { if (connection.value === "live") ask(); }, later);
}

export function connect(): void {
  if (session.value && lacks("stream")) { poll(0); return; }
  if (!session.value || (socket && socket.readyState <= WebSocket.OPEN)) return;
  const scheme = location.protocol === "https:" ? "wss://" : "ws://";
  const s = (socket = new WebSocket(scheme + location.host + "/api/admin/events" + (last < 0 ? "" : "?after=" + last)));
  let opened = false;
  s.onopen = () => { opened = true; wait = 500; };
  s.onmessage = (event) => receive(JSON.parse(event.data) as Message);
  s.onclose = (event) => {
    if (socket !== s) return;
    socket = undefined;
    connection.value = "disconnected";
    if (event.code === 1008) { session.value = null; return; }
    if (!session.value) return;
    if (!opened) stillSignedIn(); // why a stream was refused, a browser does not say
    setTimeout(connect, wait * (0.5 + Math.random() / 2));
    wait = Math.min(wait * 2, 15000);
  };
}

const often = 10_000; // between two looks
const share = 10; // a look may take a tenth of the time: of a large fleet it takes long, and costs

/** poll looks after a while, and then again and again, but not while nobody sees the page. */
function poll(after: number): void {
  clearTimeout(polling);
  polling = window.setTimeout(async () => {
    if (!session.value) return;
    if (document.hidden) { polling = undefined; return; } // goes on when it is seen
    const begun = Date.now();
    try {
      await refresh();
      connection.value = "polling";
      changed.value++;
      if (fleet.value && (fleet.value.build !== session.value?.build || fleet.value.version !== session.value.version)) upgraded.value = true;
    } catch {
      if (session.value) connection.value = "disconnected";
    }
    if (session.value) poll(Math.max(often, share * (Date.now() - begun)));
  }, after);
}

document.addEventListener("visibilitychange", () => { if (!document.hidden && session.value && lacks("stream") && polling === undefined) poll(0); });

function stillSignedIn(): void {
  get("/session").catch((p: Problem) => { if (p.status === 401) session.value = null; });
}

export function disconnect(): void {
  const s = socket;
  socket = undefined;
  s?.close();
  clearTimeout(polling);
  polling = undefined;
  last = -1;
}

function receive(m: Message): void {
  if (m.type === "hello") { greet(m); return; }
  if (m.type === "gap") { soon(); return; }
  if (m.sequence) last = m.sequence;
  if (m.type === "run_progress") {
    if (m.run_id && !progress.value[m.run_id]) soon(); // a run has begun
    if (m.run_id) progress.value = { ...progress.value, [m.run_id]: { ...m, received: Date.now() } };
    return;
  }
  batch(() => {
    feed.value = [m, ...feed.value].slice(0, maxFeed);
    if (m.run_id && progress.value[m.run_id]) {
      const rest = { ...progress.value };
      delete rest[m.run_id];
      progress.value = rest;
    }
  });
  soon();
}

function greet(m: Message): void {
  connection.value = "live";
  if (session.value && (m.build !== session.value.build || m.version !== session.value.version)) upgraded.value = true;
  if (m.reset || last < 0) last = m.sequence ?? 0;
  soon();
}
