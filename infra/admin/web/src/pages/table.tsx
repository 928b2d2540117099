import { useState } from "preact/hooks";
import { get, post, start } from "../api";
import { bytes, count, duration, exact, percent, words } from "../format";
import { lacks, now, session, tables } from "../live";
import type { Backup, Plan, Table, TableResult } from "../types";
import { Absent, Act, Empty, Failure, Status, Title, When, useAnswer } from "../ui";
import { Running } from "./overview";

export function TablePage({ name }: { name: string }) {
  const { answer: t, failure } = useAnswer(() => get<Table>("/tables/" + name), [name]);
  const { answer: kept, failure: bucketFailure } = useAnswer(() => get<{ backups: Backup[] }>("/tables/" + name + "/backups"), [name]);
  const [restoring, setRestoring] = useState<string>();
  if (failure) return <><Title>{name}</Title><Absent of={failure}><a href="/">All tables</a></Absent></>;
  if (!t) return <p class="faint">Loading …</p>;
  return (
    <>
      <Title>{name}</Title>
      <p><Status of={t.health} /> {words(t.reason)} <code>{lacks("stream") ? t.path.split("/").pop() : t.path}</code></p>
      {t.running ? <Running function={t.running.function} id={t.running.run_id} /> : null}
      <div class="row">
        <Act run={() => start("/compact/" + name)}>Compact</Act>
        <Act run={() => start("/backup/" + name)}>Back up</Act>
        <Act run={() => start("/verify/" + name)}>Prove the backup</Act>
        <Act run={() => start("/recover/" + name, { reason: "reported on the dashboard" })} kind="danger">Report corruption</Act>
        {t.state === "degraded" ? <Act run={() => start("/recover/" + name, { accept: true })}>Accept the empty table</Act> : null}
      </div>
      <Facts t={t} />
      <h2>Backups</h2>
      <Failure of={bucketFailure} />
      {kept && kept.backups.length === 0 ? <Empty>No backup yet: press <em>Back up</em>.</Empty> : null}
      {kept && kept.backups.length > 0 ? <Backups all={kept.backups} restore={setRestoring} /> : null}
      {kept && kept.backups.length > 0 && lacks("restore") ? <p class="faint">To restore one: <code>sam remote invoke RestoreFunction --stack-name STACK --event '{JSON.stringify({ table: name, backup: "latest" })}'</code>, or with a backup from the list.</p> : null}
      {restoring ? <Wizard table={name} backup={restoring} close={() => setRestoring(undefined)} /> : null}
    </>
  );
}

function Facts({ t }: { t: Table }) {
  return (
    <dl class="facts card">
      <dt>Size</dt><dd>{bytes(t.bytes)}</dd><dt>Write-ahead log</dt><dd>{bytes(t.wal_bytes)}</dd>
      <dt>Free pages</dt><dd>{percent(t.free_ratio)}, {bytes(t.free_bytes)}; compacted above {percent(t.threshold)}</dd>
      <dt>Pages</dt><dd>{count(t.page_count)} of {bytes(t.page_size)}</dd>
      <dt>Journal, auto_vacuum, encoding</dt><dd>{t.journal_mode}, {t.auto_vacuum}, {t.encoding}</dd>
      <dt>Last backup</dt><dd><When at={t.last_backup} /></dd><dt>Proved to restore</dt><dd><When at={t.last_proved} /></dd>
      {Object.entries(t.last ?? {}).map(([name, run]) => <><dt>Last run of {name}</dt><dd><a href={"/runs/" + run.run_id}><Status of={run.status} /></a> {words(run.reason)} <When at={run.at} /></dd></>)}
      {Object.entries(t.next ?? {}).map(([name, at]) => <><dt>Next run of {name}</dt><dd><When at={at} /></dd></>)}
    </dl>
  );
}

function Backups({ all, restore }: { all: Backup[]; restore: (backup: string) => void }) {
  return (
    <div class="scroll long">
      <table>
        <thead><tr><th>Made</th><th class="number">Size</th><th>Drill</th><th>Backup</th><th>{lacks("restore") ? null : <span class="faint">Restore</span>}</th></tr></thead>
        <tbody>{all.map((b) => (
          <tr key={b.backup}>
            <td><When at={b.created} /></td><td class="number">{bytes(b.size)}</td>
            <td>{b.failed ? <Status of="failed" /> : b.proved ? <><Status of="proved" /> <When at={b.proved} /></> : <span class="faint">not yet</span>}{b.superseded ? <span class="faint"> superseded</span> : null}{b.degraded ? <> <Status of="degraded" /></> : null}</td>
            <td class="wrap"><code>{b.backup}</code></td>
            <td>{session.value?.role === "operator" && !lacks("restore") ? <button onClick={() => restore(b.backup)} aria-label={"Restore " + b.backup}>Restore …</button> : null}</td>
          </tr>
        ))}</tbody>
      </table>
    </div>
  );
}

/** Wizard restores in steps: the plan, the name typed, the work, the result and how to undo it. */
function Wizard({ table, backup, close }: { table: string; backup: string; close: () => void }) {
  const { answer: plan, failure, again } = usePlan(table, backup);
  const [typed, setTyped] = useState("");
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<unknown>();
  const [result, setResult] = useState<TableResult>();
  const go = async () => {
    setBusy(true);
    setProblem(undefined);
    try { setResult(await post<TableResult>("/restore/" + table, { plan: plan!.plan })); } catch (e) { setProblem(e); again(); }
    setBusy(false);
  };
  return (
    <dialog ref={(d) => { if (d && !d.open) d.showModal(); }} onClose={close} aria-labelledby="restore-title">
      <h2 id="restore-title">Restore {table}</h2>
      <Failure of={failure} />
      {!plan && !failure ? <p class="faint">Making the plan …</p> : null}
      {plan && !result ? <PlanView plan={plan} /> : null}
      <Failure of={problem} />
      {plan && !result ? (
        <form onSubmit={(e) => { e.preventDefault(); void go(); }}>
          <p><label>Type the table's name to go on: <input value={typed} onInput={(e) => setTyped(e.currentTarget.value)} autocomplete="off" aria-label="the table's name" /></label></p>
          <div class="row">
            <button class="danger" disabled={typed !== table || busy}>{busy ? "Restoring …" : "Restore"}</button>
            <button type="button" onClick={close} disabled={busy}>Cancel</button>
          </div>
          {busy ? <RestoreProgress table={table} /> : null}
        </form>
      ) : null}
      {result ? <Result r={result} close={close} /> : null}
    </dialog>
  );
}

/** usePlan asks once, not at each event: a plan is for the state that was looked at. */
function usePlan(table: string, backup: string) {
  const [state, setState] = useState<{ asked?: boolean; answer?: Plan; failure?: unknown }>({});
  const ask = () => {
    setState((s) => ({ ...s, asked: true }));
    post<Plan>("/restore/" + table, { backup, dry_run: true }).then((answer) => setState({ asked: true, answer }), (failure) => setState({ asked: true, failure }));
  };
  if (!state.asked) ask();
  return { answer: state.answer, failure: state.failure, again: ask };
}

function RestoreProgress({ table }: { table: string }) {
  const running = tables.value?.find((t) => t.table === table)?.running;
  return running ? <Running function={running.function} id={running.run_id} /> : <progress aria-label="restore progress" />;
}

function PlanView({ plan }: { plan: Plan }) {
  const r = plan.replaces;
  return (
    <>
      <dl class="facts">
        <dt>From</dt><dd><code>{plan.backup}</code></dd><dt>Made</dt><dd><When at={plan.created} /></dd>
        <dt>Proved by a drill</dt><dd><When at={plan.proved} /></dd><dt>Content</dt><dd>{bytes(plan.file_size)}, {count(plan.record_count)} rows</dd>
        <dt>To</dt><dd><code>{plan.destination}</code></dd>
        {r ? <><dt>Replaces</dt><dd>{r.problem ? r.problem : bytes(r.file_size) + ", " + count(r.record_count) + " rows"}; kept in quarantine</dd></> : null}
        <dt>The plan holds for</dt><dd>{duration(Math.max(0, Date.parse(plan.expires_at) - now.value))}</dd>
      </dl>
      <p class="warn">What was written to the table after {exact(plan.created)} is not in this backup.</p>
      {r?.changes?.length ? <p>{r.changes.slice(0, 10).map((c) => <div key={c.sql_table}><code>{c.sql_table}</code>: {count(c.now)} rows now, {count(c.backup)} in the backup</div>)}</p> : null}
      {r?.processes?.length ? <p class="warn">Open in {r.processes.map((p) => (p.name ?? "a process") + " (" + p.pid + ")").join(", ")}: the content is written through SQLite, under them.</p> : null}
      {plan.passed_over?.length ? <p class="warn">Passed over: {plan.passed_over.map((p) => p.backup + " (" + words(p.reason) + ")").join(", ")}</p> : null}
    </>
  );
}

function Result({ r, close }: { r: TableResult; close: () => void }) {
  return (
    <div role="status">
      <p><Status of={r.status} /> {r.detail}</p>
      <dl class="facts">
        <dt>From</dt><dd><code>{r.backup_used}</code></dd><dt>Now</dt><dd>{bytes(r.file_size)}, {count(r.record_count)} rows</dd>
        <dt>Took</dt><dd>{duration(r.duration_ms)}</dd><dt>Run</dt><dd><a href={"/runs/" + r.run_id}>its log</a></dd>
      </dl>
      {r.quarantine ? <p>To undo it: what was there is in <code>{r.quarantine}</code>; docs/recovery.md says how to put it back.</p> : null}
      <button class="primary" onClick={close}>Done</button>
    </div>
  );
}
