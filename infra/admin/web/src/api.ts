// Calls to the admin API. An answer that is no success is a Problem: what went wrong, and what to do about it.

export class Problem extends Error {
  constructor(public status: number, message: string, public hint = "", public code = "", public runID = "") {
    super(message);
  }
}

export const signedOut = { handler: () => {} };

const patience = 60_000; // ms: API Gateway gives up after 30 s

export interface CallOptions { body?: unknown; headers?: Record<string, string> }

export async function call<T>(method: string, path: string, { body, headers }: CallOptions = {}): Promise<T> {
  let response: Response;
  try {
    response = await fetch("/api/admin" + path, {
      method,
      headers: { Accept: "application/json", ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(patience),
    });
  } catch {
    throw new Problem(0, "The server does not answer.", "Is tablekeeper serve running? The page goes on by itself when it is back.");
  }
  if (response.ok) return (response.status === 204 ? undefined : await response.json()) as T;
  throw await problemOf(response, path);
}

async function problemOf(response: Response, path: string): Promise<Problem> {
  if (response.status === 401 && path !== "/session") signedOut.handler();
  try {
    const p = await response.json();
    const detail = [p.detail || p.title, ...(p.errors ?? []).map((e: { message: string }) => e.message)].filter(Boolean).join(": ");
    return new Problem(response.status, detail || `The server answers ${response.status} ${response.statusText}.`, p.hint, p.code, p.run_id);
  } catch {
    return new Problem(response.status, `The server answers ${response.status} ${response.statusText}.`);
  }
}

export const get = <T>(path: string) => call<T>("GET", path);
export const post = <T>(path: string, body: unknown = {}, headers?: Record<string, string>) => call<T>("POST", path, { body, headers });

/**
 * oneByOne does work once at a time; asked for meanwhile, it is done once more at the end. So a newer answer is never overtaken by an older
 * one, and a slow server is not asked faster than it answers. work does not fail.
 */
export function oneByOne(work: () => Promise<void>): () => void {
  let busy = false, again = false;
  return async () => {
    again = true;
    if (busy) return;
    for (busy = true; again;) { again = false; await work(); }
    busy = false;
  };
}

/** start asks for work without waiting for its end; the run's id is the answer. */
export async function start(path: string, body: unknown = {}): Promise<string> {
  const answer = await post<{ run_id: string }>(path, body, { Prefer: "respond-async", "Idempotency-Key": crypto.randomUUID() });
  return answer.run_id;
}

/** query builds a query string of what is not empty. */
export function query(values: Record<string, string | number | undefined>): string {
  const q = new URLSearchParams();
  for (const [key, value] of Object.entries(values)) if (value !== undefined && value !== "") q.set(key, String(value));
  const text = q.toString();
  return text ? "?" + text : "";
}
