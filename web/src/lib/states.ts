/** The one vocabulary of states: word, shape and tone. API, CLI and logs use the same words. */
export type Tone = "ok" | "run" | "wait" | "warn" | "bad" | "idle";
export type Shape =
	| "check" | "play" | "ring" | "glass" | "cross" | "slash" | "pause" | "bolt" | "clock" | "dash" | "drain";

export interface StateLook {
	word: string;
	tone: Tone;
	shape: Shape;
}

const look = (word: string, tone: Tone, shape: Shape): StateLook => ({ word, tone, shape });

const LOOKS: Record<string, StateLook> = {
	// jobs
	blocked: look("blocked", "idle", "glass"),
	ready: look("ready", "wait", "ring"),
	running: look("running", "run", "play"),
	done: look("done", "ok", "check"),
	delayed: look("delayed", "warn", "clock"),
	failed: look("failed", "bad", "cross"),
	cancelled: look("cancelled", "idle", "slash"),
	skipped: look("skipped", "idle", "dash"),
	// runs
	active: look("running", "run", "play"),
	paused: look("paused", "warn", "pause"),
	draining: look("draining", "warn", "drain"),
	// workers
	idle: look("idle", "ok", "ring"),
	busy: look("busy", "run", "play"),
	lost: look("lost", "bad", "cross"),
	gone: look("gone", "idle", "slash"),
	// attempt ends
	completed: look("completed", "ok", "check"),
	preempted: look("preempted", "warn", "bolt"),
	lease_lost: look("lease lost", "bad", "bolt"),
};

export function lookOf(state: string | null | undefined): StateLook {
	return LOOKS[state ?? ""] ?? look(state || "unknown", "idle", "ring");
}

export const JOB_STATES = ["running", "ready", "delayed", "failed", "blocked", "done", "cancelled", "skipped"];
export const RUN_STATES = ["active", "paused", "draining", "done", "failed", "cancelled"];
export const STAGES = ["import", "eft", "sft", "prompts", "generate", "judge", "pair", "reference", "dpo", "versus", "health", "eval"];

export const STAGE_WORDS: Record<string, string> = {
	import: "Import",
	eft: "Judge data",
	sft: "SFT",
	prompts: "Prompts",
	generate: "Generate",
	judge: "Judge",
	pair: "Pair",
	reference: "Reference",
	dpo: "DPO",
	eval: "Eval",
};

export function stageWord(stage: string): string {
	return STAGE_WORDS[stage] ?? stage;
}

export function runEnded(state: string): boolean {
	return state === "done" || state === "failed" || state === "cancelled";
}

export function jobEnded(state: string): boolean {
	return runEnded(state) || state === "skipped";
}
