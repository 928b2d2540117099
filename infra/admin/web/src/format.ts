// Numbers and times for people.

const units = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(n?: number): string {
  if (n === undefined) return "–";
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) { n /= 1024; unit++; }
  return (unit === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)) + " " + units[unit];
}

export function duration(ms?: number): string {
  if (ms === undefined) return "–";
  if (ms < 1000) return Math.round(ms) + " ms";
  const s = ms / 1000;
  if (s < 60) return s.toFixed(1) + " s";
  if (s < 3600) return both(Math.floor(s / 60), "min", Math.floor(s % 60), "s");
  if (s < 48 * 3600) return both(Math.floor(s / 3600), "h", Math.floor((s % 3600) / 60), "min");
  return Math.round(s / 86400) + " days";
}

const both = (a: number, unit: string, b: number, smaller: string) => a + " " + unit + (b ? " " + b + " " + smaller : "");

export const percent = (ratio?: number) => (ratio === undefined ? "–" : (100 * ratio).toFixed(ratio < 0.1 ? 1 : 0) + " %");
export const count = (n?: number) => (n === undefined ? "–" : n.toLocaleString("en"));
export const words = (s?: string) => (s ?? "").replaceAll("_", " ");
/** by says who began a run. What began by itself has no actor but its trigger. */
export const by = (trigger: string, actor?: string) => [words(trigger), actor === trigger ? "" : actor].filter(Boolean).join(" ");
export const exact = (time: string) => new Date(time).toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });
export const short = (id?: string) => (id ?? "").slice(-8);

/** ago says how long before or after now a time is. */
export function ago(time: string | undefined, now: number): string {
  if (!time) return "never";
  const ms = now - Date.parse(time);
  const text = duration(Math.abs(ms)).replace(/ \d+ s$/, "").replace(/\.\d s$/, " s");
  if (Math.abs(ms) < 2000) return "now";
  return ms > 0 ? text + " ago" : "in " + text;
}
