// An operator's day in a real browser: node tests/operator.mjs URL TOKEN CORRUPT_COMMAND_FILE SCREENSHOTS
// Each step prints a line; the first that fails ends the process with status 1.

import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { chromium } from "playwright-core";

const [, , base, token, signal, shots] = process.argv;
const nine = ["agent_mailbox", "agent_channels", "channel_history", "task_queue", "task_dead_letter", "thread_messages", "thread_replies", "message_history", "config"];
const axe = readFileSync(new URL("../node_modules/axe-core/axe.min.js", import.meta.url), "utf8");

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"],
});
const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
context.setDefaultTimeout(60_000);
const page = await context.newPage();
const faults = [];
page.on("pageerror", (e) => faults.push("error on the page: " + e.message));
page.on("console", (m) => { if (m.type() === "error" && !m.text().includes("WebSocket")) faults.push("console: " + m.text() + " " + m.location().url); });

async function step(name, work) {
  try {
    await work();
    assert.deepEqual(faults, []);
    console.log("ok: " + name);
  } catch (e) {
    if (shots) await page.screenshot({ path: shots + "/failed.png" }).catch(() => {});
    console.log("failed: " + name + "\n" + e.stack + "\n" + faults.join("\n"));
    process.exit(1);
  }
}

const card = (table, p = page) => p.locator(`[data-table="${table}"]`);
const visit = (path, p = page) => p.click(`nav a[href="${path}"]`);

async function accessible(p, where) {
  await p.evaluate(axe);
  const { violations } = await p.evaluate(() => window.axe.run());
  assert.deepEqual(violations.map((v) => where + ": " + v.id + ": " + v.nodes.map((n) => n.html).join(" ")), []);
}

await step("a wrong token is refused, with a reason", async () => {
  await page.goto(base + "/");
  await page.fill("#token", "tk_wrong");
  await page.click("text=Sign in");
  await page.waitForSelector(".problem");
  faults.length = 0; // the browser reports the 401 on its console
});

await step("the link signs in, and the token leaves the address", async () => {
  await page.goto("about:blank");
  await page.goto(base + "/#token=" + token);
  await page.waitForSelector(".sentence");
  assert.equal(new URL(page.url()).hash, "");
});

await step("the nine tables are there", async () => {
  for (const table of nine) await card(table).waitFor();
});

await step("compact all, and read it in the history", async () => {
  await page.click("text=Compact all");
  await visit("/compactions");
  for (const table of ["agent_mailbox", "config"]) await page.locator("td", { hasText: new RegExp("^" + table + "$") }).first().waitFor();
  await visit("/runs");
  await page.locator("tbody tr", { hasText: "compact" }).first().locator("text=succeeded").waitFor();
});

await step("back up and prove: every table becomes healthy without a reload", async () => {
  await visit("/");
  await page.click("text=Back up all");
  await visit("/feed");
  await page.locator("tr", { hasText: "backup complete" }).first().waitFor();
  await visit("/");
  await page.click("text=Prove all backups");
  for (const table of nine) await card(table).locator("text=healthy").waitFor();
});

await step("a corruption is detected, repaired and told, without a reload", async () => {
  writeFileSync(signal, "corrupt"); // the test corrupts a table when it sees this
  for (const until = Date.now() + 60_000; !existsSync(signal + ".done"); await page.waitForTimeout(50)) assert.ok(Date.now() < until, "nothing was corrupted");
  await page.click("text=Prove all backups"); // its scrub compares every page with the ledger
  await visit("/feed");
  await page.locator("tr", { hasText: "recovery complete" }).first().waitFor();
  await visit("/recoveries");
  await page.locator(".card", { hasText: "thread_messages" }).waitFor();
  await visit("/");
  await card("thread_messages").waitFor();
});

await step("restore through the wizard", async () => {
  await card("config").locator("a", { hasText: "config" }).first().click();
  await page.locator("tbody tr").first().locator("button").click();
  const dialog = page.locator("dialog");
  await dialog.locator("text=Type the table's name").waitFor();
  assert.equal(await dialog.locator("button.danger").isDisabled(), true);
  await dialog.locator("input").fill("config");
  await dialog.locator("button.danger").click();
  await dialog.locator(".status", { hasText: "restored" }).waitFor();
  await dialog.locator("text=Done").click();
});

await step("pause and resume a job", async () => {
  await visit("/jobs");
  await page.click('[aria-label="Pause compact"]');
  await page.click('[aria-label="Resume compact"]');
  await page.locator('[aria-label="Pause compact"]').waitFor();
});

await step("three tabs at once, all live", async () => {
  const tabs = await Promise.all([0, 1].map(() => context.newPage()));
  for (const tab of tabs) { await tab.goto(base + "/"); await tab.locator("header >> text=live").first().waitFor(); }
  for (const tab of tabs) await tab.close();
});

await step("axe finds nothing, light and dark, wide and narrow", async () => {
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [1280, 360]) {
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize({ width, height: 900 });
      for (const path of ["/", "/compactions", "/runs", "/jobs", "/recoveries", "/alerts", "/feed", "/tables/config"]) {
        await page.goto(base + path);
        await page.waitForSelector("h1");
        await page.waitForLoadState("networkidle").catch(() => {});
        await accessible(page, path + " " + colorScheme + " " + width);
        const beyond = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        assert.ok(beyond <= 0, path + " is " + beyond + " px too wide at " + width);
        if (shots && path === "/") await page.screenshot({ path: `${shots}/overview-${width}-${colorScheme}.png` });
      }
    }
  }
  faults.length = 0; // alerts that are not configured are a 404, and the browser says so
});

await step("sign out", async () => {
  await page.click("text=Sign out");
  await page.waitForSelector("#token");
});

await browser.close();
