/** Flattened settings and their differences; pure. */
import type { Json } from "./types";

export function show(v: unknown): string {
	if (typeof v === "string") return v === "" ? "“”" : v;
	return JSON.stringify(v) ?? "";
}

/** Nested objects → dotted keys; arrays stay whole, they are one value to a reader. */
export function flatten(x: Json, prefix = ""): [string, string][] {
	if (x === null || typeof x !== "object" || Array.isArray(x)) return [[prefix, show(x)]];
	return Object.entries(x).flatMap(([k, v]) => flatten(v, prefix ? `${prefix}.${k}` : k));
}

/** Keys whose values are not all the same, with the value of each side. */
export function differing(sides: Json[]): [string, (string | null)[]][] {
	const maps = sides.map((s) => new Map(flatten(s)));
	const keys = [...new Set(maps.flatMap((m) => [...m.keys()]))].sort();
	return keys
		.map((k): [string, (string | null)[]] => [k, maps.map((m) => m.get(k) ?? null)])
		.filter(([, vs]) => vs.some((v) => v !== vs[0]));
}

export type Word = { text: string; kind: "same" | "add" | "del" };

/** Word diff of two texts by longest common subsequence, bounded so that long answers stay quick. */
export function wordDiff(a: string, b: string, bound = 600): Word[] {
	const x = a.split(/(\s+)/).slice(0, bound);
	const y = b.split(/(\s+)/).slice(0, bound);
	const n = x.length;
	const m = y.length;
	const t: Uint16Array[] = Array.from({ length: n + 1 }, () => new Uint16Array(m + 1));
	for (let i = n - 1; i >= 0; i--)
		for (let j = m - 1; j >= 0; j--) t[i]![j] = x[i] === y[j] ? t[i + 1]![j + 1]! + 1 : Math.max(t[i + 1]![j]!, t[i]![j + 1]!);
	const out: Word[] = [];
	const put = (text: string, kind: Word["kind"]): void => {
		const last = out[out.length - 1];
		if (last && last.kind === kind) last.text += text;
		else out.push({ text, kind });
	};
	let i = 0;
	let j = 0;
	while (i < n || j < m) {
		if (i < n && j < m && x[i] === y[j]) {
			put(x[i]!, "same");
			i++;
			j++;
		} else if (j >= m || (i < n && t[i + 1]![j]! >= t[i]![j + 1]!)) put(x[i++]!, "del");
		else put(y[j++]!, "add");
	}
	return out;
}
