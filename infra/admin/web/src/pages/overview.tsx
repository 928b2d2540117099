import { start } from "../api";
import { bytes, count, duration, percent, words } from "../format";
import { fleet, lacks, now, progress, tables } from "../live";
import type { Counts, Message, Table } from "../types";
import { Act, Empty, Status, Title, When, toneOf } from "../ui";

export function Overview() {
  const f = fleet.value;
  const all = tables.value;
  if (!f || !all) return <p class="faint">Loading …</p>;
  const tone = { good: "", careful: "warn", bad: "bad" }[f.tone];
  return (
    <>
      <Title>Overview</Title>
      <p class={"sentence " + tone} role="status">{f.sentence}</p>
      {f.problems?.map((p) => <div class="banner" key={p.path}><code>{p.path}</code>: {p.detail ?? words(p.reason)}.{p.hint ? <> <strong>Try:</strong> {p.hint}</> : null}</div>)}
      <div class="row">
        <Act kind="primary" run={() => start("/backup")}>Back up all</Act>
        <Act run={() => start("/compact")}>Compact all</Act>
        <Act run={() => start("/verify")}>Prove all backups</Act>
        <span class="faint">{count(all.length)} {all.length === 1 ? "table" : "tables"}, {bytes(f.bytes)}, of which {bytes(f.free_bytes)} are free pages</span>
      </div>
      <h2>Tables</h2>
      {all.length === 0
        ? <Empty>No table yet. {lacks("stream") ? "Put one into the tables' bucket." : <>Name a folder with SQLite files: <code>tablekeeper discover .</code> finds them and writes the configuration.</>}</Empty>
        : <ul class="cards">{all.map((t) => <Card key={t.table} t={t} />)}</ul>}
    </>
  );
}

function Card({ t }: { t: Table }) {
  const tone = toneOf(t.health);
  const next = Object.entries(t.next ?? {}).sort((a, b) => a[1].localeCompare(b[1]))[0];
  const late = t.rpo_ms !== undefined && (t.backup_age_ms ?? Infinity) > t.rpo_ms;
  return (
    <li class={"card is-" + tone} data-table={t.table}>
      <div class="head"><h3><a href={"/tables/" + t.table}>{t.table}</a></h3><Status of={t.health} /></div>
      {t.reason ? <div class="faint">{words(t.reason)}</div> : null}
      <dl class="facts">
        <dt>Size</dt><dd>{bytes(t.bytes)}{t.wal_bytes ? " + " + bytes(t.wal_bytes) + " WAL" : ""}</dd>
        <dt>Free pages</dt><dd class={(t.free_ratio ?? 0) > (t.threshold ?? 1) ? "warn" : ""}>{percent(t.free_ratio)}</dd>
        <dt>Last backup</dt><dd class={late ? "warn" : ""}><When at={t.last_backup} />{t.rpo_ms ? <span class="faint together"> (at most {duration(t.rpo_ms)})</span> : null}</dd>
        <dt>Proved to restore</dt><dd><When at={t.last_proved} /></dd>
        {next ? <><dt>Next</dt><dd>{next[0]} <When at={next[1]} /></dd></> : null}
      </dl>
      <Spark points={t.free_history} limit={t.threshold} />
      {t.running ? <Running function={t.running.function} id={t.running.run_id} /> : (
        <div class="row">
          <Act label={"Compact " + t.table} run={() => start("/compact/" + t.table)}>Compact</Act>
          <Act label={"Back up " + t.table} run={() => start("/backup/" + t.table)}>Back up</Act>
          {lacks("restore") ? null : <a class="button" href={"/tables/" + t.table}>Restore …</a>}
        </div>
      )}
    </li>
  );
}

/** Spark is the share of free pages over time; the line is the threshold. */
function Spark({ points, limit }: { points?: { at: string; ratio: number }[]; limit?: number }) {
  if (!points || points.length < 2) return null;
  const top = Math.max(0.2, limit ?? 0, ...points.map((p) => p.ratio));
  const y = (ratio: number) => (26 - (24 * ratio) / top).toFixed(1);
  const path = points.map((p, i) => (i ? "L" : "M") + ((100 * i) / (points.length - 1)).toFixed(1) + " " + y(p.ratio)).join("");
  return (
    <svg class="spark" viewBox="0 0 100 28" preserveAspectRatio="none" role="img" aria-label={"free share, from " + percent(points[0]!.ratio) + " to " + percent(points.at(-1)!.ratio)}>
      {limit ? <line x1="0" x2="100" y1={y(limit)} y2={y(limit)} /> : null}<path d={path} vector-effect="non-scaling-stroke" />
    </svg>
  );
}

/** Running is the progress of a run, with percent and the time that is left. */
export function Running({ function: name, id, counts: c }: { function: string; id: string; counts?: Counts }) {
  const p: Partial<Message> | undefined = progress.value[id] ?? (c && lacks("stream") ? { total: c.tables, done: c.done + c.skipped + c.failed } : undefined);
  return (
    <div>
      <a href={"/runs/" + id}>{name} is running</a>{p?.phase ? ": " + words(p.phase) : ""} {left(p)}
      <progress aria-label={name + " progress"} {...(p?.total ? { max: p.total, value: p.done } : {})} />
    </div>
  );
}

const seen = new Map<string, { at: number; done: number; phase?: string }>();

function left(p?: Partial<Message>): string {
  if (!p?.total || !p.run_id) return "";
  const first = seen.get(p.run_id);
  if (!first || first.phase !== p.phase || first.done > p.done!) seen.set(p.run_id, { at: now.value, done: p.done!, phase: p.phase });
  const share = Math.floor((100 * p.done!) / p.total) + " %";
  const gained = first ? p.done! - first.done : 0;
  if (!first || gained <= 0) return share;
  return share + ", " + duration(((now.value - first.at) * (p.total - p.done!)) / gained) + " left";
}
