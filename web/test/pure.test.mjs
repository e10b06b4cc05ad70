// The pure parts, without a browser. They are bundled on the fly by the esbuild that builds the page.
import { test } from "node:test";
import assert from "node:assert/strict";
import { build } from "esbuild";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { generate } from "../types.mjs";

const src = join(dirname(fileURLToPath(import.meta.url)), "../src");

async function load(...files) {
	const out = await build({
		stdin: { contents: files.map((f) => `export * from "./${f}";`).join("\n"), resolveDir: src, loader: "ts" },
		bundle: true, format: "esm", write: false, jsx: "automatic", jsxImportSource: "preact", logLevel: "error",
	});
	return import("data:text/javascript;base64," + Buffer.from(out.outputFiles[0].text).toString("base64"));
}

// The one browser thing the pure parts touch at load.
globalThis.matchMedia ??= () => ({ addEventListener() {} });
globalThis.location ??= { pathname: "/", search: "" };
const keepAlive = setInterval;
globalThis.setInterval = (f, t) => { const h = keepAlive(f, t); h.unref?.(); return h; };

const m = await load("chart/gantt_layout.ts", "chart/series.ts", "chart/scale.ts", "lib/winrate.ts", "lib/diff.ts", "lib/form.ts", "lib/log_text.ts", "lib/sample.ts", "lib/review.ts", "lib/wire.ts", "lib/curves.ts", "lib/lineage.ts", "lib/bulk.ts", "lib/merged.ts", "lib/tags.ts", "lib/eta.ts", "lib/fmt.ts", "lib/duels.ts", "lib/estimate.ts", "lib/gpu.ts", "lib/archives.ts", "lib/commands.ts", "lib/filters.ts", "lib/feed.ts", "lib/effort.ts", "lib/report.ts");

const attempt = (job, start, end, n = 1) => ({ n, job, iter: 1, stage: "judge", shard: 0, pass: 0, worker: "w", start, end, how: end ? "completed" : null, reason: "", exit: "", from: "", to: "", marks: [] });

test("gantt: idle time is folded and positions keep their order", () => {
	const hour = 3_600_000;
	const list = [attempt("a", 0, 60_000), attempt("b", 6 * hour, 6 * hour + 60_000), attempt("c", 6 * hour + 30_000, null)];
	const l = m.layout(list, "job", 6 * hour + 90_000, true);
	assert.equal(l.folds.length, 1);
	assert.ok(l.length < 200_000, "six hours of nothing take little room");
	const flat = m.layout(list, "job", 6 * hour + 90_000, false);
	assert.equal(flat.length, 6 * hour + 90_000);
	let last = -1;
	for (let t = 0; t <= 6 * hour; t += hour / 4) {
		const x = l.posOf(t);
		assert.ok(x >= last, "time never runs backwards on the axis");
		last = x;
	}
	for (const r of l.rows) for (const b of r.bars) assert.ok(b.x1 >= b.x0);
	assert.ok(Math.abs(l.timeAt(l.posOf(6 * hour + 10_000)) - (6 * hour + 10_000)) < 1);
});

test("gantt: overlapping bars get lanes of their own", () => {
	const l = m.layout([attempt("a", 0, 10), attempt("b", 5, 15), attempt("c", 11, 20)], "stage", 20, false);
	const { lane, n } = m.lanes(l.rows[0].bars);
	assert.equal(n, 2);
	assert.deepEqual(lane, [0, 1, 0]);
});

test("series: thinning keeps the extremes, smoothing starts at the first value", () => {
	const pts = Array.from({ length: 10_000 }, (_, i) => [i, i === 5000 ? 99 : Math.sin(i)]);
	const t = m.thin(pts, 100);
	assert.ok(t.length <= 200);
	assert.ok(t.some((p) => p[1] === 99));
	assert.equal(m.smooth([[0, 4], [1, 4]], 0.9)[1][1], 4);
	const [xs, a, b] = m.join([{ label: "a", points: [[0, 1], [2, 3]] }, { label: "b", points: [[1, 5]] }]);
	assert.deepEqual([xs, a, b], [[0, 1, 2], [1, null, 3], [null, 5, null]]);
});

test("scale: round ticks of numbers, powers and times", () => {
	assert.deepEqual(m.ticks(0, 180, 4, 1), [0, 50, 100, 150]);
	assert.deepEqual(m.ticks(0.43, 0.71, 5), [0.5, 0.6, 0.7]);
	assert.deepEqual(m.ticks(0, 3, 10, 1), [0, 1, 2, 3], "steps are whole numbers");
	assert.deepEqual(m.ticks(5, 5, 4), [5], "no span, one tick");
	assert.deepEqual(m.logTicks(0.001, 10, 6), [0.001, 0.01, 0.1, 1, 10]);
	assert.deepEqual(m.logTicks(1, 20, 8), [1, 2, 5, 10, 20]);
	assert.deepEqual(m.timeTicks(0, 7000, 5), [0, 1800, 3600, 5400]);
	assert.deepEqual([0, 0.5, 45, 90, 3600, 5400, 90_000].map((v) => m.unitText("time", v)), ["0", "0.5 s", "45 s", "1 m 30 s", "1 h", "1 h 30 m", "1 d 1 h"]);
	assert.deepEqual([m.unitText("tokens", 1_000_000), m.unitText("tokens", 1_250_000), m.unitText("step", 120)], ["1 M", "1.3 M", "120"]);
	assert.deepEqual([0, 0.000001, 0.6931471, 123456].map(m.yText), ["0", "1e-6", "0.6931", "1.23e5"]);
	const s = m.scale(0.1, 10, true);
	assert.ok(Math.abs(s.at(1) - 0.5) < 1e-12 && Math.abs(s.value(0.5) - 1) < 1e-12);
	for (let i = 0; i < 500; i++) {
		const lo = Math.sin(i) * 10 ** (i % 9), hi = lo + Math.abs(Math.cos(i)) * 10 ** ((i * 7) % 9) + 1e-6;
		const got = m.ticks(lo, hi, 6);
		assert.ok(got.length <= 8 && got.every((v, k) => k === 0 || v > got[k - 1]), `${lo} ${hi}: ${got}`);
	}
});

test("series: what lies between two x, the nearest point, totals that go on over shards", () => {
	const line = { label: "a", points: [[0, 5], [10, 1], [20, 9], [30, 2]] };
	assert.deepEqual(m.extent([line], 12, 18), [1, 9], "the line crosses both edges");
	assert.deepEqual(m.extent([line], 0, 30), [1, 9]);
	assert.deepEqual([m.nearest(line.points, 14), m.nearest(line.points, 16), m.nearest(line.points, 99), m.nearest([], 1)], [[10, 1], [20, 9], [30, 2], undefined]);
	const shard = (k, steps) => ({ job: `r.1.dpo.${k}.0`, iter: 1, stage: "dpo", shard: k, variant: "", points: { loss: steps.map((s) => [s, 1]), "total/tokens": steps.map((s, i) => [s, 10 * (i + 1)]) } });
	const one = m.curves([shard(1, [2, 3]), shard(0, [0, 1])], "dpo").get("M2");
	assert.deepEqual(m.over(one, "loss", "tokens").map((p) => p[0]), [10, 20, 30, 40]);
	assert.deepEqual(m.over(one, "loss", "time"), [], "what the figures do not carry is not drawn");
	const grown = m.appendPoint([shard(0, [0, 1])], "r.1.dpo.0.0", { step: 2, loss: 1, num_tokens: 7 });
	assert.deepEqual(grown[0].points["total/tokens"].at(-1), [2, 27]);
});

test("lineage: step checkpoints are folded, the reference is no second parent, data stands before its first user", () => {
	const c = (name, iter, digest, inputs, kind = "checkpoint") => ({ name, iter, digest, inputs, kind, created_at: String(iter), metrics: {} });
	const d = (role, iter, digest, rows) => ({ role, iter, digest, rows });
	const list = [c("M3", 2, "m3", ["m2", "p2", "m1"]), c("M2", 1, "m2", ["s1", "m1", "p1"]), c("step 60", 1, "s1", ["s0", "m1", "p1"]), c("step 30", 1, "s0", ["m1", "p1"]), c("M1", 0, "m1", ["base", "ift", "eft"]), c("SFT", 0, "sft", ["base", "ift"])];
	const l = m.lineage(list, [d("ift", 0, "ift", 9), d("eft", 0, "eft", 4), d("pairs", 1, "p1", 7), d("pairs", 2, "p2", 8), d("samples", 1, "x", 1)]);
	const node = (name) => l.models.find((x) => x.c.name === name);
	assert.deepEqual(["SFT", "M1", "M2", "M3"].map((n) => node(n).depth), [0, 0, 1, 2]);
	assert.deepEqual([node("M2").parents, node("M2").steps, node("M3").parents], [["m1"], 2, ["m2"]]);
	assert.deepEqual(l.data.map((x) => [x.id, x.depth, x.from]).sort(), [["eft", 0, null], ["ift", 0, null], ["p1", 1, "m1"], ["p2", 2, "m2"]]);
	assert.equal(m.told(node("M2"), l), "M2: from M1, trained on pairs (7 rows, iteration 1), over 2 step checkpoints");
	const loop = m.lineage([c("M1", 1, "a", ["b"]), c("M2", 2, "b", ["a"])], []);
	assert.equal(loop.models.length, 2, "nonsense ends too");
});

test("bulk: a stretch in either direction", () => {
	assert.deepEqual(m.stretch(["a", "b", "c", "d"], "d", "b"), ["b", "c", "d"]);
	assert.deepEqual(m.stretch(["a", "b"], "gone", "b"), ["b"]);
});

test("bulk: how far an operation is, whatever its result lags", () => {
	const op = (more) => ({ id: "1-a", kind: "bulk.jobs", by: "ada", error: null, result: null, ...more });
	assert.deepEqual([m.standing(op({ state: "queued", done: 0, total: 9 })).text, m.standing(op({ state: "queued", done: 0, total: 9 })).open], ["waits for its turn", true]);
	const on = m.standing(op({ state: "running", done: 6, total: 9, result: { matched: 9, done: 3, failed: 1, failures: [{ id: "x", detail: "no" }] } }));
	assert.deepEqual([on.text, on.done, on.failed, on.failures.length], ["6 of 9", 5, 1, 1]);
	assert.equal(m.standing(op({ state: "done", done: 9, total: 9, result: { matched: 9, done: 8, failed: 1, failures: [] } })).text, "8 of 9");
	assert.equal(m.standing(op({ state: "cancelled", done: 4, total: 9 })).text, "stopped after 4 of 9");
	assert.equal(m.standing(op({ state: "failed", done: 0, total: 0, error: "Redis is gone" })).text, "Redis is gone");
});

test("commands: a shell gives back every word as it was", () => {
	const odd = ["plain", "", "it's", "a b", "$(rm -rf /)", "`x`", "\"", "\\", "a\nb", "*", "–é", "-n", "a;b&c|d", "'", "''", "!x", "~"];
	for (const t of odd) assert.equal(execFileSync("sh", ["-c", `printf '%s' ${m.quoted(t)}`], { encoding: "utf8" }), t, JSON.stringify(t));
	const body = { name: "it's \"so\"", list: ["$HOME"] };
	const line = m.curlOf({ method: "PUT", path: "/users/a%20b", body, match: "7" }, "http://x:1");
	const words = execFileSync("sh", ["-c", `curl() { printf '%s\\0' "$@"; }; cat() { echo TOKEN; }; ${line}`], { encoding: "utf8" }).split("\0").slice(0, -1);
	assert.deepEqual(words, ["-X", "PUT", "-H", "Authorization: Bearer TOKEN", "-H", "Content-Type: application/json", "-H", 'If-Match: "7"', "-d", JSON.stringify(body), "http://x:1/api/v1/users/a%20b"]);
	assert.equal(m.curlOf({ method: "POST", path: "/runs/r1/pause" }, "http://x:1"), 'curl -X POST -H "Authorization: Bearer $(cat token)" http://x:1/api/v1/runs/r1/pause');
	assert.equal(m.cliOf("run", "pause", undefined, "r 1"), "pawl run pause 'r 1'");
});

test("saved filters: equal addresses are equal filters, and where one stands is no filter", () => {
	assert.equal(m.filterOf(new URLSearchParams("tag=a&cursor=x&starred=1&at=4&q=")), "starred=1&tag=a");
	assert.equal(m.filterOf(new URLSearchParams("starred=1&tag=a")), m.filterOf(new URLSearchParams("tag=a&starred=1")));
	assert.equal(m.filterOf(new URLSearchParams("at=3&view=diff")), "");
});

test("notices: new is what came after the newest that was seen; each leads somewhere here", () => {
	const n = (at, kind, more) => ({ id: String(at), at: new Date(at).toISOString(), kind, text: "", url: "https://elsewhere/", ...more });
	assert.equal(m.unread([n(3000, "run.done"), n(2000, "test"), n(1000, "test")], 2000), 1);
	assert.equal(m.unread(undefined, 0), 0);
	assert.deepEqual([n(1, "job.failed", { run: "r1", job: "r1.1.dpo.0.0" }), n(1, "run.done", { run: "r1" }), n(1, "worker.lost", { worker: "w" }), n(1, "attention.disk"), n(1, "new.kind")].map(m.hrefOf), ["/jobs/r1.1.dpo.0.0", "/runs/r1", "/workers", "/checkpoints", "/notices"]);
	assert.equal(m.lookOfNotice(n(1, "new.kind")).word, "new.kind", "kinds to come are shown");
});

test("timeline: only what failed, was cut short or took twice what is usual, with all its attempts", () => {
	const a = (job, took, how = "completed", n = 1) => ({ ...attempt(job, 0, took, n), how });
	const usual = ["a", "b", "c", "d", "e"].map((j) => a(j, 100));
	const odd = m.troubled([...usual, a("slow", 250), a("cut", 20, "preempted"), a("cut", 90, "completed", 2), a("bad", 5, "failed")], 1000);
	assert.deepEqual(odd.map((x) => x.job), ["slow", "cut", "cut", "bad"]);
	assert.deepEqual(m.troubled([a("one", 1), a("two", 900)], 1000), [], "two are no measure of what is usual");
});

test("what a model took: its iteration's seconds at its run's price; the last of an iteration has it", () => {
	const run = { id: "r1", stages: [{ iter: 0, stage: "sft", seconds: 60 }, { iter: 1, stage: "dpo", seconds: 100 }, { iter: 1, stage: "eval", seconds: 20 }], useful_s: 170, lost_s: 10, useful_cost: 17, lost_cost: 1 };
	const models = [{ name: "SFT", run: "r1", iter: 0 }, { name: "M1", run: "r1", iter: 0 }, { name: "M2", run: "r1", iter: 1 }];
	assert.deepEqual(models.map((x) => m.effort(run, x, models)), [null, { seconds: 60, cost: 6 }, { seconds: 120, cost: 12 }]);
	assert.equal(m.effort(undefined, models[1], models), null);
	assert.equal(m.effort({ ...run, useful_cost: 0, lost_cost: 0 }, models[2], models).cost, null, "an unknown price is not nought");
});

test("word diff: every word of both texts is in it, however long they are", () => {
	const say = (n, salt) => Array.from({ length: n }, (_, i) => "w" + ((i * salt) % 17)).join(" ");
	for (const [a, b] of [["", ""], ["a b c", "a x c"], ["", "new"], [say(4000, 3), say(5000, 5)], [say(4000, 3), say(4000, 3) + " end"], ["x".repeat(1e6), "y"], ["  a\n\nb ", "a b"]]) {
		const d = m.wordDiff(a, b);
		assert.equal(d.filter((w) => w.kind !== "add").map((w) => w.text).join(""), a);
		assert.equal(d.filter((w) => w.kind !== "del").map((w) => w.text).join(""), b);
	}
	assert.deepEqual(m.wordDiff("the old cat", "the new cat").filter((w) => w.kind !== "same").map((w) => w.text).sort(), ["new", "old"]);
});

test("report: a run in Markdown, whatever its name holds", () => {
	const run = { id: "r1", name: "a|b", state: "done", created_at: "2026-10-01T00:00:00Z", ended_at: "2026-10-01T01:00:00Z", progress: { jobs_done: 3, jobs_total: 3 }, useful_s: 90, lost_s: 10, useful_cost: 9, lost_cost: 1, final_digest: "abc", notes: "one\ntwo",
		models: [{ name: "M1|x", metrics: { "truth.greedy_accuracy": 0.5, "length.greedy": 120 } }, { name: "M2", metrics: { "truth.greedy_accuracy": 0.75 } }] };
	const text = m.report(run, 0, "http://x/runs/r1");
	for (const line of ["## a|b: done", "- 3 of 3 jobs done", "- 1 m 40 s of work, 90.0 % of it useful", "- $10.00, $1.00 of it lost to preemption", "> two", "| model | answers right | tokens |", "| M1\\|x | 50.0 % | 120 |", "| M2 | 75.0 % | – |"]) assert.ok(text.split("\n").includes(line), `${line}\n${text}`);
	assert.match(text, /1 h 00 m to its end/);
});

test("names: jobs as people say them", () => {
	assert.deepEqual(["r1.2.eval.0.0", "r1.1.judge.3.2", "r1.0.sft.1.0"].map(m.jobWords), ["Eval 0, iteration 2", "Judge 3 pass 2, iteration 1", "SFT 1, seed"]);
});

test("win rates: Wilson interval of 50 in 100, and the length warning", () => {
	const [lo, hi] = m.wilson(50, 100);
	assert.ok(Math.abs(lo - 0.4038) < 1e-3 && Math.abs(hi - 0.5962) < 1e-3);
	assert.deepEqual(m.wilson(0, 0), [0, 1]);
	const models = [{ name: "M1", metrics: { "length.greedy": 100 } }, { name: "M2", metrics: { "length.greedy": 130 } }];
	assert.equal(m.movedTogether(models, [{ a: "M2", b: "M1", win: 60, tie: 10, loss: 30, n: 100 }]).length, 1);
	assert.equal(m.movedTogether(models, [{ a: "M2", b: "M1", win: 30, tie: 10, loss: 60, n: 100 }]).length, 0);
});

test("diff: settings and words", () => {
	assert.deepEqual(m.differing([{ a: 1, b: { c: 2 } }, { a: 1, b: { c: 3 }, d: [1] }]), [["b.c", ["2", "3"]], ["d", [null, "[1]"]]]);
	const d = m.wordDiff("the red fox", "the blue fox");
	assert.equal(d.filter((w) => w.kind !== "add").map((w) => w.text).join(""), "the red fox");
	assert.equal(d.filter((w) => w.kind !== "del").map((w) => w.text).join(""), "the blue fox");
});

test("form: a section the server adds gets its title and its fields", () => {
	const choice = (pointer, choices) => ({ pointer, type: "string", default: choices[0], choices });
	const form = { defaults: {}, sections: [{ name: "engine", title: "Engine" }], fields: [{ pointer: "/name", type: "string", default: "" }, choice("/engine/weights", ["f32", "bf16", "q8"]), choice("/engine/train", ["f32", "bf16"])] };
	const engine = m.sections(form).find((s) => s.name === "engine");
	assert.equal(engine.title, "Engine");
	assert.deepEqual(engine.fields.map((f) => m.label(f.pointer)), ["Weights when generating", "Products when training"]);
	assert.deepEqual(m.build(form, { "/engine/weights": "q8" }).spec, { engine: { weights: "q8" } });
});

test("form: the rank of an adapter stands with the everyday fields, under names people know", () => {
	const rank = { pointer: "/dpo/lora_r", type: "int", default: 0, min: 0, max: 1024 };
	const layers = { pointer: "/dpo/lora_targets", type: "string", default: "all-linear", required: false };
	assert.deepEqual([m.label(rank.pointer), m.label(layers.pointer), m.label("/sft/lora_alpha")], ["LoRA rank", "LoRA layers", "LoRA alpha"]);
	assert.deepEqual([m.everyday(rank), m.everyday(layers)], [true, false]);
	assert.deepEqual(m.build({ defaults: {}, fields: [rank, layers] }, { "/dpo/lora_r": "8", "/dpo/lora_targets": "q_proj" }).spec, { dpo: { lora_r: 8, lora_targets: "q_proj" } });
});

test("form: only what differs is sent, and a clone round-trips", () => {
	const form = { defaults: {}, fields: [{ pointer: "/dpo/lr", type: "number", default: 1e-6, min: 0, max: 1 }, { pointer: "/name", type: "string", default: "" }, { pointer: "/judge/template", type: "object", default: "additive-5" }, { pointer: "/data/ift", type: "files", default: [] }] };
	assert.deepEqual(m.build(form, { "/dpo/lr": "0.000001", "/name": "x" }).spec, { name: "x" });
	assert.deepEqual(m.build(form, { "/dpo/lr": "2" }).errors, [{ pointer: "/dpo/lr", detail: "at most 1" }]);
	const spec = { name: "x", dpo: { lr: 2e-6 }, judge: { template: { name: "mine", text: "t" } }, data: { ift: [{ path: "/a", format: "auto" }] } };
	assert.deepEqual(m.build(form, m.textsOf(form, spec)).spec, spec);
	assert.equal(m.fieldFor(form, "/data/ift/0/path"), "/data/ift");
});

test("log: colour codes, a window by bytes that never doubles nor loses one", () => {
	assert.equal(m.clean("a\u001b[31mb\u001b[0m\n10 %\r20 %\nx\r\n"), "ab\n20 %\nx\n");
	const all = new TextEncoder().encode(Array.from({ length: 900 }, (_, i) => `line ${i} zwölf €\n`).join(""));
	const part = (start, len) => ({ start, size: all.length, bytes: all.slice(start, start + len) });
	let w = m.append(null, part(all.length - 1000, 1000), 4000);
	while (w.start > 0) {
		const from = Math.max(0, w.start - 700);
		w = m.prepend(w, part(from, w.start - from), 4000);
		assert.ok(w.bytes.length <= 4000);
		assert.deepEqual([...w.bytes], [...all.slice(w.start, w.start + w.bytes.length)]);
	}
	const first = m.linesOf(w);
	assert.deepEqual([first[0].text, first[0].offset], ["line 0 zwölf €", 0]);
	while (m.endOf(w) < all.length) {
		w = m.append(w, part(Math.max(0, m.endOf(w) - 50), 900), 4000);
		assert.ok(w.bytes.length <= 4000);
		assert.deepEqual([...w.bytes], [...all.slice(w.start, w.start + w.bytes.length)]);
	}
	const lines = m.linesOf(w);
	assert.equal(lines.at(-1).text, "line 899 zwölf €");
	for (const l of lines) assert.equal(new TextDecoder().decode(all.slice(l.offset, l.offset + 5)), "line ", "a line begins where its offset says");
	assert.equal(m.append(part(0, 10), part(500, 10), 4000).start, 500, "a gap starts over");
	assert.equal(m.linesOf({ start: 0, size: 30_000, bytes: new Uint8Array(30_000).fill(65) })[0].text.length, 20_000 + " … 10000 bytes more".length);
	assert.deepEqual(["x error: y", "WARNING z", "errors=0"].map(m.level), ["bad", "warn", ""]);
});

test("samples: every kind of row, and hostile characters made visible", () => {
	const s = m.viewOf({ id: "p", prompt: "q", candidates: [{ index: 0, text: "a", mean: 4, judgements: [{ pass: 0, score: null, reason: "no_match", text: "?" }] }, { index: 1, text: "b", mean: 1 }], chosen: 0, rejected: 1, drop: null });
	assert.deepEqual([s.cards[0].mark, s.cards[1].mark, s.margin], ["chosen", "rejected", 3]);
	assert.equal(s.cards[0].judgements[0].score, null, "a missing score is missing, never zero");
	assert.equal(m.viewOf({ greedy: { text: "x", truth: { score: 1, correct: true } } }).cards[0].note, "correct");
	assert.equal(m.viewOf({ prompt: "p", response: "r", score: 5 }).cards[0].score, 5);
	assert.equal(m.viewOf(null).cards.length, 0);
	assert.equal(m.visible("a\u202eb\u0000"), "a\ufffdb\u2400");
});

test("review: blind hides the judge, and the better of two becomes a verdict on him", () => {
	const raw = (first) => ({ prompt: "q", candidates: [{ index: 0, text: "a", mean: 4, judgements: [{ pass: 0, score: 4, text: "?" }] }, { index: 1, text: "b", mean: 2 }, { index: 2, text: "c", mean: 1 }], chosen: 0, rejected: 2, pair_first: first });
	const v = m.viewOf(raw("rejected"));
	assert.deepEqual(m.blind(v).map((c) => [c.name, c.text, c.mark, c.score, c.judgements.length]), [["1", "c", null, null, 0], ["2", "a", null, null, 0]]);
	assert.deepEqual([m.better(v, false), m.better(v, true)], ["disagree", "agree"]);
	const w = m.viewOf(raw("chosen"));
	assert.deepEqual(m.blind(w).map((c) => c.text), ["a", "c"]);
	assert.deepEqual([m.better(w, false), m.better(w, true)], ["agree", "disagree"]);
	assert.equal(m.viewOf(raw("<b>")).first, null);
});

test("review: mine, the others', and what is not defined", () => {
	const all = { items: [{ n: 1, by: "ada", verdict: "agree" }, { n: 1, by: "bob", verdict: "skip" }, { n: null, by: "ada" }, { n: 2, by: "bob" }] };
	assert.deepEqual([m.ofRow(all, 1, "ada").mine.verdict, m.ofRow(all, 1, "ada").others.length, m.ofRow(all, 2, "ada").mine, m.ofRow(undefined, 1, "ada").others.length], ["agree", 1, undefined, 0]);
	assert.equal(m.agreementText({ n: 0, agree: 0, share: null, kappa: null }), "");
	assert.match(m.agreementText({ n: 3, agree: 3, share: 1, kappa: null }), /^3 of 3 agree, 100 % · κ –$/);
	assert.match(m.agreementText({ n: 10, agree: 8, share: 0.8, kappa: 0.6, kappa_low: -0.1, kappa_high: 1 }), /κ 0\.60 \(−0\.10 to 1\.00\)/);
});

test("wire: attempts and series in every form the server sends", () => {
	const [a] = m.attemptsOf([{ n: 1, job: "r1.2.judge.3.1", worker: "w", started_at: "2026-01-01T00:00:00Z", end: "failed", reason: { message: "boom", signal: 9 } }]);
	assert.deepEqual([a.iter, a.stage, a.shard, a.pass, a.reason, a.exit], [2, "judge", 3, 1, "boom", "signal 9"]);
	const [s] = m.seriesOf({ items: [{ job: "r1.1.dpo.0.0", points: [{ step: 1, loss: 0.5 }, { step: 0, loss: 0.7 }] }] });
	assert.deepEqual(s.points.loss, [[0, 0.7], [1, 0.5]]);
	const [j] = m.seriesOf({ job: "r1.1.dpo.0.0", items: [{ step: 3, loss: 1 }] }, "r1.1.dpo.0.0");
	assert.deepEqual(j.points.loss, [[3, 1]]);
});

test("eta: unknown is said, finished stages carry over, unstarted jobs are not credited", () => {
	const st = (iter, stage, state, more = {}) => ({ iter, stage, state, counts: { [state]: 1 }, planned: 1, seconds: 10, ...more });
	assert.equal(m.stageShare({ state: "running", counts: { done: 1, blocked: 3 }, planned: 4, done_units: 60, total_units: 60 }), 0.25);
	const run = { state: "active", iterations: 1, stages: [st(1, "prompts", "done")] };
	assert.equal(m.eta(run, 0).seconds, null);
	const full = { state: "active", iterations: 2, stages: ["prompts", "generate", "judge", "pair", "dpo", "eval"].map((s) => st(1, s, "done")) };
	assert.equal(m.eta(full, 0).seconds, 60);
	assert.equal(m.eta({ ...full, state: "paused" }, 0).why, "paused");
});

test("eta: a range from what attempts kept, inherited and lost units are not credited", () => {
	const MIN = 60_000;
	const now = 60 * MIN;
	const made = (n, start, end, how, had, got, useful, lost) => ({ ...attempt("r.1.judge.0.0", start, end, n), how, had, got, useful, lost });
	const stage = { iter: 1, stage: "judge", state: "running", counts: { running: 1 }, planned: 1, total_units: 200, done_units: 100, unit: "prompts" };
	// Fifty in twenty minutes, half of them lost; ten minutes of nothing; then on from a checkpoint at 25.
	const list = [made(1, 0, 20 * MIN, "preempted", 0, 50, 10 * MIN, 10 * MIN), made(2, 30 * MIN, null, null, 25, null, null, null)];
	assert.equal(m.kept(list[0]), 25);
	const s = m.stageSpan(stage, list, now);
	assert.ok(Math.abs(s.mid - 100 / (75 / 1800)) < 1, "75 units in the last half hour, not the 100 of the checkpoint: " + s.mid);
	assert.ok(s.low <= s.mid && s.mid <= s.high);
	const calm = m.stageSpan({ ...stage, done_units: 100 }, [made(1, 0, null, null, 0, null, null, null)], now);
	assert.ok(calm.high / calm.low < 1.001, "an even rate leaves no range");
	const run = { state: "active", iterations: 1, stages: [stage] };
	assert.equal(m.eta(run, now, list, 0).why, "no worker is connected");
	assert.equal(m.eta(run, now, list, 2).seconds, null, "DPO was never seen: the end is not known");
	assert.equal(m.eta(run, now, list, 2).stage.name, "Judge", "but the stage at work is");
	const rest = ["pair", "dpo", "eval", "prompts", "generate"].map((x) => ({ iter: 1, stage: x, state: "done", counts: { done: 1 }, planned: 1, seconds: 1 }));
	const e = m.eta({ ...run, stages: [...rest, stage] }, now, list, 2);
	assert.ok(e.span.low <= e.seconds && e.seconds <= e.span.high && e.at > now);
});

test("gantt: lost work, checkpoints and warnings have their places", () => {
	const cut = { ...attempt("a", 0, 60_000), how: "preempted", useful: 40_000, lost: 20_000 };
	const b = m.layout([cut], "job", 60_000, true).rows[0].bars[0];
	assert.equal(b.lost, 40_000);
	assert.deepEqual(b.saves, [40_000], "without marks: up to where it kept its work");
	const [a] = m.attemptsOf([{ n: 1, job: "r.1.dpo.0.0", started_at: 1000, end: null, marks: [{ at: 5000, kind: "checkpoint", done: 3 }, { at: 9000, kind: "notice", done: 4 }] }]);
	const running = m.layout([a], "job", 20_000, false).rows[0].bars[0];
	assert.deepEqual([running.saves, running.warned], [[4000], [8000]], "a running one has its marks");
});

test("merged log: pages put together, each line once, lines of one log in their order", () => {
	const line = (job, offset, s) => ({ at: `2026-01-01T00:00:0${s}.000Z`, job, attempt: 1, offset, text: job + offset, cut: false });
	const newest = [line("a", 10, 3), line("b", 0, 4)];
	const all = m.mergeLines(newest, [line("a", 0, 1), line("c", 5, 2), line("a", 10, 3)]);
	assert.deepEqual(all.map((l) => l.text), ["a0", "c5", "a10", "b0"]);
	assert.equal(m.mergeLines(all, newest), all, "nothing new: the same list");
});

test("tags: commas between, none twice, bounds told", () => {
	assert.deepEqual(m.tagsOf(" paper, judge-v2,,paper "), ["paper", "judge-v2"]);
	assert.equal(m.wrongTags(["x".repeat(41)]).includes("longer than 40"), true);
	assert.equal(m.wrongTags(Array.from({ length: 17 }, (_, i) => String(i))), "at most 16 tags");
	assert.equal(m.wrongTags(["a"]), null);
});

test("duels: each order by itself, and how often they agree", () => {
	const rows = [["a", "b"], ["a", "a"], ["tie", "tie"], ["b", "a"], ["a", null]].map(([forward, backward]) => ({ row: { forward, backward } }));
	const d = m.duelsOf(rows);
	assert.deepEqual(d.first, { win: 3, tie: 1, loss: 1, n: 5 });
	assert.deepEqual(d.second, { win: 1, tie: 1, loss: 2, n: 4 });
	assert.deepEqual([d.both, d.same], [4, 3]);
	assert.equal(m.duelsOf([{ text: "no comparison" }]), null);
	assert.deepEqual(m.duelList([{ row: { id: "t1", verdict: "win", forward: "a", backward: "b" } }, { id: "t2", verdict: "tie", forward: "a", backward: "a" }, { id: "t3", verdict: null, forward: "a", backward: null }, {}]),
		[{ id: "t1", verdict: "win", flipped: false }, { id: "t2", verdict: "tie", flipped: true }, { id: "t3", verdict: "", flipped: false }]);
	assert.equal(m.grown([{ name: "a", metrics: { "length.sampled": 120 } }, { name: "b", metrics: { "length.sampled": 100 } }], "a", "b").toFixed(2), "0.20");
});

test("estimate: hours and cost from an earlier run, and what it does not tell", () => {
	const basis = { id: "r1", state: "done", useful_s: 90, lost_s: 10, useful_cost: 1.8, lost_cost: 0.2, stages: [{ stage: "judge", seconds: 60, counts: { done: 6 } }] };
	const e = m.estimate([{ iter: 1, stage: "judge", jobs: 360 }, { iter: 1, stage: "dpo", jobs: 2 }], basis);
	assert.deepEqual([e.hours, e.cost, e.unknown], [1, 72, ["dpo"]]);
	assert.equal(m.estimate([{ iter: 1, stage: "dpo", jobs: 2 }], basis), null);
	assert.equal(m.basisOf([{ id: "a", state: "active" }, { id: "b", state: "done" }], "a").id, "b");
});

test("fmt: durations, bytes, numbers", () => {
	assert.equal(m.fmtDuration(3725), "1 h 02 m");
	assert.equal(m.fmtDuration(0.25), "250 ms");
	assert.equal(m.fmtBytes(542113792), "542 MB");
	assert.equal(m.fmtInt(61440), "61\u202f440");
	assert.deepEqual([7, 940, 999.7, 4234, 99960, 999600, 1.26e6].map(m.fmtCount), ["7", "940", "1.0 k", "4.2 k", "100 k", "1.0 M", "1.3 M"]);
	assert.equal(m.fmtNum(0.000001), "1.00 e-6");
	assert.deepEqual([m.fmtNum(-0.25), m.yText(-74), m.yText(-1e-6)], ["−0.2500", "−74", "−1e-6"], "a minus is a minus");
	assert.equal(m.fmtPct(0.1234), "12.3 %");
});

test("gpu: what the driver tells, and no more, in words", () => {
	const all = { device: 0, load: 0.97, memory_mib: 3072, memory_total_mib: 81920, temperature: 61.4, power: 512.5, ecc_errors: 0 };
	assert.equal(m.gpuWords(all), `${m.fmtBytes(3221225472)} of ${m.fmtBytes(85899345920)} · 61 °C · 513 W`);
	assert.equal(m.gpuTone(all), "dim");
	assert.equal(m.gpuTone({ ...all, temperature: 90 }), "warn");
	assert.equal(m.gpuWords({ device: 1, ecc_errors: 2, xid: 79 }), "2 memory errors · XID 79");
	assert.equal(m.gpuTone({ device: 1, xid: 79 }), "bad");
	assert.equal(m.gpuWords({ device: 1 }), "");
	assert.deepEqual(m.gpusOfCurves({ loss: [[1, 0.5]] }), []);
	const [g] = m.gpusOfCurves({ "gpu/load": [[1, 0.2], [2, 0.4]], "gpu/power": [[2, 300]] });
	assert.equal(g.load, 0.4);
	assert.equal(m.gpuWords(g), "300 W");
});

test("archives: one file, or volumes under the names pawl ckpt get gives them", () => {
	assert.deepEqual(m.archivesOf({ digest: "aa" }, "M 3"), [{ digest: "aa", file: "M-3.tar", href: "/api/v1/checkpoints/aa/content" }]);
	const list = m.archivesOf({ digest: "aa", volumes: [{ digest: "bb", size: 1 }, { digest: "cc", size: 2 }] }, "m");
	assert.deepEqual(list.map((a) => [a.digest, a.file]), [["aa", "m.tar"], ["bb", "m.tar.v001"], ["cc", "m.tar.v002"]]);
});

test("types: a list is no interface", () => {
	assert.match(generate(), /^export type Volumes = \{[^}]*\}\[\];$/m);
});

test("types: lib/schema.ts is what server/openapi.json gives", () => {
	assert.equal(readFileSync(join(src, "lib/schema.ts"), "utf8"), generate());
});
