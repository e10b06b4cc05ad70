// The mock's world: deterministic from a seed, shaped as API v1 sends it. Hostile text is part of it.
export const XSS = `<img src=x onerror="window.pwned=1"><script>window.pwned=2</script>`;
const ODD = "\u202Eright to left\u202C \u0000nul \u001b[31mred";

export function rng(seed) {
	let s = seed >>> 0;
	return () => {
		s = (s + 0x6d2b79f5) >>> 0;
		let t = Math.imul(s ^ (s >>> 15), 1 | s);
		t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
		return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
	};
}

export function hex(text) {
	let out = "";
	for (let i = 0; out.length < 64; i++) {
		let h = 2166136261 + i * 97;
		for (const c of text) h = Math.imul(h ^ c.charCodeAt(0), 16777619);
		out += (h >>> 0).toString(16).padStart(8, "0");
	}
	return out.slice(0, 64);
}

const iso = (t) => new Date(t).toISOString();
const PASSES = 3;

/** Jobs of a run in plan order. */
function planJobs(run, iterations, shards, dpoShards) {
	const jobs = [];
	const add = (iter, stage, shard = 0, pass = 0, params = {}) => jobs.push({ id: `${run}.${iter}.${stage}.${shard}.${pass}`, run, iter, stage, shard, pass, params });
	add(0, "import", 0);
	add(0, "import", 1);
	add(0, "eft");
	add(0, "sft", 0, 0, { variant: "baseline" });
	add(0, "sft", 1, 0, { variant: "m1" });
	if (run === "r2c8d0") add(0, "protegi");
	add(0, "eval", 0, 0, { name: "SFT" });
	add(0, "eval", 1, 0, { name: "M1" });
	for (let t = 1; t <= iterations; t++) {
		add(t, "prompts");
		for (let s = 0; s < shards; s++) add(t, "generate", s, 0, { from: s * 64, to: s * 64 + 64 });
		for (let s = 0; s < shards; s++) for (let p = 0; p < PASSES; p++) add(t, "judge", s, p, { pass: p });
		add(t, "pair");
		for (let k = 0; k < dpoShards; k++) add(t, "dpo", k, 0, { step_from: k * 60, step_to: k * 60 + 60, total_steps: 60 * dpoShards });
		add(t, "eval", 0, 0, { name: `M${t + 1}` });
	}
	return jobs;
}

const SECONDS = { import: 6, eft: 20, sft: 95, protegi: 40, prompts: 14, generate: 42, judge: 30, pair: 5, dpo: 60, eval: 48 };
const UNITS = { import: [1, "files"], eft: [200, "items"], sft: [180, "steps"], protegi: [600, "evaluations"], prompts: [256, "prompts"], generate: [64, "prompts"], judge: [64, "prompts"], pair: [256, "prompts"], dpo: [60, "steps"], eval: [120, "items"] };
const WORKERS = ["spot-a1", "spot-b2", "desk"];
const PRICE = 2.49; // of an hour of a worker

/** Runs the plan on three workers up to `stop` jobs; makes attempts with a preemption and a night's gap. */
function execute(jobs, start, stop, seed, gap) {
	const rand = rng(seed);
	const free = WORKERS.map(() => start);
	let barrier = start;
	let group = "";
	jobs.forEach((j, i) => {
		const key = `${j.iter}.${j.stage === "judge" ? "generate" : j.stage}`;
		if (key !== group) {
			group = key;
			barrier = Math.max(...free);
			if (gap && j.iter === 1 && j.stage === "prompts") barrier += 5.5 * 3600e3;
		}
		j.attempts = [];
		[j.total, j.unit] = UNITS[j.stage];
		j.created = start;
		if (i > stop) {
			j.state = "blocked";
			j.wait_reason = `waits for ${jobs[Math.max(0, stop)].id}`;
			return;
		}
		const w = free.indexOf(Math.min(...free));
		let t = Math.max(free[w], barrier) + 400;
		const took = SECONDS[j.stage] * 1000 * (0.85 + 0.4 * rand());
		if (i === stop) {
			j.state = "running";
			j.done = Math.floor(j.total * 0.4);
			j.worker = WORKERS[w];
			j.started = t;
			j.attempts.push({ n: 1, worker: WORKERS[w], started_at: t, end: null, from_progress: 0, log_size: 20_000 });
			return;
		}
		const cut = (j.stage === "generate" && j.shard === 1) || (j.stage === "dpo" && j.shard === 1 && j.iter === 1);
		let n = 1;
		j.started = t;
		if (cut) {
			const lost = j.stage === "dpo";
			j.attempts.push({ n: n++, worker: WORKERS[w], started_at: t, ended_at: t + took * 0.55, end: lost ? "lease_lost" : "preempted", reason: { message: lost ? "no heartbeat for 45 s" : "the cloud takes the machine back" }, from_progress: 0, to_progress: Math.floor(j.total * 0.5), useful_ms: Math.round(took * (lost ? 0.3 : 0.5)), lost_ms: Math.round(took * (lost ? 0.25 : 0.05)), log_size: 21_000 });
			t += took * 0.6;
			j[lost ? "losses" : "preemptions"] = 1;
		}
		j.attempts.push({ n, worker: WORKERS[cut ? (w + 1) % 3 : w], started_at: t, ended_at: t + took, end: "completed", reason: null, from_progress: cut ? Math.floor(j.total * 0.5) : 0, to_progress: j.total, useful_ms: Math.round(took), lost_ms: 0, log_size: 21_400 });
		free[w] = t + took;
		Object.assign(j, { state: "done", done: j.total, worker: j.attempts.at(-1).worker, ended: t + took });
	});
	const end = Math.max(...jobs.flatMap((j) => j.attempts.map((a) => a.ended_at ?? a.started_at)));
	return end;
}

export function metricPoint(stage, step, total, seed) {
	const x = step / total;
	const r = rng(seed * 7919 + step);
	const noise = (s) => (r() - 0.5) * s;
	const lr = 1e-6 * (0.1 + 0.9 * (0.5 + 0.5 * Math.cos(Math.PI * x)));
	if (stage === "sft") return { step, loss: 1.9 * Math.exp(-2.4 * x) + 0.55 + noise(0.18), learning_rate: lr * 5.5, grad_norm: 1.1 * Math.exp(-x) + noise(0.3), mean_token_accuracy: 0.52 + 0.3 * x + noise(0.04), num_tokens: 8600 + Math.round(noise(900)), seconds: 0.52 + noise(0.06) };
	const margin = step === 0 ? 0 : 0.9 * x + noise(0.15);
	return { step, loss: step === 0 ? Math.LN2 : Math.LN2 - 0.28 * x + noise(0.05), "rewards/margins": margin, "rewards/accuracies": step === 0 ? 0 : Math.min(1, 0.55 + 0.32 * x + noise(0.12)), "rewards/chosen": 0.35 * x + noise(0.08), "rewards/rejected": -0.55 * x + noise(0.08), "logps/chosen": -74 - 4 * x + noise(3), "logps/rejected": -81 - 14 * x + noise(3), learning_rate: lr, grad_norm: 2.2 - x + noise(0.5), num_tokens: 15_200 + Math.round(noise(4000)), seconds: 0.33 + noise(0.05), "gpu/load": 0.9 + noise(0.15), "gpu/memory_mib": 61_400 + Math.round(noise(900)), "gpu/temperature": 71 + Math.round(noise(6)), "gpu/power": 612 + Math.round(noise(60)) };
}

const ASKS = ["Explain why the sky is blue to a child of six.", "Write a limerick about a ratchet that would not turn back.", "Give three reasons to keep a changelog, in order of weight.", "Sort these numbers from small to large: 9, 4, 12, 7.", "How many letters are in the word “catalogue”?", "Suggest a quick dinner from lentils, carrots and one lemon.", "Translate “the gate is closed” into French and German.", "What is the difference between latency and throughput?"];
const ANSWERS = ["Sunlight holds every colour. Air scatters blue light much more than red, so blue reaches your eyes from all over the sky.", "The sky is blue because it reflects the ocean.", "Because blue light has a short wavelength, tiny molecules of air throw it about in all directions. That is called Rayleigh scattering, and it is also why sunsets are red: by then the light has crossed so much air that most of the blue is gone.", "I do not know, but it looks nice.", "I can't answer that, as an AI I have never seen a sky."];
const WHY = ["The response answers the question directly and gives a correct mechanism at the right level. It could say a word about sunsets.\nScore: ", "Relevant and accurate, but the wording is above the asked age.\nScore: ", "It covers a substantial part of the question and is well organised.\nScore: "];

export function sampleRows(seed, n) {
	const rand = rng(seed);
	return Array.from({ length: n }, (_, i) => {
		const cands = Array.from({ length: 4 }, (_, k) => {
			const base = 1 + Math.floor(rand() * 5);
			const judgements = Array.from({ length: PASSES }, (_, pass) => {
				if (rand() < 0.05) return { pass, score: null, reason: "no_match", text: "As a helpful assistant I cannot rate this, but it seems fine " };
				const score = Math.max(0, Math.min(5, base + Math.floor(rand() * 3) - 1));
				return { pass, score, reason: null, text: WHY[Math.floor(rand() * 3)] + score };
			});
			const ok = judgements.map((j) => j.score).filter((s) => s !== null);
			const text = k === 3 && i === 2 ? XSS + ODD : `${ANSWERS[(i + k) % 9 === 8 ? 4 : (i + k) % 4]}${k === 1 ? "" : ` (${["short", "plain", "long", "dry"][k]} take on no. ${i})`}`;
			return { index: k, text, n_tokens: 20 + Math.floor(rand() * 180), finish: rand() < 0.06 ? "length" : "stop", mean: ok.length >= 2 ? ok.reduce((a, b) => a + b, 0) / ok.length : null, variance: 0.2, valid: ok.length, judgements };
		});
		const means = cands.filter((c) => c.mean !== null);
		const best = means.reduce((a, b) => (b.mean > a.mean ? b : a));
		const worst = means.reduce((a, b) => (b.mean < a.mean ? b : a));
		const tie = best.mean === worst.mean;
		return { id: `p${i}`, prompt: i === 2 ? `Say hello. ${XSS}` : `${ASKS[i % ASKS.length]}${i >= ASKS.length ? ` (variant ${i})` : ""}`, candidates: cands, chosen: tie ? null : best.index, rejected: tie ? null : worst.index, drop: tie ? "tie" : null, pair_first: tie ? null : i % 2 ? "chosen" : "rejected" };
	});
}

function generationRows(level, n) {
	return Array.from({ length: n }, (_, i) => {
		const correct = ((i * 37) % 100) / 100 < level;
		const one = (t) => ({ text: t, n_tokens: 24 + Math.floor(60 * level) + (i % 9), finish: "stop", truth: { score: correct ? 1 : 0, correct } });
		return { id: `t${i}`, prompt: ASKS[i % ASKS.length] + ` (test ${i})`, greedy: one(correct ? `The answer is ${i * 3}, because each step adds three.` : `Perhaps ${i * 3 + 1}, I think the answer is near there.`), sampled: one("Sampled " + i) };
	});
}

/** Both orders of each comparison, as many of each verdict as the metrics say; the judge likes what it sees first. */
function duelRows(seed, m) {
	const rand = rng(seed * 77);
	const pick = (...some) => some[Math.min(some.length - 1, Math.floor(rand() * some.length))];
	const verdicts = ["win", "tie", "loss"].flatMap((v) => new Array(m["h2h." + v]).fill(v));
	return verdicts.map((verdict, i) => {
		const [forward, backward] = verdict === "win" ? pick("ab", "ab", "ab", "ab", "at", "tb") : verdict === "loss" ? pick("ba", "ba", "ba", "ba", "ta", "bt") : pick("aa", "aa", "aa", "bb", "tt");
		const word = (x) => (x === "t" ? "tie" : x);
		return { id: `t${(i * 37) % verdicts.length}`, verdict, forward: word(forward), backward: word(backward) };
	});
}

const LEVELS = { SFT: 0.31, M1: 0.38, M2: 0.52, M3: 0.64 };

function modelMetrics(name) {
	const l = LEVELS[name];
	const o = Object.keys(LEVELS)[Object.keys(LEVELS).indexOf(name) - 1];
	return { "truth.greedy_accuracy": l, "truth.sampled_accuracy": l - 0.05, "truth.greedy_score": l * 4, "rm.pairwise_accuracy": 0.5 + l * 0.5, "rm.five_best": l * 0.6, "rm.exact_match": l * 0.35, "rm.spearman": l * 0.8, "rm.kendall": l * 0.65, "rm.coverage": 0.9 + l * 0.1, "rm.ties": 0.3 - l * 0.2, "length.greedy": 88 + l * 190, "length.sampled": 95 + l * 200,
		"health.consistent": 0.5 + l * 0.4, "health.pile": 0.2 + l * 0.5, "health.parse_fail": 0.04 * (1 - l), "health.length_score": l * 0.6, "health.self_gain": l * 0.2,
		"pair.mean_score": 2 + l * 2, "pair.at_max": l * 0.7, "pair.parse_fail": 0.02, "pair.chosen_len": 90 + l * 200, "pair.rejected_len": 85 + l * 150, ...(o ? { "h2h.win": Math.round(60 + l * 90), "h2h.tie": 50, "h2h.loss": 150 - Math.round(60 + l * 90), "h2h.n": 200, "h2h.lc_rate": 0.5 + l * 0.14, "h2h.opponent": o } : {}) };
}

function makeRun(world, o) {
	const jobs = planJobs(o.id, o.iterations, o.shards, 3);
	const stop = o.until === undefined ? jobs.length : jobs.findIndex((j) => j.id.endsWith(o.until));
	const end = execute(jobs, o.start, stop, o.seed, o.gap);
	const shift = o.state !== "active" ? 0 : world.now - 25_000 - end;
	for (const j of jobs) {
		for (const k of ["created", "started", "ended"]) if (j[k]) j[k] += shift;
		for (const a of j.attempts) {
			a.started_at += shift;
			if (a.ended_at) a.ended_at += shift;
		}
	}
	const run = { ...o, jobs, created: o.start + shift, ended: o.state === "active" ? null : end, datasets: [], checkpoints: [] };
	if (o.state === "failed") {
		const j = jobs[stop];
		Object.assign(j, { state: "failed", error: { message: "the executor was killed (signal 9), out of memory" }, ended: end, attempt_count: 3 });
		j.attempts = [1, 2, 3].map((n) => ({ n, worker: "desk", started_at: end - 60e3 * (4 - n), ended_at: end - 60e3 * (4 - n) + 31e3, end: "failed", reason: { message: "out of memory", exit_code: null, signal: 9 }, from_progress: 0, to_progress: 0 }));
	}
	if (o.state === "cancelled") for (const j of jobs) if (j.state !== "done") j.state = "cancelled";
	for (const j of jobs.filter((x) => x.state === "done")) outputs(world, run, j);
	world.runs.push(run);
	return run;
}

const tried = (id, parent, how, state, text, trials, score, held_out, more) => ({ id, parent, round: parent ? 1 : 0, how, state, text, sha256: hex(text), reason: null, why: null, trials, pairs: trials * 3, right: 0, score, held_out, held_out_pairs: held_out === null ? 0 : 300, ...more });
const PROMPTS_TRIED = [
	tried("c0", null, "start", "dropped", "Look at it.\n{prompt}\n{response}", 90, 0.41, 0.4),
	tried("c1", "c0", "edit", "winner", "Look at each thing.\n{prompt}\n{response}", 90, 0.72, 0.7, { reason: "it does not tell good from bad" }),
	tried("c2", "c0", "paraphrase", "dropped", `Consider it. ${XSS}\n{prompt}\n{response}`, 30, 0.38, null),
	tried("c3", "c0", "edit", "refused", "Look at it.\n{prompt}", 0, null, null, { why: 'judge template "a": text must contain "{response}"' }),
];

function outputs(world, run, j) {
	const at = (role) => hex(`${j.id}/${role}`);
	j.outputs = [];
	const data = (role, rows) => {
		const d = { digest: at(role), run: run.id, iter: j.iter, stage: j.stage, job: j.id, role, rows: rows.length, size_bytes: JSON.stringify(rows).length, created_at: iso(j.ended), kind: "dataset", shard: j.shard, pass: j.pass, meta: { rows: rows.length } };
		world.datasets.set(d.digest, { meta: d, rows });
		run.datasets.push(d);
		j.outputs.push({ role, kind: "dataset", digest: d.digest, size: d.size_bytes, meta: { rows: rows.length } });
	};
	const model = (name, inputs) => {
		const c = { digest: at("model"), run: run.id, iter: j.iter, stage: j.stage, job: j.id, role: "model", name, size_bytes: 542_113_792, created_at: iso(j.ended), kind: "checkpoint", inputs, meta: null, metrics: LEVELS[name] ? modelMetrics(name) : {} };
		run.checkpoints.push(c);
		j.outputs.push({ role: "model", kind: "checkpoint", digest: c.digest, size: c.size_bytes });
	};
	const made = (id, role) => hex(`${run.id}.${id}/${role}`);
	const seeds = (what, n) => ASKS.concat(ASKS).slice(0, n).map((prompt, i) => ({ id: `${what}${i}`, prompt, response: ANSWERS[i % 4] }));
	if (j.stage === "import" && j.shard === 0) data("ift", seeds("s", 16));
	if (j.stage === "eft") data("eft", seeds("e", 12));
	if (j.stage === "protegi") data("candidates", PROMPTS_TRIED);
	if (j.stage === "sft") model(j.shard ? "M1" : "SFT", [made("0.import.0.0", "model"), made("0.import.0.0", "ift"), ...(j.shard ? [made("0.eft.0.0", "eft")] : [])]);
	const start = j.iter === 1 ? made("0.sft.1.0", "model") : made(`${j.iter - 1}.dpo.2.0`, "model");
	if (j.stage === "dpo") model(j.shard === 2 ? `M${j.iter + 1}` : `step ${(j.shard + 1) * 60}`, [j.shard ? made(`${j.iter}.dpo.${j.shard - 1}.0`, "model") : start, start, made(`${j.iter}.pair.0.0`, "pairs")]);
	if (j.stage === "pair") {
		const rows = sampleRows(j.iter * 11 + run.seed, 240);
		data("samples", rows);
		data("pairs", rows.filter((r) => r.chosen !== null).map((r) => ({ id: r.id, prompt: r.prompt, chosen: { ...r.candidates[r.chosen], score: r.candidates[r.chosen].mean }, rejected: { ...r.candidates[r.rejected], score: r.candidates[r.rejected].mean }, margin: r.candidates[r.chosen].mean - r.candidates[r.rejected].mean, pair_first: r.pair_first })));
	}
	if (j.stage === "prompts") data("prompts", ASKS.map((prompt, i) => ({ id: `p${i}`, prompt, meta: {} })));
	if (j.stage === "eval") data("generations", generationRows(LEVELS[j.params.name] ?? 0.3, 60));
	if (j.stage === "eval" && j.params.name !== "SFT") data("h2h", duelRows(j.iter + 1, modelMetrics(j.params.name)));
	j.metrics = { seconds: (j.ended - j.started) / 1000, tokens: 180_000, tokens_per_s: 4213.7 };
}

export function makeWorld({ empty = false, now = Date.now() } = {}) {
	const world = { now, runs: [], datasets: new Map(), workers: [], tokens: [], users: [], audit: [], hooks: [], filters: [], notices: [], quotas: [] };
	if (empty) return world;
	const day = 86_400e3;
	makeRun(world, { id: "r7k2f9", name: "world 135M, two iterations", seed: 1, iterations: 2, shards: 4, state: "done", start: now - 1.2 * day, gap: true });
	const reviewed = world.datasets.get(hex("r7k2f9.1.pair.0.0/samples"));
	const said = (n, by, verdict, note = "") => ({ key: "0", n, id: `p${n}`, dataset: reviewed.meta.digest, by, verdict, note, blind: false, judge: "first", human: null, at: iso(now - 3600e3) });
	reviewed.reviews = [said(0, "bob", "agree", "both are right, this one says why"), said(1, "bob", "disagree"), said(2, "bob", "agree", XSS), said(4, "bob", "agree"), said(4, "ada", "agree"), said(5, "ada", "disagree"), said(6, "ada", "agree")];
	makeRun(world, { id: "r9m4q2", name: "longer answers, beta 0.2", seed: 5, iterations: 2, shards: 4, state: "active", start: now - 1300e3, until: "1.dpo.1.0" });
	makeRun(world, { id: "r3xss1", name: XSS, seed: 9, iterations: 1, shards: 2, state: "failed", start: now - 0.3 * day, until: "1.judge.1.2" });
	makeRun(world, { id: "r2c8d0", name: "first try", seed: 3, iterations: 1, shards: 2, state: "cancelled", start: now - 3 * day, until: "1.generate.0.0" });
	world.workers = WORKERS.map((name, i) => ({ id: `w${i}`, name, state: i === 1 ? "lost" : "idle", job: null, last_beat_at: iso(now - (i === 1 ? 400e3 : 3e3)), started_at: iso(now - 7200e3), engine: i < 2 ? "cuda-sm90/1 NVIDIA H100 80GB HBM3" : "cpu-avx512/1", code: i === 2 ? "0.0.9" : "0.1.0", price_per_hour: i < 2 ? PRICE : null, host: `vm-${i}.example`, threads: 8, memory_bytes: 34e9, labels: i < 2 ? { zone: "eu-1a", spot: "true" } : {}, jobs_done: 41 - i * 9, preemptions: i < 2 ? 2 - i : 0, pid: 4000 + i, stages: null, pools: null, gpus: null, unhealthy: null }));
	for (const w of world.workers) Object.assign(w, { gpus: null, unhealthy: null });
	const gpu = (device, more) => ({ device, name: "NVIDIA H100 80GB HBM3", load: 0.93, memory_load: 0.5, memory_mib: 61_400, memory_total_mib: 81_559, temperature: 71, power: 612, ecc_errors: 0, ...more });
	world.workers[0].gpus = [gpu(0, {})];
	world.workers.push({ ...world.workers[0], id: "w3", name: "spot-c3", state: "unhealthy", unhealthy: "GPU 1: XID 79, fell off the bus", gpus: [gpu(0, { load: 0 }), { device: 1, name: "NVIDIA H100 80GB HBM3", xid: 79 }] });
	const running = world.runs[1].jobs.find((j) => j.state === "running");
	world.workers[0].state = "busy";
	world.workers[0].job = running.id;
	running.worker = running.attempts[0].worker = world.workers[0].name;
	Object.assign(world.runs[0], { starred: true, tags: ["paper", "judge-v2"], notes: "The longer judge prompt, for table 2.\nM3 reads well; check lengths before believing the win rate." });
	world.users = [{ name: "ada", revision: "1", role: "admin", created_at: iso(now - 9 * day), changed_at: iso(now - 9 * day) }, { name: "grace", revision: "1", role: "operator", created_at: iso(now - 3 * day), changed_at: iso(now - day) }];
	const did = [["ada", "POST", "/runs", 201], ["grace", "POST", "/runs/r2c8d0/cancel", 202], ["grace", "DELETE", "/tokens/c3d4", 403], ["ada", "POST", `/workers/w1/drain`, 202], ["ada", "PUT", "/users/grace", 201]];
	world.audit = did.map(([who, method, path, status], i) => ({ at: iso(now - i * 4000e3), who, identity: "", role: who === "ada" ? "admin" : "operator", method, path: "/api/v1" + path, status, from: "10.0.0." + (4 + i), request: "req" + i }));
	const notice = (i, age, kind, text, more) => ({ id: `${now - age}-${i}`, kind, at: iso(now - age), text, url: "https://pawl.example/", ...more });
	world.notices = [
		notice(0, 400e3, "worker.lost", "Worker w1 no longer answers", { worker: "w1" }), notice(1, 1100e3, "attention.disk", "The disk of the store is 93 % full", {}),
		notice(2, 0.2 * day, "job.failed", `Job r3xss1.1.judge.1.2 has failed: out of memory ${XSS}`, { run: "r3xss1", job: "r3xss1.1.judge.1.2" }), notice(3, 0.21 * day, "run.failed", "Run r3xss1 is failed", { run: "r3xss1" }),
		notice(4, 0.9 * day, "run.done", "Run world 135M, two iterations (r7k2f9) is done", { run: "r7k2f9" }), notice(5, 2.9 * day, "run.cancelled", "Run first try (r2c8d0) is cancelled", { run: "r2c8d0" }),
	];
	world.quotas = [{ owner: "nightly", runs: 4, running: 8, gpu_hours: 48, used_runs: 1, used_running: 8, used_gpu_hours: 12.25, revision: "1" }];
	world.hooks = [{ name: "chat", url: "https://chat.example/hooks/pawl", events: ["run.done", "run.failed", "job.failed"], enabled: true, file: false, waiting: 0, revision: "1", changed_at: iso(now - day), sent: [{ id: "n1", kind: "run.done", at: iso(now - 0.9 * day), status: 200, error: null, tries: 1, ms: 84 }] },
		{ name: "pager", url: "https://pager.example/v2/enqueue", events: ["*"], enabled: false, file: true, waiting: 3, revision: "1", changed_at: iso(now - 3 * day), sent: [] }].map((h) => Object.defineProperty({ ...h }, "sent", { value: h.sent, enumerable: false }));
	world.filters = [{ name: "failed judges", page: "jobs", query: "stage=judge&state=failed", changed_at: iso(now - day) }, { name: "for the paper", page: "runs", query: "starred=1&tag=paper", changed_at: iso(now - day) }, { name: "ties", page: "data", query: "flag=tie", changed_at: iso(now - day) }];
	world.tokens = [{ id: "a1b2", name: "first admin", role: "admin", created_at: iso(now - 9 * day), expires_at: null, last_used_at: iso(now - 60e3) }, { id: "c3d4", name: "workers", role: "worker", created_at: iso(now - 9 * day), expires_at: null, last_used_at: null }];
	return world;
}

// --- what the API sends --------------------------------------------------------------------------
const MODEL_IN = (j) => [{ role: "model", kind: "checkpoint", digest: hex("m" + j.run), size: 542113792 }];

export function jobJson(j) {
	return {
		id: j.id, run: j.run, iter: j.iter, stage: j.stage, shard: j.shard, pass: j.pass, state: j.state, attempts: j.attempt_count ?? (j.attempts.length ? 1 : 0), failures: j.state === "failed" ? 3 : 0, max_attempts: 3,
		losses: j.losses ?? 0, preemptions: j.preemptions ?? 0, worker: j.worker ?? null, progress: { done: j.done ?? 0, total: j.started ? j.total : 0, unit: j.unit }, wait_reason: j.wait_reason ?? null, pool: null, priority: j.priority ?? 0, generation: 0, stuck: false,
		created_at: iso(j.created), started_at: j.started ? iso(j.started) : null, ended_at: j.ended ? iso(j.ended) : null, last_beat_at: j.state === "running" ? iso(Date.now() - 2000) : null, error: j.error ?? null, parents: [],
		inputs: MODEL_IN(j), outputs: j.outputs ?? [], params: j.params, metrics: j.metrics ?? {}, checkpoint: null, log_size: 21_000, optional: false, info: null,
	};
}

/** Why it waits and waited: those that waited for a worker once say so, a preempted one waited again. */
export function waitingJson(j) {
	const from = iso(j.created);
	const again = j.attempts.slice(1).map((a, i) => ({ reason: "waits for one of 3 workers", from_at: iso(j.attempts[i].ended_at), to_at: iso(a.started_at) }));
	const first = { reason: j.state === "blocked" ? j.wait_reason : "waits for 1 of 2 earlier jobs", from_at: from, to_at: j.attempts[0] ? iso(j.attempts[0].started_at) : null };
	const open = j.state === "blocked" || j.state === "ready";
	return { reason: open ? j.wait_reason ?? "waits for one of 3 workers" : null, position: j.state === "ready" ? 2 : null, queue_length: j.state === "ready" ? 5 : null, runs_ahead: j.state === "ready" ? 1 : null, since_at: open ? from : null, history: [first, ...again] };
}

/** Trainings keep a checkpoint every twenty seconds; who is preempted was told before. */
function marks(j, a) {
	const end = a.ended_at ?? Date.now();
	const at = j.stage === "dpo" || j.stage === "sft" ? Array.from({ length: Math.min(9, Math.floor((end - a.started_at) / 20e3)) }, (_, i) => a.started_at + (i + 1) * 20e3) : [];
	const told = a.end === "preempted" ? [{ at: iso(end - 6000), kind: "notice", done: a.to_progress ?? 0 }] : [];
	return [...at.map((t, i) => ({ at: iso(t), kind: "checkpoint", done: (i + 1) * 8 })), ...told];
}

export function attemptsJson(jobs) {
	return jobs.flatMap((j) => j.attempts.map((a) => ({
		n: a.n, job: j.id, iter: j.iter, stage: j.stage, shard: j.shard, pass: j.pass, worker: a.worker, started_at: iso(a.started_at), ended_at: a.ended_at ? iso(a.ended_at) : null,
		end: a.end ?? null, reason: a.reason?.message ?? null, exit_code: a.reason?.exit_code ?? null, signal: a.reason?.signal ?? null, from_progress: a.from_progress ?? null, to_progress: a.to_progress ?? null,
		log_size: a.log_size ?? 0, useful_ms: a.useful_ms ?? null, lost_ms: a.lost_ms ?? null, marks: marks(j, a),
	})));
}

function stagesJson(run) {
	const map = new Map();
	for (const j of run.jobs) {
		const k = `${j.iter}.${j.stage}`;
		const s = map.get(k) ?? { iter: j.iter, stage: j.stage, state: "", counts: {}, planned: 0, estimate: false, done_units: 0, total_units: 0, unit: j.unit, seconds: 0, tokens: 0, tokens_per_s: 0 };
		s.counts[j.state] = (s.counts[j.state] ?? 0) + 1;
		s.planned++;
		s.done_units += j.done ?? 0;
		s.total_units += j.total;
		if (j.started) s.seconds += ((j.ended ?? Date.now()) - j.started) / 1000;
		if (j.state === "done" && ["sft", "generate", "judge", "dpo"].includes(j.stage)) { s.tokens += 1000 * j.total; s.tokens_per_s = s.tokens / Math.max(1, s.seconds); }
		map.set(k, s);
	}
	for (const s of map.values()) s.state = ["failed", "running", "ready", "delayed", "blocked", "cancelled", "done"].find((x) => s.counts[x]) ?? "blocked";
	for (const s of map.values()) if (s.state === "blocked" && s.counts.done) s.state = "running";
	return [...map.values()];
}

export function modelsJson(run) {
	return run.checkpoints.filter((c) => LEVELS[c.name]).map((c) => ({ name: c.name, run: run.id, iter: c.iter, job: c.job, checkpoint: c.digest, metrics: run.jobs.some((j) => j.stage === "eval" && j.params.name === c.name && j.state === "done") ? modelMetrics(c.name) : {} }));
}

/** Work that lives on and work that was lost, as the queue adds it up when attempts end. */
function accounts(run) {
	const all = run.jobs.flatMap((j) => j.attempts).filter((a) => a.ended_at);
	const sum = (k) => all.reduce((n, a) => n + (a[k] ?? 0), 0) / 1000;
	const [useful_s, lost_s] = [sum("useful_ms"), sum("lost_ms")];
	return { useful_s, lost_s, useful_cost: (useful_s * PRICE) / 3600, lost_cost: (lost_s * PRICE) / 3600 };
}

export function runJson(run, full = false) {
	const done = run.jobs.filter((j) => j.state === "done").length;
	const final = run.state === "done" ? run.checkpoints.at(-1)?.digest : null;
	const counts = {};
	for (const j of run.jobs) counts[j.state] = (counts[j.state] ?? 0) + 1;
	const spec = run.spec ?? { name: run.name, seed: run.seed, iterations: run.iterations, base_model: "/models/base-135m", dpo: { beta: run.seed === 5 ? 0.2 : 0.1, lr: 1e-6 }, generate: { n: 4, max_new_tokens: run.seed === 5 ? 512 : 256 } };
	return {
		id: run.id, name: run.name, state: run.state, created_at: iso(run.created), updated_at: iso(run.ended ?? Date.now()), ended_at: run.ended ? iso(run.ended) : null, iterations: run.iterations, seed: run.seed, submitted_by: "ada", owner: "ada",
		notes: run.notes ?? "", tags: run.tags ?? [], starred: !!run.starred, revision: String(run.revision ?? 1), class: 5, weight: 1, max_running: 0, ...accounts(run), counts, progress: { jobs_done: done, jobs_total: run.jobs.length },
		stages: stagesJson(run), models: modelsJson(run), final_digest: final, error: run.state === "failed" ? "0 jobs can go on: judge 1 pass 2 failed three times" : null, ...(full ? { spec } : {}),
	};
}

export function seriesJson(run) {
	const items = [];
	for (const j of run.jobs.filter((x) => (x.stage === "sft" || x.stage === "dpo") && x.started)) {
		const total = j.stage === "sft" ? j.total : 180;
		const from = j.stage === "sft" ? 0 : j.params.step_from;
		const points = Array.from({ length: j.done ?? 0 }, (_, i) => metricPoint(j.stage, from + i, total, run.seed * 100 + j.iter * 10 + (j.stage === "sft" ? j.shard : 0)));
		const sum = { tokens: 0, seconds: 0 };
		for (const p of points) Object.assign(p, { "total/tokens": (sum.tokens += p.num_tokens), "total/seconds": (sum.seconds += p.seconds) });
		items.push({ job: j.id, stage: j.stage, iter: j.iter, shard: j.shard, state: j.state, variant: j.params.variant ?? "", params: j.params, final: j.metrics ?? null, points });
	}
	return { items, next_cursor: null };
}
