// A small stand-in for pawl-server: same API, same headers, a deterministic fake run that advances.
// Usage: node mock.mjs [port], or import { startMock }.
import { createServer } from "node:http";
import { existsSync, readFileSync } from "node:fs";
import { dirname, extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { check, defaults } from "./mock_defaults.mjs";
import { answerMore } from "./mock_more.mjs";
import { attemptsJson, hex, jobJson, makeWorld, waitingJson, metricPoint, modelsJson, runJson, seriesJson, XSS } from "./mock_data.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const DIST = join(here, "../../web/dist");
const CSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; worker-src 'self'; font-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types pawl";
const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8" };

export async function startMock({ port = 0, empty = false, role = "admin", tickMs = 700, auth = true, streamsMost = Infinity, endless = false } = {}) {
	const m = { world: makeWorld({ empty }), posts: [], bulks: [], streams: new Set(), seq: 0, down: false, role, logs: new Map(), logReads: [], events: [], resumed: [], refused: 0, streamsMost, endless, keys: new Map(), sessions: new Set(), operations: [], opSteps: 4 };
	const server = createServer((req, res) => handle(m, auth, req, res).catch((e) => {
		console.error(e);
		res.writeHead(500).end();
	}));
	await new Promise((ok) => server.listen(port, "127.0.0.1", ok));
	const timer = tickMs ? setInterval(() => advance(m), tickMs) : null;
	m.url = `http://127.0.0.1:${server.address().port}`;
	m.advance = () => advance(m);
	m.emit = (type, run, job, data) => emit(m, type, run, job, data);
	m.setDown = (down) => {
		m.down = down;
		if (down) for (const s of m.streams) s.destroy();
	};
	m.close = () => {
		clearInterval(timer);
		for (const s of m.streams) s.destroy();
		server.closeAllConnections();
		server.close();
	};
	return m;
}

/** As the server's stream: old ones go. */
const EVENTS_KEPT = 4000;

const wants = (topics, e) => !topics || topics.some((t) => (t.startsWith("run:") ? t.slice(4) === e.run : t === e.type + "s"));

function emit(m, type, run, job, data) {
	const id = `${Date.now()}-${m.seq++}`;
	const text = `id: ${id}\nevent: ${type}\ndata: ${JSON.stringify({ id, type, run, job, data })}\n\n`;
	const e = { id, type, run, job, data, text };
	m.events.push(e);
	if (m.events.length > EVENTS_KEPT) m.events.splice(0, EVENTS_KEPT / 2);
	for (const s of m.streams) if (wants(s.topics, e)) s.write(text);
}

/** The running job goes on a little; when it ends, the next one starts. */
function advance(m) {
	for (const run of m.world.runs.filter((r) => r.state === "active")) {
		const j = run.jobs.find((x) => x.state === "running");
		if (!j) continue;
		j.done = Math.min(j.total, (j.done ?? 0) + Math.max(1, Math.round(j.total / 60)));
		emit(m, "job", run.id, j.id, { state: "running", stage: j.stage, iter: j.iter, shard: j.shard, pass: j.pass, progress: { done: j.done, total: j.total, unit: j.unit } });
		if (j.stage === "dpo") {
			const step = j.params.step_from + j.done - 1;
			emit(m, "metric", run.id, j.id, metricPoint("dpo", step, 180, run.seed * 100 + j.iter * 10));
		}
		m.logs.set(j.id, (m.logs.get(j.id) ?? firstLog(j)) + `${new Date().toISOString()} info ${j.stage} progress done=${j.done} total=${j.total}\n`);
		if (m.endless) j.done %= j.total;
		if (j.done < j.total) continue;
		const now = Date.now();
		Object.assign(j, { state: "done", ended: now });
		Object.assign(j.attempts.at(-1), { ended_at: now, end: "completed", to_progress: j.total, useful_ms: Math.round(now - j.attempts.at(-1).started_at), lost_ms: 0 });
		emit(m, "job", run.id, j.id, { state: "done", stage: j.stage });
		const next = run.jobs.find((x) => x.state === "blocked");
		if (!next) {
			Object.assign(run, { state: "done", ended: now });
			emit(m, "run", run.id, "", { state: "done" });
			continue;
		}
		Object.assign(next, { state: "running", started: now, done: 0, worker: "spot-a1", wait_reason: null });
		next.attempts.push({ n: 1, worker: "spot-a1", started_at: now, end: null, from_progress: 0 });
		emit(m, "job", run.id, next.id, { state: "running", stage: next.stage, attempt: 1 });
	}
}

function firstLog(j) {
	let t = `info executor start job=${j.id} engine=cpu-avx512/1\n${XSS}\n\u001b[33mwarn\u001b[0m tokenizer: 2 unused special tokens\n`;
	for (let i = 0; i < 400; i++) t += `info ${j.stage} chunk=${i} tokens=${1000 + i * 7} tokens_per_s=4213\n`;
	return t + "error: prompt p17 is longer than 1024 tokens, cut\n";
}

async function body(req) {
	let text = "";
	for await (const c of req) text += c;
	try {
		return JSON.parse(text || "{}");
	} catch {
		return null;
	}
}

async function handle(m, auth, req, res) {
	const url = new URL(req.url, "http://x");
	if (m.down) return void req.socket.destroy();
	if (!url.pathname.startsWith("/api/")) return file(url.pathname, res);
	const path = url.pathname.replace("/api/v1", "");
	const json = (status, o) => res.writeHead(status, { "Content-Type": status >= 400 ? "application/problem+json" : "application/json" }).end(JSON.stringify(o));
	const problem = (status, title, detail, errors) => json(status, { type: "about:blank", title, status, detail, instance: "req-" + m.seq, ...(errors ? { errors } : {}) });
	const sid = /pawl_sid=(\w+)/.exec(req.headers.cookie ?? "")?.[1];
	if (req.method !== "GET") m.posts.push(`${req.method} ${path}${url.search}`);
	if (path === "/session" && req.method === "POST") {
		const b = await body(req);
		if (b.code !== "once" && b.token !== "pawl_admin_x") return problem(401, "Not accepted", "this token or code is not known");
		const id = "s" + hex(String(Math.random())).slice(0, 12);
		m.sessions.add(id);
		res.setHeader("Set-Cookie", `pawl_sid=${id}; HttpOnly; SameSite=Strict; Path=/`);
		return json(201, { user: "ada", role: m.role, server_time: new Date().toISOString(), version: "0.1.0", no_auth: false });
	}
	if (auth && !m.sessions.has(sid)) return problem(401, "Log in", "a session or a token is needed");
	if (path === "/session") {
		if (req.method === "DELETE") m.sessions.delete(sid);
		return req.method === "DELETE" ? res.writeHead(204).end() : json(200, { user: "ada", role: m.role, server_time: new Date().toISOString(), version: "0.1.0", no_auth: false });
	}
	if (path === "/events") return stream(m, req, res, url);
	const b = ["POST", "PUT", "PATCH"].includes(req.method) ? await body(req) : null;
	return answer(m, { url, path, b, json, problem, res, req });
}

function file(path, res) {
	const clean = normalize(path);
	const name = clean.startsWith("/assets/") && existsSync(join(DIST, clean)) ? clean : clean.startsWith("/assets/") ? null : "/index.html";
	if (!name) return res.writeHead(404).end();
	res.writeHead(200, { "Content-Type": TYPES[extname(name)] ?? "application/octet-stream", "Content-Security-Policy": CSP, "X-Content-Type-Options": "nosniff" }).end(readFileSync(join(DIST, name)));
}

function stream(m, req, res, url) {
	if (m.streams.size >= m.streamsMost) {
		m.refused++;
		return res.writeHead(503, { "Retry-After": "10" }).end();
	}
	res.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-cache" });
	res.write("retry: 1000\n: ok\n\n");
	res.topics = url.searchParams.get("topics")?.split(",") ?? null;
	const after = req.headers["last-event-id"] || url.searchParams.get("after");
	if (after) {
		m.resumed.push(after);
		const from = m.events.findIndex((e) => e.id === after);
		for (const e of m.events.slice(from + 1)) if (wants(res.topics, e)) res.write(e.text);
	}
	m.streams.add(res);
	req.on("close", () => m.streams.delete(res));
}

const page = (items, url, size = 50) => {
	const limit = Math.min(1000, Number(url.searchParams.get("limit") ?? size));
	const from = Number(url.searchParams.get("cursor") ?? 0);
	return { items: items.slice(from, from + limit), next_cursor: from + limit < items.length ? String(from + limit) : null };
};

/** As the server has it: the mean of the candidates, or the chosen answer's. */
const lengthOf = (r) => (r.candidates ? r.candidates.reduce((n, c) => n + c.n_tokens, 0) / r.candidates.length : (r.chosen?.n_tokens ?? r.greedy?.n_tokens ?? null));

function rowFilter(url) {
	const q = url.searchParams;
	const num = (k) => (q.get(k) === null ? null : Number(q.get(k)));
	const [text, lo, hi, margin] = [q.get("q")?.toLowerCase(), num("min_score"), num("max_score"), num("min_margin")];
	const flag = q.get("flag");
	const [shortest, longest] = [num("min_length"), num("max_length")];
	const refuses = (c) => /^i (cannot|can't|won't)|^as an ai/i.test(c?.text ?? "");
	return ({ row: r }) => {
		if (text && !JSON.stringify(r).toLowerCase().includes(text)) return false;
		const scores = (r.candidates ?? []).map((c) => c.mean).filter((s) => s !== null);
		if ((lo !== null || hi !== null) && !scores.some((s) => (lo === null || s >= lo) && (hi === null || s <= hi))) return false;
		if (margin !== null && !(r.margin >= margin || (r.candidates && r.chosen !== null && r.candidates[r.chosen].mean - r.candidates[r.rejected].mean >= margin))) return false;
		if (shortest !== null && !(lengthOf(r) >= shortest)) return false;
		if (longest !== null && !(lengthOf(r) <= longest)) return false;
		if (flag === "refusal") return (r.candidates ?? [r.chosen, r.rejected]).some(refuses);
		if (flag === "tie") return r.drop === "tie";
		if (flag === "parse_fail") return r.candidates?.some((c) => c.valid < 3);
		return true;
	};
}

/** A log that is never held: ten million lines of 100 bytes, a needle in every millionth. */
export const HUGE = "r7k2f9.2.dpo.2.0";
const HUGE_LINE = 100;
const HUGE_BYTES = 1e9;
const hugeLine = (i) => `${i % 1e6 === 4242 ? "needle" : "info  "} dpo step=${String(i).padStart(9, "0")} loss=0.${String((i * 7919) % 1e4).padStart(4, "0")}`.padEnd(HUGE_LINE - 1, ".") + "\n";

function hugePart(at, limit) {
	const first = Math.floor(at / HUGE_LINE);
	const to = Math.min(HUGE_BYTES, at + limit);
	let text = "";
	for (let i = first; i * HUGE_LINE < to; i++) text += hugeLine(i);
	return Buffer.from(text).subarray(at - first * HUGE_LINE, to - first * HUGE_LINE);
}

function logSearch(m, id, url) {
	const q = url.searchParams.get("q").toLowerCase();
	const limit = Number(url.searchParams.get("limit") ?? 100);
	if (id === HUGE) return { items: q === "needle" ? Array.from({ length: 10 }, (_, k) => ({ offset: (k * 1e6 + 4242) * HUGE_LINE, text: hugeLine(k * 1e6 + 4242).trimEnd() })) : [], next_cursor: null, size: HUGE_BYTES };
	const bytes = Buffer.from(m.logs.get(id) ?? firstLog({ id, stage: id.split(".")[2] }));
	const items = [];
	for (let at = 0; at < bytes.length && items.length < limit; ) {
		const end = bytes.indexOf(10, at) < 0 ? bytes.length : bytes.indexOf(10, at);
		const text = bytes.subarray(at, end).toString();
		if (text.toLowerCase().includes(q)) items.push({ offset: at, text });
		at = end + 1;
	}
	return { items, next_cursor: null, size: bytes.length };
}

function log(m, id, url, res) {
	m.logReads.push(url.search);
	if (id === HUGE) {
		const limit = Math.min(1 << 20, Number(url.searchParams.get("limit") ?? 65536));
		let at = Number(url.searchParams.get("offset") ?? 0);
		if (at < 0) at = Math.max(0, HUGE_BYTES + at);
		return void res.writeHead(200, { "Content-Type": "text/plain; charset=utf-8", "X-Log-Size": HUGE_BYTES, "X-Log-Offset": at }).end(hugePart(at, limit));
	}
	const text = Buffer.from(m.logs.get(id) ?? firstLog({ id, stage: id.split(".")[2] }));
	const limit = Number(url.searchParams.get("limit") ?? 65536);
	let at = Number(url.searchParams.get("offset") ?? 0);
	if (at < 0) at = Math.max(0, text.length + at);
	const part = text.subarray(at, at + limit);
	const send = () => res.writeHead(200, { "Content-Type": "text/plain; charset=utf-8", "X-Log-Size": text.length, "X-Log-Offset": at }).end(part);
	if (!part.length && url.searchParams.get("wait")) setTimeout(send, 900);
	else send();
}

const agreement = (n, agree) => ({ n, agree, table: [[0, 0], [0, 0]], share: n ? agree / n : null, low: null, high: null, kappa: n ? 0.52 : null, se: n ? 0.1 : null, kappa_low: n ? 0.31 : null, kappa_high: n ? 0.73 : null });

function reviewSummary(d) {
	const said = d.reviews.filter((r) => r.verdict !== "skip");
	const one = (by) => ({ by, reviewed: said.filter((r) => r.by === by).length, skipped: 0, agreement: agreement(said.filter((r) => r.by === by).length, said.filter((r) => r.by === by && r.verdict === "agree").length) });
	const who = [...new Set(d.reviews.map((r) => r.by))].sort();
	const summary = { pairs: d.rows.filter((r) => r.pair_first).length, reviewed: new Set(said.map((r) => r.n)).size, split: 0, agreement: agreement(said.length, said.filter((r) => r.verdict === "agree").length), reviewers: who.map(one), between: who.length > 1 ? [{ a: who[0], b: who[1], agreement: agreement(3, 2) }] : [] };
	return summary;
}

/** What people said is kept in the dataset; the person at the page is ada. */
function reviews(m, d, seg, req, b, res, json, problem) {
	d.reviews ??= [];
	if (seg[2] === "reviews") return json(200, { items: d.reviews, next_cursor: null, summary: reviewSummary(d) });
	m.posts.push(`${req.method} review ${seg[3]} ${b ? JSON.stringify(b) : ""}`);
	const n = Number(seg[3]);
	const old = d.reviews.find((r) => r.n === n && r.by === "ada");
	d.reviews = d.reviews.filter((r) => r !== old);
	if (req.method === "DELETE") return old ? void res.writeHead(204).end() : problem(404, "Not found", "ada has not reviewed this pair");
	if (!["agree", "disagree", "skip"].includes(b.verdict)) return problem(422, "Invalid", "verdict");
	const r = { key: "0", n, id: `p${n}`, dataset: d.meta.digest, by: "ada", verdict: b.verdict, note: b.note ?? "", blind: !!b.blind, judge: "first", human: null, at: new Date().toISOString() };
	d.reviews.push(r);
	return json(old ? 200 : 201, r);
}

function garbage() {
	const sum = (blobs, bytes) => ({ blobs, bytes });
	return { dry_run: true, all: sum(64, 12.4e9), kept: sum(57, 11.2e9), young: sum(3, 640e6), marked: sum(2, 320e6), trashed: sum(2, 240e6), dropped: sum(0, 0), given_up: sum(0, 0), items: ["marked", "marked", "trashed", "trashed"].map((state, i) => ({ digest: hex("old" + i), size: 120e6 + i * 4e6, state, since_ms: Date.now() - (30 + i) * 3600e3 })) };
}

function hook(w, seg, b, req, json, problem, res) {
	const h = w.hooks.find((x) => x.name === seg[1]);
	if (seg[2] === "deliveries") return json(200, { items: h.sent, next_cursor: null });
	if (seg[2] === "test") {
		h.sent.unshift({ id: "n" + h.sent.length, kind: "test", at: new Date().toISOString(), status: 0, error: "connection refused", tries: 1, ms: 3 });
		return json(200, { delivered: false, status: 0, error: "connection refused", ms: 3 });
	}
	if (h && /"([^"]*)"/.exec(req.headers["if-match"] ?? "")?.[1] !== h.revision) return problem(428, "If-Match is missing", "send the ETag of what you read");
	w.hooks = w.hooks.filter((x) => x !== h);
	if (req.method === "DELETE") return res.writeHead(204).end();
	const { sent = [], ...old } = h ?? {};
	const next = { name: seg[1], enabled: true, file: false, waiting: 0, ...old, ...b, revision: String(Number(h?.revision ?? 0) + 1), changed_at: new Date().toISOString() };
	w.hooks.push(Object.defineProperty({ ...next }, "sent", { value: sent, enumerable: false }));
	return json(h ? 200 : 201, h ? next : { ...next, secret: hex("hook").slice(0, 40) });
}

/** Histogram and points of what is judged; a small share of what the server counts. */
function stats(d) {
	const cands = d.rows.flatMap((r) => r.candidates ?? []).filter((c) => c.mean !== null);
	const bins = [...new Set(cands.map((c) => c.mean))].sort((a, b) => a - b).map((v) => ({ lo: v, hi: v, n: cands.filter((c) => c.mean === v).length }));
	return { digest: d.meta.digest, rows: d.rows.length, scores: null, histogram: bins, points: cands.slice(0, 1000).map((c) => [c.n_tokens, c.mean]), sampled: false, n_points: cands.length, length_score_r: null, flags: {}, counters: {} };
}

/** Changed only as it was read. */
function tune(m, run, b, req, json, problem) {
	const match = /"([^":]*)/.exec(req.headers["if-match"] ?? "")?.[1];
	if (match === undefined) return problem(428, "If-Match is missing", "send the ETag of what you read");
	if (match !== String(run.revision ?? 1)) return problem(412, "Changed", "it is no longer what If-Match names; read it again");
	Object.assign(run, b, { revision: (run.revision ?? 1) + 1 });
	m.emit("run", run.id, "", { state: run.state });
	return json(202, runJson(run, true));
}

/** A few lines of every attempt, by time; pages from the end. */
function mergedLog(m, run, q) {
	const lines = run.jobs.filter((j) => (!q.get("stage") || j.stage === q.get("stage")) && (!q.get("job") || j.id === q.get("job"))).flatMap((j) => j.attempts.flatMap((a) => {
		const whole = m.logs.get(j.id);
		const texts = whole && !a.ended_at ? whole.split("\n").slice(-8, -1) : [`info executor start job=${j.id} attempt=${a.n} worker=${a.worker}`, ...[1, 2, 3].map((i) => `info ${j.stage} chunk=${i} tokens=${1000 * i}`), a.end && a.end !== "completed" ? `error: ended: ${a.end} ${XSS}` : "info done"];
		return texts.map((text, i) => ({ at: new Date(Math.round(a.started_at) + 1000 * i).toISOString(), job: j.id, attempt: a.n, offset: i * 100, text, cut: false }));
	})).sort((a, b) => a.at.localeCompare(b.at)).filter((l) => !q.get("q") || l.text.toLowerCase().includes(q.get("q").toLowerCase()));
	const end = q.get("cursor") ? Number(q.get("cursor")) : lines.length;
	const from = Math.max(0, end - 120);
	return { items: lines.slice(from, end), next_cursor: from > 0 ? String(from) : null, sources: run.jobs.filter((j) => j.attempts.length).length, bytes: lines.length * 60 };
}

/** What happened: the attempts of the made world, and what was sent since. Newest first. */
function eventPage(m, run, q) {
	const past = run.jobs.flatMap((j) => j.attempts.flatMap((a) => [
		{ id: `${Math.round(a.started_at)}-0`, type: "job", job: j.id, data: { state: "running", attempt: a.n, worker: a.worker } },
		...(a.ended_at ? [{ id: `${Math.round(a.ended_at)}-1`, type: "job", job: j.id, data: { state: a.end === "completed" ? "done" : "ready", attempt: a.n, worker: a.worker, reason: a.reason?.message ?? "" } }] : []),
	]));
	const sent = m.events.filter((e) => e.run === run.id && (q.get("metrics") === "1" || e.type !== "metric"));
	const order = (e) => e.id.split("-").map(Number);
	const all = [...past, ...sent].sort((a, b) => order(b)[0] - order(a)[0] || order(b)[1] - order(a)[1])
		.map((e) => ({ id: e.id, at: new Date(Number(e.id.split("-")[0])).toISOString(), type: e.type, run: run.id, job: e.job ?? "", data: e.data ?? null }));
	const from = q.get("cursor") ? all.findIndex((e) => e.id === q.get("cursor")) + 1 : 0;
	const limit = Number(q.get("limit") ?? 100);
	const items = all.slice(from, from + limit);
	return { items, next_cursor: from + limit < all.length ? items.at(-1).id : null };
}

function answer(m, { url, path, b, json, problem, res, req }) {
	const w = m.world;
	const seg = path.split("/").slice(1).map(decodeURIComponent);
	const q = url.searchParams;
	const newest = [...w.runs].sort((x, y) => y.created - x.created);
	const findJob = (id) => w.runs.flatMap((r) => r.jobs).find((j) => j.id === id);
	if (path === "/config/defaults") return json(200, defaults());
	if (path === "/workers") return json(200, { items: w.workers, next_cursor: null });
	if (seg[0] === "workers") {
		const one = w.workers.find((x) => x.id === seg[1]);
		one.state = seg[2] === "drain" ? "draining" : "idle";
		return json(202, { id: one.id, state: one.state });
	}
	if (path === "/users") return json(200, { items: w.users, next_cursor: null });
	if (seg[0] === "users") {
		if (req.method === "DELETE") w.users = w.users.filter((u) => u.name !== seg[1]);
		else w.users = [...w.users.filter((u) => u.name !== seg[1]), { name: seg[1], revision: String(m.seq++), role: b?.role ?? "viewer", created_at: new Date().toISOString(), changed_at: new Date().toISOString() }];
		return req.method === "DELETE" ? res.writeHead(204).end() : json(200, w.users.at(-1));
	}
	if (path === "/hooks") return json(200, { items: w.hooks, next_cursor: null });
	if (seg[0] === "hooks") return hook(w, seg, b, req, json, problem, res);
	if (path === "/audit") return json(200, page(w.audit, url, 25));
	if (path === "/store/garbage") return json(200, garbage());
	if (path === "/tokens") {
		if (req.method === "POST") w.tokens.push({ id: hex(b.name).slice(0, 4), name: b.name, role: b.role, created_at: new Date().toISOString(), expires_at: null, last_used_at: null });
		return req.method === "POST" ? json(201, { id: "new", name: b.name, role: b.role, secret: `pawl_${b.role}_${hex(b.name).slice(0, 4)}_${hex("s").slice(0, 32)}` }) : json(200, { items: w.tokens, next_cursor: null });
	}
	if (seg[0] === "tokens") {
		w.tokens = w.tokens.filter((t) => t.id !== seg[1]);
		return res.writeHead(204).end();
	}
	if (path === "/runs" && req.method === "POST") {
		const errors = check(b);
		if (errors.length) return problem(422, "The specification is not valid", `${errors.length} fields`, errors);
		const stages = [0, 1].flatMap((iter) => (iter ? ["prompts", "generate", "judge", "pair", "dpo", "eval"] : ["import", "eft", "sft", "eval"]).map((stage) => ({ iter, stage, jobs: stage === "judge" ? 12 : stage === "generate" ? 4 : 1, ...(stage === "dpo" ? { estimate: true } : {}) })));
		if (q.get("dry_run")) return json(200, { plan: { stages, total_jobs: 28 }, spec: b, errors: [] });
		const key = req.headers["idempotency-key"];
		if (!m.keys.has(key)) m.keys.set(key, "r9m4q2");
		return json(201, runJson(w.runs.find((r) => r.id === "r9m4q2"), true));
	}
	const more = answerMore(m, { seg, q, b, json, problem, res, req, findJob });
	if (more) return;
	if (path === "/runs") {
		const list = newest.filter((r) => (!q.get("starred") || r.starred) && (!q.get("tag") || q.get("tag").split(",").every((x) => (r.tags ?? []).includes(x))) && (!q.get("state") || r.state === q.get("state")) && (!q.get("q") || (r.name + r.id).includes(q.get("q"))));
		return json(200, page(list.map((r) => runJson(r)), url));
	}
	if (seg[0] === "runs") {
		const run = w.runs.find((r) => r.id === seg[1]);
		if (!run) return problem(404, "Not found", `there is no run "${seg[1]}"`);
		const part = seg[2];
		if (req.method === "PATCH") return tune(m, run, b, req, json, problem);
		if (req.method === "POST") {
			run.state = { cancel: "cancelled", pause: "paused", resume: "active", retry: "active" }[part];
			m.emit("run", run.id, "", { state: run.state });
			return json(202, runJson(run));
		}
		if (!part) return json(200, runJson(run, true));
		if (part === "jobs") return json(200, page(run.jobs.filter((j) => (!q.get("stage") || j.stage === q.get("stage")) && (!q.get("iter") || j.iter === Number(q.get("iter"))) && (!q.get("state") || j.state === q.get("state"))).map(jobJson), url, 20));
		if (part === "attempts") return json(200, { items: attemptsJson(run.jobs), next_cursor: null });
		if (part === "metrics") return json(200, seriesJson(run));
		if (part === "log" && seg[3]) return res.writeHead(200, { "Content-Type": "text/plain; charset=utf-8", "Content-Disposition": "attachment; filename=run.log" }).end(mergedLog(m, run, q).items.map((l) => l.text).join("\n"));
		if (part === "log") return json(200, mergedLog(m, run, q));
		if (part === "events") return json(200, eventPage(m, run, q));
		if (part === "reviews") return json(200, { iterations: [], summary: reviewSummary({ rows: [], reviews: [], ...run.datasets.map((d) => w.datasets.get(d.digest)).find((d) => d.reviews) }) });
		return json(200, { items: runJson(run).stages, next_cursor: null });
	}
	if (seg[0] === "jobs") {
		const j = findJob(seg[1]);
		if (!j) return problem(404, "Not found", `there is no job "${seg[1]}"`);
		if (req.method === "POST") return json(202, jobJson(j));
		if (!seg[2]) return json(200, { ...jobJson(j), waiting: waitingJson(j) });
		if (seg[2] === "metrics") return json(200, { job: j.id, stage: j.stage, items: seriesJson(w.runs.find((r) => r.id === j.run)).items.find((s) => s.job === j.id)?.points ?? [], final: j.metrics ?? {} });
		if (seg[5] === "search") return json(200, logSearch(m, j.id, url));
		if (seg[5] === "content") return res.writeHead(200, { "Content-Type": "text/plain", "Content-Disposition": "attachment; filename=job.log" }).end("log");
		if (seg[4] === "log") return log(m, j.id, url, res);
		return json(200, { items: attemptsJson([j]), next_cursor: null });
	}
	if (path === "/datasets") return json(200, page(newest.flatMap((r) => r.datasets).filter((d) => (!q.get("run") || d.run === q.get("run")) && (!q.get("stage") || d.stage === q.get("stage"))), url));
	if (seg[0] === "datasets") {
		const d = w.datasets.get(seg[1]);
		if (!d) return problem(404, "Not found", "there is no such dataset");
		if (!seg[2]) return json(200, d.meta);
		if (seg[2] === "stats") return json(200, stats(d));
		if (seg[2] === "reviews" || seg[4] === "review") return reviews(m, d, seg, req, b, res, json, problem);
		const shown = ({ n, row }) => ({ ...row, n, flags: [], row_score: null, row_margin: null, row_length: null });
		if (seg[3]) return json(200, shown({ n: Number(seg[3]), row: d.rows[Number(seg[3])] }));
		const rows = d.rows.map((row, n) => ({ n, row })).filter(rowFilter(url));
		if (seg[2] === "export") return res.writeHead(200, { "Content-Type": "application/jsonl", "Content-Disposition": "attachment; filename=rows.jsonl" }).end(rows.map((r) => JSON.stringify(r.row)).join("\n"));
		return json(200, { ...page(rows.map(shown), url), matched: rows.length, total: d.rows.length });
	}
	const checkpoints = newest.flatMap((r) => r.checkpoints);
	if (path === "/checkpoints") return json(200, page(checkpoints.filter((c) => !q.get("run") || c.run === q.get("run")), url));
	if (seg[0] === "checkpoints") {
		const c = checkpoints.find((x) => x.digest === seg[1]);
		if (!c) return problem(404, "Not found", "there is no such checkpoint");
		if (req.method === "DELETE" && c.run === "r9m4q2") return problem(409, "Needed", "run r9m4q2, which made it, is not over");
		if (req.method === "DELETE") return void ((c.given_up = true), json(202, { digest: c.digest, run: c.run, size_bytes: c.size_bytes }));
		return seg[2] ? res.writeHead(200, { "Content-Type": "application/x-tar", "Content-Disposition": "attachment; filename=model.tar" }).end("tar") : json(200, c);
	}
	if (path === "/compare") {
		const some = q.get("run").split(",").map((id) => w.runs.find((r) => r.id === id)).filter(Boolean);
		const run = some[0];
		return run ? json(200, { models: some.flatMap(modelsJson), pairs: [] }) : problem(404, "Not found", "there is no such run");
	}
	return problem(404, "Not found", path);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
	const m = await startMock({ port: Number(process.argv[2] ?? 8099) });
	console.log(`${m.url}/login?code=once`);
}
