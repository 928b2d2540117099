// An operator's day in a real browser: node tests/operator.mjs URL TOKEN STAGE [SCREENSHOTS]
// STAGE is where the world around the browser is changed by POST: a table is corrupted, the service stopped, ... (cmd/browser_test.go).
// Each step prints a line; the first that fails ends the process with status 1.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

import { open } from "./browser.mjs";

const [, , base, token, stageURL, shots] = process.argv;
const nine = ["agent_mailbox", "agent_channels", "channel_history", "task_queue", "task_dead_letter", "thread_messages", "thread_replies", "message_history", "config"];
const axe = readFileSync(new URL("../node_modules/axe-core/axe.min.js", import.meta.url), "utf8");

let troubled = false; // the service is down, or refuses what it should: the browser says so on its console
const { browser, context, page, faults, step } = await open({
  pardoned: (text) => troubled || text.includes("WebSocket"),
  failed: shots && shots + "/failed.png",
});
await context.grantPermissions(["notifications"], { origin: base });

/** trouble lets the console say what it wants while something is done. */
async function trouble(work) {
  troubled = true;
  await work();
  await page.evaluate(() => {}); // what the browser said before it answers this is heard
  troubled = false;
}

async function stage(action, body = "") {
  const response = await fetch(stageURL + "/" + action, { method: "POST", body });
  const text = await response.text();
  assert.equal(response.status, 200, action + ": " + text);
  return text;
}

const card = (table, p = page) => p.locator(`[data-table="${table}"]`);
const visit = (path, p = page) => p.click(`nav a[href="${path}"]`);
const connection = (word, p = page) => p.locator("header .live", { hasText: word }).waitFor();
/** sequences are the numbers of the events in the live feed, oldest first. */
const sequences = async (p = page) => (await p.locator("tbody tr td:first-child").allInnerTexts()).map(Number).reverse();
const told = (event, p = page) => p.locator("tbody tr", { hasText: event }).first();
/** stays marks the page: a reload loses the mark. */
const stays = async (work) => {
  await page.evaluate(() => { window.mark = true; });
  await work();
  assert.equal(await page.evaluate(() => window.mark), true, "the page was loaded again");
};

async function accessible(p, where) {
  await p.evaluate(axe);
  const { violations } = await p.evaluate(() => window.axe.run());
  assert.deepEqual(violations.map((v) => where + ": " + v.id + ": " + v.nodes.map((n) => n.html).join(" ")), []);
}

await step("a wrong token is refused, with a reason", () => trouble(async () => {
  await page.goto(base + "/");
  await page.waitForSelector("#token");
  await accessible(page, "sign-in");
  await page.fill("#token", "tk_wrong");
  await page.click("text=Sign in");
  await page.waitForSelector(".problem");
}));

await step("the link signs in, and the token leaves the address", async () => {
  await page.goto("about:blank");
  await page.goto(base + "/#token=" + token);
  await page.waitForSelector(".sentence");
  assert.equal(new URL(page.url()).hash, "");
});

await step("the nine tables are there", async () => {
  for (const table of nine) await card(table).waitFor();
});

await step("back up and prove: every table becomes healthy without a reload", () => stays(async () => {
  await page.click("text=Back up all");
  await visit("/feed");
  await told("backup complete").waitFor();
  await visit("/");
  await page.click("text=Prove all backups");
  for (const table of [...nine, "orders"]) await card(table).locator("text=healthy").waitFor();
}));

await step("press compact, watch it finish, and read it in the history", () => stays(async () => {
  const free = card("orders").locator("dd").nth(1);
  // Another program holds the table for a while, so that there is something to watch. On a busy machine the compaction may give up before.
  let turn = 1;
  for (; ; turn++) {
    await stage("fill");
    await stage("hold");
    await card("orders").locator('[aria-label="Compact orders"]').click();
    const seen = await card("orders").locator("text=compact is running").waitFor({ timeout: 15_000 }).then(() => true, () => false);
    if (seen && turn === 1) assert.notEqual(await free.innerText(), "0.0 %"); // later the page may not know yet what was filled in
    await stage("release");
    await card("orders").locator('[aria-label="Compact orders"]').waitFor();
    if (seen && (await free.innerText()) === "0.0 %") break;
    assert.ok(turn < 20, seen ? "orders was not compacted" : "nothing was to be seen of the compaction");
  }
  await page.click("text=Compact all");
  await visit("/compactions");
  for (const table of ["agent_mailbox", "config", "orders"]) await page.locator("td", { hasText: new RegExp("^" + table + "$") }).first().waitFor();
  await page.locator("tbody tr", { hasText: "orders" }).filter({ hasText: "✓ compacted" }).first().waitFor();
  await visit("/runs");
  const compactions = page.locator("tbody tr", { hasText: "compact" });
  await compactions.nth(turn + 1).waitFor(); // one when the service started, one a turn, and that of all tables
  await compactions.first().locator("text=succeeded").waitFor();
  await compactions.first().locator("a").click();
  await page.locator("h2", { hasText: "Phases" }).waitFor();
  assert.equal(await page.locator("tbody tr").count(), 10);
}));

const subscription = await (await fetch(stageURL + "/subscription")).json();
// The push service of a browser's vendor is out of reach; the rest is real.
await context.addInitScript(({ endpoint, p256dh, auth }) => {
  const made = { endpoint, toJSON: () => ({ endpoint, expirationTime: null, keys: { p256dh, auth } }), unsubscribe: async () => { sessionStorage.removeItem("subscribed"); return true; } };
  PushManager.prototype.subscribe = async (options) => {
    if (!options.userVisibleOnly) throw new Error("chromium refuses silent subscriptions");
    sessionStorage.setItem("subscribed", options.applicationServerKey);
    return made;
  };
  PushManager.prototype.getSubscription = async () => (sessionStorage.getItem("subscribed") ? made : null);
}, subscription);

await step("an answer that comes late does not cover a newer one, and one that fails is asked for again", () => trouble(async () => {
  await visit("/");
  await stage("fill");
  const free = card("orders").locator("dd").nth(1);
  const share = () => page.evaluate(async () => (await (await fetch("/api/admin/tables/orders")).json()).free_ratio ?? 0);
  let release, stopped;
  const released = new Promise((resolve) => { release = resolve; });
  const asked = new Promise((resolve) => { stopped = resolve; });
  await page.route("**/api/admin/tables", async (route) => {
    const answer = await route.fetch();
    stopped();
    await released;
    await route.fulfill({ response: answer }).catch(() => {}); // the page waits for a minute at most
  }, { times: 1 });
  await page.click("text=Back up all"); // something happens, and the page asks
  await asked;
  assert.ok((await share()) > 0);
  // On a busy machine a compaction may give up.
  for (let turn = 1; (await share()) > 0; turn++) {
    assert.ok(turn < 20, "orders was not compacted");
    await page.evaluate(() => fetch("/api/admin/compact/orders", { method: "POST" }));
  }
  await page.waitForTimeout(1000); // a page that asks again meanwhile has its answer
  release();
  await page.waitForTimeout(500);
  await free.filter({ hasText: /^0\.0 %$/ }).waitFor();

  await stage("fill");
  await page.route("**/api/admin/tables", (route) => route.fulfill({ status: 503, json: { title: "busy" } }), { times: 1 });
  await page.click("text=Back up all");
  await free.filter({ hasNotText: /^0\.0 %$/ }).waitFor();
}));

await step("subscribe to push; a message to this machine is refused unless the configuration allows it", () => trouble(async () => {
  await page.goto(base + "/alerts");
  await page.click("text=Subscribe this browser");
  await page.locator("text=This browser is subscribed.").waitFor();
  const key = await page.evaluate(() => sessionStorage.getItem("subscribed"));
  assert.equal(Buffer.from(key, "base64url").length, 65, "the API's key is no point of P-256");
  await page.click("text=Test push");
  await page.locator(".problem", { hasText: "allow_private" }).waitFor();
  assert.equal(await stage("asked"), "0");
}));

await step("the service restarts: the page says so, comes back without a reload and without gaps", () => stays(() => trouble(async () => {
  await visit("/feed");
  await page.evaluate(() => fetch("/api/admin/compact/config", { method: "POST" }));
  await told("compaction complete").waitFor();
  const before = await sequences();
  await stage("stop");
  await connection("disconnected");
  await page.locator(".banner", { hasText: "Not connected" }).waitFor();
  await stage("work"); // somebody backs up by the command meanwhile
  await stage("start");
  await connection("live");
  assert.equal(await page.locator(".banner", { hasText: "Not connected" }).count(), 0);
  await told("backup complete").waitFor();
  const kept = await page.evaluate(async (after) => (await (await fetch("/api/admin/events?after=" + after)).json()).events.map((e) => e.sequence), before.at(-1));
  assert.ok(kept.length > 0, "nothing happened while the page was away");
  await page.waitForFunction((n) => document.querySelectorAll("tbody tr").length >= n, before.length + kept.length);
  const after = await sequences();
  assert.deepEqual(after.slice(0, before.length), before);
  for (let i = 1; i < after.length; i++) assert.equal(after[i], after[i - 1] + 1, "the feed has a gap: " + after.join(" "));
  for (const sequence of kept) assert.ok(after.includes(sequence), sequence + " is not in the feed");
  assert.equal(await page.evaluate(async () => (await fetch("/api/admin/session")).status), 200);
})));

await step("push is allowed to this machine: a test message arrives, encrypted for this browser and signed by the key it was given", () => trouble(async () => {
  await stage("allow-push");
  await connection("live");
  await visit("/alerts");
  await page.click("text=Test push");
  const message = JSON.parse(await stage("pushed", "test message"));
  assert.ok(message.body && message.tag && message.url, JSON.stringify(message));
  assert.equal(await stage("vapid-key"), await page.evaluate(() => sessionStorage.getItem("subscribed")));
}));

await step("a corruption is detected, repaired and told, without a reload", () => stays(async () => {
  await stage("corrupt");
  await visit("/");
  await page.click("text=Prove all backups"); // its scrub compares every page with the ledger
  await visit("/feed");
  await told("corruption detected").waitFor();
  await told("recovery complete").waitFor();
  await visit("/recoveries");
  await page.locator(".card", { hasText: "thread_messages" }).waitFor();
  await visit("/");
  await card("thread_messages").waitFor();
}));

await step("the alert reaches the browser by push, and its worker shows it", async () => {
  const text = await stage("pushed", "thread_messages");
  const cdp = await context.newCDPSession(page);
  const registered = new Promise((found) => cdp.on("ServiceWorker.workerRegistrationUpdated", ({ registrations }) => {
    const there = registrations.find((r) => !r.isDeleted);
    if (there) found(there.registrationId);
  }));
  await cdp.send("ServiceWorker.enable");
  const registrationId = await registered;
  let shown;
  for (const until = Date.now() + 60_000; !shown && Date.now() < until;) {
    // On a busy machine a message was seen to be lost between this command and the worker, which no push service is part of.
    await cdp.send("ServiceWorker.deliverPushMessage", { origin: base, registrationId, data: text });
    shown = await page.evaluate(async () => {
      const registration = await navigator.serviceWorker.ready;
      for (const until = Date.now() + 5_000; Date.now() < until; await new Promise((r) => setTimeout(r, 50))) {
        const [first] = await registration.getNotifications();
        if (first) return { title: first.title, body: first.body, tag: first.tag };
      }
    });
  }
  const { title, body, tag } = JSON.parse(text);
  assert.deepEqual(shown, { title, body, tag });
  await cdp.detach();
});

await step("a subscription that has ended is forgotten", () => trouble(async () => {
  await stage("end-subscription");
  const asked = Number(await stage("asked"));
  await visit("/alerts");
  await page.click("text=Test push");
  await page.locator(".problem").waitFor();
  assert.equal(Number(await stage("asked")), asked + 1);
  await page.click("text=Test push");
  await page.locator("button:enabled", { hasText: "Test push" }).waitFor();
  await page.locator(".problem").waitFor();
  assert.equal(Number(await stage("asked")), asked + 1, "it was asked again");
  await page.click("text=Unsubscribe this browser");
  await page.locator("text=This browser is not subscribed.").waitFor();
}));

await step("restore through the wizard", async () => {
  await visit("/");
  await card("config").locator("a", { hasText: "config" }).first().click();
  await page.locator("tbody tr").first().locator("button").click();
  const dialog = page.locator("dialog");
  await dialog.locator("text=Type the table's name").waitFor();
  await dialog.locator(".warn", { hasText: "is not in this backup" }).waitFor();
  assert.equal(await dialog.locator("button.danger").isDisabled(), true);
  await accessible(page, "wizard");
  await dialog.locator("input").fill("config");
  await dialog.locator("button.danger").click();
  await dialog.locator(".status", { hasText: "restored" }).waitFor();
  await accessible(page, "wizard's end");
  await dialog.locator("text=Done").click();
});

await step("pause and resume a job", async () => {
  await visit("/jobs");
  await page.click('[aria-label="Pause compact"]');
  await page.click('[aria-label="Resume compact"]');
  await page.locator('[aria-label="Pause compact"]').waitFor();
});

await step("three tabs at once, and all see the same", async () => {
  const tabs = [page, ...(await Promise.all([0, 1].map(() => context.newPage())))];
  for (const tab of tabs) { await tab.goto(base + "/feed"); await connection("live", tab); }
  const newest = () => page.evaluate(async () => (await (await fetch("/api/admin/events?limit=1")).json()).last);
  const before = await newest(); // the first tab may have seen what came before the last was there
  await page.evaluate(() => fetch("/api/admin/compact/config", { method: "POST" }));
  for (const tab of tabs) await told("compaction complete", tab).waitFor();
  const last = await newest();
  const seen = [];
  for (const tab of tabs) {
    await tab.waitForFunction((n) => [...document.querySelectorAll("tbody tr td:first-child")].some((cell) => cell.textContent === String(n)), last);
    seen.push((await sequences(tab)).filter((n) => n > before && n <= last));
  }
  assert.ok(last > before);
  assert.equal(seen[0].length, last - before);
  assert.deepEqual(seen[1], seen[0]);
  assert.deepEqual(seen[2], seen[0]);
  for (const tab of tabs.slice(1)) await tab.close();
});

await step("a viewer sees everything and can press nothing", async () => {
  const other = await browser.newContext();
  other.setDefaultTimeout(60_000);
  const tab = await other.newPage();
  await tab.goto(base + "/#token=" + (await stage("viewer")));
  for (const table of nine) await card(table, tab).waitFor();
  assert.deepEqual(await tab.locator("button").allInnerTexts(), ["Sign out"]);
  await other.close();
});

await step("axe finds nothing on any page, light and wide, dark and narrow", async () => {
  await stage("fill");
  await page.evaluate(async () => { for (const path of ["compact/orders", "backup", "verify"]) await fetch("/api/admin/" + path, { method: "POST" }); });
  const run = await page.evaluate(async () => (await (await fetch("/api/admin/runs?function=backup&limit=1")).json()).runs[0].id);
  const recovery = await page.evaluate(async () => (await (await fetch("/api/admin/runs?function=recover&limit=1")).json()).runs[0]?.id);
  assert.ok(recovery, "no recovery is in the history");
  await stage("fill"); // so that one table has something to show
  // Path, name of the screenshot, and what is on the page once it is all there.
  const pages = [["/", "overview", "[data-table]"], ["/compactions", "compactions", "tbody tr"], ["/runs", "runs", "tbody tr"], ["/jobs", "jobs", "tbody tr"], ["/recoveries", "recoveries", "ol li"],
    ["/alerts", "alerts", "tbody tr"], ["/feed", "feed", "tbody tr"], ["/tables/orders", "table", "tbody tr"], ["/runs/" + run, "run", ".timeline"], ["/runs/" + recovery, "recovery", ".timeline"],
    ["/nowhere", "nowhere", ".empty"]];
  const looks = [["light", 1280], ["dark", 360], ...(shots ? [["dark", 1280], ["light", 360]] : [])];
  for (const [colorScheme, width] of looks) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width, height: width === 360 ? 780 : 720 });
    for (const [path, name, ready] of pages) {
      await page.evaluate((to) => { history.pushState(null, "", to); dispatchEvent(new PopStateEvent("popstate")); scrollTo(0, 0); }, path);
      await page.locator("main").locator(ready).first().waitFor();
      await accessible(page, path + " " + colorScheme + " " + width);
      const beyond = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.ok(beyond <= 0, path + " is " + beyond + " px too wide at " + width);
      if (shots) await page.screenshot({ path: `${shots}/${name}-${width}-${colorScheme}.png` });
    }
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 1280, height: 900 });
});

await step("what is not there has a way out, and its name fits a phone", () => trouble(async () => {
  await page.setViewportSize({ width: 360, height: 780 });
  const absent = "a_name_as_long_as_can_be_0123456789_0123456789_0123456789_012345";
  for (const [path, link] of [["/tables/" + absent, "All tables"], ["/runs/" + absent, "All runs"]]) {
    await page.evaluate((to) => { history.pushState(null, "", to); dispatchEvent(new PopStateEvent("popstate")); }, path);
    await page.locator("main a", { hasText: link }).waitFor();
    assert.equal(await page.locator(".problem", { hasText: "/api/" }).count(), 0, "the hint for programs is shown to people");
    const beyond = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.ok(beyond <= 0, path + " is " + beyond + " px too wide");
  }
  let release;
  const typed = new Promise((resolve) => { release = resolve; });
  const late = async (route) => { await typed; await route.continue(); };
  await page.route("**/api/admin/runs?*", late);
  await page.locator("main a", { hasText: "All runs" }).click();
  await page.locator("main input").fill(absent);
  release();
  await page.locator("main tbody tr").first().waitFor(); // drawn again while somebody types
  await page.locator("main input").press("Enter");
  await page.locator(".empty", { hasText: "No run fits" }).waitFor();
  await page.unroute("**/api/admin/runs?*", late);
  await page.setViewportSize({ width: 1280, height: 900 });
}));

await step("the keyboard reaches the content and a table's page", async () => {
  await page.goto(base + "/");
  await card("config").waitFor();
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the content");
  await page.keyboard.press("Enter");
  for (let i = 0; i < 20 && !(await page.evaluate(() => document.activeElement.matches("[data-table] a"))); i++) await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/tables\//);
  await page.waitForFunction(() => document.activeElement?.tagName === "H1"); // and a screen reader is told where it is
});

await step("the server is upgraded: the page says so, and has the new version after a reload", () => trouble(async () => {
  await visit("/");
  await stage("upgrade");
  await connection("live");
  await page.locator(".banner", { hasText: "The server was upgraded." }).locator("button").click();
  await page.locator("footer", { hasText: "v99.0.0" }).waitFor();
  await connection("live");
  assert.equal(await page.locator(".banner", { hasText: "upgraded" }).count(), 0);
}));

await step("a session that was ended meanwhile asks to sign in", () => trouble(async () => {
  await stage("revoke");
  await page.waitForSelector("#token");
}));

await step("sign out", async () => {
  await page.goto(base + "/#token=" + (await stage("viewer")));
  await page.waitForSelector(".sentence");
  await page.click("text=Sign out");
  await page.waitForSelector("#token");
  await page.reload();
  await page.waitForSelector("#token");
  faults.length = 0; // the browser says that the session is not there any more
});

await browser.close();
