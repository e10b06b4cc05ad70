// Every page in both themes and three widths: a screenshot, no error, violation or overflow, and no serious or
// critical finding of axe. A page is loaded once and then made wider, narrower, light and dark, as a person does.
// usage: node shots.mjs [part of a page's name]
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { inLanes, launch, overflow, Report, watched } from "./browser.mjs";
import { startMock } from "./mock.mjs";
import { hex } from "./mock_data.mjs";

const out = join(dirname(fileURLToPath(import.meta.url)), "out");
mkdirSync(out, { recursive: true });
const only = process.argv[2] ?? "";

const samples = hex("r7k2f9.1.pair.0.0/samples");
const press = (name) => (page) => page.getByRole("button", { name }).first().click();
const cut = (page) => page.route("**/api/v1/**", (r) => r.abort());

/** Name, path, and what is done on the page before it is looked at. */
const PAGES = [
	["overview", "/"],
	["runs", "/runs"],
	["runs-picked", "/runs", async (page) => { await page.getByRole("checkbox", { name: "Select every run shown" }).check(); }],
	["runs-saved", "/runs?starred=1", async (page) => { await page.getByText("Saved filters").click(); await page.waitForSelector(".saved-form"); }],
	["run-timeline", "/runs/r7k2f9/timeline"],
	["run-timeline-job", "/runs/r9m4q2/timeline?group=job"],
	["run-jobs", "/runs/r9m4q2/jobs"],
	["run-charts", "/runs/r9m4q2/charts"],
	["run-data", "/runs/r2c8d0/data"],
	["run-checkpoints", "/runs/r7k2f9/checkpoints"],
	["run-config", "/runs/r7k2f9/config"],
	["run-events", "/runs/r9m4q2/events"],
	["run-log", "/runs/r7k2f9/log"],
	["run-failed", "/runs/r3xss1"],
	["run-notes", "/runs/r7k2f9", press("Edit notes and tags")],
	["run-cancel", "/runs/r9m4q2", press("Cancel…")],
	["job", "/jobs/r9m4q2.1.dpo.1.0"],
	["job-failed", "/jobs/r3xss1.1.judge.1.2"],
	["job-blocked", "/jobs/r9m4q2.2.pair.0.0"],
	["job-find", "/jobs/r9m4q2.1.dpo.1.0?find=chunk%3D39&level=warn"],
	["data", "/data"],
	["samples", `/data/${samples}`],
	["samples-filtered", `/data/${samples}?flag=refusal&min_length=20&sort=-length`],
	["sample-hostile", `/data/${samples}?at=2`],
	["sample-diff", `/data/${samples}?at=0&view=diff`],
	["sample-blind", `/data/${samples}?at=0&blind=1`],
	["workers", "/workers"],
	["workers-add", "/workers", async (page) => { await page.getByText("Add a worker").click(); }],
	["checkpoints-all", "/checkpoints"],
	["checkpoints", "/checkpoints?run=r7k2f9"],
	["checkpoints-retention", "/checkpoints", async (page) => { await page.getByText("What will be deleted next").click(); await page.getByText("Let go…").waitFor(); }],
	["checkpoint", `/checkpoints/${hex("r7k2f9.2.dpo.2.0/model")}`],
	["compare", "/compare?run=r7k2f9&diff=r9m4q2"],
	["submit", "/runs/new"],
	["submit-clone", "/runs/new?from=r9m4q2"],
	["submit-errors", "/runs/new", async (page) => { await page.fill("#f-base_model", "relative/dir"); await page.fill("#f-dpo-beta", "abc"); await page.waitForSelector("#f-dpo-beta[aria-invalid=true]"); }],
	["notices", "/notices"],
	["settings", "/settings"],
	["operation", "/runs/r7k2f9/jobs", async (page) => {
		await page.getByRole("checkbox", { name: "Select every job shown" }).check();
		await press("Redo…")(page);
		await page.locator("dialog .btn.danger").click();
		await page.waitForSelector(".op [role=progressbar]");
	}],
	["help", "/", async (page) => { await page.keyboard.press("?"); await page.waitForSelector("dialog[open]"); }],
	["error", "/workers", null, (page) => page.route("**/api/v1/workers", (r) => r.fulfill({ status: 503, contentType: "application/problem+json", body: JSON.stringify({ type: "about:blank", title: "Redis does not answer", status: 503, detail: "The server cannot reach its Redis; it tries again by itself.", instance: "req-4711" }) }))],
	["offline", "/runs", async (page) => { await cut(page); await page.getByRole("link", { name: "Workers" }).first().click(); await page.waitForSelector(".stale"); }],
	["missing", "/nothing/here"],
	["missing-run", "/runs/rnone"],
];
const EMPTY = [["empty-overview", "/"], ["empty-runs", "/runs"], ["empty-data", "/data"], ["empty-workers", "/workers"], ["empty-compare", "/compare"], ["empty-checkpoints", "/checkpoints"], ["empty-notices", "/notices"]];

/** Theme, width, and which rules of axe: the nodes are the same in all of them, colours go with the theme, sizes with the width. */
const LOOKS = [["light", 1280, "all"], ["dark", 1280, "colour"], ["dark", 768], ["light", 768], ["light", 360, "all"], ["dark", 360]];
/** A page that is empty, or in whose midst something is open or wrong: as wide and light as it gets, and as narrow and dark. */
const FEW = [["light", 1280, "all"], ["dark", 360, "all"]];
/** A window of 1280 px at 200 %: half as many pixels of CSS. Nothing may be cut off or need two scroll bars. */
const ZOOMED = 640;

const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const RULES = { all: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"], colour: { type: "rule", values: ["color-contrast"] } };

/** Serious and critical findings of axe, WCAG 2.2 A and AA. It runs in a world of its own: our CSP stands. */
async function axe(page, rules) {
	await page.evaluate(axeSource);
	return page.evaluate(async (runOnly) => {
		const r = await window.axe.run(document, { resultTypes: ["violations"], runOnly });
		return r.violations.filter((v) => v.impact === "serious" || v.impact === "critical").map((v) => `${v.id} ${v.nodes.slice(0, 3).map((n) => n.target.join(" ") + (v.id === "color-contrast" ? " " + (n.any[0]?.data?.contrastRatio ?? "") : "")).join(", ")}`);
	}, RULES[rules]);
}

/** Elements that reach out of the window and that no scrolling of theirs brings back. */
function cutOff(page) {
	return page.evaluate(() => {
		const room = document.documentElement.clientWidth;
		const scrolls = (el) => { for (let p = el; p && p !== document.body; p = p.parentElement) if (/auto|scroll|hidden/.test(getComputedStyle(p).overflowX) || getComputedStyle(p).clipPath !== "none") return true; return false; };
		return [...document.querySelectorAll("main *, header *")].filter((el) => { const shut = el.parentElement.closest("details:not([open])"); if (shut && !el.closest("summary")) return false; const r = el.getBoundingClientRect(); return r.width > 0 && (r.right > room + 1 || r.left < -1) && !scrolls(el); }).slice(0, 3).map((el) => `${el.tagName.toLowerCase()}.${String(el.className?.baseVal ?? el.className)}`).join(", ");
	});
}

/** Counts what the page asks for and has not got; long polls and streams do not count. */
function counted(page) {
	const open = new Set();
	const counts = (r) => r.url().includes("/api/v1/") && !/\/events\?|[?&]wait=/.test(r.url());
	page.on("request", (r) => { if (counts(r)) open.add(r); });
	for (const end of ["requestfinished", "requestfailed"]) page.on(end, (r) => open.delete(r));
	page.still = async () => {
		for (let calm = 0, n = 0; calm < 3 && n < 400; n++) {
			calm = open.size === 0 && (await page.evaluate(() => !document.querySelector("[aria-busy=true].skeleton"))) ? calm + 1 : 0;
			await page.evaluate(() => new Promise((ok) => requestAnimationFrame(() => requestAnimationFrame(ok))));
		}
	};
}

const frames = (page) => page.evaluate(() => new Promise((ok) => requestAnimationFrame(() => requestAnimationFrame(() => requestAnimationFrame(ok)))));

async function shoot(page, name, theme, width, rules) {
	const check = (ok, what, more = "") => report.check(ok, `${theme} ${width}: ${what}`, more, name);
	await page.setViewportSize({ width, height: width === ZOOMED ? 430 : width < 600 ? 740 : 860 });
	await page.emulateMedia({ colorScheme: theme, reducedMotion: "reduce" });
	await frames(page);
	if (width !== ZOOMED) await page.screenshot({ path: join(out, `${name}-${theme}-${width}.png`), fullPage: true });
	else check((await cutOff(page)) === "", "nothing is cut off at 200 %", await cutOff(page));
	const wide = await overflow(page);
	check(wide === "", "no horizontal overflow", wide);
	if (!rules) return;
	const found = await axe(page, rules);
	check(found.length === 0, `axe finds nothing serious (${rules})`, found.join(" | "));
}

async function look(context, url, [name, path, prepare, before], looks = prepare || before || url === bare.url ? FEW : LOOKS) {
	const page = await watched(context, url);
	counted(page);
	try {
		await page.setViewportSize({ width: 1280, height: 860 });
		await before?.(page);
		await page.goto(url + path);
		await page.waitForSelector("h1, .empty, .error-card");
		await page.still();
		await prepare?.(page);
		if (prepare) await page.still();
		await page.evaluate(() => scrollTo(0, 0));
		for (const [theme, width, rules] of looks) await shoot(page, name, theme, width, rules);
		await shoot(page, name, "light", ZOOMED);
		const trouble = await page.trouble();
		report.check(trouble.length === 0, "no error, violation or foreign request", trouble.join(" | "), name);
		report.check((await page.evaluate(() => window.pwned)) === undefined, "hostile text stays text", "", name);
		const h1 = await page.locator("h1").count();
		report.check(h1 === 1 || name.startsWith("missing"), "one h1", String(h1), name);
	} catch (e) {
		report.check(false, "the page can be looked at", e.message.split("\n").slice(0, 3).join(" "), name);
	}
	await page.close();
}

const report = new Report("browser page");
const mock = await startMock({ tickMs: 0 });
const bare = await startMock({ empty: true, tickMs: 0 });
const browser = await launch();

async function entered(url, code = true) {
	const context = await browser.newContext({ reducedMotion: "reduce" });
	context.setDefaultTimeout(90_000);
	const page = await context.newPage();
	await page.goto(url + (code ? "/login?code=once" : "/login"));
	await page.waitForSelector(code ? ".top" : "input[name=token]");
	await page.close();
	return context;
}

const jobs = [...PAGES.map((p) => [mock.url, p]), ...EMPTY.map((p) => [bare.url, p])].filter(([, [name]]) => name.includes(only));
for (const [, [name]] of jobs) report.start(name);
// A context a lane and server: pages of one do not share their stream or their cache with the other's.
const contexts = new Map();
const contextOf = async (key, url) => {
	if (!contexts.has(key)) contexts.set(key, await entered(url));
	return contexts.get(key);
};
// What changes the world of the mock comes last.
jobs.sort(([, [a]], [, [b]]) => Number(a === "operation") - Number(b === "operation"));
await inLanes(jobs, async ([url, p], lane) => look(await contextOf(lane + url, url), url, p));
if ("login".includes(only)) {
	report.start("login");
	await look(await entered(mock.url, false), mock.url, ["login", "/login"]);
}
await browser.close();
mock.close();
bare.close();
process.exit(report.end());
