/** What a planned run would take, judged by an earlier one: seconds a job of each stage took there. Pure. */
import type { Run, StageInfo } from "./types";

export interface PlanStage { iter: number; stage: string; jobs: number; estimate?: boolean }

export interface Estimate {
	/** Worker hours, of the stages the earlier run tells of. */
	hours: number;
	/** In the unit of the workers' prices; null when that run knew none. */
	cost: number | null;
	/** Stages it says nothing of. */
	unknown: string[];
	basis: Run;
}

const jobsOf = (s: StageInfo): number => s.counts?.done ?? 0;

function secondsPerJob(run: Run, stage: string): number | null {
	const same = (run.stages ?? []).filter((s) => s.stage === stage && s.seconds && jobsOf(s) > 0);
	const n = same.reduce((t, s) => t + jobsOf(s), 0);
	return n ? same.reduce((t, s) => t + (s.seconds ?? 0), 0) / n : null;
}

export function estimate(plan: PlanStage[], basis: Run | undefined): Estimate | null {
	if (!basis) return null;
	let seconds = 0;
	const unknown = new Set<string>();
	for (const p of plan) {
		const each = secondsPerJob(basis, p.stage);
		if (each === null) unknown.add(p.stage);
		else seconds += each * p.jobs;
	}
	if (!seconds) return null;
	const worked = (basis.useful_s ?? 0) + (basis.lost_s ?? 0);
	const paid = (basis.useful_cost ?? 0) + (basis.lost_cost ?? 0);
	return { hours: seconds / 3600, cost: worked > 0 && paid > 0 ? (seconds * paid) / worked : null, unknown: [...unknown], basis };
}

/** The run to judge by: the one that is cloned, else the newest that finished. */
export function basisOf(runs: Run[], from: string): Run | undefined {
	return runs.find((r) => r.id === from && r.state === "done") ?? runs.find((r) => r.state === "done");
}

export interface Preset { key: string; title: string; about: string; spec: Record<string, unknown> }

export const PRESETS: Preset[] = [
	{ key: "paper", title: "As in the paper", about: "Every setting at its default: two iterations, four answers a prompt, three judgements, DPO with β 0.1.", spec: {} },
	{ key: "try", title: "A quick try", about: "One iteration over little data, to see the whole loop within the hour.", spec: { iterations: 1, data: { ift_max: 200 }, sft: { epochs: 1 }, prompts: { count: 64 }, generate: { max_new_tokens: 128 }, judge: { max_new_tokens: 128 } } },
	{ key: "lora", title: "Large model, one GPU", about: "LoRA for both trainings, the base in 8 bits while generating, products in bfloat16.", spec: { sft: { lora_r: 16 }, dpo: { lora_r: 16 }, engine: { weights: "q8", train: "bf16" } } },
];
