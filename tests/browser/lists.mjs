// Lists and what is done with them: saved filters, all that fit a filter, operations with their progress, notices,
// why jobs wait, commands to copy; clocks that are wrong, and days of 23 hours.
import { act } from "./act.mjs";
import { startMock } from "./mock.mjs";
import { hex } from "./mock_data.mjs";

const { browser, ok, open, quiet, run } = await act("browser lists");
const SAMPLES = `/data/${hex("r7k2f9.1.pair.0.0/samples")}`;

/** A page with its own world; `end` looks for trouble and closes. */
async function begin(path, options = {}) {
	const mock = await startMock({ tickMs: 0 });
	const { context, page } = await open(mock, { path, ...options });
	return { mock, page, context, end: async (what) => {
		await quiet(page, what);
		await context.close();
		mock.close();
	} };
}

/** What the page puts on the clipboard, also where it may not. */
const catchCopies = (page) => page.addInitScript(() => {
	window.__copied = [];
	Object.defineProperty(navigator, "clipboard", { value: { writeText: async (t) => void window.__copied.push(t) } });
});
const copied = (page) => page.evaluate(() => window.__copied.at(-1));

await run({
	async "saved filters: a name for the address, chosen, deleted, on every list"() {
		const { mock, page, end } = await begin("/runs?state=done&cursor=");
		await page.getByText("Saved filters").click();
		await page.getByLabel("Save this filter as").fill("what <b>ended</b>");
		await page.keyboard.press("Enter");
		await page.waitForFunction(() => document.querySelector(".saved summary").textContent.startsWith("what <b>ended</b>"));
		ok(mock.world.filters.some((f) => f.name === "what <b>ended</b>" && f.page === "runs" && f.query === "state=done"), "the server has it", JSON.stringify(mock.world.filters));
		await page.getByRole("group", { name: "State" }).getByRole("link", { name: "all" }).click();
		await page.waitForFunction(() => document.querySelectorAll("tbody tr").length > 2);
		await page.locator(".saved summary").click();
		ok((await page.locator(".saved-list a").count()) === 2, "the filters of this list and no other", await page.textContent(".saved-list"));
		await page.getByRole("link", { name: "for the paper" }).click();
		await page.waitForURL(/starred=1&tag=paper|tag=paper&starred=1/);
		await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 1);
		ok((await page.locator(".saved[open]").count()) === 0, "choosing closes the menu");
		await page.locator(".saved summary").click();
		await page.keyboard.press("Escape");
		ok((await page.locator(".saved[open]").count()) === 0 && (await page.evaluate(() => document.activeElement.tagName)) === "SUMMARY", "Esc closes it and the focus returns");
		await page.locator(".saved summary").click();
		await page.getByRole("button", { name: "Delete the saved filter for the paper" }).click();
		await page.waitForFunction(() => document.querySelectorAll(".saved-list a").length === 1);
		ok(!mock.world.filters.some((f) => f.name === "for the paper"), "deleted");
		await page.goto(mock.url + "/runs/r3xss1/jobs");
		await page.locator(".saved summary").click();
		await page.getByRole("link", { name: "failed judges" }).click();
		await page.waitForFunction(() => { const r = [...document.querySelectorAll("tbody tr")]; return r.length === 1 && /failed/.test(r[0].textContent); });
		ok(/\/runs\/r3xss1\/jobs\?/.test(page.url()), "of jobs, on the run one stands at");
		await page.goto(mock.url + SAMPLES + "?at=3&min_length=30");
		await page.locator(".saved summary").click();
		await page.getByLabel("Save this filter as").fill("long ones");
		await page.locator(".saved-form").getByRole("button", { name: "Save", exact: true }).click();
		await page.waitForFunction(() => document.querySelector(".saved summary").textContent.startsWith("long ones"));
		ok(mock.world.filters.find((f) => f.name === "long ones").query === "min_length=30", "of rows: the filter, not the row");
		await end("saved filters");
	},

	async "all that fit the filter: the server counts, acts by itself, and the page shows how far it is"() {
		const { mock, page, end } = await begin("/runs");
		await page.waitForSelector("tbody tr");
		// More runs than a page holds.
		const like = mock.world.runs.find((r) => r.id === "r2c8d0");
		for (let i = 0; i < 120; i++) mock.world.runs.push({ ...like, id: `rn${String(i).padStart(4, "0")}`, name: `nightly ${i}`, state: "active", jobs: like.jobs.slice(0, 3), created: like.created - i });
		await page.goto(mock.url + "/runs?q=nightly");
		await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 50);
		await page.getByRole("checkbox", { name: "Select every run shown" }).check();
		const bar = page.getByRole("region", { name: "Selected runs" });
		await bar.getByRole("button", { name: /select all/ }).click();
		await bar.getByText("all 120 runs that fit the filter").waitFor();
		mock.opSteps = 8;
		await bar.getByRole("button", { name: "Pause…" }).click();
		ok(/Pause 120 runs\?/.test(await page.textContent("dialog h2")) && /not on this page/.test(await page.textContent("dialog")), "the dialog counts and says what is meant");
		await page.getByRole("button", { name: "Pause 120" }).click();
		const card = page.getByRole("region", { name: "Pause 120 runs" });
		await card.waitFor();
		const far = new Set();
		for (let i = 0; i < 400; i++) {
			far.add(Number(await card.getByRole("progressbar").getAttribute("aria-valuenow")));
			if (await card.getByRole("button", { name: "Close" }).count()) break;
			await page.waitForTimeout(100);
		}
		ok(far.size >= 4 && [...far].every((v, i, all) => !i || v > all[i - 1]), "the bar grows", [...far].join());
		ok(/120 of 120/.test(await card.textContent()), "to its end", await card.textContent());
		ok(mock.bulks.length === 1 && JSON.stringify(mock.bulks[0].filter) === '{"q":"nightly"}' && !mock.bulks[0].ids, "one request, with the filter", JSON.stringify(mock.bulks));
		ok(mock.world.runs.filter((r) => r.state === "paused").length === 120, "all of them");
		await page.waitForFunction(() => document.querySelectorAll("tbody .tone-warn").length >= 50);
		ok(true, "the list shows it");
		await card.getByRole("button", { name: "Close" }).click();
		ok((await page.locator(".op").count()) === 0, "the card can be closed");
		await page.getByRole("checkbox", { name: "Select every run shown" }).check();
		await bar.getByRole("button", { name: "Tag…" }).click();
		await page.getByLabel("Tags to put on").fill("asleep, checked");
		await page.getByRole("button", { name: "Tag 50" }).click();
		await page.getByRole("region", { name: "Tag 50 runs" }).getByRole("button", { name: "Close" }).waitFor();
		ok(mock.world.runs.filter((r) => (r.tags ?? []).join() === "asleep,checked").length === 50, "tags too");
		await end("all that fit");
	},

	async "an operation outlives a change of page and a reload, and can be stopped"() {
		const { mock, page, end } = await begin("/runs/r7k2f9/jobs?stage=judge");
		await page.waitForSelector("tbody tr:nth-child(10)");
		mock.opSteps = 0; // it stands still
		await page.getByRole("checkbox", { name: "Select every job shown" }).check();
		await page.getByRole("button", { name: "Redo…" }).click();
		await page.locator("dialog .btn.danger").click();
		const card = page.getByRole("region", { name: /^Redo 24 jobs/ });
		await card.getByText("0 of 24").waitFor();
		await page.getByRole("link", { name: "Workers" }).first().click();
		ok((await card.count()) === 1, "it stays over another page");
		await page.reload();
		await card.getByText("0 of 24").waitFor();
		ok(true, "and over a reload");
		await card.getByRole("button", { name: "Stop" }).click();
		await card.getByText("stopped after 0 of 24").waitFor();
		ok(mock.operations[0].state === "cancelled", "stopped");
		await page.goto(mock.url + "/notices");
		await page.getByRole("row", { name: /many jobs.*cancelled.*ada/ }).waitFor();
		ok(true, "and it is among the operations");
		await end("an operation");
	},

	async "notices: what is new is counted and marked, once"() {
		const { mock, page, context, end } = await begin("/");
		const bell = page.locator(".bell");
		await page.waitForFunction(() => document.querySelector(".bell .count")?.textContent === "6");
		ok((await bell.getAttribute("aria-label")) === "Notices, 6 new", "counted, also in words");
		ok(/93 % full/.test(await page.textContent(".alarms")), "the disk is among what needs attention", await page.textContent(".alarms"));
		await bell.click();
		await page.waitForSelector(".notices li");
		ok((await page.locator(".notices .fresh").count()) === 6, "all of them marked");
		await page.waitForFunction(() => !document.querySelector(".bell .count"));
		ok((await page.locator(".notices .fresh").count()) === 6, "while one reads, too");
		const other = await context.newPage();
		await other.goto(mock.url + "/workers");
		await other.waitForSelector("tbody tr");
		ok((await other.locator(".bell .count").count()) === 0, "seen in one tab is seen in all");
		await page.goto(mock.url + "/runs"); // An open page of notices reads what comes.
		mock.world.notices.unshift({ id: `${Date.now()}-9`, kind: "run.failed", at: new Date(Date.now() + 1000).toISOString(), text: "Run r9m4q2 is failed", run: "r9m4q2", url: "https://pawl.example/runs/r9m4q2" });
		mock.emit("notice", "r9m4q2", "", mock.world.notices[0]);
		await other.waitForFunction(() => document.querySelector(".bell .count")?.textContent === "1");
		ok(true, "a new one comes by the stream");
		await page.goto(mock.url + "/notices");
		await page.waitForFunction(() => document.querySelectorAll(".notices .fresh").length === 1);
		ok((await page.locator(".notices li").first().getByRole("link").getAttribute("href")) === "/runs/r9m4q2", "it leads to the page of this browser's address");
		await page.getByRole("button", { name: "workers" }).click();
		await page.waitForURL(/kind=worker/);
		ok((await page.locator(".notices li").count()) === 1, "by kind");
		await end("notices");
	},

	async "why a job waits: now, its place, and what it waited for before"() {
		const { mock, page, end } = await begin("/jobs/r7k2f9.1.generate.1.0");
		const rows = page.locator(".waits tr");
		await rows.first().waitFor();
		ok((await rows.count()) === 2 && /waits for one of 3 workers/.test(await rows.first().textContent()) && /earlier jobs/.test(await rows.nth(1).textContent()), "the newest first", (await rows.allTextContents()).join(" / "));
		const j = mock.world.runs.flatMap((r) => r.jobs).find((x) => x.id === "r9m4q2.2.pair.0.0");
		Object.assign(j, { state: "ready", wait_reason: "waits for one of 3 workers" });
		await page.goto(mock.url + "/jobs/" + j.id);
		const card = page.locator(".card", { hasText: "Place in its queue" });
		await card.waitFor();
		ok((await card.locator(".fact dd").allTextContents()).slice(0, 2).join() === "2 of 5,1", "its place, and the runs before it", await card.textContent());
		ok(/waits for one of 3 workers/.test(await page.textContent(".lead")), "in a sentence");
		await end("waiting");
	},

	async "events are named as people name jobs, and lead to them"() {
		const { mock, page, end } = await begin("/runs/r7k2f9/events");
		await page.waitForSelector(".events li a");
		mock.emit("job", "r7k2f9", "r7k2f9.2.eval.0.0", { state: "done" });
		await page.waitForFunction(() => /^Eval 0, iteration 2/.test(document.querySelector(".events li a").textContent));
		ok((await page.locator(".events li a").first().getAttribute("href")) === "/jobs/r7k2f9.2.eval.0.0", "with a link");
		ok(!(await page.locator(".events li a").allTextContents()).some((t) => /^\d+ \w+ \d/.test(t)), "every one");
		await end("events");
	},

	async "every form says itself as a command"() {
		const mock = await startMock({ tickMs: 0 });
		const { context, page } = await open(mock);
		await catchCopies(page);
		const say = async (where, word) => {
			await where.locator(".copy-as").getByText(word, { exact: true }).click();
			return copied(page);
		};
		await page.goto(mock.url + "/settings");
		const card = (name) => page.locator(".card", { has: page.getByRole("heading", { name, exact: true }) });
		await card("Access tokens").getByLabel("name").fill("it's mine");
		ok((await say(card("Access tokens"), "CLI")) === "pawl token create 'it'\\''s mine' --role viewer --expires 2592000", "a token", await copied(page));
		ok(/^curl -H "Authorization: Bearer \$\(cat token\)" -H "Content-Type: application\/json" -d '\{"name":"it'\\''s mine","role":"viewer","expires_s":2592000\}' http:\/\/127\.0\.0\.1:\d+\/api\/v1\/tokens$/.test(await say(card("Access tokens"), "curl")), "as curl", await copied(page));
		await card("Users").getByLabel("password").fill("do not tell");
		ok(!/do not tell/.test((await say(card("Users"), "curl")) + (await say(card("Users"), "CLI"))), "never with a password", await copied(page));
		await card("Webhooks").getByLabel("name").fill("chat2");
		await card("Webhooks").getByLabel("address").fill("https://example.org/a?b=c&d");
		ok(/^pawl hook set chat2 --url 'https:\/\/example\.org\/a\?b=c&d' --event run\.done/.test(await say(card("Webhooks"), "CLI")), "a webhook", await copied(page));
		await card("Quotas").getByLabel("owner").fill("nightly");
		await card("Quotas").getByLabel("open runs").fill("7");
		ok((await say(card("Quotas"), "CLI")) === "pawl quota set nightly --runs 7", "a quota", await copied(page));
		await card("Quotas").getByRole("button", { name: "Set" }).click();
		await card("Quotas").getByText("of 7").waitFor();
		ok(mock.world.quotas[0].runs === 7, "which is set as it was read");
		await page.goto(mock.url + "/runs/r9m4q2");
		await page.getByRole("button", { name: "Cancel…" }).click();
		mock.posts.length = 0;
		ok((await say(page.locator("dialog"), "CLI")) === "pawl run cancel r9m4q2", "a decision", await copied(page));
		ok(/^curl -X POST .*\/runs\/r9m4q2\/cancel$/.test(await say(page.locator("dialog"), "curl")) && mock.posts.length === 0, "and nothing is sent by it", await copied(page));
		await page.keyboard.press("Escape");
		await page.goto(mock.url + "/runs/r9m4q2/config");
		await page.getByRole("button", { name: "CLI" }).click();
		ok(/^pawl run submit -f - <<'JSON'\n\{/.test(await copied(page)), "a run, again");
		await quiet(page, "commands");
		await context.close();
		mock.close();
	},

	async "hundreds of judge prompts: all of them are fetched, a hundred shown at a time"() {
		const { mock, page, end } = await begin("/");
		const set = [...mock.world.datasets.values()].find((d) => d.meta.role === "candidates");
		set.rows = [...set.rows, ...Array.from({ length: 1200 }, (_, i) => ({ ...set.rows[0], id: `x${i}`, parent: "c0", state: "dropped", score: 0.2 }))];
		await page.goto(mock.url + "/runs/r2c8d0/data?tried=1");
		await page.getByText("of 1\u202f204; show more").waitFor();
		ok((await page.locator("section.card", { hasText: "Judge prompts tried" }).locator("tbody tr").count()) === 100, "a hundred at first");
		await page.getByText("show more").click();
		ok((await page.locator("section.card", { hasText: "Judge prompts tried" }).locator("tbody tr").count()) === 200, "then more");
		await end("judge prompts");
	},

	async "the arrow keys walk the stages; a link to a row by its key"() {
		const { page, end } = await begin("/runs/r7k2f9");
		await page.locator("a.step").first().focus();
		const here = () => page.evaluate(() => document.activeElement.getAttribute("href"));
		await page.keyboard.press("ArrowRight");
		ok(/iter=0&stage=eft/.test(await here()), "right", await here());
		await page.keyboard.press("ArrowDown");
		ok(/iter=1&stage=generate/.test(await here()), "down", await here());
		await page.keyboard.press("ArrowUp");
		await page.keyboard.press("ArrowLeft");
		ok(/iter=0&stage=import/.test(await here()), "and back", await here());
		await page.getByLabel("Only failed, cut short or slow").check();
		await page.waitForURL(/odd=1/);
		const bars = await page.locator("[data-bar]").count();
		ok(bars >= 6 && bars < 20, "the timeline shows those alone that had trouble", bars);
		await end("arrow keys");
	},

	async "a clock that is ten minutes off: ages are the server's"() {
		const mock = await startMock({ tickMs: 0 });
		for (const off of [600_000, -600_000]) {
			const context = await browser.newContext();
			context.setDefaultTimeout(90_000);
			await context.addInitScript((ms) => {
				const real = Date.now;
				Date.now = () => real() + ms;
			}, off);
			const page = await context.newPage();
			await page.goto(mock.url + "/login?code=once");
			await page.waitForSelector(".top");
			mock.world.workers[0].last_beat_at = new Date(Date.now() - 5000).toISOString();
			await page.goto(mock.url + "/workers");
			await page.waitForSelector("tbody tr");
			const age = await page.locator("tbody tr").first().locator("td[data-label='Last heard']").textContent();
			ok(/^\s*([2-9]|[1-5]\d)(\.\d)? s ago/.test(age), `${off / 60_000} minutes off`, age);
			await page.goto(mock.url + "/runs/r9m4q2");
			await page.waitForSelector(".facts");
			const lasts = await page.locator(".fact", { hasText: "Running for" }).textContent();
			const minutes = (Date.now() - mock.world.runs.find((r) => r.id === "r9m4q2").created) / 60_000;
			ok(Math.abs(Number(/for(\d+) m/.exec(lasts)?.[1]) - minutes) < 3, "and so is what still lasts", `${lasts} of ${minutes.toFixed(1)} m`);
			await context.close();
		}
		mock.close();
	},

	async "the day of 25 hours: times, axis and tooltips agree, in local time and UTC"() {
		const mock = await startMock({ tickMs: 0 });
		// Clocks in Berlin go back at 01:00 UTC on 25 October 2026.
		const turn = Date.parse("2026-10-25T01:00:00Z");
		const done = mock.world.runs.find((r) => r.id === "r2c8d0");
		const first = Math.min(...done.jobs.flatMap((j) => j.attempts.map((a) => a.started_at)));
		for (const j of done.jobs) {
			for (const k of ["created", "started", "ended"]) if (j[k]) j[k] += turn - 60_000 - first;
			for (const a of j.attempts) {
				a.started_at += turn - 60_000 - first;
				if (a.ended_at) a.ended_at += turn - 60_000 - first;
			}
		}
		const context = await browser.newContext({ timezoneId: "Europe/Berlin", viewport: { width: 1280, height: 900 } });
		context.setDefaultTimeout(90_000);
		const page = await context.newPage();
		await page.goto(mock.url + "/login?code=once");
		await page.waitForSelector(".top");
		await page.goto(mock.url + "/runs/r2c8d0/timeline");
		await page.waitForSelector("[data-bar]");
		const bars = () => page.evaluate(() => [...document.querySelectorAll("[data-bar]")].map((b) => /(\d\d:\d\d:\d\d) → [\d-]+ (\d\d:\d\d:\d\d), (.*)/.exec(b.getAttribute("aria-label").replaceAll("\n", " ").split(" — ")[0])?.slice(1)).filter(Boolean));
		const ticks = () => page.evaluate(() => [...document.querySelectorAll(".gaxis > g > text")].map((t) => [t.textContent, Number(t.parentElement.querySelector("line")?.getAttribute("x1"))]).filter(([, x]) => x));
		const local = await bars();
		ok(local.some(([from, to]) => from.startsWith("02:59") && to.startsWith("02:0")), "the hour that comes twice is told as people see it", JSON.stringify(local.slice(0, 4)));
		ok(local.every(([, , took]) => !/h|d /.test(took.split(",")[0])), "what it took is not an hour more or less", JSON.stringify(local.slice(0, 3)));
		const axis = await ticks();
		ok(axis.every(([, x], i) => !i || x > axis[i - 1][1]), "the axis runs on", JSON.stringify(axis));
		await page.getByRole("button", { name: "Local", exact: true }).click();
		await page.getByText("Times in UTC").waitFor();
		const utc = await bars();
		ok(utc[0][0] === "00:59:00" && (await ticks()).every(([t]) => /^0[01]:/.test(t)), "in UTC nothing comes twice", JSON.stringify([utc[0], await ticks()]));
		await context.close();
		mock.close();
	},

	async "compare: the rate at equal length, what each model took, verdicts of both orders beside each prompt"() {
		const { mock, page, end } = await begin("/compare?run=r7k2f9");
		await page.waitForSelector(".orders");
		const pairs = await page.locator(".h2h > li").allTextContents();
		ok(pairs.length === 3 && pairs.every((t) => /5\d\.\d % at equal length/.test(t)), "each pair at equal length", pairs.join(" / "));
		const took = async (name) => page.locator(".matrix tr", { has: page.getByRole("rowheader", { name, exact: true }) }).locator("td").allTextContents();
		const [time, cost] = [await took("worker time"), await took("cost")];
		ok(time.length === 4 && time[0] === "–" && time.slice(1).every((t) => /\d+ m/.test(t)), "hours", time.join());
		ok(cost[0] === "–" && cost.slice(1).every((t) => /^\$0\.\d\d$/.test(t)), "and cost", cost.join());
		const card = page.locator(".card", { has: page.getByRole("heading", { name: "Same prompt, each model" }) });
		const left = async () => Number(/of (\d+)/.exec(await card.locator(".card-head").textContent())?.[1]);
		const all = await left();
		await card.getByRole("button", { name: "orders disagree" }).click();
		await page.waitForURL(/only=flipped/);
		const few = await left();
		ok(few > 0 && few < all, "prompts whose verdict depends on the order", `${few} of ${all}`);
		for (let i = 0; i < Math.min(3, few); i++) {
			ok(/against M2 ⇄/.test(await card.locator(".cand").last().textContent()), "it is marked", await card.locator(".cand").last().textContent());
			await page.keyboard.press("j");
		}
		await card.getByRole("button", { name: "M3 loses head to head" }).click();
		await page.waitForURL(/only=lost/);
		ok(/▼ loses against M2/.test(await card.locator(".cand").last().textContent()), "and those it lost");
		const set = mock.world.datasets.get(hex("r7k2f9.2.eval.0.0/h2h"));
		ok(set.rows.filter((r) => r.verdict === "loss" && Number(r.id.slice(1)) < 60).length === (await left()), "as many as the rows say", await left());
		await end("compare");
	},

	async "a checkpoint is given up by its name, unless somebody needs it"() {
		const { mock, page, end } = await begin(`/checkpoints/${hex("r7k2f9.1.dpo.0.0/model")}`);
		await page.getByRole("button", { name: "Delete…" }).click();
		const yes = page.locator("dialog .btn.danger");
		ok(await yes.isDisabled(), "its name is asked for");
		await page.locator("dialog input").fill("step 61");
		ok(await yes.isDisabled(), "and no other");
		mock.posts.length = 0;
		await page.locator("dialog input").fill("step 60");
		await yes.click();
		await page.getByText("It was given up").waitFor();
		ok(mock.posts.length === 1 && /^DELETE \/checkpoints\//.test(mock.posts[0]), "one request", mock.posts.join());
		await page.goto(mock.url + `/checkpoints/${hex("r9m4q2.0.sft.1.0/model")}`);
		await page.getByRole("button", { name: "Delete…" }).click();
		await page.locator("dialog input").fill("M1");
		await yes.click();
		await page.locator("dialog .field-error").waitFor();
		ok(/r9m4q2, which made it, is not over/.test(await page.textContent("dialog")), "who needs it is said");
		await page.keyboard.press("Escape");
		await end("giving up");
	},

	async "keyboard only: to a checkpoint and its download"() {
		const { page, end } = await begin("/runs/r7k2f9");
		const tabTo = async (test, most = 150) => {
			for (let i = 0; i < most; i++) {
				if (await page.evaluate(test)) return true;
				await page.keyboard.press("Tab");
			}
			return false;
		};
		ok(await tabTo(() => document.activeElement.textContent === "Checkpoints" && document.activeElement.closest(".tabs")), "Tab reaches the tab");
		await page.keyboard.press("Enter");
		await page.waitForURL(/\/checkpoints$/);
		await page.waitForSelector("tbody tr");
		ok(await tabTo(() => /^M3$/.test(document.activeElement.textContent) && document.activeElement.closest("td")), "and the last model");
		await page.keyboard.press("Enter");
		await page.waitForURL(/\/checkpoints\/[0-9a-f]{64}/);
		await page.waitForSelector(".page-head .btn");
		ok(await tabTo(() => /^Download/.test(document.activeElement.textContent)), "and its download");
		const [file] = await Promise.all([page.waitForEvent("download"), page.keyboard.press("Enter")]);
		ok(file.suggestedFilename().endsWith(".tar"), "Enter takes it away", file.suggestedFilename());
		await end("keyboard download");
	},
});
