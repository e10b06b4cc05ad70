// While the server talks: five hundred patches, a stream that is cut, one that is refused, and a
// person who has a keyboard only.
import { act } from "./act.mjs";
import { startMock } from "./mock.mjs";

const { ok, open, quiet, run } = await act("browser live");
const RUN = "r9m4q2";
const PATCHES = 500;

/** Counts layout shifts that no input explains. */
const watchShifts = (page) => page.evaluate(() => {
	window.__shift = [];
	new PerformanceObserver((list) => {
		for (const e of list.getEntries()) if (!e.hadRecentInput) window.__shift.push(`${e.value.toFixed(5)} ${e.sources.map((s) => s.node?.nodeName + "." + (s.node?.className ?? s.node?.parentElement?.className ?? "")).join(",")}`);
	}).observe({ type: "layout-shift" });
});

async function patch(mock, page, n) {
	for (let i = 0; i < n; i++) {
		mock.advance();
		if (i % 10 === 9) await page.waitForTimeout(60);
	}
	// The last of them is on the page when its state is: the pages ask again at most once a second.
	await page.waitForTimeout(1500);
}

const tests = {
	async "500 patches: scroll, focus, selection and dialog stay, nothing shifts"() {
		const mock = await startMock({ tickMs: 0 });
		const { context, page } = await open(mock, { path: `/runs/${RUN}/jobs` });
		await page.waitForSelector("tbody tr:nth-child(40)");
		await page.waitForSelector(".pill-live");
		await page.evaluate(() => {
			document.querySelector("tbody tr:nth-child(30)").dataset.mine = "1";
			document.querySelector("tbody tr:nth-child(30) a").focus();
			scrollTo(0, 700);
			const cell = document.querySelector("tbody tr:nth-child(33) td:not(.pick)");
			getSelection().selectAllChildren(cell);
		});
		await page.waitForTimeout(700);
		const state = () => page.evaluate(() => ({ y: scrollY, mine: document.activeElement?.closest("tr")?.dataset.mine, text: getSelection().toString() }));
		const before = await state();
		ok(before.y > 500 && before.mine === "1" && before.text.length > 3, "the stage is set", JSON.stringify(before));
		await watchShifts(page);
		const events = mock.events.length;
		const pipe = await page.textContent(".pipe");
		await patch(mock, page, PATCHES / 2);
		const after = await state();
		ok(after.y === before.y, "scroll stays", `${before.y} → ${after.y}`);
		ok(after.mine === "1", "focus stays on the same element");
		ok(after.text === before.text, "selection stays", after.text);
		await page.evaluate(() => scrollTo(0, 0));
		await page.getByRole("button", { name: "Cancel…" }).click();
		await page.waitForSelector("dialog[open]");
		const focus = await page.evaluate(() => document.activeElement.textContent);
		mock.posts.length = 0;
		await patch(mock, page, PATCHES / 2);
		ok((await page.locator("dialog[open]").count()) === 1, "the dialog stays open");
		ok((await page.evaluate(() => document.activeElement.textContent)) === focus, "with its focus");
		await page.keyboard.press("Escape");
		ok(mock.posts.length === 0, "and sends nothing", mock.posts.join());
		ok(mock.events.length - events >= PATCHES / 2, "the events were sent", mock.events.length - events);
		ok((await page.textContent(".pipe")) !== pipe, "and the page followed them");
		const shifts = await page.evaluate(() => window.__shift);
		ok(shifts.length === 0, "layout shift is 0", shifts.slice(0, 4).join(" | "));
		await quiet(page, "five hundred patches");
		await context.close();
		mock.close();
	},

	async "stream killed: banner, then on from the last id without gap or double"() {
		const mock = await startMock({ tickMs: 0 });
		const { context, page } = await open(mock, { path: `/runs/${RUN}/events` });
		await page.waitForSelector(".pill-live");
		const tell = (from, to) => {
			for (let i = from; i < to; i++) mock.emit("job", RUN, `${RUN}.1.dpo.1.0`, { state: "running", progress: { done: i, total: 999, unit: "steps" } });
		};
		const seen = () => page.evaluate(() => [...document.querySelectorAll(".events li")].map((l) => /(\d+) \/ 999 steps/.exec(l.textContent)?.[1]).filter(Boolean).map(Number));
		tell(1, 21);
		await page.waitForFunction(() => document.querySelectorAll(".events li").length >= 20);
		mock.setDown(true);
		tell(21, 41);
		await page.waitForSelector(".stale", { timeout: 60000 });
		ok(/cannot be reached/.test(await page.textContent(".stale")), "the banner says it");
		ok((await seen()).length === 20, "what was there stays");
		mock.setDown(false);
		await page.waitForSelector(".stale", { state: "detached", timeout: 60000 });
		await page.waitForSelector(".pill-live", { timeout: 60000 });
		tell(41, 61);
		await page.waitForFunction(() => document.querySelectorAll(".events li").length >= 60, null, { timeout: 60000 }).catch(() => undefined);
		const got = (await seen()).sort((a, b) => a - b);
		ok(got.join() === Array.from({ length: 60 }, (_, i) => i + 1).join(), "every event once", `${got.length} of 60`);
		ok(mock.resumed.length > 0, "by Last-Event-ID", mock.resumed.length);
		await quiet(page, "a cut");
		await context.close();
		mock.close();
	},

	async "over the cap: the page says so, polls, and still moves"() {
		const mock = await startMock({ tickMs: 0, streamsMost: 0 });
		const { context, page } = await open(mock, { path: `/runs/${RUN}` });
		await page.waitForSelector(".pill-polling", { timeout: 60000 });
		ok(mock.refused > 0, "the stream was refused");
		const before = await page.textContent(".pipe");
		for (let i = 0; i < 20; i++) mock.advance();
		await page.waitForFunction((b) => document.querySelector(".pipe").textContent !== b, before, { timeout: 60000 });
		ok(true, "it moves without a stream");
		await context.close();
		mock.close();
	},

	async "keyboard only: submit, watch, cancel"() {
		const mock = await startMock({ tickMs: 0 });
		const { context, page } = await open(mock);
		await page.waitForSelector(".run-card");
		const tabTo = async (what, test, most = 120) => {
			for (let i = 0; i < most; i++) {
				if (await page.evaluate(test)) return true;
				await page.keyboard.press("Tab");
			}
			return ok(false, `Tab reaches ${what}`);
		};
		await page.keyboard.press("n");
		await page.waitForURL(/runs\/new/);
		await page.waitForSelector("#f-name");
		await tabTo("the name", () => document.activeElement.id === "f-name");
		await page.keyboard.type("by keys alone, with n and p and t");
		await tabTo("the model", () => document.activeElement.id === "f-base_model");
		await page.keyboard.type("/models/base");
		await tabTo("the data", () => document.activeElement.id === "f-data-ift");
		await page.keyboard.type("/data/ift.jsonl");
		await page.keyboard.press("Tab");
		await page.waitForSelector(".plan-total");
		ok((await page.inputValue("#f-name")) === "by keys alone, with n and p and t", "letters typed are letters");
		await tabTo("Submit", () => document.activeElement.textContent === "Submit run");
		const ring = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
		ok(ring !== "none", "focus can be seen", ring);
		await page.keyboard.press("Enter");
		await page.waitForURL(new RegExp(`/runs/${RUN}$`));
		await page.waitForSelector(".gantt");
		const bars = await page.locator("[data-bar]").count();
		const stops = await page.locator("[data-bar][tabindex='0']").count();
		ok(bars > 20 && stops === 1, "the timeline is one stop", `${stops} of ${bars}`);
		await tabTo("the timeline", () => document.activeElement.hasAttribute("data-bar"));
		const label = () => page.evaluate(() => document.activeElement.getAttribute("aria-label"));
		const one = await label();
		await page.keyboard.press("ArrowDown");
		ok((await label()) !== one, "arrows walk the bars");
		await page.keyboard.press("+");
		await page.waitForURL(/from=\d+&to=\d+/);
		ok(true, "the zoom is in the address");
		await page.keyboard.press("0");
		const pipe = await page.textContent(".pipe");
		for (let i = 0; i < 20; i++) mock.advance();
		await page.waitForFunction((b) => document.querySelector(".pipe").textContent !== b, pipe, { timeout: 60000 });
		await page.evaluate(() => document.getElementById("main").focus());
		await tabTo("Cancel", () => document.activeElement.textContent === "Cancel…");
		mock.posts.length = 0;
		await page.keyboard.press("Enter");
		await page.waitForSelector("dialog[open]");
		await tabTo("the last word", () => document.activeElement.textContent === "Cancel the run", 6);
		await page.keyboard.press("Enter");
		await page.waitForSelector("dialog[open]", { state: "detached" });
		ok(mock.posts.join() === `POST /runs/${RUN}/cancel`, "one request", mock.posts.join());
		await page.waitForFunction(() => /cancelled/.test(document.querySelector(".page-head .state").textContent), null, { timeout: 60000 });
		await quiet(page, "the keyboard");
		await context.close();
		mock.close();
	},
};

await run(tests, 1); // alone: what is measured here is what the page does while the server talks
