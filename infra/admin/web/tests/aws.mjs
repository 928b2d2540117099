// The dashboard where a function answers for it, which has a part of the API and no stream: node tests/aws.mjs URL TOKEN WORK [SCREENSHOTS]
// A POST to WORK has a worker do what is in the queue of backups (cmd/bootstrap/page_test.go). The first step that fails ends the process with status 1.

import assert from "node:assert/strict";

import { open } from "./browser.mjs";

const [, , base, token, workURL, shots] = process.argv;
let refused = true; // the first question is whether we are signed in, and the browser says on its console that we are not
const { browser, context, page, faults, step } = await open({
  args: ["--ignore-certificate-errors"],
  options: { ignoreHTTPSErrors: true },
  pardoned: (text) => refused && text.includes("401"),
  failed: shots && shots + "/aws-failed.png",
});
await page.clock.install(); // so that nobody waits for the page's next look
page.on("response", (r) => { if (r.status() >= 400 && !(refused && r.status() === 401)) faults.push(r.status() + " " + r.url()); });
page.on("websocket", (s) => faults.push("a stream is asked for: " + s.url()));

const shot = (name) => (shots ? page.screenshot({ path: `${shots}/aws-${name}.png` }) : undefined);

await step("the token signs in", async () => {
  await page.goto(base + "/");
  await page.fill("#token", token);
  await page.click("text=Sign in");
  await page.locator('[data-table="app"]').waitFor();
  refused = false;
  const [cookie] = (await context.cookies()).filter((c) => c.name === "__Host-tablekeeper_session");
  assert.ok(cookie && cookie.httpOnly && cookie.secure && cookie.sameSite === "Strict");
});

await step("only what is served is offered", async () => {
  await page.locator("header .live", { hasText: "polling" }).waitFor();
  assert.deepEqual(await page.locator("nav a").allInnerTexts(), ["Overview", "Runs"]);
  assert.equal(await page.locator(".banner").count(), 0, await page.locator("main").innerText());
  assert.equal(await page.locator("text=Restore …").count(), 0);
  await shot("overview");
});

await step("a backup is begun, and the page shows its end by itself", async () => {
  await page.click('[aria-label="Back up app"]');
  await page.click('nav a[href="/runs"]');
  await page.locator("tbody tr", { hasText: "queued" }).waitFor();
  await page.click("tbody a");
  await page.locator("h1", { hasText: "backup" }).waitFor();
  assert.equal(await page.locator("text=Cancel").count(), 0);
  await page.locator("main > p .status", { hasText: "queued" }).waitFor();
  assert.equal((await fetch(workURL, { method: "POST" })).status, 200);
  await page.clock.fastForward(10_000);
  await page.locator("main > p .status.good", { hasText: "succeeded" }).waitFor();
  await page.locator("text=CloudWatch").waitFor();
  await shot("run");
  await page.click('nav a[href="/runs"]');
  await page.locator("tbody tr", { hasText: "succeeded" }).waitFor();
  await shot("runs");
});

await step("a table, and how to restore it", async () => {
  await page.goto(base + "/tables/app");
  await page.locator("text=sam remote invoke RestoreFunction").waitFor();
  assert.equal(await page.locator("tbody button").count(), 0);
  assert.equal(await page.locator("main > p code").first().innerText(), "app.db");
  await shot("table");
});

await step("a page that is elsewhere says where", async () => {
  for (const path of ["/jobs", "/alerts", "/feed", "/compactions", "/recoveries"]) {
    await page.goto(base + path);
    await page.locator("text=The service on AWS does not have this page.").waitFor();
  }
  await shot("jobs");
});

await step("signing out", async () => {
  await page.click("text=Sign out");
  await page.waitForSelector("#token");
  assert.equal((await context.cookies()).length, 0);
  refused = true;
  await page.reload();
  await page.waitForSelector("#token");
});

await browser.close();
