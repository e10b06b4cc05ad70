// What the page may weigh and take: bytes, first paint, a list of ten thousand rows, memory while it runs.
// Times are printed; what is asserted of them leaves a loaded machine room. PAWL_SOAK_S=3600 for the long soak.
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { act } from "./act.mjs";
import { startMock } from "./mock.mjs";
import { hex, sampleRows } from "./mock_data.mjs";

const { ok, open, quiet, run } = await act("browser limits", ["--js-flags=--expose-gc"]);
const assets = join(dirname(fileURLToPath(import.meta.url)), "../../web/dist/assets");
const SAMPLES = hex("r7k2f9.1.pair.0.0/samples");
const LOADED = 10; // a busy machine may be so much slower
const say = (text) => console.log(`# ${text}`);

await run({
	async "bytes: JavaScript at most 90 KB, style 12 KB, gzip"() {
		const sum = (ext) => readdirSync(assets).filter((f) => f.endsWith(ext)).reduce((n, f) => n + gzipSync(readFileSync(join(assets, f)), { level: 9 }).length, 0);
		say(`JavaScript ${sum(".js")} B, style ${sum(".css")} B`);
		ok(sum(".js") <= 90_000 && sum(".js") > 20_000, "JavaScript", sum(".js"));
		ok(sum(".css") <= 12_000 && sum(".css") > 2_000, "style", sum(".css"));
	},

	async "first paint"() {
		const mock = await startMock({ tickMs: 0 });
		const { context, page } = await open(mock);
		await page.waitForSelector(".run-card");
		const paints = [];
		for (let i = 0; i < 5; i++) {
			await page.goto(mock.url + "/");
			await page.waitForSelector(".run-card");
			paints.push(await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? NaN));
		}
		paints.sort((a, b) => a - b);
		say(`first paint ${paints.map((p) => Math.round(p)).join(", ")} ms`);
		ok(paints[0] <= 500 * LOADED, "within half a second, ten times that on a busy machine", paints[0]);
		await quiet(page, "painting");
		await context.close();
		mock.close();
	},

	async "ten thousand rows: a screenful in the page, and it scrolls"() {
		const mock = await startMock({ tickMs: 0 });
		mock.world.datasets.get(SAMPLES).rows = sampleRows(7, 10_000);
		mock.world.datasets.get(SAMPLES).meta.rows = 10_000;
		const { context, page } = await open(mock, { path: `/data/${SAMPLES}` });
		await page.waitForSelector(".row-link");
		// Down to the end: every page of rows is asked for as the end comes near.
		for (let i = 0; i < 200; i++) {
			const more = await page.evaluate(() => {
				const l = document.querySelector(".row-list");
				l.scrollTop = l.scrollHeight;
				return l.scrollHeight;
			});
			if (more >= 10_000 * 72) break;
			await page.waitForFunction((h) => document.querySelector(".row-list").scrollHeight > h, more, { timeout: 20000 });
		}
		await page.waitForFunction(() => [...document.querySelectorAll(".row-link")].some((a) => a.href.endsWith("at=9999")));
		const nodes = await page.locator(".row-link").count();
		ok(nodes < 60, "only rows near the screen are in the page", nodes);
		const rate = (px) => page.evaluate((by) => new Promise((done) => {
			const l = document.querySelector(".row-list");
			l.scrollTop = 0;
			const began = performance.now();
			let n = 0;
			const step = (now) => {
				l.scrollTop += by;
				n++;
				if (now - began < 2000) requestAnimationFrame(step);
				else done((n * 1000) / (now - began));
			};
			requestAnimationFrame(step);
		}), px);
		const still = await rate(0);
		const frames = await rate(720);
		say(`${frames.toFixed(1)} frames a second over ten thousand rows, ${still.toFixed(1)} standing still`);
		ok(frames >= Math.min(50, still) / LOADED, "frames a second", `${frames.toFixed(1)} of ${still.toFixed(1)}`);
		const shown = await page.evaluate(() => { const l = document.querySelector(".row-list").getBoundingClientRect(); return [...document.querySelectorAll(".row-link")].filter((a) => { const r = a.getBoundingClientRect(); return r.bottom > l.top && r.top < l.bottom; }).length; });
		ok(shown >= 5, "no blank while scrolling", shown);
		await quiet(page, "the long list");
		await context.close();
		mock.close();
	},

	async "memory while a run goes on"() {
		const seconds = Number(process.env.PAWL_SOAK_S ?? 12);
		const mock = await startMock({ tickMs: 0, endless: true });
		const { context, page } = await open(mock, { path: "/runs/r9m4q2/charts", patience: 600_000 }); // an hour on a busy machine has slow minutes
		const cdp = await context.newCDPSession(page);
		await cdp.send("Performance.enable");
		const taken = async () => {
			await cdp.send("HeapProfiler.collectGarbage");
			const { metrics } = await cdp.send("Performance.getMetrics");
			const one = (name) => metrics.find((m) => m.name === name).value;
			return { heap: one("JSHeapUsedSize") / 1e6, nodes: one("Nodes"), listeners: one("JSEventListeners") };
		};
		// Each part of the run is on the page before the next is asked for; who is kept from it by other work goes on later.
		const parts = { Timeline: ".gantt [data-bar]", Jobs: "table.jobs tbody tr", Events: ".events li", Charts: ".plot .ln" };
		let walks = 0, starved = 0;
		const walk = async () => {
			for (const [tab, ready] of Object.entries(parts)) {
				try {
					await page.getByRole("navigation", { name: "Parts of the run" }).getByRole("link", { name: tab }).click();
					await page.locator(ready).first().waitFor(); // a handle would keep the node, and all it hangs on
				} catch (e) {
					if (!/Timeout/.test(e.message) || ++starved > 5) throw e;
				}
				// Fifty times a second as long as the page keeps up; the run never gets ahead of one that is starved.
				for (let i = 0; i < 20; i++) {
					mock.advance();
					await page.waitForTimeout(20);
				}
				await page.evaluate(() => new Promise((ok) => requestAnimationFrame(ok)));
			}
			walks++;
		};
		await walk();
		const before = await taken();
		const began = Date.now();
		const tell = (when, t) => say(`${when}${walks} walks and ${mock.seq} events: heap ${t.heap.toFixed(1)} MB, ${t.nodes} nodes, ${t.listeners} listeners`);
		tell("before, ", before);
		for (let told = began; Date.now() < began + seconds * 1000; ) {
			await walk();
			if (Date.now() - told < 300_000) continue;
			told = Date.now();
			tell(`after ${Math.round((told - began) / 1000)} s, `, await taken());
		}
		const after = await taken();
		tell(`after ${Math.round((Date.now() - began) / 1000)} s${starved ? ` (${starved} waits too long)` : ""}, `, after);
		ok(after.heap - before.heap <= 10, "grows at most 10 MB", (after.heap - before.heap).toFixed(1));
		ok(after.nodes <= 2 * before.nodes + 2000, "and its nodes do not pile up", `${before.nodes} → ${after.nodes}`);
		await quiet(page, "the soak");
		await context.close();
		mock.close();
	},
}, 1);
