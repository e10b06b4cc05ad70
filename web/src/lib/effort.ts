/** What a model took to make, from the stages of its run. Pure. */
import type { ModelInfo, Run } from "./types";

/** Null for a model whose iteration made another one after it, or whose run tells no seconds. */
export function effort(run: Run | undefined, m: ModelInfo, all: ModelInfo[]): { seconds: number; cost: number | null } | null {
	const last = [...all].reverse().find((x) => x.run === m.run && x.iter === m.iter);
	if (!run || last?.name !== m.name) return null;
	const seconds = (run.stages ?? []).filter((s) => s.iter === m.iter).reduce((n, s) => n + (s.seconds ?? 0), 0);
	const worked = (run.useful_s ?? 0) + (run.lost_s ?? 0);
	const paid = (run.useful_cost ?? 0) + (run.lost_cost ?? 0);
	return seconds > 0 ? { seconds, cost: worked > 0 && paid > 0 ? (seconds * paid) / worked : null } : null;
}
