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
	const raw = pick([stats, m, m?.meta], ["histogram", "score_histogram", "score_hist", "hist", "scores"]);
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
export function health(meta: Dataset | undefined, stats: Obj | undefined, rows: Row[]): [string, string, boolean][] {
	const m = meta as (Dataset & Obj) | undefined;
	const sources = [stats, stats?.health as Obj | undefined, m?.counters as Obj | undefined, m?.meta];
	const judged = rows.flatMap((r) => r.view.cards.flatMap((c) => c.judgements));
	const cards = rows.flatMap((r) => r.view.cards);
	if (!judged.length && !cards.some((c) => c.score !== null)) return [];
	const ratio = (names: string[], have: number, of: number): number | null => {
		const v = pick(sources, names);
		return typeof v === "number" ? (v > 1 && m?.rows ? v / m.rows : v) : of ? have / of : null;
	};
	const out: [string, string, boolean][] = [];
	const put = (name: string, v: number | null, odd: number): void => {
		if (v !== null) out.push([name, fmtPct(v), v > odd]);
	};
	if (judged.length) put("parse failures", ratio(["parse_fail_rate", "judge.parse_fail", "parse_fail"], judged.filter((j) => j.score === null).length, judged.length), 0.1);
	const samples = rows.filter((r) => r.view.cards.length > 1 && !r.view.cards[0]!.note);
	if (samples.some((r) => r.view.drop !== null || r.view.margin !== null)) {
		put("ties", ratio(["tie_rate", "pair.tie_rate"], samples.filter((r) => r.view.drop === "tie").length, samples.length), 0.4);
		put("made a pair", ratio(["kept_rate"], samples.filter((r) => r.view.margin !== null).length, samples.length), 2);
	}
	if (cards.some((c) => c.finish)) put("truncated", ratio(["truncated_rate"], cards.filter((c) => c.finish === "length").length, cards.length), 0.2);
	const sds = cards.filter((c) => c.judgements.length > 1).map((c) => {
		const s = c.judgements.map((j) => j.score).filter((x): x is number => x !== null);
		const mean = s.reduce((a, b) => a + b, 0) / (s.length || 1);
		return Math.sqrt(s.reduce((a, b) => a + (b - mean) ** 2, 0) / (s.length || 1));
	});
	const sd = pick(sources, ["judge_sd"]);
	if (typeof sd === "number" || sds.length) out.push(["judge spread (SD)", (typeof sd === "number" ? sd : sds.reduce((a, b) => a + b, 0) / sds.length).toFixed(2), false]);
	const deltas = rows.map((r) => [r.view.cards.find((c) => c.mark === "chosen")?.tokens, r.view.cards.find((c) => c.mark === "rejected")?.tokens]).filter((p): p is [number, number] => typeof p[0] === "number" && typeof p[1] === "number").map(([a, b]) => a - b);
	const d = median(deltas);
	if (d !== null) out.push(["chosen − rejected length", `${d > 0 ? "+" : ""}${d} tokens`, Math.abs(d) > 50]);
	return out;
}
