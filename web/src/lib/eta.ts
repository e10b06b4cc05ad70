/**
 * When a run will end. The rate of a running stage is what its attempts made themselves and kept,
 * over wall time with the gaps preemption left in it; units inherited from a checkpoint are never
 * credited to the attempt that inherited them. Stages not begun take as long as in the last
 * iteration. The range is that of the slow and the quick tenth of five-minute rates. What cannot be
 * known is said to be unknown.
 */
import { fmtClock, fmtDuration, fmtTime, ms } from "./fmt";
import type { Run, StageInfo } from "./types";
import { runEnded, stageWord } from "./states";
import type { Attempt } from "./wire";

export interface Span { low: number; mid: number; high: number }

export interface Eta {
	seconds: number | null;
	at: number | null;
	why: string;
	/** The range, where attempts told one. */
	span?: Span;
	/** What is known while the whole is not: the stage at work and when it will be done. */
	stage?: { name: string; span: Span };
}

const BIN_MS = 300_000;
const BINS_LEAST = 6;
const WINDOW_MS = 1_800_000;
const UNITS_LEAST = 20;
const CHAIN = ["prompts", "generate", "judge", "pair", "dpo", "eval"];

export function jobsIn(s: StageInfo): number {
	return Object.values(s.counts ?? {}).reduce((n, v) => n + v, 0);
}

const stageDone = (s: StageInfo): boolean => s.state === "done" || s.state === "skipped";

/** Share of a stage that is done. Units are known of started jobs only, the others count as nothing yet. */
export function stageShare(s: StageInfo): number {
	if (stageDone(s)) return 1;
	const n = Math.max(s.planned ?? 0, jobsIn(s));
	if (!n) return 0;
	const c = s.counts ?? {};
	const done = c.done ?? 0;
	const started = done + (c.running ?? 0);
	if (!s.total_units || !started) return done / n;
	return Math.max(done / n, ((s.done_units ?? 0) / s.total_units) * (started / n));
}

/** Units an ended attempt made itself and that live on. */
export function kept(a: Attempt): number {
	const made = Math.max(0, (a.got ?? 0) - (a.had ?? 0));
	const all = (a.useful ?? 0) + (a.lost ?? 0);
	if (a.how === "completed") return made;
	return all > 0 ? (made * (a.useful ?? 0)) / all : 0;
}

function quantile(sorted: number[], q: number): number {
	return sorted[Math.min(sorted.length - 1, Math.max(0, Math.round(q * (sorted.length - 1))))]!;
}

/** Seconds a begun stage still needs, from the work its attempts kept; null when none did yet. */
export function stageSpan(s: StageInfo, attempts: Attempt[], now: number): Span | null {
	const mine = attempts.filter((a) => a.iter === s.iter && a.stage === s.stage);
	const n = Math.max(s.planned ?? 0, jobsIn(s));
	const begun = (s.counts?.done ?? 0) + (s.counts?.running ?? 0);
	if (!mine.length || !s.total_units || !begun) return null;
	const left = (s.total_units / begun) * n - (s.done_units ?? 0);
	const open = mine.filter((a) => a.end === null);
	const ended = mine.map((a) => (a.end === null ? 0 : kept(a)));
	const hand = Math.max(0, (s.done_units ?? 0) - ended.reduce((x, y) => x + y, 0));
	const openMs = open.reduce((t, a) => t + Math.max(1, now - a.start), 0);
	const parts = mine.map((a, i) => ({ from: a.start, to: a.end ?? now, units: a.end === null ? (hand * Math.max(1, now - a.start)) / openMs : ended[i]! }));
	const within = (lo: number, hi: number): number =>
		parts.reduce((t, p) => t + p.units * Math.max(0, Math.min(p.to, hi) - Math.max(p.from, lo)) / Math.max(1, p.to - p.from), 0);
	const first = Math.min(...mine.map((a) => a.start));
	let from = Math.max(first, now - WINDOW_MS);
	if (within(from, now) < UNITS_LEAST) from = first;
	const wall = Math.max(1, now - from);
	const rate = within(from, now) / wall;
	if (!(rate > 0)) return null;
	const bins = Math.max(BINS_LEAST, Math.ceil(wall / BIN_MS));
	const rates = Array.from({ length: bins }, (_, i) => within(from + (wall * i) / bins, from + (wall * (i + 1)) / bins) / (wall / bins)).sort((a, b) => a - b);
	const slow = Math.max(Math.min(quantile(rates, 0.1), rate), rate / 4);
	const quick = Math.max(quantile(rates, 0.9), rate);
	const seconds = (r: number): number => Math.max(0, left) / r / 1000;
	return { low: seconds(quick), mid: seconds(rate), high: seconds(slow) };
}

/** What the same stage took in an earlier iteration: at best without its gaps, else with them. */
function earlier(stage: string, run: Run, attempts: Attempt[]): Span | null {
	const done = (run.stages ?? []).filter((s) => s.stage === stage && s.iter > 0 && stageDone(s)).sort((a, b) => b.iter - a.iter)[0];
	if (!done) return null;
	const spans = attempts.filter((a) => a.iter === done.iter && a.stage === stage && a.end !== null).map((a): [number, number] => [a.start, a.end!]).sort((a, b) => a[0] - b[0]);
	if (!spans.length) return done.seconds ? { low: done.seconds, mid: done.seconds, high: done.seconds } : null;
	let busy = 0;
	let till = -Infinity;
	for (const [a, b] of spans) {
		busy += Math.max(0, b - Math.max(a, till));
		till = Math.max(till, b);
	}
	const wall = (till - spans[0]![0]) / 1000;
	return { low: busy / 1000, mid: wall, high: wall };
}

function rest(s: StageInfo, attempts: Attempt[], now: number): Span | null {
	const known = stageSpan(s, attempts, now);
	if (known) return known;
	const done = stageShare(s);
	if (!s.seconds || done <= 0.02) return null;
	const t = (s.seconds * (1 - done)) / done;
	return { low: t, mid: t, high: t };
}

/** `alive`: workers that can take jobs, when it is known. */
export function eta(run: Run, now: number, attempts: Attempt[] = [], alive?: number): Eta {
	const unknown = (why: string, stage?: Eta["stage"]): Eta => ({ seconds: null, at: null, why, ...(stage ? { stage } : {}) });
	if (runEnded(run.state)) return { seconds: 0, at: ms(run.ended_at), why: "ended" };
	if (run.state === "paused") return unknown("paused");
	if (alive === 0) return unknown("no worker is connected");
	const sum: Span = { low: 0, mid: 0, high: 0 };
	let current: Eta["stage"];
	let whole = true;
	for (let t = 1; t <= run.iterations; t++)
		for (const stage of CHAIN) {
			const s = (run.stages ?? []).find((x) => x.iter === t && x.stage === stage);
			if (s && stageDone(s)) continue;
			const mine = s ? rest(s, attempts, now) : null;
			if (mine && !current) current = { name: stageWord(stage), span: mine };
			const span = mine ?? earlier(stage, run, attempts);
			if (!span) whole = false;
			else for (const k of ["low", "mid", "high"] as const) sum[k] += span[k];
		}
	if (!whole) return unknown("end not known yet", current);
	return { seconds: sum.mid, at: now + sum.mid * 1000, why: "", span: sum };
}

/** A clock for today and tomorrow, a date beyond. */
export function whenText(at: number, seconds: number): string {
	return seconds < 43_200 ? fmtClock(at, false) : fmtTime(at).slice(0, 16);
}

export function etaText(e: Eta): string {
	if (e.why === "ended") return "";
	if (e.seconds === null || e.at === null) return e.why;
	return `about ${fmtDuration(e.seconds)} left, ${whenText(e.at, e.seconds)}`;
}
