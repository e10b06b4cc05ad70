/** Health of judged data: from the server's counters when it sent them, else from the rows loaded. */
import { binsOf, type Bin } from "../chart/hist";
import { fmtPct } from "./fmt";
import type { Dataset } from "./types";
import type { Row } from "./sample";

type Obj = Record<string, unknown>;

function pick(objs: (Obj | undefined)[], names: string[]): unknown {
	for (const o of objs)
		for (const n of names) if (o && o[n] !== undefined && o[n] !== null) return o[n];
	return undefined;
}

function scores(rows: Row[]): number[] {
	return rows.flatMap((r) => r.view.cards.map((c) => c.score)).filter((s): s is number => s !== null);
}

/** The histogram the server counted, else one of the rows at hand in steps of a third. */
export function scoreBins(meta: Dataset | undefined, stats: Obj | undefined, rows: Row[]): Bin[] {
	const m = meta as (Dataset & Obj) | undefined;
	const raw = pick([stats, m, m?.meta], ["histogram", "score_histogram", "score_hist", "hist", "hist_after", "scores"]);
	const given = binsOf(raw && typeof raw === "object" && !Array.isArray(raw) && Array.isArray((raw as Obj).bins) ? (raw as Obj).bins : raw);
	if (given.some((b) => b.n > 0)) return given;
	const s = scores(rows);
	if (!s.length) return [];
	const step = s.every(Number.isInteger) ? 1 : 1 / 3;
	const count = new Map<number, number>();
	for (const x of s) {
		const k = Math.round(x / step);
		count.set(k, (count.get(k) ?? 0) + 1);
	}
	const keys = [...count.keys()];
	const out: Bin[] = [];
	for (let k = Math.min(0, ...keys); k <= Math.max(...keys); k++) out.push({ lo: k * step, hi: k * step, label: String(Number((k * step).toFixed(2))), n: count.get(k) ?? 0 });
	return out;
}

const median = (v: number[]): number | null => {
	if (!v.length) return null;
	const s = [...v].sort((a, b) => a - b);
	return s[Math.floor(s.length / 2)]!;
};

/** [name, text, odd]: odd facts are marked, they deserve a look. */
export type Fact = [string, string, boolean];

/** Facts counted by the server over every row. */
function counted(stats: Obj | undefined): Fact[] {
	const flags = (stats?.flags ?? {}) as Record<string, number>;
	const n = typeof stats?.rows === "number" ? stats.rows : 0;
	if (!n) return [];
	const out: Fact[] = [];
	const put = (flag: string, name: string, odd: number): void => {
		if (typeof flags[flag] === "number") out.push([name, fmtPct(flags[flag] / n), flags[flag] / n > odd]);
	};
	put("chosen", "made a pair", 2);
	put("tie", "ties", 0.4);
	put("parse_fail", "parse failures", 0.1);
	put("unjudged", "unjudged", 0.1);
	put("truncated", "cut off", 0.2);
	put("duplicate", "duplicates", 0.1);
	return out;
}

function spread(rows: Row[]): number | null {
	const sds = rows.flatMap((r) => r.view.cards).filter((c) => c.judgements.length > 1).map((c) => {
		const s = c.judgements.map((j) => j.score).filter((x): x is number => x !== null);
		const mean = s.reduce((a, b) => a + b, 0) / (s.length || 1);
		return Math.sqrt(s.reduce((a, b) => a + (b - mean) ** 2, 0) / (s.length || 1));
	});
	return sds.length ? sds.reduce((a, b) => a + b, 0) / sds.length : null;
}

function lengthGap(rows: Row[]): number | null {
	const len = (r: Row, mark: string): number | null => r.view.cards.find((c) => c.mark === mark)?.tokens ?? null;
	const gaps = rows.map((r) => [len(r, "chosen"), len(r, "rejected")]).filter((p): p is [number, number] => p[0] !== null && p[1] !== null).map(([a, b]) => a - b);
	return median(gaps);
}

/** The same facts from the rows at hand, when the server counted none. */
function fromRows(rows: Row[]): Fact[] {
	const cards = rows.flatMap((r) => r.view.cards);
	const judged = cards.flatMap((c) => c.judgements);
	const out: Fact[] = [];
	const put = (name: string, have: number, of: number, odd: number): void => {
		if (of) out.push([name, fmtPct(have / of), have / of > odd]);
	};
	const paired = rows.filter((r) => r.view.drop !== null || r.view.margin !== null);
	put("made a pair", paired.filter((r) => r.view.margin !== null).length, paired.length, 2);
	put("ties", paired.filter((r) => r.view.drop === "tie").length, paired.length, 0.4);
	put("parse failures", judged.filter((j) => j.score === null).length, judged.length, 0.1);
	put("answers cut off", cards.filter((c) => c.finish === "length").length, cards.filter((c) => c.finish).length, 0.2);
	return out;
}

export function health(stats: Obj | undefined, rows: Row[]): Fact[] {
	const judged = rows.some((r) => r.view.cards.some((c) => c.judgements.length > 0 || c.mark));
	if (!judged) return [];
	const given = counted(stats);
	const out = given.length ? given : fromRows(rows);
	const several = rows.filter((r) => r.view.cards.filter((c) => c.score !== null).length > 1);
	const flat = several.filter((r) => new Set(r.view.cards.map((c) => c.score)).size === 1).length;
	if (several.length) out.push(["all answers scored alike", fmtPct(flat / several.length), flat / several.length > 0.2]);
	const sd = spread(rows);
	if (sd !== null) out.push(["judge spread (SD)", sd.toFixed(2), false]);
	const d = lengthGap(rows);
	if (d !== null) out.push(["chosen − rejected length", `${d > 0 ? "+" : d < 0 ? "−" : ""}${Math.abs(d)} tokens`, Math.abs(d) > 50]);
	return out;
}

/** Length and score of every judged text (or a sample of them), as the server counted. */
export function pointsOf(stats: Obj | undefined): { x: number; y: number }[] {
	const list = Array.isArray(stats?.points) ? (stats.points as unknown[]) : [];
	return list.filter((p): p is [number, number] => Array.isArray(p) && typeof p[0] === "number" && typeof p[1] === "number").map(([x, y]) => ({ x, y }));
}
