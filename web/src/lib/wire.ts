/** Wire types → the shapes the pages draw. All tolerance for absent fields lives here. */
import { ms } from "./fmt";
import { stageWord } from "./states";
import type { ArtifactRef, Job, WireAttempt } from "./types";

export interface Attempt {
	n: number;
	job: string;
	iter: number;
	stage: string;
	shard: number;
	pass: number;
	worker: string;
	start: number;
	end: number | null;
	how: string | null;
	reason: string;
	exit: string;
	from: string;
	to: string;
	/** Units of work when it began and when it ended; null while nothing was said. */
	had: number | null;
	got: number | null;
	/** Milliseconds of it that live on, and that were lost; null while it runs. */
	useful: number | null;
	lost: number | null;
	logBytes: number;
	/** What happened to it while it ran: checkpoints kept, notices of its machine. */
	marks: { at: number; kind: string }[];
}

/** Job ids are run.iter.stage.shard.pass. */
export function splitJob(id: string): { run: string; iter: number; stage: string; shard: number; pass: number } {
	const [run = "", iter = "0", stage = "", shard = "0", pass = "0"] = id.split(".");
	return { run, iter: Number(iter), stage, shard: Number(shard), pass: Number(pass) };
}

/** What people call it: "Judge 2 pass 0, iteration 1". */
export function jobWords(id: string): string {
	const w = splitJob(id);
	return `${stageWord(w.stage)} ${w.shard}${w.stage === "judge" ? ` pass ${w.pass}` : ""}, ${w.iter ? `iteration ${w.iter}` : "seed"}`;
}

/** A reason may be a sentence or an object with one inside. */
export function sentence(x: unknown): string {
	if (x === null || x === undefined) return "";
	if (typeof x === "string") return x;
	if (typeof x === "object") {
		const o = x as Record<string, unknown>;
		for (const k of ["detail", "message", "text", "reason", "why"])
			if (typeof o[k] === "string" && o[k]) return o[k] as string;
		return Object.keys(o).length ? JSON.stringify(x) : "";
	}
	return String(x);
}

function progressText(p: unknown): string {
	if (p === null || p === undefined) return "";
	if (typeof p === "object") {
		const o = p as { done?: number; unit?: string; step?: number };
		if (typeof o.done === "number") return `${o.done}${o.unit ? " " + o.unit : ""}`;
		if (typeof o.step === "number") return `step ${o.step}`;
		return "";
	}
	return String(p);
}

function units(p: unknown): number | null {
	const v = p && typeof p === "object" ? ((p as { done?: unknown; step?: unknown }).done ?? (p as { step?: unknown }).step) : p;
	return typeof v === "number" ? v : null;
}

export function attemptOf(a: WireAttempt, job = ""): Attempt | null {
	const id = a.job ?? job;
	const where = splitJob(id);
	const start = ms(a.started_at);
	if (start === null) return null;
	const why = (a.reason && typeof a.reason === "object" ? a.reason : {}) as { exit_code?: number | null; signal?: number | string | null };
	const signal = a.signal ?? why.signal;
	const code = a.exit_code ?? why.exit_code;
	const exit = signal ? `signal ${signal}` : code ? `exit ${code}` : "";
	return {
		n: a.n,
		job: id,
		iter: a.iter ?? where.iter,
		stage: a.stage ?? where.stage,
		shard: a.shard ?? where.shard,
		pass: a.pass ?? where.pass,
		worker: a.worker ?? "",
		start,
		end: ms(a.ended_at),
		how: a.end || null,
		reason: sentence(a.reason),
		exit,
		from: progressText(a.from_progress),
		to: progressText(a.to_progress),
		had: units(a.from_progress),
		got: units(a.to_progress),
		useful: a.useful_ms ?? null,
		lost: a.lost_ms ?? null,
		logBytes: a.log_size ?? 0,
		marks: (a.marks ?? []).flatMap((m) => (ms(m.at) === null ? [] : [{ at: ms(m.at)!, kind: m.kind }])),
	};
}

export function attemptsOf(items: WireAttempt[] | undefined, job = ""): Attempt[] {
	return (items ?? []).map((a) => attemptOf(a, job)).filter((a): a is Attempt => a !== null);
}

export function refsOf(x: Job["outputs"] | Job["inputs"]): ArtifactRef[] {
	return x ?? [];
}

export interface Series {
	job: string;
	iter: number;
	stage: string;
	shard: number;
	variant: string;
	points: Record<string, [number, number][]>;
}

interface WireSeries {
	job?: string;
	id?: string;
	name?: string;
	variant?: string;
	points?: unknown[];
	metrics?: unknown[];
	items?: unknown[];
}

function addPoint(s: Series, row: Record<string, unknown>): void {
	const step = Number(row.step);
	if (!Number.isFinite(step)) return;
	for (const [k, v] of Object.entries(row))
		if (k !== "step" && typeof v === "number" && Number.isFinite(v)) (s.points[k] ??= []).push([step, v]);
}

/** Metrics of a run or a job: rows {step, loss, …} or pairs [step, value] under a name. */
export function seriesOf(body: unknown, job = ""): Series[] {
	const o = (body ?? {}) as Record<string, unknown>;
	const list = (Array.isArray(body) ? body : (o.series ?? o.jobs ?? o.items ?? [])) as WireSeries[];
	const by = new Map<string, Series>();
	const get = (id: string, variant: string): Series => {
		let s = by.get(id);
		if (!s) {
			const w = splitJob(id);
			s = { job: id, iter: w.iter, stage: w.stage, shard: w.shard, variant, points: {} };
			by.set(id, s);
		}
		return s;
	};
	for (const e of Array.isArray(list) ? list : []) {
		const id = e.job ?? e.id ?? job;
		const rows = e.points ?? e.metrics ?? e.items;
		const s = get(id, e.variant ?? "");
		if (!Array.isArray(rows)) {
			addPoint(s, e as unknown as Record<string, unknown>);
			continue;
		}
		for (const r of rows) {
			if (Array.isArray(r) && e.name) (s.points[e.name] ??= []).push([Number(r[0]), Number(r[1])]);
			else if (r && typeof r === "object") addPoint(s, r as Record<string, unknown>);
		}
	}
	for (const s of by.values()) for (const k of Object.keys(s.points)) s.points[k]!.sort((a, b) => a[0] - b[0]);
	return [...by.values()];
}
