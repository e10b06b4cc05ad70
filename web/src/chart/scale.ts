/** Axes of a chart: where a value lies between its ends, and which values get a tick. Pure. */
import { fmtCount } from "../lib/fmt";

export interface Scale { lo: number; hi: number; at: (v: number) => number; value: (share: number) => number }

export function scale(lo: number, hi: number, log = false): Scale {
	const [a, b] = log ? [Math.log10(lo), Math.log10(hi)] : [lo, hi];
	const span = b - a || 1;
	return { lo, hi, at: (v) => ((log ? Math.log10(v) : v) - a) / span, value: (share) => (log ? 10 ** (a + share * span) : a + share * span) };
}

const steps = (lo: number, hi: number, step: number): number[] => {
	const out: number[] = [];
	for (let k = Math.ceil(lo / step - 1e-9); k * step <= hi + step * 1e-9 && out.length < 50; k++) out.push(Number((k * step).toPrecision(12)));
	return out;
};

/** At most `most` round values between the ends: 1, 2 and 5 times powers of ten. */
export function ticks(lo: number, hi: number, most: number, least = 0): number[] {
	const raw = Math.max((hi - lo) / Math.max(1, most), least);
	if (!(raw > 0)) return [lo];
	const size = 10 ** Math.floor(Math.log10(raw));
	return steps(lo, hi, ([1, 2, 5].find((m) => m * size >= raw * 0.999) ?? 10) * size);
}

/** Decades, finer while there are few of them; where not even one is crossed, round values. */
export function logTicks(lo: number, hi: number, most: number): number[] {
	const decades = Math.log10(hi / lo);
	if (decades < 1) return ticks(lo, hi, most).filter((v) => v > 0);
	const every = Math.ceil(decades / most);
	const within = decades * 3 <= most ? [1, 2, 5] : [1];
	const out: number[] = [];
	for (let e = Math.floor(Math.log10(lo)); e <= Math.log10(hi); e += every)
		for (const m of within) {
			const v = Number(`${m}e${e}`);
			if (v >= lo * 0.999 && v <= hi * 1.001) out.push(v);
		}
	return out;
}

const MINUTE = 60;
const HOUR = 3600;
const TIMES = [1, 2, 5, 10, 15, 30, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, 24 * HOUR];

/** Round seconds, minutes and hours. */
export function timeTicks(lo: number, hi: number, most: number): number[] {
	const raw = (hi - lo) / Math.max(1, most);
	if (raw < 1) return ticks(lo, hi, most);
	return steps(lo, hi, TIMES.find((s) => s >= raw) ?? Math.ceil(raw / (24 * HOUR)) * 24 * HOUR);
}

/** What the x axis counts. */
export type Unit = "step" | "tokens" | "time";

export function unitTicks(unit: Unit, lo: number, hi: number, most: number): number[] {
	return unit === "time" ? timeTicks(lo, hi, most) : ticks(lo, hi, most, 1);
}

const PARTS: [string, number][] = [["d", 24 * HOUR], ["h", HOUR], ["m", MINUTE], ["s", 1]];

/** 45 s · 1 m 30 s · 2 h: what is nought is left out. */
function timeText(v: number): string {
	if (v < 1) return v ? `${yText(v)} s` : "0";
	let rest = Math.round(v);
	const said = PARTS.flatMap(([u, size]) => {
		const n = Math.floor(rest / size);
		rest -= n * size;
		return n ? [`${n} ${u}`] : [];
	});
	return said.slice(0, 2).join(" ");
}

export function unitText(unit: Unit, v: number): string {
	return unit === "time" ? timeText(v) : unit === "tokens" ? fmtCount(v).replace(".0", "") : String(Math.round(v));
}

/** A figure on the y axis in as few characters as tell it from its neighbours. */
export function yText(v: number): string {
	if (v === 0) return "0";
	if (v < 0) return "−" + yText(-v);
	const a = v;
	return a >= 1e5 || a < 1e-3 ? Number(v.toPrecision(3)).toExponential().replace("+", "") : String(Number(v.toPrecision(4)));
}
