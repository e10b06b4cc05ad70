// The whole way on the real stack: log in, submit through the form, watch the run finish live, read
// samples, compare, download the checkpoint and check its digest.
// usage: node real.mjs --url URL --login LINK_OR_CODE --spec FILE --out DIR [--timeout SECONDS]
//                      [--run ID (watch this one, submit nothing)]
// Exit codes: 0 all well, 1 a check failed, 2 usage, 3 the run did not end well, 4 time-out,
// 77 no Chromium here.
import { createHash } from "node:crypto";
import { createReadStream, mkdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { chromiumPath, launch, overflow, Report, watched } from "./browser.mjs";

const args = {};
for (let i = 2; i < process.argv.length; i += 2) args[process.argv[i].replace(/^--/, "")] = process.argv[i + 1];
if (!args.url || !args.login || !(args.spec || args.run) || !args.out) {
	console.error("usage: node real.mjs --url URL --login LINK --spec FILE --out DIR [--timeout S] [--run ID]");
	process.exit(2);
}
if (!chromiumPath()) {
	console.log("no Chromium (apt-get install chromium-headless-shell)");
	process.exit(77);
}
mkdirSync(args.out, { recursive: true });
const deadline = Date.now() + 1000 * Number(args.timeout ?? 900);
const base = args.url.replace(/\/$/, "");
const report = new Report("browser real");
const browser = await launch();
const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, acceptDownloads: true });
const page = await watched(context, base);
page.setDefaultTimeout(20_000);

async function leave(code) {
	const printed = report.end();
	await browser.close();
	process.exit(code || printed);
}

async function shot(name) {
	await page.waitForFunction(() => !document.querySelector(".skeleton"), null, { timeout: 10_000 }).catch(() => undefined);
	await page.screenshot({ path: join(args.out, name + ".png"), fullPage: true });
	const trouble = await page.trouble();
	report.check(trouble.length === 0, `${name} is quiet`, trouble.join(" | "));
	const wide = await overflow(page);
	report.check(wide === "", `${name} has no overflow`, wide);
}

const get = (path) => page.evaluate(async (p) => {
	const r = await fetch("/api/v1" + p);
	return { status: r.status, body: await r.json().catch(() => null) };
}, path);

function at(o, pointer) {
	return pointer.split("/").slice(1).reduce((v, k) => (v === null || v === undefined ? undefined : v[k]), o);
}

/** Types a specification into the form, field by field, as a person would. */
async function fill(spec) {
	const { body: form } = await get("/config/defaults");
	await page.evaluate(() => document.querySelectorAll("details.more").forEach((d) => d.setAttribute("open", "")));
	for (const f of form.fields) {
		const v = at(spec, f.pointer);
		if (v === undefined || v === null || JSON.stringify(v) === JSON.stringify(f.default)) continue;
		const id = "#f" + f.pointer.replaceAll("/", "-");
		const el = page.locator(`[id="${id.slice(1)}"]`);
		if (f.type === "files") {
			for (const [i, file] of v.entries()) {
				const row = page.locator(".field", { has: page.locator(`[id="${id.slice(1)}"]`) }).locator(".sources .row").nth(i);
				await row.locator("input").fill(file.path);
				await row.locator("input").press("Tab");
				await row.locator("select").selectOption(file.format ?? "auto");
			}
		} else if (f.type === "bool") await el.setChecked(v);
		else if (f.type === "string" && f.choices?.length) await el.selectOption(String(v));
		else await el.fill(typeof v === "object" ? JSON.stringify(v) : String(v));
	}
}

async function submit() {
	report.start("submit through the form");
	const spec = JSON.parse(readFileSync(args.spec, "utf8"));
	await page.goto(base + "/runs/new");
	await page.waitForSelector(".submit");
	await fill(spec);
	await page.waitForSelector(".plan-total", { timeout: 60_000 }).catch(async (e) => {
		const said = await page.locator(".submit-rail").allTextContents();
		throw new Error(`${e.message} The page says: ${said.join(" | ")}`);
	});
	await page.waitForTimeout(1200);
	const errors = await page.locator(".submit-rail .error-card").allTextContents();
	report.check(errors.length === 0, "the dry run has no complaint", errors.join(" "));
	await shot("submit");
	await page.getByRole("button", { name: "Submit run" }).click();
	await page.waitForURL(/\/runs\/r[a-z0-9]+$/);
	return new URL(page.url()).pathname.split("/")[2];
}

/** Watches without a reload; every figure that appears came through the live page. */
async function watch(run) {
	report.start("watch it live");
	await page.goto(`${base}/runs/${run}`);
	await page.waitForSelector(".page-head .state");
	await page.evaluate(() => { window.__notReloaded = true; });
	const seen = new Set();
	let shotAt = 0;
	for (;;) {
		const now = await page.evaluate(() => ({ state: document.querySelector(".page-head .state")?.textContent ?? "", progress: document.querySelector(".facts .num")?.textContent ?? "", pill: document.querySelector(".pill")?.textContent ?? "" }));
		seen.add(now.progress);
		if (/done|failed|cancelled/.test(now.state)) {
			report.check(/done/.test(now.state), "the page says that the run is done", `${now.state}, ${now.progress}`);
			break;
		}
		if (Date.now() > deadline) {
			await shot("timeout");
			report.check(false, "the run ended in time", now.progress);
			await leave(4);
		}
		if (seen.size >= 8 && shotAt++ === 0) await page.screenshot({ path: join(args.out, "running.png"), fullPage: true });
		await page.waitForTimeout(500);
	}
	report.check(await page.evaluate(() => window.__notReloaded === true), "without a reload");
	if (!args.run) report.check(seen.size > 2, "the progress moved on the page", [...seen].join(" → "));
	const speeds = await page.locator(".pipe .step-sub", { hasText: "tok/s" }).count();
	report.check(speeds >= 4, "stages that compute say how fast they were", `${speeds} of them`);
	await shot("run-done");
	const { body } = await get(`/runs/${run}`);
	if (body.state !== "done") {
		console.log(`# run ${run} is ${body.state}: ${JSON.stringify(body.error)}`);
		await leave(3);
	}
	return body;
}

async function tabs(run) {
	for (const tab of ["timeline", "jobs", "charts", "data", "checkpoints", "config", "events"]) {
		report.start("tab " + tab);
		await page.goto(`${base}/runs/${run}/${tab}`);
		await page.waitForSelector(".tab-body > *");
		await page.waitForTimeout(500);
		await shot("run-" + tab);
		report.check((await page.locator(".tab-body .error-card").count()) === 0, tab + " shows no error");
		if (tab === "timeline") report.check((await page.locator(".gbar").count()) > 5, "bars are drawn");
		if (tab === "charts") report.check((await page.locator(".plot .ln").count()) > 2, "curves are drawn");
	}
	report.start("job page");
	await page.goto(`${base}/runs/${run}/jobs?stage=dpo`);
	await page.locator("tbody tr a").first().click();
	await page.waitForSelector(".log-card");
	const job = page.url();
	await page.reload();
	await page.waitForSelector(".log-card");
	report.check(page.url() === job, "a job's address survives a reload");
	await page.waitForTimeout(500);
	await shot("job");
}

async function samples(run) {
	report.start("browse samples");
	const { body } = await get(`/datasets?run=${run}&stage=pair&limit=100`);
	const set = body.items.find((d) => d.role === "samples");
	if (!report.check(set, "the run wrote samples")) return;
	await page.goto(`${base}/data/${set.digest}`);
	await page.waitForSelector(".row-link");
	report.check((await page.locator(".cand").count()) >= 2, "candidates are shown side by side");
	report.check((await page.locator(".verdict").count()) >= 2, "with their judgements");
	await page.keyboard.press("j");
	await page.waitForURL(/at=/);
	await shot("samples");
	await review(set.digest);
	const bars = page.locator(".hist-col");
	if (await bars.count()) {
		await bars.last().click();
		await page.waitForURL(/min_score/);
		await page.waitForTimeout(600);
		report.check((await page.locator(".row-link").count()) > 0, "a bar of the histogram filters");
	}
	const [d] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: /Export/ }).click()]);
	const file = join(args.out, "rows.jsonl");
	await d.saveAs(file);
	const lines = readFileSync(file, "utf8").trim().split("\n");
	report.check(lines.every((l) => JSON.parse(l)), "the export is JSON lines", `${lines.length} rows`);
}

/** Said by key, kept by the server, taken back. */
async function review(digest) {
	const said = async () => (await get(`/datasets/${digest}/reviews`)).body;
	const until = async (n) => {
		for (let i = 0; i < 100 && (await said()).items.length !== n; i++) await page.waitForTimeout(100);
		return (await said()).items.length === n;
	};
	await page.goto(`${base}/data/${digest}?flag=chosen&blind=1`);
	await page.waitForSelector(".review");
	report.check((await page.locator(".cand.chosen, .verdict").count()) === 0, "blind, the judge is not seen");
	await page.keyboard.press("1");
	report.check(await until(1), "a verdict said by key is kept");
	const { items, summary } = await said();
	report.check(items[0].blind && items[0].verdict !== "skip" && summary.reviewed === 1 && summary.agreement.n === 1, "with who, what and how", JSON.stringify(items[0]));
	await page.waitForSelector('.row-link b[title^="You:"]');
	await shot("review");
	await page.keyboard.press("u");
	report.check(await until(0), "and taken back by another");
	await page.goto(`${base}/data/${digest}`);
	await page.waitForSelector(".row-link");
}

async function compare(run) {
	report.start("compare models");
	await page.goto(`${base}/compare?run=${run}`);
	await page.waitForSelector(".matrix");
	const names = await page.locator(".matrix thead th").allTextContents();
	report.check(names.length >= 3, "models stand side by side", names.join(" "));
	await page.waitForTimeout(600);
	await shot("compare");
}

async function download(run) {
	report.start("download the checkpoint");
	await page.goto(`${base}/checkpoints/${run.final_digest}`);
	await page.waitForSelector("h1");
	await shot("checkpoint");
	const [d] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: /^Download/ }).click()]);
	const file = join(args.out, "final.tar");
	await d.saveAs(file);
	const hash = createHash("sha256");
	for await (const chunk of createReadStream(file)) hash.update(chunk);
	const got = hash.digest("hex");
	report.check(got === run.final_digest, "the bytes have the digest of the page", `${got} of ${statSync(file).size} bytes`);
	console.log(`# final checkpoint ${run.final_digest}, ${statSync(file).size} bytes`);
}

/** A filter kept by name, a decision as an operation, and what was noticed: as the server itself answers. */
async function lists(run) {
	report.start("filters, many at once, notices");
	const now = () => page.locator(".saved summary").textContent();
	await page.goto(`${base}/runs?state=done`);
	await page.waitForSelector("tbody tr");
	await page.locator(".saved summary").click();
	await page.getByLabel("Save this filter as").fill("what is done");
	await page.keyboard.press("Enter");
	await page.waitForFunction(() => document.querySelector(".saved summary").textContent.startsWith("what is done"));
	await page.reload();
	await page.waitForFunction(() => document.querySelector(".saved summary")?.textContent.startsWith("what is done"));
	report.check(true, "a saved filter is there after a reload");
	await page.locator(".saved summary").click();
	await page.getByRole("button", { name: "Delete the saved filter what is done" }).click();
	await page.waitForFunction(() => document.querySelector(".saved summary").textContent.startsWith("Saved filters"));
	report.check(/^Saved filters/.test(await now()), "and gone when deleted");
	await page.keyboard.press("Escape");
	await page.getByRole("checkbox", { name: "Select every run shown" }).check();
	await page.getByRole("region", { name: "Selected runs" }).getByRole("button", { name: "Tag…" }).click();
	await page.getByLabel("Tags to put on").fill("by-hand");
	await page.locator("dialog .btn.primary").click();
	await page.locator(".op").getByRole("button", { name: "Close" }).click();
	const { body } = await get(`/runs/${run}`);
	report.check(body.tags.includes("by-hand"), "an operation tags the runs that were picked", JSON.stringify(body.tags));
	await page.goto(base + "/notices");
	await page.getByText(/is done/).first().waitFor();
	await page.getByRole("row", { name: /many runs.*done/ }).waitFor();
	report.check(true, "the end of the run is among the notices, the decision among the operations");
	await shot("notices");
}

/** A new user, seen in the audit log, and let in by name and password. */
async function people() {
	report.start("users");
	await page.goto(base + "/settings");
	await page.getByLabel("user", { exact: true }).fill("vera");
	await page.getByLabel("password", { exact: true }).fill("a long enough word");
	await page.locator("form").filter({ has: page.getByLabel("password", { exact: true }) }).getByRole("button", { name: "Add", exact: true }).click();
	await page.getByLabel("Role of vera").waitFor();
	await page.reload();
	await page.getByText("PUT /users/vera").first().waitFor();
	report.check(true, "a user is added, and the audit log says so");
	const other = await browser.newContext();
	const hers = await other.newPage();
	await hers.goto(base + "/login");
	await hers.locator("summary", { hasText: "user name" }).click();
	await hers.locator("input[name=user]").fill("vera");
	await hers.locator("input[name=password]").fill("a long enough word");
	await hers.getByRole("button", { name: "Log in" }).click();
	await hers.waitForSelector(".top");
	const me = await hers.evaluate(async () => (await fetch("/api/v1/session")).json());
	report.check(me.role === "viewer", "she is let in as a viewer", JSON.stringify(me));
	await other.close();
}

try {
	report.start("log in");
	await page.goto(/^https?:/.test(args.login) ? args.login : `${base}/login?code=${encodeURIComponent(args.login)}`);
	await page.waitForSelector(".top");
	report.check(true, "the one-time link opens a session");
	await page.waitForSelector(".pill-live", { timeout: 10_000 });
	await shot("overview");
	const run = args.run ?? (await submit());
	console.log(`# run ${run}`);
	const body = await watch(run);
	await tabs(run);
	await samples(run);
	await compare(run);
	await lists(run);
	if (body.final_digest) await download(body);
	await people();
	for (const [name, path] of [["workers", "/workers"], ["settings", "/settings"], ["data", "/data"], ["checkpoints", "/checkpoints"]]) {
		report.start("page " + name);
		await page.goto(base + path);
		await page.waitForSelector("h1");
		await page.waitForTimeout(400);
		await shot(name);
		report.check((await page.locator(".error-card").count()) === 0, name + " shows no error");
	}
} catch (e) {
	await page.screenshot({ path: join(args.out, "trouble.png"), fullPage: true }).catch(() => undefined);
	report.check(false, "the way goes on", e.message.split("\n").slice(0, 4).join(" "));
}
await leave(0);
