import { useState } from "preact/hooks";
import { get, post, query, start } from "../api";
import { by, bytes, count, duration, exact, short, words } from "../format";
import { lacks } from "../live";
import { navigate } from "../route";
import type { Entry, LogLine, Phase, Run } from "../types";
import { Absent, Act, Empty, Failure, Status, TableName, Title, When, useAnswer } from "../ui";
import { Running } from "./overview";

const functions = ["compact", "backup", "verify", "restore", "recover", "sweep"];

export function Runs() {
  const [wanted, setWanted] = useState("");
  const [table, setTable] = useState("");
  const [cursor, setCursor] = useState<string>();
  const { answer, failure } = useAnswer(() => get<{ runs: Run[]; next?: string }>("/runs" + query({ function: wanted, table, cursor, limit: 50 })), [wanted, table, cursor]);
  return (
    <>
      <Title>Runs</Title>
      {lacks("jobs") ? <p class="faint">Those that were begun here in the last two days. Those by schedule are in the functions' logs.</p> : null}
      <div class="row">
        <label>Function <select value={wanted} onChange={(e) => { setWanted(e.currentTarget.value); setCursor(undefined); }}><option value="">all</option>{functions.map((f) => <option key={f}>{f}</option>)}</select></label>
        <TableName wanted={(name) => { setTable(name); setCursor(undefined); }} />
      </div>
      <Failure of={failure} />
      {answer?.runs.length === 0 && !answer.next ? <Empty>{wanted || table ? "No run fits. A table is looked for by its whole name." : lacks("jobs") ? "No run yet. They appear when somebody presses a button." : "No run yet. They appear when a schedule fires or somebody presses a button."}</Empty> : null}
      {answer && answer.runs.length > 0 ? (
        <div class="scroll long"><table>
          <thead><tr><th>Run</th><th>Function</th><th>Status</th><th>Started</th><th class="number">Took</th><th class="number">Tables</th><th>By</th></tr></thead>
          <tbody>{answer.runs.map((r) => (
            <tr key={r.id}>
              <td><a href={"/runs/" + r.id}><code>{short(r.id)}</code></a></td><td>{r.function}</td><td><Status of={r.status} /> <span class="faint">{words(r.reason)}</span></td>
              <td><When at={r.started_at ?? r.queued_at} /></td><td class="number" data-label="took">{duration(r.duration_ms)}</td>
              <td class="number" data-label="tables">{r.counts.tables}{r.counts.failed ? <span class="bad"> ({r.counts.failed} failed)</span> : null}</td><td data-label="by">{by(r.trigger, r.actor)}</td>
            </tr>
          ))}</tbody>
        </table></div>
      ) : null}
      <div class="row">{cursor ? <button onClick={() => setCursor(undefined)}>Newest</button> : null}{answer?.next ? <button onClick={() => setCursor(answer.next)}>Older</button> : null}</div>
    </>
  );
}

export function RunPage({ id }: { id: string }) {
  const { answer: r, failure, again } = useAnswer(() => get<Run>("/runs/" + id), [id]);
  if (failure) return <><Title>Run</Title><Absent of={failure}><a href="/runs">All runs</a></Absent></>;
  if (!r) return <p class="faint">Loading …</p>;
  const running = r.status === "running" || r.status === "queued";
  return (
    <>
      <Title>{r.function + " " + short(r.id)}</Title>
      <p><Status of={r.status} /> {words(r.reason)} · <When at={r.started_at ?? r.queued_at} /> <span class="faint">({exact(r.started_at ?? r.queued_at)})</span> · {duration(r.duration_ms)} · {by(r.trigger, r.actor)} {r.attempts > 1 ? "· " + r.attempts + " attempts" : ""}</p>
      {r.error ? <div class="problem">{r.error}{r.hint ? <div><strong>Try:</strong> {r.hint}</div> : null}</div> : null}
      {running ? <Running function={r.function} id={r.id} counts={r.counts} /> : null}
      <div class="row">
        {running && !lacks("cancel") ? <Act kind="danger" run={async () => { await post("/runs/" + id + "/cancel"); again(); }}>Cancel</Act> : null}
        {!running && r.function !== "restore" ? <Act run={async () => navigate("/runs/" + (await start("/runs/" + id + "/retry")))}>Retry</Act> : null}
        {r.retry_of ? <a href={"/runs/" + r.retry_of}>the run it repeats</a> : null}
      </div>
      {r.entries?.length ? <><h2>Tables</h2><Entries all={r.entries} /></> : null}
      {r.phases?.length ? <><h2>Phases</h2><Timeline phases={r.phases} /></> : null}
      <h2>Log</h2>
      {lacks("log") ? <Empty>It is in CloudWatch, in the log of the function {r.function}.</Empty> : r.log?.length ? <pre tabIndex={0} aria-label="log">{r.log.map(line).join("\n")}</pre> : <Empty>Nothing was logged.</Empty>}
      {r.log_dropped ? <p class="faint">{r.log_dropped} lines over the bound were left out.</p> : null}
    </>
  );
}

const line = (l: LogLine) => [new Date(l.time).toLocaleTimeString(), l.level, l.table, l.message, l.attrs ? JSON.stringify(l.attrs) : ""].filter(Boolean).join("  ");

function Entries({ all }: { all: Entry[] }) {
  return (
    <div class="scroll long"><table>
      <thead><tr><th>Table</th><th>Status</th><th class="number">Took</th><th class="number">Blocked</th><th>What</th></tr></thead>
      <tbody>{all.map((e) => (
        <tr key={e.table}>
          <td>{e.table ? <a href={"/tables/" + e.table}>{e.table}</a> : "–"}</td><td><Status of={e.status} /></td><td class="number" data-label="took">{duration(e.duration_ms)}</td><td class="number" data-label="blocked">{duration(e.blocked_ms)}</td>
          <td class="wrap">{gist(e)}{e.hint ? <div><strong>Try:</strong> {e.hint}</div> : null}</td>
        </tr>
      ))}</tbody>
    </table></div>
  );
}

/** gist is one line for what a function reports of a table. */
export function gist(e: Entry): string {
  const n = (field: string) => e[field] as number | undefined;
  const parts: string[] = [];
  if (e.reason) parts.push(words(e.reason));
  if (e.detail ?? e.error) parts.push(String(e.detail ?? e.error));
  if (n("bytes_before") !== undefined && n("bytes_after") !== undefined && e.status === "compacted") parts.push(bytes(n("bytes_before")) + " → " + bytes(n("bytes_after")));
  if (n("bytes_stored")) parts.push(bytes(n("bytes_read")) + " → " + bytes(n("bytes_stored")));
  for (const field of ["rung", "backup_used", "backup"]) if (e[field]) parts.push(words(field) + " " + String(e[field]));
  if (e.lost_since) parts.push("lost since " + exact(String(e.lost_since)));
  if (n("lost_rows")) parts.push(count(n("lost_rows")) + " rows lost");
  return parts.join(" · ");
}

function Timeline({ phases }: { phases: Phase[] }) {
  const first = Math.min(...phases.map((p) => Date.parse(p.started_at)));
  const span = Math.max(1, ...phases.map((p) => Date.parse(p.started_at) - first + p.duration_ms));
  return (
    <ol class="timeline">{phases.slice(0, 200).map((p, i) => {
      const from = (100 * (Date.parse(p.started_at) - first)) / span;
      return (
        <li key={i}>
          <span>{words(p.name)} <span class="faint">{p.table}</span></span>
          <svg viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label={`from ${duration((from * span) / 100)}, for ${duration(p.duration_ms)}`}>
            <rect class="back" width="100" height="10" /><rect class="bar" x={from} width={Math.max(0.5, (100 * p.duration_ms) / span)} height="10" />
          </svg>
          <span class="faint">{duration(p.duration_ms)}{p.bytes ? " · " + bytes(p.bytes) : ""}</span>
        </li>
      );
    })}</ol>
  );
}
