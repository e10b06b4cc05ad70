/**
 * Timeline layout: pure, tested without a browser. Attempts → rows of bars on a time axis whose idle
 * stretches are folded, so a run that waited a night for a machine can still be read.
 */
import { stageWord, STAGES } from "../lib/states";
import type { Attempt } from "../lib/wire";

export interface Bar {
	a: Attempt;
	/** Axis positions in folded milliseconds. */
	x0: number;
	x1: number;
	running: boolean;
	/** Where the work begins that was lost with the attempt; null when none was. */
	lost: number | null;
	/** Where checkpoints were written. */
	saves: number[];
	/** Where something threatened it: notice that its machine goes, no progress. */
	warned: number[];
}

/** Stages whose result is a checkpoint. */
const TRAINS = new Set(["sft", "dpo"]);

/** As the server marked them; of attempts older than marks: a cut one kept its work up to its last, a completed training ends in one. */
function savesOf(a: Attempt): number[] {
	const out = a.marks.filter((m) => m.kind === "checkpoint").map((m) => m.at);
	if (out.length || a.end === null) return out;
	if (a.how !== "completed") return a.useful ? [a.start + a.useful] : [];
	return TRAINS.has(a.stage) ? [a.end] : [];
}

export interface Row {
	key: string;
	label: string;
	group: string;
	bars: Bar[];
}

export interface Fold {
	/** Folded position, and the true seconds hidden there. */
	at: number;
	seconds: number;
}

export interface Layout {
	rows: Row[];
	folds: Fold[];
	start: number;
	length: number;
	/** Folded position → true time. */
	timeAt: (x: number) => number;
	posOf: (t: number) => number;
}

export type Grouping = "stage" | "job" | "worker";

/** Idle is a stretch no attempt covers, longer than 8 % of the busy time and than 5 s. */
const IDLE_SHARE = 0.08;
const IDLE_LEAST_MS = 5000;
const FOLD_SHARE = 0.02;

interface Span {
	from: number;
	to: number;
	pos: number;
	scale: number;
}

function busySpans(list: Attempt[], now: number): [number, number][] {
	const sorted = list.map((a): [number, number] => [a.start, Math.max(a.start, a.end ?? now)]).sort((p, q) => p[0] - q[0]);
	const out: [number, number][] = [];
	for (const [s, e] of sorted) {
		const last = out[out.length - 1];
		if (last && s <= last[1]) last[1] = Math.max(last[1], e);
		else out.push([s, e]);
	}
	return out;
}

/** The time axis as pieces of true time laid end to end, idle pieces shrunk. */
function axis(list: Attempt[], now: number, fold: boolean): { spans: Span[]; folds: Fold[]; length: number } {
	const busy = busySpans(list, now);
	const spans: Span[] = [];
	const folds: Fold[] = [];
	const total = busy.reduce((n, [s, e]) => n + e - s, 0) || 1;
	const idleMin = Math.max(IDLE_LEAST_MS, total * IDLE_SHARE);
	let pos = 0;
	busy.forEach(([s, e], i) => {
		const before = busy[i - 1];
		if (before) {
			const gap = s - before[1];
			const shown = fold && gap > idleMin ? total * FOLD_SHARE : gap;
			if (shown !== gap) folds.push({ at: pos + shown / 2, seconds: gap / 1000 });
			spans.push({ from: before[1], to: s, pos, scale: gap ? shown / gap : 1 });
			pos += shown;
		}
		spans.push({ from: s, to: e, pos, scale: 1 });
		pos += e - s;
	});
	return { spans, folds, length: Math.max(pos, 1) };
}

export function rowKey(a: Attempt, by: Grouping): { key: string; label: string; group: string } {
	const iter = a.iter === 0 ? "Seed" : `Iteration ${a.iter}`;
	if (by === "worker") return { key: a.worker, label: a.worker || "unknown", group: "Workers" };
	if (by === "stage") return { key: `${a.iter}.${a.stage}`, label: stageWord(a.stage), group: iter };
	const parts = [stageWord(a.stage), String(a.shard)];
	if (a.stage === "judge") parts.push(`pass ${a.pass}`);
	return { key: a.job, label: parts.join(" "), group: iter };
}

/** As planned, whatever ran first: one that is done again stays in its place. Workers as they came. */
function inOrder(rows: Row[], by: Grouping): Row[] {
	if (by === "worker") return rows;
	const at = (r: Row): number[] => {
		const a = r.bars[0]!.a;
		return [a.iter, STAGES.indexOf(a.stage), a.shard, a.pass];
	};
	return rows.map((r) => [r, at(r)] as const).sort(([, p], [, q]) => p.map((v, i) => v - q[i]!).find((d) => d) ?? 0).map(([r]) => r);
}

export function layout(list: Attempt[], by: Grouping, now: number, fold: boolean): Layout {
	const sorted = [...list].sort((p, q) => p.start - q.start || p.n - q.n);
	const { spans, folds, length } = axis(sorted, now, fold);
	const posOf = (t: number): number => {
		for (const s of spans) if (t <= s.to) return s.pos + Math.max(0, t - s.from) * s.scale;
		return length;
	};
	const timeAt = (x: number): number => {
		for (const s of spans) {
			const wide = (s.to - s.from) * s.scale;
			if (x <= s.pos + wide) return s.from + (s.scale ? (x - s.pos) / s.scale : 0);
		}
		return spans.length ? spans[spans.length - 1]!.to : now;
	};
	const rows = new Map<string, Row>();
	for (const a of sorted) {
		const k = rowKey(a, by);
		let row = rows.get(k.key);
		if (!row) {
			row = { ...k, bars: [] };
			rows.set(k.key, row);
		}
		row.bars.push({ a, x0: posOf(a.start), x1: posOf(a.end ?? now), running: a.end === null, lost: a.lost && a.useful !== null ? posOf(a.start + a.useful) : null, saves: savesOf(a).map(posOf), warned: a.marks.filter((m) => m.kind === "notice" || m.kind === "stuck").map((m) => posOf(m.at)) });
	}
	return { rows: inOrder([...rows.values()], by), folds, start: sorted[0]?.start ?? now, length, timeAt, posOf };
}

const SLOW = 2;
const SLOW_LEAST = 5;

/** Every attempt of the jobs that were cut short or failed, or took twice what is usual in their stage. */
export function troubled(list: Attempt[], now: number): Attempt[] {
	const took = (a: Attempt): number => (a.end ?? now) - a.start;
	const usual = new Map<string, number>();
	for (const stage of new Set(list.map((a) => a.stage))) {
		const all = list.filter((a) => a.stage === stage && a.how === "completed").map(took).sort((a, b) => a - b);
		if (all.length >= SLOW_LEAST) usual.set(stage, all[all.length >> 1]!);
	}
	const odd = new Set(list.filter((a) => a.how === "failed" || a.how === "preempted" || a.how === "lease_lost" || took(a) > SLOW * (usual.get(a.stage) ?? Infinity)).map((a) => a.job));
	return list.filter((a) => odd.has(a.job));
}

/** Round time steps for about `want` ticks over `length` ms. */
export function tickStep(length: number, want: number): number {
	const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800];
	const need = length / 1000 / Math.max(1, want);
	return (steps.find((s) => s >= need) ?? 604800) * 1000;
}

/** Bars of one row that would overlap get lanes; returns lane numbers and how many there are. */
export function lanes(bars: Bar[]): { lane: number[]; n: number } {
	const ends: number[] = [];
	const lane = bars.map((b) => {
		let i = ends.findIndex((e) => e <= b.x0);
		if (i < 0) i = ends.length;
		ends[i] = b.x1;
		return i;
	});
	return { lane, n: Math.max(1, ends.length) };
}
