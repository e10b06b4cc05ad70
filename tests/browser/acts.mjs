// What a person does, against the mock: live updates, dialogs, keyboard, offline, forms, filters, tabs.
import { act } from "./act.mjs";
import { launch, watched } from "./browser.mjs";
import { HUGE, startMock } from "./mock.mjs";
import { hex } from "./mock_data.mjs";

const { browser, ok, open, quiet, run } = await act("browser act");
const SAMPLES = `/data/${hex("r7k2f9.1.pair.0.0/samples")}`;

const tests = {
	async "live update keeps scroll, focus, text and rows"() {
		const mock = await startMock({ tickMs: 0 });
		const { context, page } = await open(mock, { path: "/runs/r9m4q2/jobs" });
		await page.waitForSelector("tbody tr");
		await page.evaluate(() => {
			document.querySelector("tbody tr:nth-child(30)").dataset.mine = "1";
			document.querySelector("tbody tr:nth-child(30) a").focus();
			scrollTo(0, 600);
		});
		const y = await page.evaluate(() => scrollY);
		const before = await page.textContent(".pipe");
		for (const until of [20, 40]) {
			const seen = await page.textContent(".pipe");
			for (let i = 0; i < until; i++) mock.advance();
			await page.waitForFunction((b) => document.querySelector(".pipe").textContent !== b, seen);
		}
		const after = await page.evaluate(() => ({ y: scrollY, focus: document.activeElement?.closest("tr")?.dataset.mine, same: !!document.querySelector("tr[data-mine]") }));
		ok(after.y === y, "scroll stays", `${y} → ${after.y}`);
		ok(after.focus === "1" && after.same, "the focused row is the same element");
		const pipe = await page.textContent(".pipe");
		ok(pipe !== before, "the page moved on by itself");
		await quiet(page, "live update");
		await context.close();
		mock.close();
	},

	async "pause stands still and counts, then catches up"() {
		const mock = await startMock({ tickMs: 0 });
		const { context, page } = await open(mock, { path: "/runs/r9m4q2/charts" });
		await page.waitForSelector(".pill-live");
		await page.keyboard.press("p");
		await page.waitForSelector(".pill-paused");
		const before = await page.textContent(".pipe");
		for (let i = 0; i < 10; i++) mock.advance();
		await page.waitForFunction(() => /\d+ new/.test(document.querySelector(".pill").textContent));
		ok(true, "it says how much is new");
		await page.waitForTimeout(1200); // longer than a live page would have taken
		ok((await page.textContent(".pipe")) === before, "paused page stands still");
		await page.click(".pill");
		await page.waitForFunction((b) => document.querySelector(".pipe").textContent !== b, before);
		ok(true, "it catches up");
		await quiet(page, "pause");
		await context.close();
		mock.close();
	},

	async "cancel dialog: Go back and Esc send nothing, the button sends one request"() {
		const mock = await startMock({ tickMs: 20, endless: true });
		const { context, page } = await open(mock, { path: "/runs/r9m4q2" });
		mock.posts.length = 0;
		const cancel = page.getByRole("button", { name: "Cancel…" });
		await cancel.click();
		await page.waitForSelector("dialog[open]");
		ok((await page.evaluate(() => document.activeElement.textContent)) === "Keep it running", "the safe button has the focus");
		ok(/longer answers/.test(await page.textContent("dialog h2")), "the dialog names the run");
		const events = mock.seq;
		while (mock.seq < events + 20) await page.waitForTimeout(50);
		await page.keyboard.press("Escape");
		await page.waitForSelector("dialog[open]", { state: "detached" });
		ok(await page.evaluate(() => /Cancel/.test(document.activeElement.textContent)), "the focus returns");
		await cancel.click();
		await page.getByRole("button", { name: "Keep it running" }).click();
		await page.waitForTimeout(300);
		ok(mock.posts.length === 0, "nothing was sent", mock.posts.join());
		await cancel.click();
		await page.getByRole("button", { name: "Cancel the run" }).click();
		await page.waitForSelector("dialog[open]", { state: "detached" });
		ok(mock.posts.join() === "POST /runs/r9m4q2/cancel", "one request was sent", mock.posts.join());
		await quiet(page, "cancel");
		await context.close();
		mock.close();
	},

	async "many at once: boxes, stretches, keys, the whole filter; each decision told before it is sent"() {
		const mock = await startMock({ tickMs: 0 });
		const { context, page } = await open(mock, { path: "/runs/r9m4q2/jobs" });
		await page.waitForSelector("tbody tr:nth-child(40)");
		const bar = page.getByRole("region", { name: "Selected jobs" });
		const picked = () => page.locator("tbody .pick input:checked").count();
		const box = (n) => page.locator(`tbody tr:nth-child(${n}) .pick input`);
		await box(3).check();
		await box(8).click({ modifiers: ["Shift"] });
		ok((await picked()) === 6, "Shift takes the stretch", await picked());
		await page.locator("tbody tr:nth-child(10) a").focus();
		await page.keyboard.press("x");
		ok((await picked()) === 7, "x takes the focused row", await picked());
		await page.keyboard.press("k");
		await page.keyboard.press("k");
		await page.keyboard.press("X");
		ok((await picked()) === 5 || (await picked()) === 8, "X goes on to it", await picked());
		const pipe = await page.textContent(".pipe");
		for (let i = 0; i < 10; i++) mock.advance();
		await page.waitForFunction((b) => document.querySelector(".pipe").textContent !== b, pipe);
		const kept = await picked();
		ok(kept >= 5, "a live update keeps what is picked", kept);
		await page.keyboard.press("Escape");
		ok((await picked()) === 0 && (await bar.count()) === 0, "Esc lets go");
		await page.getByRole("group", { name: "State" }).getByRole("link", { name: "blocked" }).click();
		await page.waitForURL(/state=blocked/);
		await page.waitForFunction(() => document.querySelectorAll("tbody tr").length > 5 && [...document.querySelectorAll("tbody tr")].every((r) => /blocked/.test(r.textContent)));
		const blocked = await page.locator("tbody tr").count();
		await page.getByRole("checkbox", { name: "Select every job shown" }).check();
		ok((await picked()) === blocked && new RegExp(`${blocked} jobs selected`).test(await bar.textContent()), "the head's box takes all", await bar.textContent());
		ok(await bar.getByRole("button", { name: "Retry…" }).isDisabled(), "what fits none of them is off");
		mock.posts.length = 0;
		await bar.getByRole("button", { name: "Cancel…" }).click();
		await page.waitForSelector("dialog[open]");
		ok(new RegExp(`Cancel ${blocked} jobs`).test(await page.textContent("dialog h2")), "the dialog counts", await page.textContent("dialog h2"));
		await page.keyboard.press("Escape");
		ok(mock.posts.length === 0, "Esc sends nothing");
		await bar.getByRole("button", { name: "Move…" }).click();
		await page.fill("dialog input[type=number]", "7");
		await page.getByRole("button", { name: `Move ${blocked}` }).click();
		await page.waitForSelector("dialog[open]", { state: "detached" });
		await page.getByRole("region", { name: `Move ${blocked} jobs` }).getByRole("button", { name: "Close" }).click();
		ok(mock.bulks.every((b) => b.action === "priority" && b.priority === 7) && mock.bulks.reduce((n, b) => n + b.ids.length, 0) === blocked, "every one is moved", JSON.stringify(mock.bulks).slice(0, 90));
		await quiet(page, "many jobs");
		await page.goto(mock.url + "/runs");
		await page.waitForSelector("tbody tr");
		await page.getByRole("checkbox", { name: "Select every run shown" }).check();
		mock.bulks.length = 0;
		await page.getByRole("region", { name: "Selected runs" }).getByRole("button", { name: "Cancel…" }).click();
		ok(/3 runs more are selected and left alone: they have ended/.test(await page.textContent("dialog")), "who cannot be is told", await page.textContent("dialog"));
		await page.getByRole("button", { name: "Cancel 1", exact: true }).click();
		await page.waitForSelector("dialog[open]", { state: "detached" });
		ok(JSON.stringify(mock.bulks.map((b) => [b.action, b.ids])) === '[["cancel",["r9m4q2"]]]', "and not sent", JSON.stringify(mock.bulks));
		// The server may know better than the page: what it refuses is listed with its reason.
		await page.goto(mock.url + "/runs/r7k2f9/jobs");
		await page.waitForSelector("tbody tr");
		for (const r of mock.world.runs) for (const j of r.jobs) if (j.id === "r7k2f9.1.generate.0.0") j.state = "running";
		await page.reload();
		const row = page.locator('tr[data-row="r7k2f9.1.generate.0.0"]');
		await row.locator("input").check();
		await page.getByRole("region", { name: "Selected jobs" }).getByRole("button", { name: "Cancel…" }).click();
		await page.waitForSelector("dialog[open]");
		for (const r of mock.world.runs) for (const j of r.jobs) if (j.id === "r7k2f9.1.generate.0.0") j.state = "done";
		await page.getByRole("button", { name: "Cancel 1", exact: true }).click();
		const card = page.getByRole("region", { name: "Cancel 1 job" });
		await card.getByText("1 refused").waitFor();
		await card.getByText("What was refused, and why").click();
		ok(/r7k2f9\.1\.generate\.0\.0: it has ended/.test(await card.textContent()), "with its reason", await card.textContent());
		await card.getByRole("button", { name: "Close" }).click();
		await quiet(page, "many runs");
		await context.close();
		mock.role = "viewer";
		const viewer = await open(mock, { path: "/runs" });
		await viewer.page.waitForSelector("tbody tr");
		ok((await viewer.page.locator(".pick").count()) === 0, "a viewer has no boxes");
		await viewer.context.close();
		mock.close();
	},

	async "events: what happened before the page was opened, page by page, and what happens now on top"() {
		const mock = await startMock({ tickMs: 0 });
		const { context, page } = await open(mock, { path: "/runs/r7k2f9/events" });
		await page.waitForSelector(".events li");
		const lines = () => page.locator(".events li:not(.day)").count();
		ok((await lines()) === 100, "a page of them", await lines());
		ok((await page.locator(".events .day").count()) >= 1, "under their day");
		await page.getByRole("button", { name: "Older" }).click();
		await page.waitForFunction(() => document.querySelectorAll(".events li:not(.day)").length > 100);
		await page.waitForFunction(() => /keeps no older/.test(document.querySelector(".tab-body").textContent));
		const all = await lines();
		const want = mock.world.runs.find((r) => r.id === "r7k2f9").jobs.flatMap((j) => j.attempts).reduce((n, a) => n + 1 + (a.ended_at ? 1 : 0), 0);
		ok(all === want, "all there are, none twice", `${all} of ${want}`);
		mock.emit("job", "r7k2f9", "r7k2f9.2.dpo.0.0", { state: "running", worker: "newcomer" });
		await page.waitForFunction(() => /newcomer/.test(document.querySelector(".events li:not(.day)").textContent), null, { timeout: 20000 });
		await page.waitForFunction((n) => document.querySelectorAll(".events li:not(.day)").length === n, all + 1, { timeout: 20000 }).catch(() => undefined);
		ok((await lines()) === all + 1, "a new one is on top", `${await lines()} of ${all + 1}`);
		mock.emit("metric", "r7k2f9", "r7k2f9.2.dpo.0.0", { step: 1, loss: 0.5 });
		await page.getByText("Metrics too").click();
		await page.waitForURL(/metrics=1/);
		await page.waitForFunction(() => /metric/.test(document.querySelector(".events").textContent), null, { timeout: 20000 });
		ok(true, "metrics too, when asked");
		await quiet(page, "events");
		await context.close();
		mock.close();
	},

	async "notes, tags and a star: written as the run was read, found again by the filter"() {
		const mock = await startMock({ tickMs: 0 });
		const { context, page } = await open(mock, { path: "/runs/r9m4q2" });
		await page.getByRole("button", { name: "Add notes or tags" }).click();
		await page.fill(".notes-form textarea", "Look at <b>lengths</b>.");
		await page.fill(".notes-form input", "paper, beta-0.2,paper");
		const run = mock.world.runs.find((r) => r.id === "r9m4q2");
		run.revision = 7;
		await page.getByRole("button", { name: "Save" }).click();
		await page.waitForSelector(".notes-form .field-error");
		ok(/changed meanwhile/.test(await page.textContent(".notes-form")) && !run.notes, "what somebody else changed is not written over");
		ok((await page.inputValue(".notes-form textarea")) === "Look at <b>lengths</b>.", "and nothing typed is lost");
		mock.emit("run", "r9m4q2", "", { state: "active" });
		for (let i = 0; i < 20 && !run.notes; i++) {
			await page.getByRole("button", { name: "Save" }).click();
			await page.waitForTimeout(500);
		}
		await page.waitForSelector(".notes .tag");
		ok(run.notes === "Look at <b>lengths</b>." && run.tags.join() === "paper,beta-0.2", "after a look it is", JSON.stringify(run.tags));
		await page.getByRole("button", { name: /^Star longer/ }).click();
		await page.waitForSelector(".star.on");
		ok(run.starred === true, "a star too");
		await page.getByRole("link", { name: "beta-0.2" }).click();
		await page.waitForURL(/tag=beta-0\.2/);
		await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 1);
		await page.getByRole("link", { name: /^tag: beta/ }).click();
		await page.getByRole("link", { name: "starred" }).click();
		await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 2);
		ok(true, "tag and star filter");
		await quiet(page, "notes");
		await context.close();
		mock.close();
	},

	async "the logs of a run as one: from the end, older above without a jump, the server's search, a job alone"() {
		const mock = await startMock({ tickMs: 0 });
		const { context, page } = await open(mock, { path: "/runs/r7k2f9/log" });
		await page.waitForSelector(".mline");
		const state = () => page.evaluate(() => { const l = document.querySelector(".log.merged"); const rows = [...l.querySelectorAll(".mline")]; const seen = rows.find((r) => r.getBoundingClientRect().top >= l.getBoundingClientRect().top + 40); return { n: rows.length, low: l.scrollHeight - l.scrollTop - l.clientHeight, seen: seen.textContent, y: Math.round(seen.getBoundingClientRect().top) }; });
		ok((await state()).low < 30, "it opens at its end");
		await page.evaluate(() => { document.querySelector(".log.merged").scrollTop = 0; });
		await page.waitForTimeout(100);
		const before = await state();
		await page.getByRole("button", { name: "Older lines" }).click();
		await page.waitForFunction((n) => document.querySelectorAll(".mline").length > n, before.n);
		const at = await page.evaluate((text) => Math.round([...document.querySelectorAll(".mline")].find((r) => r.textContent === text).getBoundingClientRect().top), before.seen);
		ok(Math.abs(at - before.y) < 60, "what was read stays under the eye", `${before.y} → ${at}`);
		const times = await page.evaluate(() => [...document.querySelectorAll(".mline .num")].map((t) => t.title));
		ok(times.every((t, i) => !i || t >= times[i - 1]), "by time");
		await page.fill(".tools input[type=search]", "preempted");
		await page.waitForURL(/find=preempted/);
		await page.waitForFunction(() => { const r = [...document.querySelectorAll(".mline")]; return r.length > 0 && r.length < 10 && r.every((x) => /preempted/.test(x.textContent)); });
		ok((await page.locator(".mline mark").count()) > 0, "the server searches, the page marks");
		await page.goto(mock.url + "/jobs/r7k2f9.1.dpo.1.0");
		await page.getByRole("link", { name: "All their logs as one" }).click();
		await page.waitForSelector(".mline");
		const who = await page.evaluate(() => [...new Set([...document.querySelectorAll(".mline a")].map((a) => a.textContent))]);
		ok(who.length === 2 && who.every((w) => w.startsWith("1.dpo.1")), "the attempts of one job", who.join());
		await quiet(page, "the merged log");
		await context.close();
		mock.close();
	},

	async "webhooks: added with a secret shown once, tested, paused, removed after asking"() {
		const mock = await startMock({ tickMs: 0 });
		const { context, page } = await open(mock, { path: "/settings" });
		mock.world.hooks = [];
		await page.reload();
		const card = page.locator(".card", { has: page.getByRole("heading", { name: "Webhooks" }) });
		await card.getByLabel("name").fill("chat");
		await card.getByLabel("address").fill("https://example.org/pawl");
		await card.getByLabel("run done").uncheck();
		await card.getByRole("button", { name: "Add" }).click();
		await card.locator(".hook").waitFor();
		ok(/Copy the secret now/.test(await card.textContent()) && !/run done/.test(await card.locator(".hook").textContent()), "its secret, and what it is told of");
		await card.getByRole("button", { name: "Send a test" }).click();
		await card.getByText("What was sent").click();
		await card.getByText("connection refused").waitFor();
		ok(true, "what went wrong is said");
		await card.getByRole("button", { name: "Pause" }).click();
		await card.getByRole("button", { name: "Resume" }).waitFor();
		ok(mock.world.hooks[0].enabled === false, "paused");
		await card.getByRole("button", { name: "Remove…" }).click();
		await page.getByRole("button", { name: "Keep" }).click();
		ok(mock.world.hooks.length === 1, "keeping keeps");
		await card.getByRole("button", { name: "Remove…" }).click();
		await page.locator("dialog").getByRole("button", { name: "Remove", exact: true }).click();
		await card.locator(".hook").waitFor({ state: "detached" });
		ok(mock.world.hooks.length === 0, "removed");
		await quiet(page, "webhooks");
		await context.close();
		mock.close();
	},

	async "desktop notices: off until asked for, told once when a run ends, refused with a reason"() {
		const mock = await startMock({ tickMs: 0 });
		const { context, page } = await open(mock);
		await context.grantPermissions(["notifications"]);
		await context.addInitScript(() => {
			window.__told = [];
			window.Notification = Object.assign(class { constructor(title, o) { window.__told.push(`${title} ${o.tag}`); } }, { permission: "granted", requestPermission: async () => "granted" });
		});
		await page.goto(mock.url + "/settings");
		await page.waitForSelector(".pill-live");
		mock.emit("run", "r7k2f9", "", { state: "done" });
		await page.waitForTimeout(400);
		ok((await page.evaluate(() => window.__told.length)) === 0, "nothing is told unasked");
		await page.getByRole("group", { name: "Desktop notices" }).getByRole("button", { name: "on" }).click();
		await page.waitForFunction(() => document.querySelector("fieldset:last-of-type [aria-pressed=true]")?.textContent === "on");
		mock.emit("run", "r7k2f9", "", { state: "active" });
		mock.emit("run", "r7k2f9", "", { state: "failed" });
		await page.waitForFunction(() => window.__told.length === 1, null, { timeout: 20000 });
		ok(/world 135M.*failed pawl-r7k2f9-failed/.test(await page.evaluate(() => window.__told[0])), "name, state and one tag for all tabs", await page.evaluate(() => window.__told[0]));
		await quiet(page, "notices");
		await context.close();
		mock.close();
	},

	async "offline banner comes and goes, data stays"() {
		const mock = await startMock({ tickMs: 0 });
		const { context, page } = await open(mock, { path: "/runs/r9m4q2/jobs" });
		await page.waitForSelector("tbody tr");
		mock.setDown(true);
		await page.waitForSelector(".stale", { timeout: 60000 });
		ok((await page.locator("tbody tr").count()) > 20, "the table stays while the server is away");
		mock.setDown(false);
		await page.waitForSelector(".stale", { state: "detached", timeout: 60000 });
		await page.waitForSelector(".pill-live", { timeout: 60000 });
		ok(true, "the banner goes when the server is back");
		await quiet(page, "an outage");
		await context.close();
		mock.close();
	},

	async "eight tabs share one stream"() {
		const mock = await startMock({ tickMs: 0 });
		const { context, page } = await open(mock);
		const tabs = [page];
		for (let i = 0; i < 7; i++) {
			const t = await context.newPage();
			await t.goto(mock.url + "/runs/r9m4q2/jobs");
			await t.waitForSelector("tbody tr", { timeout: 60000 });
			tabs.push(t);
		}
		await page.waitForSelector(".pill-live");
		ok(mock.streams.size === 1, "one stream for eight tabs", mock.streams.size);
		await context.close();
		mock.close();
	},

	async "submit form: errors inline and in the summary, dry run, idempotent submit"() {
		const mock = await startMock({ tickMs: 0 });
		const { context, page } = await open(mock, { path: "/runs/new" });
		await page.waitForSelector(".submit");
		await page.fill("#f-base_model", "relative/dir");
		await page.waitForSelector("#f-base_model[aria-invalid=true]");
		ok(/absolute path/.test(await page.textContent("#f-base_model-h")), "the server's sentence stands at the field");
		ok((await page.locator(".submit-rail .error-card li").count()) >= 1, "and in the summary");
		await page.fill("#f-dpo-beta", "abc");
		await page.waitForSelector("#f-dpo-beta[aria-invalid=true]");
		await page.fill("#f-dpo-beta", "0.3");
		await page.fill("#f-name", "from the form");
		await page.fill("#f-base_model", "/models/base");
		await page.fill("#f-data-ift", "/data/ift.jsonl");
		await page.keyboard.press("Tab");
		await page.waitForSelector(".plan-total");
		ok(/28/.test(await page.textContent(".plan-total")), "the plan is shown");
		ok((await page.locator(".field.changed").count()) >= 3, "changed fields are marked");
		await page.reload();
		await page.waitForSelector(".plan-total");
		ok((await page.inputValue("#f-name")) === "from the form", "the draft survives a reload");
		mock.posts.length = 0;
		await page.getByRole("button", { name: "Submit run" }).dblclick();
		await page.waitForURL(/\/runs\/r9m4q2/);
		ok(mock.keys.size === 1, "a double click is one run", mock.keys.size);
		await quiet(page, "the form");
		await context.close();
		mock.close();
	},

	async "sample browser: filters live in the address, j and k, permalink, hostile text"() {
		const mock = await startMock({ tickMs: 0 });
		const { context, page } = await open(mock, { path: SAMPLES });
		await page.waitForSelector(".row-link");
		await page.keyboard.press("j");
		await page.keyboard.press("j");
		await page.waitForURL(/at=2/);
		ok(/<img src=x/.test(await page.textContent(".sample")), "hostile text is shown as text");
		ok((await page.evaluate(() => window.pwned)) === undefined, "and does nothing");
		await page.locator(".hist-col").last().click();
		await page.waitForURL(/min_score/);
		const n = await page.locator(".row-link").count();
		await page.waitForTimeout(400);
		await page.reload();
		await page.waitForSelector(".row-link");
		ok((await page.locator(".row-link").count()) <= n, "the filter survives a reload");
		await page.goto(mock.url + SAMPLES + "?flag=refusal&min_length=60&max_length=120");
		await page.waitForSelector(".row-link");
		const [want, all] = await page.evaluate(async () => [await (await fetch("/api/v1/datasets" + location.pathname.slice(5) + "/rows?limit=1000&flag=refusal&min_length=60&max_length=120")).json(), await (await fetch("/api/v1/datasets" + location.pathname.slice(5) + "/rows?limit=1000")).json()].map((x) => x.items.length));
		ok(want > 0 && want < all && (await page.inputValue("label:has-text('tokens') input")) === "60", "length and refusals filter, from the address", `${want} of ${all}`);
		ok((await page.getAttribute("a:has-text('Export')", "href")).includes("min_length=60&max_length=120&flag=refusal"), "and the export follows");
		await page.keyboard.press("/");
		ok((await page.evaluate(() => document.activeElement.type)) === "search", "/ focuses the search");
		await page.keyboard.type("limerick j");
		ok((await page.evaluate(() => document.activeElement.value)) === "limerick j", "shortcuts do not eat typed letters");
		await page.goto(mock.url + SAMPLES + "?at=150");
		await page.waitForSelector(".sample");
		await page.waitForFunction(() => /Row 150/.test(document.querySelector(".sample")?.textContent ?? ""));
		ok(true, "a permalink beyond the first page opens");
		const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: /Export/ }).click()]);
		ok(!!download.suggestedFilename(), "export downloads");
		await quiet(page, "the sample browser");
		await context.close();
		mock.close();
	},

	async "log: opens at the tail, follows, finds"() {
		const mock = await startMock({ tickMs: 0 });
		const { context, page } = await open(mock, { path: "/jobs/r9m4q2.1.dpo.1.0" });
		await page.waitForSelector(".log pre span");
		const tail = () => page.evaluate(() => { const l = document.querySelector(".log"); return l.scrollHeight - l.scrollTop - l.clientHeight; });
		ok((await tail()) < 30, "it opens at the end", await tail());
		mock.advance();
		await page.waitForFunction(() => /progress done/.test(document.querySelector(".log").textContent), null, { timeout: 60000 });
		ok((await tail()) < 30, "it follows");
		ok(!/\u001b/.test(await page.textContent(".log")), "colour codes are gone");
		await page.fill(".log-card input[type=search]", "chunk=7 ");
		await page.keyboard.press("Enter");
		await page.waitForSelector(".log mark", { state: "attached" });
		await page.waitForFunction(() => document.querySelector(".log-here")?.textContent.includes("chunk=7 "));
		await page.waitForFunction(() => { const l = document.querySelector(".log"); return l.scrollHeight - l.scrollTop - l.clientHeight > 30; });
		ok(true, "find leaves the end for the line it found");
		await quiet(page, "the log");
		await page.setViewportSize({ width: 360, height: 740 });
		await page.goto(mock.url + "/jobs/r9m4q2.1.dpo.1.0");
		await page.waitForSelector(".log pre span", { state: "attached" });
		await page.locator(".log").scrollIntoViewIfNeeded();
		await page.waitForFunction(() => { const l = document.querySelector(".log"), s = [...l.querySelectorAll("[data-at]")].at(-1).getBoundingClientRect(), b = l.getBoundingClientRect(); return s.height > 0 && s.top < b.bottom && s.bottom > b.top; });
		ok((await page.getAttribute(".log-card .chip[title^=Stay]", "aria-pressed")) === "true" && (await tail()) < 30, "a narrow page, where lines wrap, stays at the end", await tail());
		await context.close();
		mock.close();
	},

	async "a log of a gigabyte: tail at once, search by the server, a small window"() {
		const mock = await startMock({ tickMs: 0 });
		const { context, page } = await open(mock, { path: `/jobs/${HUGE}` });
		await page.waitForFunction(() => /step=009999999/.test(document.querySelector(".log pre")?.textContent ?? ""), null, { timeout: 60000 });
		const bytes = () => mock.logReads.reduce((n, s) => n + Number(/limit=(\d+)/.exec(s)?.[1] ?? 0), 0);
		ok(mock.logReads[0].includes("offset=-") && bytes() < 400_000, "it opens at its end with one small read", bytes());
		const read = mock.logReads.length;
		await page.fill(".log-card input[type=search]", "needle");
		await page.waitForFunction(() => /^\s*10\s*$/.test(document.querySelector(".log-card [role=status]")?.textContent ?? ""), null, { timeout: 60000 });
		await page.keyboard.press("Enter");
		await page.waitForFunction(() => /needle dpo step=000004242/.test(document.querySelector(".log-here")?.textContent ?? ""), null, { timeout: 60000 });
		await page.waitForFunction(() => { const a = document.querySelector(".log-here").getBoundingClientRect(), b = document.querySelector(".log").getBoundingClientRect(); return a.top >= b.top && a.bottom <= b.bottom; });
		ok(true, "the hit is in sight");
		await page.keyboard.press("Enter");
		await page.waitForFunction(() => /step=001004242/.test(document.querySelector(".log-here")?.textContent ?? ""), null, { timeout: 60000 });
		await page.keyboard.press("Shift+Enter");
		await page.waitForFunction(() => /step=000004242/.test(document.querySelector(".log-here")?.textContent ?? ""), null, { timeout: 60000 });
		await page.waitForFunction(() => { const a = document.querySelector(".log-here").getBoundingClientRect(), b = document.querySelector(".log").getBoundingClientRect(); return a.top >= b.top && a.bottom <= b.bottom; });
		ok(mock.logReads.length - read < 12, "three jumps are a few reads", mock.logReads.length - read);
		// Scrolling up moves the window: the line under the eye stays where it is.
		const mark = await page.evaluate(() => { const l = document.querySelector(".log"); l.scrollTop = 200; const s = [...l.querySelectorAll("[data-at]")].find((x) => x.getBoundingClientRect().top >= l.getBoundingClientRect().top + 5); return { at: s.dataset.at, first: l.querySelector("[data-at]").dataset.at, y: s.getBoundingClientRect().top }; });
		await page.waitForFunction((m) => Number(document.querySelector(".log [data-at]").dataset.at) < Number(m.first), mark, { timeout: 60000 });
		await page.waitForTimeout(200);
		const y = await page.evaluate((m) => document.querySelector(`.log [data-at="${m.at}"]`).getBoundingClientRect().top, mark);
		ok(Math.abs(y - mark.y) < 40, "what was read stays under the eye", `${mark.y} → ${y}`);
		const held = await page.evaluate(() => document.querySelector(".log pre").textContent.length);
		ok(held <= 560 * 1024, "the page holds half a megabyte", held);
		await quiet(page, "the large log");
		await context.close();
		mock.close();
	},

	async "keyboard and focus: skip link, help, route change"() {
		const mock = await startMock({ tickMs: 0 });
		const { context, page } = await open(mock);
		await page.waitForSelector(".run-card");
		await page.reload();
		await page.waitForSelector(".run-card");
		await page.keyboard.press("Tab");
		ok((await page.evaluate(() => document.activeElement.className)) === "skip", "the skip link is first");
		await page.keyboard.press("Enter");
		ok((await page.evaluate(() => document.activeElement.id)) === "main", "it leads to the content");
		await page.keyboard.press("?");
		await page.waitForSelector("dialog[open]");
		await page.keyboard.press("Escape");
		await page.waitForSelector("dialog[open]", { state: "detached" });
		await page.keyboard.press("j");
		await page.keyboard.press("Enter");
		await page.waitForURL(/\/runs\/r/);
		await page.waitForFunction(() => document.activeElement.id === "main", null, { timeout: 2000 }).catch(() => undefined);
		ok((await page.evaluate(() => document.activeElement.id)) === "main", "a new page moves the focus to main");
		await page.goBack();
		await page.waitForSelector(".run-card");
		ok(true, "Back works");
		await quiet(page, "the keyboard");
		await context.close();
		mock.close();
	},

	async "viewer sees, and cannot act"() {
		const mock = await startMock({ tickMs: 0 });
		const { context, page } = await open(mock, { role: "viewer", path: "/runs/r9m4q2" });
		ok(await page.getByRole("button", { name: "Cancel…" }).isDisabled(), "cancel is disabled for a viewer");
		ok(await page.getByRole("button", { name: "Pause…" }).isDisabled(), "pause too");
		await quiet(page, "a viewer");
		await context.close();
		mock.close();
	},

	async "judge prompts tried: best first, the words changed, all on request"() {
		const mock = await startMock({ tickMs: 0 });
		const { context, page } = await open(mock, { path: "/runs/r2c8d0/data" });
		const card = page.locator("section.card", { hasText: "Judge prompts tried" });
		await card.waitFor();
		const rows = () => card.locator("tbody tr").allTextContents();
		const first = await rows();
		ok(first.length === 2 && first[0].startsWith("c1") && first[1].startsWith("c0"), "the winner, then the start", first.join(" / "));
		ok(/72\.0 %.*70\.0 %/.test(first[0]), "score and held-out accuracy", first[0]);
		ok((await card.locator("tbody tr").first().locator("ins").allTextContents()).join("").includes("each"), "what came is marked");
		ok((await card.locator("tbody tr").first().locator("del").count()) > 0, "what went is marked");
		ok((await card.locator("tbody tr").nth(1).locator("ins, del").count()) === 0, "the start differs from itself in nothing");
		await card.getByText("All 4 tried").click();
		await page.waitForFunction(() => document.querySelectorAll(".card tbody tr").length > 4);
		const all = await rows();
		ok(all.length === 4 && page.url().includes("tried=1"), "all four, and the address says so", page.url());
		ok((await card.locator("tr[title*='must contain']").count()) === 1, "why one was refused");
		await quiet(page, "judge prompts");
		await context.close();
		mock.close();
	},

	async "login: wrong token is refused with a sentence, right one returns to the page"() {
		const mock = await startMock({ tickMs: 0 });
		const context = await browser.newContext();
		const page = await watched(context, mock.url);
		await page.goto(mock.url + "/runs/r7k2f9/charts");
		await page.waitForSelector("input[name=token]");
		await page.fill("input[name=token]", "nonsense");
		await page.keyboard.press("Enter");
		await page.waitForSelector(".field-error");
		await page.fill("input[name=token]", "pawl_admin_x");
		await page.keyboard.press("Enter");
		await page.waitForURL(/\/runs\/r7k2f9\/charts/);
		await page.waitForSelector(".plot .ln");
		await quiet(page, "login");
		await context.close();
		mock.close();
	},

	async "plain HTTP by name: copy and the stream work without a secure context"() {
		const mock = await startMock({ tickMs: 0 });
		const port = new URL(mock.url).port;
		const plain = await launch([`--host-resolver-rules=MAP pawl.lan 127.0.0.1`]);
		const base = `http://pawl.lan:${port}`;
		const context = await plain.newContext();
		const page = await watched(context, base);
		await page.goto(base + "/login?code=once");
		await page.waitForSelector(".pill-live", { timeout: 60000 });
		ok(!(await page.evaluate(() => isSecureContext)), "the context is not secure");
		await page.goto(base + "/runs/r9m4q2");
		await page.waitForSelector(".crumbs .copy");
		await page.click(".crumbs .copy");
		await page.waitForFunction(() => /Copied/.test(document.querySelector(".toast")?.textContent ?? ""), null, { timeout: 4000 });
		ok(true, "copy says that it copied");
		await quiet(page, "plain HTTP");
		await plain.close();
		mock.close();
	},

	async "charts: tokens and time on the x axis, zoom in the address, one cursor for all, a live point"() {
		const mock = await startMock({ tickMs: 0 });
		const { context, page } = await open(mock, { path: "/runs/r9m4q2/charts" });
		await page.waitForSelector(".plot .ln");
		const labels = () => page.evaluate(() => [...document.querySelectorAll(".charts > .chart:first-child text[text-anchor=middle]")].map((t) => t.textContent).join(" "));
		ok(/^\d+( \d+)+$/.test(await labels()), "steps are whole numbers", await labels());
		await page.getByRole("button", { name: "tokens" }).click();
		await page.waitForURL(/x=tokens/);
		await page.waitForFunction(() => /k|M/.test(document.querySelector(".charts text[text-anchor=middle]")?.textContent ?? ""));
		ok(/\d [kM]/.test(await labels()), "tokens are counted in thousands", await labels());
		await page.getByRole("button", { name: "time", exact: true }).click();
		await page.reload();
		await page.waitForSelector(".plot .ln");
		ok(/\d [sm]/.test(await labels()), "the choice is in the address and survives a reload", await labels());
		await page.getByRole("button", { name: "steps" }).click();
		const path = () => page.getAttribute(".charts > .chart:first-child .ln:last-of-type", "d");
		const before = await path();
		mock.advance();
		await page.waitForFunction((d) => [...document.querySelectorAll(".charts > .chart:first-child .ln")].at(-1).getAttribute("d") !== d, before, { timeout: 20000 });
		ok(true, "a point that came is drawn");
		const box = await page.locator(".plot").first().boundingBox();
		await page.mouse.move(box.x + 120, box.y + 60);
		const marked = await page.locator(".cursor").count();
		ok(marked > 3, "every chart of steps shows the cursor", marked);
		await page.mouse.down();
		await page.mouse.move(box.x + 220, box.y + 60, { steps: 4 });
		await page.mouse.up();
		await page.waitForURL(/zoom\.dpo=/);
		await page.getByRole("button", { name: "fit" }).first().click();
		await page.waitForFunction(() => !location.search.includes("zoom"));
		ok(true, "dragging zooms, fit goes back");
		await quiet(page, "charts");
		await context.close();
		mock.close();
	},

	async "contrast of chart labels by pixels, both themes"() {
		const mock = await startMock({ tickMs: 0 });
		for (const scheme of ["light", "dark"]) {
			const context = await browser.newContext({ colorScheme: scheme });
			const page = await watched(context, mock.url);
			await page.goto(mock.url + "/login?code=once");
			await page.waitForSelector(".top");
			await page.goto(mock.url + "/runs/r7k2f9/charts");
			await page.waitForSelector(".plot .ln");
			await page.waitForTimeout(300);
			const back = await page.evaluate(() => getComputedStyle(document.querySelector(".charts > .chart")).backgroundColor.match(/\d+/g).map(Number));
			// What reaches the eye: a picture of the axis, read pixel by pixel in a page of its own.
			const box = await page.locator(".plot svg").first().boundingBox();
			const picture = (await page.screenshot({ clip: { x: box.x, y: box.y, width: 50, height: box.height } })).toString("base64");
			const blank = await context.newPage();
			const ratio = await blank.evaluate(async ([data, bg]) => {
				const image = new Image();
				image.src = "data:image/png;base64," + data;
				await image.decode();
				const canvas = Object.assign(document.createElement("canvas"), { width: image.width, height: image.height });
				const g = canvas.getContext("2d");
				g.drawImage(image, 0, 0);
				const d = g.getImageData(0, 0, image.width, image.height).data;
				const lum = (r, g, b) => [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((n, v, i) => n + v * [0.2126, 0.7152, 0.0722][i], 0);
				const back = lum(...bg);
				let best = 1;
				for (let i = 0; i < d.length; i += 4) {
					const l = lum(d[i], d[i + 1], d[i + 2]);
					best = Math.max(best, (Math.max(l, back) + 0.05) / (Math.min(l, back) + 0.05));
				}
				return best;
			}, [picture, back]);
			ok(ratio > 4.2, `axis labels can be read in ${scheme}`, ratio.toFixed(2));
			await context.close();
		}
		mock.close();
	},
};

await run(tests);
