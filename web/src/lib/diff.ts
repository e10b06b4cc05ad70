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

/** What both begin with, and end with, in words. */
function shared(x: string[], y: string[]): { head: number; tail: number } {
	const most = Math.min(x.length, y.length);
	let head = 0;
	while (head < most && x[head] === y[head]) head++;
	let tail = 0;
	while (tail < most - head && x[x.length - 1 - tail] === y[y.length - 1 - tail]) tail++;
	return { head, tail };
}

/** How long the words from i and j on are the same, at best, in any order kept. */
function common(x: string[], y: string[]): Uint16Array[] {
	const t: Uint16Array[] = Array.from({ length: x.length + 1 }, () => new Uint16Array(y.length + 1));
	for (let i = x.length - 1; i >= 0; i--)
		for (let j = y.length - 1; j >= 0; j--) t[i]![j] = x[i] === y[j] ? t[i + 1]![j + 1]! + 1 : Math.max(t[i + 1]![j]!, t[i]![j + 1]!);
	return t;
}

/**
 * Word diff of two texts by longest common subsequence; every word of both is in it. What differs beyond `bound`
 * words is told as a whole, so that long answers stay quick.
 */
export function wordDiff(a: string, b: string, bound = 1500): Word[] {
	const [all, other] = [a.split(/(\s+)/), b.split(/(\s+)/)];
	const { head, tail } = shared(all, other);
	const [p, q] = [all.slice(head, all.length - tail), other.slice(head, other.length - tail)];
	const [x, y] = [p.slice(0, bound), q.slice(0, bound)];
	const t = common(x, y);
	const out: Word[] = [];
	const put = (text: string, kind: Word["kind"]): void => {
		const last = out[out.length - 1];
		if (text === "") return;
		if (last && last.kind === kind) last.text += text;
		else out.push({ text, kind });
	};
	put(all.slice(0, head).join(""), "same");
	let i = 0;
	let j = 0;
	while (i < x.length || j < y.length) {
		if (i < x.length && j < y.length && x[i] === y[j]) {
			put(x[i]!, "same");
			i++;
			j++;
		} else if (j >= y.length || (i < x.length && t[i + 1]![j]! >= t[i]![j + 1]!)) put(x[i++]!, "del");
		else put(y[j++]!, "add");
	}
	put(p.slice(bound).join(""), "del");
	put(q.slice(bound).join(""), "add");
	put(all.slice(all.length - tail).join(""), "same");
	return out;
}
