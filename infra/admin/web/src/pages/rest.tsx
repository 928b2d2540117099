import { useEffect, useState } from "preact/hooks";
import { call, get, post, query } from "../api";
import { count, duration, exact, words } from "../format";
import { feed } from "../live";
import type { Alert, Delivery, Job, Message, RunRecord } from "../types";
import { Act, Empty, Failure, Status, Title, When, useAnswer } from "../ui";
import { gist } from "./runs";

export function Jobs() {
  const { answer, failure, again } = useAnswer(() => get<{ jobs: Job[] }>("/jobs"), []);
  const act = (j: Job, verb: string) => async () => { await post("/jobs/" + encodeURIComponent(j.name) + "/" + verb); again(); };
  return (
    <>
      <Title>Jobs</Title>
      <p class="faint">What runs by schedule, as template.yaml and its parameters say.</p>
      <Failure of={failure} />
      {answer?.jobs.length === 0 ? <Empty>No schedule is on.</Empty> : null}
      {answer?.jobs.length ? (
        <div class="scroll long"><table>
          <thead><tr><th>Job</th><th>Schedule</th><th>State</th><th>Last</th><th>Next</th><th>Then</th><th><span class="faint">Change</span></th></tr></thead>
          <tbody>{answer.jobs.map((j) => (
            <tr key={j.name}>
              <td class="name">{j.name}</td><td><code>{j.schedule}</code> {j.timezone}</td><td><Status of={j.state} /></td><td data-label="last"><When at={j.last} /></td><td data-label="next">{j.next?.[0] ? <When at={j.next[0]} /> : "–"}</td>
              <td data-label="then">{j.next?.slice(1, 3).map((at) => new Date(at).toLocaleString([], { weekday: "short", hour: "2-digit", minute: "2-digit" })).join(", ")}</td>
              <td>{j.state === "paused" ? <Act run={act(j, "resume")} label={"Resume " + j.name}>Resume</Act> : <Act run={act(j, "pause")} label={"Pause " + j.name}>Pause</Act>}</td>
            </tr>
          ))}</tbody>
        </table></div>
      ) : null}
    </>
  );
}

export function Recoveries() {
  const { answer, failure } = useAnswer(() => get<{ records: RunRecord[] }>("/recoveries"), []);
  return (
    <>
      <Title>Recoveries</Title>
      <Failure of={failure} />
      {answer?.records.length === 0 ? <Empty>No table was ever corrupted. Recoveries appear here rung by rung, with what was lost.</Empty> : null}
      <ul class="cards">{answer?.records.map((r) => (
        <li class="card" key={r.run_id + r.entry.table}>
          <div class="head"><h2>{r.entry.table}</h2><Status of={r.entry.status} /></div>
          <p><When at={r.started_at} />, {duration(r.entry.duration_ms)} · <a href={"/runs/" + r.run_id}>the run</a></p>
          <p>{gist(r.entry)}</p>
          <ol>{((r.entry.rungs ?? r.entry.steps ?? []) as Record<string, unknown>[]).map((s, i) => (
            <li key={i}>{words(String(s.rung ?? s.name ?? ""))}: {words(String(s.outcome ?? s.status ?? ""))} {s.detail ? <span class="faint">{String(s.detail)}</span> : null} {typeof s.duration_ms === "number" ? duration(s.duration_ms) : ""}</li>
          ))}</ol>
          <p>{r.entry.lost_rows ? "Lost: " + count(r.entry.lost_rows as number) + " rows." : r.entry.lost_since ? "Lost: what was written after " + exact(String(r.entry.lost_since)) + "." : r.entry.status === "repaired" ? "Nothing was lost." : ""}</p>
        </li>
      ))}</ul>
    </>
  );
}

export function Alerts() {
  const { answer: open, failure } = useAnswer(() => get<{ alerts: Alert[] }>("/alerts"), []);
  const { answer: channels } = useAnswer(() => get<{ channels: { name: string; kind?: string }[]; push: boolean }>("/alerts/channels"), []);
  const { answer: log, again } = useAnswer(() => get<{ deliveries: Delivery[] }>("/alerts/deliveries" + query({ limit: 100 })), []);
  if (failure) return <><Title>Alerts</Title><Failure of={failure} /></>;
  return (
    <>
      <Title>Alerts</Title>
      {open?.alerts.length === 0 ? <Empty>Nothing is wrong.</Empty> : null}
      <ul class="cards">{open?.alerts.map((a) => (
        <li class={"card is-" + (a.severity === "critical" ? "bad" : "warn")} key={a.key}>
          <div class="head"><h2>{words(a.key).replace("/", ": ")}</h2><Status of={a.severity} /></div>
          <p>since <When at={a.since} />; {a.told ? (a.times > 1 ? "told " + a.times + " times" : "told once") : "not told yet"}</p>
          <ul>{a.members.slice(0, 10).map((m) => <li key={m.function + m.table}>{a.key.startsWith(m.function) ? "" : m.function + " "}{m.table} <span class="faint">{m.detail}</span></li>)}{a.count > 10 ? <li class="faint">and {a.count - 10} more</li> : null}</ul>
          {a.hint ? <p><strong>Try:</strong> {a.hint}</p> : null}
        </li>
      ))}</ul>
      <h2>Channels</h2>
      {channels?.channels.length === 0 ? <Empty>Nobody is told. Add a webhook, an SNS topic or a contact for push under <code>alerts:</code> in tablekeeper.yaml.</Empty> : null}
      <div class="row">{channels?.channels.map((c) => <Act key={c.name} label={"Test " + c.name} run={() => post("/alerts/test", { channel: c.name })}>Test {c.name}{c.kind && c.kind !== c.name ? " (" + c.kind + ")" : ""}</Act>)}</div>
      {channels?.push ? <Push /> : null}
      <h2>Deliveries</h2>
      {log?.deliveries.length ? (
        <div class="scroll long"><table>
          <thead><tr><th>Made</th><th>Channel</th><th>Status</th><th>What</th><th class="number">Attempts</th><th>Error</th><th><span class="faint">Again</span></th></tr></thead>
          <tbody>{log.deliveries.map((d) => (
            <tr key={d.id}><td><When at={d.created} /></td><td>{d.channel}</td><td><Status of={d.status} /></td><td class="wrap">{d.body?.data?.title}</td><td class="number" data-label="attempts">{d.attempts}</td><td class="wrap">{d.error}</td>
              <td>{d.status === "pending" ? <When at={d.next} /> : <Act run={async () => { await post("/alerts/deliveries/" + d.id + "/redeliver"); again(); }}>Redeliver</Act>}</td></tr>
          ))}</tbody>
        </table></div>
      ) : <Empty>Nothing was told yet.</Empty>}
    </>
  );
}

const canPush = "serviceWorker" in navigator && "PushManager" in window;
const subscription = async () => (await navigator.serviceWorker.ready).pushManager.getSubscription();

/** Push subscribes this browser. */
function Push() {
  const [subscribed, setSubscribed] = useState<boolean>();
  useEffect(() => { if (canPush) subscription().then((s) => setSubscribed(s !== null), () => {}); }, []);
  if (!canPush) return <p class="faint">This browser cannot receive push messages here (it needs https or localhost).</p>;
  const subscribe = async () => {
    const { key } = await get<{ key: string }>("/alerts/push/key");
    const registration = await navigator.serviceWorker.ready;
    const made = await registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key });
    await post("/alerts/push/subscriptions", made.toJSON());
    setSubscribed(true);
  };
  const unsubscribe = async () => {
    const made = await subscription();
    if (made) {
      await call("DELETE", "/alerts/push/subscriptions" + query({ endpoint: made.endpoint }));
      await made.unsubscribe();
    }
    setSubscribed(false);
  };
  return (
    <p class="row">
      {subscribed ? <Act run={unsubscribe}>Unsubscribe this browser</Act> : <Act run={subscribe}>Subscribe this browser</Act>}
      <span role="status">{subscribed === undefined ? "" : subscribed ? "This browser is subscribed." : "This browser is not subscribed."}</span>
    </p>
  );
}

export function Feed() {
  return (
    <>
      <Title>Live feed</Title>
      {feed.value.length === 0 ? <Empty>Nothing has happened since this page was opened. Events appear here as they come.</Empty> : null}
      {feed.value.length ? (
        <div class="scroll long"><table aria-live="polite">
          <thead><tr><th class="number">No.</th><th>When</th><th>Event</th><th>Table</th><th>What</th></tr></thead>
          <tbody>{feed.value.map((m) => (
            <tr key={m.sequence ?? m.id}>
              <td class="number">{m.sequence}</td><td><When at={m.timestamp} /></td><td><span class={/failed|corruption|degraded/.test(m.type) ? "bad" : ""}>{words(m.type)}</span></td>
              <td>{m.table ?? ""}</td><td class="wrap">{what(m)} {m.run_id ? <a href={"/runs/" + m.run_id}>the run</a> : null}</td>
            </tr>
          ))}</tbody>
        </table></div>
      ) : null}
    </>
  );
}

function what(m: Message): string {
  if (m.results?.length === 1) return gist(m.results[0]!) || words(m.results[0]!.status);
  if (m.counts) return `${m.counts.tables} tables: ${m.counts.done} done, ${m.counts.skipped} skipped, ${m.counts.failed} failed`;
  return [words(m.reason), m.detail, m.error].filter(Boolean).join(" · ");
}
