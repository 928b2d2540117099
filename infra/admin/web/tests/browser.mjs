// A real browser with one page, and what is done in it step by step.

import assert from "node:assert/strict";
import { chromium } from "playwright-core";

/**
 * open starts the browser, with more arguments and options of its context. faults are the errors on the page, and those on its console that
 * are not pardoned by their text. TABLEKEEPER_LATE=2500 lets each call to the API take up to so many ms longer. A step that fails, or leaves a fault, ends the process with status 1, and a picture of the page in the file failed.
 */
export async function open({ args = [], options = {}, pardoned, failed }) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run", ...args],
  });
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  context.setDefaultTimeout(60_000);
  const late = Number(process.env.TABLEKEEPER_LATE ?? 0);
  if (late) await context.route("**/api/**", async (route) => { await new Promise((f) => setTimeout(f, Math.random() ** 3 * late)); await route.continue().catch(() => {}); });
  const page = await context.newPage();
  const faults = [];
  page.on("pageerror", (e) => faults.push("error on the page: " + e.message));
  page.on("console", (m) => { if (m.type() === "error" && !pardoned(m.text())) faults.push("console: " + m.text() + " " + m.location().url); });

  async function step(name, work) {
    const begun = Date.now();
    try {
      await work();
      assert.deepEqual(faults, []);
      console.log(`ok: ${name} (${Date.now() - begun} ms)`);
    } catch (e) {
      if (failed) await page.screenshot({ path: failed }).catch(() => {});
      console.log("failed: " + name + "\n" + e.stack + "\n" + faults.join("\n") + "\n" + (await page.locator("body").innerText().catch(() => "")));
      process.exit(1);
    }
  }

  return { browser, context, page, faults, step };
}
