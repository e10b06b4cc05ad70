/**
 * When a run will end. The rate counts finished stages' own seconds and the running stage's units
 * since its start, with the gaps preemption left in it; work not yet started is taken from the same
 * stage of an earlier iteration. What cannot be known is said to be unknown.
 */
import { fmtClock, fmtDuration, fmtTime, ms } from "./fmt";
import type { Run, StageInfo } from "./types";
import { runEnded } from "./states";

export interface Eta {
	seconds: number | null;
	at: number | null;
	why: string;
}

export function jobsIn(s: StageInfo): number {
	return Object.values(s.counts ?? {}).reduce((n, v) => n + v, 0);
}

/** Share of a stage that is done. Units are known of started jobs only, the others count as nothing yet. */
export function stageShare(s: StageInfo): number {
	if (s.state === "done" || s.state === "skipped") return 1;
	const n = Math.max(s.planned ?? 0, jobsIn(s));
	if (!n) return 0;
	const c = s.counts ?? {};
	const done = c.done ?? 0;
	const started = done + (c.running ?? 0);
	if (!s.total_units || !started) return done / n;
	return Math.max(done / n, ((s.done_units ?? 0) / s.total_units) * (started / n));
}

export function eta(run: Run, now: number): Eta {
	if (runEnded(run.state)) return { seconds: 0, at: ms(run.ended_at), why: "ended" };
	if (run.state === "paused") return { seconds: null, at: null, why: "paused" };
	const stages = run.stages ?? [];
	const whole = new Map<string, number>();
	for (const s of stages) if (s.state === "done" && s.seconds && s.iter > 0) whole.set(s.stage, s.seconds);
	let left = 0;
	for (let t = 1; t <= run.iterations; t++)
		for (const stage of ["prompts", "generate", "judge", "pair", "dpo", "eval"]) {
			const s = stages.find((x) => x.iter === t && x.stage === stage);
			if (s && (s.state === "done" || s.state === "skipped")) continue;
			const done = s ? stageShare(s) : 0;
			if (s && s.seconds && done > 0.02) left += (s.seconds * (1 - done)) / done;
			else if (whole.has(stage)) left += whole.get(stage)!;
			else return { seconds: null, at: null, why: "end not known yet" };
		}
	return { seconds: left, at: now + left * 1000, why: "" };
}

export function etaText(e: Eta): string {
	if (e.why === "ended") return "";
	if (e.seconds === null || e.at === null) return e.why;
	const day = 86_400_000;
	const near = e.seconds < day / 2000;
	return `about ${fmtDuration(e.seconds)} left, ${near ? fmtClock(e.at, false) : fmtTime(e.at).slice(0, 16)}`;
}
