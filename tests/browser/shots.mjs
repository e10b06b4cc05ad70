// Every page in both themes and three widths: a screenshot, no error, violation or overflow, and no
// serious or critical finding of axe. usage: node shots.mjs [part of a page's name]
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { launch, overflow, Report, watched } from "./browser.mjs";
import { startMock } from "./mock.mjs";
import { hex } from "./mock_data.mjs";

const out = join(dirname(fileURLToPath(import.meta.url)), "out");
mkdirSync(out, { recursive: true });
const only = process.argv[2] ?? "";

const samples = hex("r7k2f9.1.pair.0.0/samples");
const PAGES = [
	["overview", "/"],
	["runs", "/runs"],
	["run-timeline", "/runs/r7k2f9/timeline"],
	["run-timeline-job", "/runs/r9m4q2/timeline?group=job"],
	["run-jobs", "/runs/r9m4q2/jobs"],
	["run-charts", "/runs/r9m4q2/charts"],
	["run-data", "/runs/r7k2f9/data"],
	["run-checkpoints", "/runs/r7k2f9/checkpoints"],
	["run-config", "/runs/r7k2f9/config"],
	["run-events", "/runs/r9m4q2/events"],
	["run-log", "/runs/r7k2f9/log"],
	["run-failed", "/runs/r3xss1"],
	["job", "/jobs/r9m4q2.1.dpo.1.0"],
	["job-failed", "/jobs/r3xss1.1.judge.1.2"],
	["data", "/data"],
	["samples", `/data/${samples}`],
	["sample-hostile", `/data/${samples}?at=2`],
	["sample-diff", `/data/${samples}?at=0&view=diff`],
	["sample-blind", `/data/${samples}?at=0&blind=1`],
	["workers", "/workers"],
	["checkpoints", "/checkpoints?run=r7k2f9"],
	["checkpoint", `/checkpoints/${hex("r7k2f9.2.dpo.2.0/model")}`],
	["compare", "/compare?run=r7k2f9&diff=r9m4q2"],
	["submit", "/runs/new"],
	["submit-clone", "/runs/new?from=r9m4q2"],
	["settings", "/settings"],
	["job-find", "/jobs/r9m4q2.1.dpo.1.0?find=chunk%3D39&level=warn"],
	["missing", "/nothing/here"],
	["missing-run", "/runs/rnone"],
];
const LOOKS = [1280, 768, 360].flatMap((w) => [["light", w], ["dark", w]]);
/** A window of 1280 px at 200 %: half as many pixels of CSS. Nothing may be cut off or need two scroll bars. */
const ZOOMED = ["light", 640, 2];

const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Serious and critical findings of axe, WCAG 2.2 A and AA. It runs in a world of its own: our CSP stands. */
async function axe(page) {
	await page.evaluate(axeSource);
	return page.evaluate(async () => {
		const r = await window.axe.run(document, { resultTypes: ["violations"], runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] });
		return r.violations.filter((v) => v.impact === "serious" || v.impact === "critical").map((v) => `${v.id} ${v.nodes.slice(0, 3).map((n) => n.target.join(" ") + (v.id === "color-contrast" ? " " + (n.any[0]?.data?.contrastRatio ?? "") : "")).join(", ")}`);
	});
}

const report = new Report("browser page");
const mock = await startMock();
const bare = await startMock({ empty: true });
const browser = await launch();

/** Elements that reach out of the window and that no scrolling of theirs brings back. */
function cutOff(page) {
	return page.evaluate(() => {
		const room = document.documentElement.clientWidth;
		const scrolls = (el) => { for (let p = el; p && p !== document.body; p = p.parentElement) if (/auto|scroll|hidden/.test(getComputedStyle(p).overflowX) || getComputedStyle(p).clipPath !== "none") return true; return false; };
		return [...document.querySelectorAll("main *, header *")].filter((el) => { const r = el.getBoundingClientRect(); return r.width > 0 && (r.right > room + 1 || r.left < -1) && !scrolls(el); }).slice(0, 3).map((el) => `${el.tagName.toLowerCase()}.${String(el.className?.baseVal ?? el.className)}`).join(", ");
	});
}

async function shoot(page, name, theme, width, zoom = 1) {
	report.start(name);
	const check = (ok, what, more = "") => report.check(ok, `${theme} ${width}: ${what}`, more, name);
	await page.waitForFunction(() => !document.querySelector("[aria-busy=true].skeleton"), null, { timeout: 8000 }).catch(() => undefined);
	await page.waitForTimeout(250);
	if (zoom === 1) await page.screenshot({ path: join(out, `${name}-${theme}-${width}.png`), fullPage: true });
	const trouble = await page.trouble();
	check(trouble.length === 0, "no error, violation or foreign request", trouble.join(" | "));
	const wide = await overflow(page);
	check(wide === "", "no horizontal overflow", wide);
	check((await page.evaluate(() => window.pwned)) === undefined, "hostile text stays text");
	if (zoom > 1) check((await cutOff(page)) === "", "nothing is cut off at 200 %", await cutOff(page));
	// What axe finds depends on the theme and on the layout; the middle width has one of each already.
	else if (theme === "light" || width !== 768) {
		const found = await axe(page);
		check(found.length === 0, "axe finds nothing serious", found.join(" | "));
	}
	const h1 = await page.locator("h1").count();
	check(h1 === 1 || name.startsWith("missing"), "one h1", String(h1));
}

async function look(theme, width, zoom = 1) {
	const context = await browser.newContext({ viewport: { width, height: zoom > 1 ? 430 : width < 600 ? 740 : 860 }, deviceScaleFactor: zoom, colorScheme: theme, reducedMotion: "reduce" });
	context.setDefaultTimeout(90_000);
	const page = await watched(context, mock.url);
	await page.goto(mock.url + "/login");
	if (!only) await shoot(page, "login", theme, width, zoom);
	await page.goto(mock.url + "/login?code=once");
	await page.waitForSelector(".top");
	for (const [name, path] of PAGES) {
		if (only && !name.includes(only)) continue;
		await page.goto(mock.url + path);
		await page.waitForSelector("main");
		await shoot(page, name, theme, width, zoom);
	}
	await context.close();
	if (zoom > 1) return;
	const empty = await browser.newContext({ viewport: { width, height: 800 }, colorScheme: theme });
	const p2 = await watched(empty, bare.url);
	await p2.goto(bare.url + "/login?code=once");
	await p2.waitForSelector(".top");
	if (!only || "empty".includes(only)) for (const [name, path] of [["empty-overview", "/"], ["empty-workers", "/workers"], ["empty-compare", "/compare"], ["empty-checkpoints", "/checkpoints"]]) {
		await p2.goto(bare.url + path);
		await shoot(p2, name, theme, width);
	}
	await empty.close();
}
const queue = [...LOOKS, ZOOMED];
await Promise.all([1, 2, 3].map(async () => {
	for (let l = queue.shift(); l; l = queue.shift()) await look(...l);
}));
await browser.close();
mock.close();
bare.close();
process.exit(report.end());
