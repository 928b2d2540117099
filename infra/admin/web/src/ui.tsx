// Small parts that every page uses.

import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Problem, oneByOne } from "./api";
import { ago, words } from "./format";
import { changed, now, retry, session, soon } from "./live";
import { arrival } from "./route";

type Tone = "good" | "warn" | "bad" | "faint";

const tones: Record<string, Tone> = {
  healthy: "good", succeeded: "good", compacted: "good", backed_up: "good", verified: "good", restored: "good", repaired: "good", swept: "good", proved: "good", delivered: "good",
  scheduled: "good", live: "good", polling: "good", accepted: "good",
  failed: "bad", degraded: "bad", error: "bad", missing: "bad", lost: "bad", disconnected: "bad", timed_out: "bad", suspect: "bad", corrupt: "bad", critical: "bad",
  partial: "warn", overdue: "warn", none: "warn", unproved: "warn", recovering: "warn", paused: "warn", cancelled: "warn", warning: "warn", connecting: "warn",
};
const symbols: Record<Tone, string> = { good: "✓", warn: "!", bad: "✗", faint: "·" };
const said: Record<string, string> = { none: "no backup", unproved: "not proved" };

export const toneOf = (status: string): Tone => tones[status] ?? "faint";

/** Status is a symbol, a word and a colour, never colour alone. */
export function Status({ of }: { of: string }) {
  const tone = toneOf(of);
  return <span class={"status " + tone}><span aria-hidden="true">{symbols[tone]} </span>{said[of] ?? words(of)}</span>;
}

export function When({ at }: { at?: string }) {
  if (!at) return <span class="faint">never</span>;
  return <time dateTime={at} title={new Date(at).toLocaleString()}>{ago(at, now.value)}</time>;
}

export function Failure({ of }: { of: unknown }) {
  if (!of) return null;
  const p = of as Problem;
  return (
    <div class="problem" role="alert">
      {p.message}{p.hint ? <div><strong>Try:</strong> {p.hint}</div> : null}
      {p.runID ? <div><a href={"/runs/" + p.runID}>the run in the way</a></div> : null}
    </div>
  );
}

/** Absent is a failure in place of a page. What is not there has a way out for people; the hint is for programs. */
export function Absent({ of, children }: { of: unknown; children: ComponentChildren }) {
  const p = of as Problem;
  if (p.status !== 404) return <Failure of={of} />;
  return <><div class="problem" role="alert">{p.message}</div><p>{children}</p></>;
}

export function Empty({ children }: { children: ComponentChildren }) {
  return <p class="empty">{children}</p>;
}

/** Act is a button for operators that shows what became of its click. */
export function Act({ children, run, kind, label, disabled }: { children: ComponentChildren; run: () => Promise<unknown>; kind?: string; label?: string; disabled?: boolean }) {
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<unknown>();
  if (session.value?.role !== "operator") return null;
  const click = async () => {
    setBusy(true);
    setFailure(undefined);
    try { await run(); soon(); } catch (e) { setFailure(e); }
    setBusy(false);
  };
  return <><button class={kind} onClick={click} disabled={busy || disabled} aria-label={label}>{children}</button><Failure of={failure} /></>;
}

/** useAnswer keeps the answer of a call, asks again when something has changed, and never shows an older answer over a newer, nor one to another question. */
export function useAnswer<T>(ask: () => Promise<T>, on: unknown[]): { answer?: T; failure?: unknown; again: () => void } {
  const [answer, setAnswer] = useState<T>();
  const [failure, setFailure] = useState<unknown>();
  const [turn, setTurn] = useState(0);
  const question = useRef<(() => void) | undefined>(undefined);
  const asked = useMemo(() => {
    let pending: number | undefined;
    const mine = oneByOne(() => ask().then(
      (a) => { if (question.current === mine) { setAnswer(() => a); setFailure(undefined); } },
      (e) => {
        if (question.current !== mine) return;
        setFailure(e);
        clearTimeout(pending);
        if (!(e.status >= 400 && e.status < 500)) pending = retry(() => { if (question.current === mine) mine(); });
      },
    ));
    return mine;
  }, on);
  question.current = asked;
  useEffect(() => () => { question.current = undefined; }, []);
  useEffect(() => { asked(); }, [asked, changed.value, turn]);
  return { answer, failure, again: () => setTurn((n) => n + 1) };
}

/** TableName asks for a table's name. What is being typed belongs to the field: the page is drawn again meanwhile, whenever an answer comes. */
export function TableName({ wanted }: { wanted: (name: string) => void }) {
  return <label>Table <input placeholder="its name, and Enter" onChange={(e) => wanted(e.currentTarget.value.trim())} /></label>;
}

export function Title({ children }: { children: string }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => { document.title = children + " · tablekeeper"; }, [children]);
  useEffect(() => {
    if (arrival.pending) heading.current?.focus({ preventScroll: true });
    arrival.pending = false;
  }, []);
  return <h1 tabIndex={-1} ref={heading}>{children}</h1>;
}
