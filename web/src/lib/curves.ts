/** Curves of a training: shards joined, figures over steps, tokens or time, points that come live. Pure. */
import type { Unit } from "../chart/scale";
import { splitJob, type Series } from "./wire";

/** What the x axis may count, and the running total that tells it; steps need none. */
export const UNITS: [Unit, string, string][] = [["step", "steps", ""], ["tokens", "tokens", "total/tokens"], ["time", "time", "total/seconds"]];

/** What an event calls the part of a total that its step took. */
const STEP_TOOK: Record<string, string> = { "total/tokens": "num_tokens", "total/seconds": "seconds" };

/** A figure over steps, or over the total of its training at that step. */
export function over(s: Series, key: string, unit: Unit): [number, number][] {
	const points = s.points[key] ?? [];
	const total = UNITS.find(([u]) => u === unit)![2];
	if (!total) return points;
	const at = new Map(s.points[total]);
	return points.flatMap(([step, y]): [number, number][] => (at.has(step) ? [[at.get(step)!, y]] : []));
}

/** The shards of one training are one curve: iteration t's DPO, or one SFT variant. Totals go on from shard to shard. */
export function curves(series: Series[], stage: string): Map<string, Series> {
	const out = new Map<string, Series>();
	for (const s of [...series].sort((a, b) => a.shard - b.shard)) {
		if (s.stage !== stage) continue;
		const name = stage === "sft" ? (s.variant || (s.shard === 0 ? "baseline" : "M1")).replace("m1", "M1") : `M${s.iter + 1}`;
		const have = out.get(name);
		if (!have) {
			out.set(name, { ...s, points: Object.fromEntries(Object.entries(s.points).map(([k, v]) => [k, [...v]])) });
			continue;
		}
		for (const [k, v] of Object.entries(s.points)) {
			const to = (have.points[k] ??= []);
			const before = k.startsWith("total/") ? (to.at(-1)?.[1] ?? 0) : 0;
			to.push(...v.map(([x, y]): [number, number] => [x, y + before]));
		}
	}
	for (const s of out.values()) for (const k of Object.keys(s.points)) s.points[k]!.sort((a, b) => a[0] - b[0]);
	return out;
}

/** Adds a metric event to the series it belongs to, unless the step is already there. */
export function appendPoint(series: Series[], job: string, row: Record<string, unknown>): Series[] {
	const step = Number(row.step);
	if (!Number.isFinite(step)) return series;
	const w = splitJob(job);
	const at = series.findIndex((s) => s.job === job);
	const s: Series = at >= 0 ? { ...series[at]!, points: { ...series[at]!.points } } : { job, iter: w.iter, stage: w.stage, shard: w.shard, variant: "", points: {} };
	// An event tells what the step took; the totals are ours to carry on.
	const sums: [string, unknown][] = UNITS.flatMap(([, , k]) => (k && typeof row[STEP_TOOK[k]!] === "number" ? [[k, (s.points[k]?.at(-1)?.[1] ?? 0) + (row[STEP_TOOK[k]!] as number)]] : []));
	for (const [k, v] of [...Object.entries(row), ...sums]) {
		if (k === "step" || typeof v !== "number") continue;
		const have = s.points[k] ?? [];
		if (have.length && have[have.length - 1]![0] >= step) continue;
		s.points[k] = [...have, [step, v]];
	}
	return at >= 0 ? series.map((x, i) => (i === at ? s : x)) : [...series, s];
}
