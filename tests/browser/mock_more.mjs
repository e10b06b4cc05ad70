// More of the mock: many at once as operations, notices, saved filters, quotas.

/** Ids that the list of runs, or of a run's jobs, would show with this filter. */
function picked(m, kind, f) {
	if (kind === "jobs") return m.world.runs.find((r) => r.id === f.run).jobs.filter((j) => (!f.state || j.state === f.state) && (!f.stage || j.stage === f.stage)).map((j) => j.id);
	return m.world.runs.filter((r) => (!f.state || f.state.split(",").includes(r.state)) && (!f.q || (r.name + r.id).includes(f.q)) && (!f.starred || r.starred) && (!f.tag || f.tag.split(",").every((t) => (r.tags ?? []).includes(t)))).map((r) => r.id);
}

/** One decision; a job that has ended refuses, as the server's does. */
function decideOne(m, kind, b, id, result, findJob) {
	const x = kind === "runs" ? m.world.runs.find((r) => r.id === id) : findJob(id);
	if (b.action === "cancel" && x.state === "done") {
		result.failed++;
		return result.failures.push({ id, detail: "it has ended" });
	}
	if (b.action === "tag") x.tags = [...new Set([...(x.tags ?? []).filter((t) => !(b.remove ?? []).includes(t)), ...(b.add ?? [])])];
	else if (kind === "runs") x.state = { cancel: "cancelled", pause: "paused", drain: "draining", resume: "active", retry: "active" }[b.action];
	else if (b.action === "priority") x.priority = b.priority;
	else x.state = { cancel: "cancelled", retry: "ready", invalidate: "ready" }[b.action];
	return result.done++;
}

function bulk(m, kind, b, { json, res, req, findJob }) {
	const ids = b.ids ?? picked(m, kind, b.filter);
	const result = { dry_run: !!b.dry_run, matched: ids.length, done: 0, failed: 0, failures: [] };
	if (b.dry_run) return json(200, result);
	m.bulks.push({ kind, ...b });
	if (!/respond-async/.test(req.headers.prefer ?? "")) {
		for (const id of ids) decideOne(m, kind, b, id, result, findJob);
		return json(200, result);
	}
	const now = new Date().toISOString();
	const op = { id: (m.operations.length + 1).toString(16).padStart(13, "0") + "-ab", kind: `bulk.${kind}`, state: "queued", by: "ada", done: 0, total: ids.length, result: null, error: null, created_at: now, started_at: null, ended_at: null };
	m.operations.unshift(Object.defineProperty(op, "step", { enumerable: false, value: () => {
		if (op.state === "queued") Object.assign(op, { state: "running", started_at: now });
		const upTo = Math.min(ids.length, op.done + (m.opSteps && Math.max(1, Math.ceil(ids.length / m.opSteps))));
		for (; op.done < upTo; op.done++) decideOne(m, kind, b, ids[op.done], result, findJob);
		op.result = { ...result };
		if (op.done === ids.length) Object.assign(op, { state: "done", ended_at: new Date().toISOString() });
	} }));
	res.setHeader("Location", `/api/v1/operations/${op.id}`);
	return json(202, op);
}

function operations(m, seg, req, json, problem) {
	if (!seg[1]) return json(200, { items: m.operations, next_cursor: null });
	const op = m.operations.find((o) => o.id === seg[1]);
	if (!op) return problem(404, "Not found", "no operation");
	if (seg[2] === "cancel") {
		Object.assign(op, { state: "cancelled", ended_at: new Date().toISOString() });
		return json(202, op);
	}
	if (op.state === "queued" || op.state === "running") op.step();
	return json(200, op);
}

function filters(w, seg, q, b, req, json, problem, res) {
	if (!seg[1]) return json(200, { items: w.filters.filter((f) => !q.get("page") || f.page === q.get("page")), next_cursor: null });
	const there = w.filters.find((f) => f.name === seg[1]);
	if (req.method === "DELETE" && !there) return problem(404, "Not found", "no such filter");
	w.filters = w.filters.filter((f) => f !== there);
	if (req.method === "DELETE") return res.writeHead(204).end();
	const f = { name: seg[1], page: b.page, query: b.query, changed_at: new Date().toISOString() };
	w.filters = [...w.filters, f].sort((x, y) => x.name.localeCompare(y.name));
	return json(there ? 200 : 201, f);
}

function quota(w, seg, b, req, json, problem) {
	const there = w.quotas.find((x) => x.owner === seg[1]);
	if (there && !req.headers["if-match"]) return problem(428, "If-Match is missing", "send the ETag of what you read");
	const next = { used_runs: 0, used_running: 0, used_gpu_hours: 0, ...there, ...b, owner: seg[1], revision: String(Number(there?.revision ?? 0) + 1) };
	w.quotas = [...w.quotas.filter((x) => x !== there), next];
	return json(200, next);
}

function notices(w, q, json) {
	const limit = Number(q.get("limit") ?? 100);
	const from = Number(q.get("cursor") ?? 0);
	return json(200, { items: w.notices.slice(from, from + limit), next_cursor: from + limit < w.notices.length ? String(from + limit) : null });
}

/** True when it was one of these. */
export function answerMore(m, c) {
	const { seg, q, b, json, problem, res, req } = c;
	const w = m.world;
	if (seg[1] === "bulk") bulk(m, seg[0], b, c);
	else if (seg[0] === "operations") operations(m, seg, req, json, problem);
	else if (seg[0] === "filters") filters(w, seg, q, b, req, json, problem, res);
	else if (seg[0] === "notices") notices(w, q, json);
	else if (seg[0] === "quotas" && seg[1]) quota(w, seg, b, req, json, problem);
	else if (seg[0] === "quotas") json(200, { items: w.quotas, next_cursor: null });
	else return false;
	return true;
}
