import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { get, query } from "../api";
import { by, bytes, duration, words } from "../format";
import type { RunRecord } from "../types";
import { Empty, Failure, Status, TableName, Title, When, useAnswer } from "../ui";

type Column = "started_at" | "table" | "status" | "duration_ms" | "bytes_before" | "bytes_after" | "blocked_ms" | "trigger";
const columns: [Column, string, boolean][] = [["started_at", "Time", false], ["table", "Table", false], ["status", "Status", false], ["duration_ms", "Took", true],
  ["bytes_before", "Before", true], ["bytes_after", "After", true], ["blocked_ms", "Blocked", true], ["trigger", "Trigger", false]];

const value = (r: RunRecord, c: Column) => (c === "started_at" || c === "trigger" ? r[c] : (r.entry[c] as string | number | undefined)) ?? "";

export function Compactions() {
  const [filter, setFilter] = useState({ table: "", status: "" });
  const [order, setOrder] = useState<{ by: Column; down: boolean }>({ by: "started_at", down: true });
  const [cursor, setCursor] = useState<string>();
  const { answer, failure } = useAnswer(() => get<{ records: RunRecord[]; next?: string }>("/compactions" + query({ ...filter, cursor, limit: 200 })), [filter.table, filter.status, cursor]);
  const want = (now: typeof filter) => { setFilter(now); setCursor(undefined); };
  const records = [...(answer?.records ?? [])].sort((a, b) => {
    const [x, y] = [value(a, order.by), value(b, order.by)];
    return (x < y ? -1 : x > y ? 1 : 0) * (order.down ? -1 : 1);
  });
  return (
    <>
      <Title>Compaction history</Title>
      <div class="row">
        <TableName wanted={(table) => want({ ...filter, table })} />
        <label>Status <select value={filter.status} onChange={(e) => want({ ...filter, status: e.currentTarget.value })}><option value="">all</option><option>compacted</option><option>skipped</option><option>failed</option></select></label>
        <a class="button" href={"/api/admin/compactions" + query({ ...filter, format: "csv" })} download="compactions.csv">CSV</a>
      </div>
      <Failure of={failure} />
      {answer?.records.length === 0 && (filter.table || filter.status) ? <Empty>No compaction fits. A table is looked for by its whole name.</Empty> : answer?.records.length === 0 ? <Empty>No compaction yet. One runs by schedule, or press <em>Compact all</em> on the <a href="/">overview</a>.</Empty> : null}
      {records.length > 1 ? <Pauses records={records} /> : null}
      {records.length > 0 ? (
        <div class="scroll"><table>
          <thead><tr>{columns.map(([c, name, number]) => (
            <th key={c} class={number ? "number" : ""} aria-sort={order.by === c ? (order.down ? "descending" : "ascending") : "none"}>
              <button onClick={() => setOrder({ by: c, down: order.by === c ? !order.down : true })}>{name}{order.by === c ? (order.down ? " ↓" : " ↑") : ""}</button>
            </th>
          ))}</tr></thead>
          <tbody>{records.map((r) => (
            <tr key={r.run_id + r.entry.table}>
              <td><a href={"/runs/" + r.run_id}><When at={r.started_at} /></a></td><td class="name">{r.entry.table}</td>
              <td><Status of={r.entry.status} /> <span class="faint">{words(r.entry.reason)}</span></td><td class="number">{duration(r.entry.duration_ms)}</td>
              <td class="number">{bytes(r.entry.bytes_before as number | undefined)}</td><td class="number">{bytes(r.entry.bytes_after as number | undefined)}</td>
              <td class="number">{duration(r.entry.blocked_ms)}</td><td>{by(r.trigger, r.actor)}</td>
            </tr>
          ))}</tbody>
        </table></div>
      ) : null}
      <div class="row">{cursor ? <button onClick={() => setCursor(undefined)}>Newest</button> : null}{answer?.next ? <button onClick={() => setCursor(answer.next)}>Older</button> : null}</div>
    </>
  );
}

/** Pauses draws how long users were held up; what the table below says in numbers. */
function Pauses({ records }: { records: RunRecord[] }) {
  const place = useRef<HTMLDivElement>(null);
  const points = records.filter((r) => r.entry.status === "compacted").sort((a, b) => a.started_at.localeCompare(b.started_at));
  useEffect(() => {
    const div = place.current;
    if (!div || points.length < 2) return;
    const ink = getComputedStyle(div).getPropertyValue("--ink"), brand = getComputedStyle(div).getPropertyValue("--brand"), grid = getComputedStyle(div).getPropertyValue("--line");
    const axis = { stroke: ink, grid: { stroke: grid }, ticks: { stroke: grid } };
    const plot = new uPlot({
      width: div.clientWidth, height: 170, scales: { x: { time: true } }, axes: [axis, { ...axis, values: (_, v) => v.map((x) => x + " ms"), size: 64 }], legend: { show: false },
      series: [{}, { label: "blocked", stroke: brand, width: 2, points: { show: true } }],
    }, [points.map((r) => Date.parse(r.started_at) / 1000), points.map((r) => r.entry.blocked_ms ?? 0)], div);
    const resize = new ResizeObserver(() => plot.setSize({ width: div.clientWidth, height: 170 }));
    resize.observe(div);
    return () => { resize.disconnect(); plot.destroy(); };
  }, [points.length, points.at(-1)?.run_id]);
  if (points.length < 2) return null;
  return <><h2>Pauses</h2><div class="chart" ref={place} role="img" aria-label="how long users were held up by each compaction; the table below has the numbers" /></>;
}
