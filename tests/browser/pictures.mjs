// The README's pictures, from the mock's sample run: node tests/browser/pictures.mjs
import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { launch } from "./browser.mjs";
import { startMock } from "./mock.mjs";

const out = join(dirname(fileURLToPath(import.meta.url)), "pictures");
mkdirSync(out, { recursive: true });
const mock = await startMock({ tickMs: 0 });
const browser = await launch();
for (const scheme of ["light", "dark"]) {
	const context = await browser.newContext({ viewport: { width: 1280, height: 1000 }, colorScheme: scheme, reducedMotion: "reduce" });
	context.setDefaultTimeout(120_000);
	const page = await context.newPage();
	await page.goto(mock.url + "/login?code=once");
	await page.waitForSelector(".top");
	for (const [name, path, ready, height] of [["run", "/runs/r7k2f9/timeline", ".gantt [data-bar]", 1360], ["compare", "/compare?run=r7k2f9", ".orders", 1250]]) {
		await page.setViewportSize({ width: 1280, height });
		await page.goto(mock.url + path);
		await page.waitForSelector(ready);
		await page.waitForSelector(".pill-live");
		await page.waitForTimeout(1200);
		await page.screenshot({ path: join(out, `${name}-${scheme}.png`) });
	}
	await context.close();
}
await browser.close();
mock.close();
