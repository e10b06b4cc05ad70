/** Intervals and the length warning; pure. */
import type { ModelInfo } from "./types";

/** 95 % Wilson interval of k successes among n; ties count half. */
export function wilson(k: number, n: number): [number, number] {
	if (n <= 0) return [0, 1];
	const z = 1.959964;
	const p = k / n;
	const d = 1 + (z * z) / n;
	const mid = (p + (z * z) / (2 * n)) / d;
	const half = (z / d) * Math.sqrt((p * (1 - p)) / n + (z * z) / (4 * n * n));
	return [Math.max(0, mid - half), Math.min(1, mid + half)];
}

const GROWN = 0.15;

interface PairLike { a: string; b: string; win: number; tie: number; loss: number; n: number }

function lengthOf(models: ModelInfo[], name: string): number | null {
	const m = models.find((x) => x.name === name)?.metrics ?? {};
	for (const k of ["length.sampled", "length.greedy"]) if (typeof m[k] === "number") return m[k] as number;
	return null;
}

/** How much longer a's answers are than b's, as a share; null when one of them is not known. */
export function grown(models: ModelInfo[], a: string, b: string): number | null {
	const [x, y] = [lengthOf(models, a), lengthOf(models, b)];
	return x === null || y === null || y <= 0 ? null : x / y - 1;
}

/** A longer answer often wins because it is longer: say so when both grew. */
export function movedTogether(models: ModelInfo[], pairs: PairLike[]): string[] {
	return pairs.flatMap((p) => {
		const n = p.n || p.win + p.tie + p.loss;
		const grew = grown(models, p.a, p.b);
		if (!n || grew === null) return [];
		const rate = (p.win + p.tie / 2) / n;
		if (rate <= 0.5 || grew <= GROWN) return [];
		return [`Win rate and length moved together: ${p.a} wins ${(100 * rate).toFixed(0)} % against ${p.b}, and its answers are ${(100 * grew).toFixed(0)} % longer (${Math.round(lengthOf(models, p.a)!)} against ${Math.round(lengthOf(models, p.b)!)} tokens). Judges prefer length; read samples before trusting the gain.`];
	});
}
