import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { call, get, post, signedOut } from "./api";
import { connect, connection, disconnect, fleet, lacks, session, soon, upgraded } from "./live";
import { Compactions } from "./pages/compactions";
import { Overview } from "./pages/overview";
import { Alerts, Feed, Jobs, Recoveries } from "./pages/rest";
import { RunPage, Runs } from "./pages/runs";
import { TablePage } from "./pages/table";
import { path } from "./route";
import type { Session } from "./types";
import { Empty, Failure, Status, Title } from "./ui";

/** What is shown where, and the part of the API that it takes. */
const pages: [string, string, () => preact.JSX.Element, string?][] = [["/", "Overview", Overview], ["/compactions", "Compactions", Compactions, "compactions"], ["/runs", "Runs", Runs],
  ["/jobs", "Jobs", Jobs, "jobs"], ["/recoveries", "Recoveries", Recoveries, "recoveries"], ["/alerts", "Alerts", Alerts, "alerts"], ["/feed", "Live feed", Feed, "stream"]];
const served = (part?: string) => !part || !lacks(part);

function Page() {
  const at = path.value;
  const found = pages.find(([p]) => p === at);
  if (found && !served(found[3])) return <Elsewhere name={found[1]} part={found[3]!} />;
  if (found) { const Found = found[2]; return <Found />; }
  const [, kind, name] = at.split("/");
  if (kind === "tables" && name) return <TablePage key={name} name={decodeURIComponent(name)} />;
  if (kind === "runs" && name) return <RunPage key={name} id={decodeURIComponent(name)} />;
  return <><Title>Not here</Title><Empty>There is no such page. <a href="/">To the overview</a></Empty></>;
}

const elsewhere: Record<string, string> = {
  compactions: "The page Runs has those that were begun here; those by schedule are in the log of the function compact.",
  jobs: "EventBridge Scheduler has the schedules, and changes them.",
  recoveries: "They are in the log of the function recover, and the SNS topic tells of each.",
  alerts: "The SNS topic tells what is wrong, and CloudWatch has the alarms.",
  stream: "What happens is in the functions' logs. The other pages ask for news by themselves.",
};

function Elsewhere({ name, part }: { name: string; part: string }) {
  return <><Title>{name}</Title><Empty>The service on AWS does not have this page. {elsewhere[part]}</Empty></>;
}

function App() {
  useEffect(() => {
    void begin();
    addEventListener("hashchange", () => { if (linked()) void begin(); }); // a link opened where the page is already
  }, []);
  if (session.value === undefined) return <main><p class="faint">Loading …</p></main>;
  if (session.value === null) return <SignIn />;
  return (
    <>
      <a class="skip" href="#main">Skip to the content</a>
      <header class="top">
        <strong><img src="/icon.svg" alt="" />tablekeeper</strong>
        <nav aria-label="Pages"><ul>{pages.filter(([, , , part]) => served(part)).map(([p, name]) => (
          <li key={p}><a href={p} aria-current={p === path.value ? "page" : undefined}>{name}{p === "/alerts" && fleet.value?.alerts_open ? ` (${fleet.value.alerts_open})` : ""}</a></li>
        ))}</ul></nav>
        <span class="grow" />
        <span class="live" role="status"><Status of={connection.value} /></span>
        <span class="who faint">{session.value.name === session.value.role ? session.value.role : session.value.name + ", " + session.value.role}</span>
        <button onClick={() => void leave()}>Sign out</button>
      </header>
      <main id="main">
        {upgraded.value ? <div class="banner" role="status">The server was upgraded. <button onClick={() => location.reload()}>Reload</button></div> : null}
        {connection.value === "disconnected" ? <div class="banner" role="status">Not connected: what you see may be old. The page goes on by itself when the service is back.</div> : null}
        {fleet.value?.notices?.map((n) => <div class="banner" key={n.id}>{n.text} {n.hint}</div>)}
        <Page />
      </main>
      <footer>tablekeeper {session.value.version}</footer>
    </>
  );
}

function SignIn() {
  const [token, setToken] = useState("");
  const [failure, setFailure] = useState<unknown>();
  const submit = async (event: Event) => {
    event.preventDefault();
    try { await enter(token.trim()); } catch (e) { setFailure(e); }
  };
  return (
    <main class="signin">
      <form class="card" onSubmit={submit}>
        <h1>tablekeeper</h1>
        <p>The token was printed when the service was first started. A new one: <code>tablekeeper token add --role operator</code>. On AWS the stack's output <code>AdminToken</code> says how to read it.</p>
        <p><label for="token">Token</label><input id="token" type="password" autocomplete="current-password" value={token} onInput={(e) => setToken(e.currentTarget.value)} /></p>
        <Failure of={failure} />
        <button class="primary">Sign in</button>
      </form>
    </main>
  );
}

async function enter(token: string): Promise<void> {
  session.value = await post<Session>("/session", { token });
  look();
}

function look(): void {
  if (!lacks("stream")) soon();
  connect();
}

async function leave(): Promise<void> {
  await call("DELETE", "/session").catch(() => {});
  disconnect();
  session.value = null;
}

/** linked is the token of the link that led here, if there is one. */
const linked = () => new URLSearchParams(location.hash.slice(1)).get("token");

/** begin signs in with the token of the link, if there is one, or finds out whether we are signed in. */
async function begin(): Promise<void> {
  signedOut.handler = () => { disconnect(); session.value = null; };
  const token = linked();
  if (token) history.replaceState(null, "", location.pathname);
  try {
    if (token) { await enter(token); } else { session.value = await get<Session>("/session"); look(); }
  } catch {
    session.value = null;
  }
  register().catch(() => {}); // only push needs it
}

interface TrustedTypes { createPolicy(name: string, rules: { createScriptURL(url: string): string }): { createScriptURL(url: string): string } }

/** register starts the service worker; the page's policy wants a script's URL to be declared as meant. */
async function register(): Promise<void> {
  if (!("serviceWorker" in navigator)) return;
  const types = (window as { trustedTypes?: TrustedTypes }).trustedTypes;
  const policy = types?.createPolicy("tablekeeper", { createScriptURL: (url) => url });
  await navigator.serviceWorker.register(policy ? policy.createScriptURL("/worker.js") : "/worker.js");
}

render(<App />, document.getElementById("app")!);
