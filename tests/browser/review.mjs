// Human review of pairs, against the mock: keys and mouse, blind, notes, undo, who may.
import { act } from "./act.mjs";
import { startMock } from "./mock.mjs";
import { hex } from "./mock_data.mjs";

const { ok, open, quiet, run } = await act("browser review");
const SAMPLES = `/data/${hex("r7k2f9.1.pair.0.0/samples")}`;
const row = (page) => page.evaluate(() => Number(document.querySelector(".sample").getAttribute("aria-label").slice(4)));
const at = (page, n) => page.waitForSelector(`.sample[aria-label="Row ${n}"]`);
const sent = (mock) => mock.posts.filter((p) => / review /.test(p));
const until = async (f) => {
	for (let i = 0; i < 200 && !(await f()); i++) await new Promise((go) => setTimeout(go, 50));
	return f();
};

async function begin(path = "?at=0", options = {}) {
	const mock = await startMock({ tickMs: 0 });
	const { context, page } = await open(mock, { path: SAMPLES + path, ...options });
	await page.waitForSelector(".review-line");
	mock.posts.length = 0;
	return { mock, page, end: async (what) => {
		await quiet(page, what);
		await context.close();
		mock.close();
	} };
}

await run({
	async "agree, disagree, skip and undo by keys"() {
		const { mock, page, end } = await begin();
		ok(/6 of \d+ pairs reviewed/.test(await page.textContent(".review-line")), "progress is shown", await page.textContent(".review-line"));
		ok(/κ 0\.52 \(0\.31 to 0\.73\)/.test(await page.textContent(".review-line")), "kappa with its interval");
		ok(/bob agrees: both are right/.test(await page.textContent(".review")), "what somebody else said");
		await page.keyboard.press("a");
		await at(page, 1);
		await page.keyboard.press("x");
		await at(page, 2);
		await page.keyboard.press("s");
		await at(page, 3);
		ok(await until(() => sent(mock).length === 3), "three verdicts were sent");
		ok(sent(mock).map((p) => JSON.parse(p.slice(p.indexOf("{"))).verdict).join() === "agree,disagree,skip", "as the keys say", sent(mock).join(" "));
		await page.waitForFunction(() => /of 9 agree/.test(document.querySelector(".review-line").textContent));
		ok((await page.locator('.row-link b[title="You: disagree"]').count()) === 2, "the list shows them");
		await page.keyboard.press("u");
		await at(page, 2);
		await page.keyboard.press("u");
		await at(page, 1);
		ok(await until(() => sent(mock).length === 5), "taken back");
		ok(sent(mock).slice(3).every((p) => p.startsWith("DELETE")), "what was not there before is deleted", sent(mock).slice(3).join());
		await page.locator(".row-link", { hasText: "✗" }).first().click();
		await at(page, 5);
		await page.keyboard.press("a");
		await page.keyboard.press("u");
		await at(page, 5);
		ok(await until(() => /disagree/.test(sent(mock).at(-1))), "what was there before is there again", sent(mock).at(-1));
		ok((await page.evaluate(() => document.activeElement.tagName)) !== "INPUT", "the keys leave the focus alone");
		await end("keys");
	},

	async "by mouse, with a note"() {
		const { mock, page, end } = await begin();
		await page.keyboard.press("e");
		await page.keyboard.type("a x s: <b>no keys here</b>");
		await page.keyboard.press("Enter");
		ok(sent(mock).length === 0, "a note alone says nothing", sent(mock).join());
		await page.getByRole("button", { name: "Disagree" }).click();
		await at(page, 1);
		ok(await until(() => sent(mock).length === 1), "one request");
		ok(/"verdict":"disagree","note":"a x s: <b>no keys here<\/b>","blind":false/.test(sent(mock)[0]), "verdict and note", sent(mock)[0]);
		await page.keyboard.press("k");
		await at(page, 0);
		await page.waitForFunction(() => document.querySelector("[data-note]").value.includes("no keys"));
		ok((await page.getByRole("button", { name: "Disagree" }).getAttribute("aria-pressed")) === "true", "the verdict is marked");
		await page.fill("[data-note]", "changed");
		await page.press("[data-note]", "Enter");
		ok(await until(() => /"disagree","note":"changed"/.test(sent(mock).at(-1))), "a changed note is kept with its verdict");
		ok((await row(page)) === 0, "and the row stays");
		await end("mouse");
	},

	async "blind: nothing of the judge until one has spoken"() {
		const { mock, page, end } = await begin();
		await page.keyboard.press("b");
		await page.waitForSelector('.chip[aria-pressed="true"]');
		const see = () => page.evaluate(() => ({ cards: [...document.querySelectorAll(".cand")].map((c) => c.className.trim()), text: document.querySelector(".sample").innerText, list: document.querySelector(".row-link").innerText }));
		const hidden = await see();
		ok(hidden.cards.join() === "cand,cand", "two answers, neither marked", hidden.cards.join());
		ok(!/chosen|rejected|margin|judge|bob|Raw|Diff/i.test(hidden.text), "no mark, score, judgement or colleague", hidden.text);
		ok(!/·|Δ/.test(hidden.list), "no score in the list", hidden.list);
		await page.keyboard.press("r");
		await page.keyboard.press("d");
		ok((await see()).cards.length === 2, "nor by the keys for raw and diff");
		await page.keyboard.press("2");
		await at(page, 1);
		ok(await until(() => sent(mock).length === 1), "one request");
		// pair_first of row 0 is the rejected one, so the second is the judge's choice.
		ok(/"verdict":"agree".*"blind":true/.test(sent(mock)[0]), "the second is better, said blind", sent(mock)[0]);
		await page.keyboard.press("k");
		await at(page, 0);
		await page.waitForSelector(".cand.chosen");
		ok(/bob agrees/.test((await see()).text), "then all is shown");
		await page.reload();
		await page.waitForSelector(".review-line");
		ok(new URL(page.url()).searchParams.get("blind") === "1", "the address keeps it");
		await end("blind");
	},

	async "a viewer reads"() {
		const { mock, page, end } = await begin("?at=0", { role: "viewer" });
		await page.waitForSelector(".review");
		ok((await page.locator(".review button, .review input").count()) === 0, "no buttons");
		ok(/bob agrees/.test(await page.textContent(".review")), "but what was said");
		for (const k of ["a", "x", "s", "u"]) await page.keyboard.press(k);
		await page.waitForTimeout(300);
		ok(sent(mock).length === 0 && (await row(page)) === 0, "keys do nothing", sent(mock).join());
		await end("viewer");
	},

	async "rows without a pair, and the run's page"() {
		const { mock, page, end } = await begin();
		const tie = mock.world.datasets.get(SAMPLES.slice(6)).rows.findIndex((r) => r.drop);
		await page.goto(mock.url + SAMPLES + "?at=" + tie);
		await at(page, tie);
		ok((await page.locator(".review").count()) === 0, "nothing to say of a tie");
		await page.keyboard.press("a");
		await page.waitForTimeout(300);
		ok(sent(mock).length === 0, "nor by key");
		await page.goto(mock.url + "/runs/r7k2f9/data");
		await page.waitForSelector(".review-line");
		ok(/pairs reviewed.*κ 0\.52/.test(await page.textContent(".review-line")), "the run's data says how far people agree");
		ok((await page.getAttribute(".review-line a", "href")) === "/api/v1/runs/r7k2f9/reviews/export", "and exports it");
		await end("tie");
	},
});
