/** The one vocabulary of states: word, shape and tone. API, CLI and logs use the same words; which there are
 *  is made from queue/states.def. */
import * as table from "./states.gen";
import type { JobState, RunState, Stage } from "./states.gen";

export type Tone = "ok" | "run" | "wait" | "warn" | "bad" | "idle";
export type Shape =
	| "check" | "play" | "ring" | "glass" | "cross" | "slash" | "pause" | "bolt" | "clock" | "dash" | "drain" | "star";

export interface StateLook {
	word: string;
	tone: Tone;
	shape: Shape;
}

const look = (word: string, tone: Tone, shape: Shape): StateLook => ({ word, tone, shape });

const STATES: Record<JobState | RunState, StateLook> = {
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
};

const LOOKS: Record<string, StateLook> = {
	...STATES,
	// workers
	idle: look("idle", "ok", "ring"),
	busy: look("busy", "run", "play"),
	cordoned: look("cordoned", "warn", "pause"),
	unhealthy: look("unhealthy", "bad", "bolt"),
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

/** As people look for them: what happens now first. */
const RANK: Record<JobState, number> = { running: 0, ready: 1, delayed: 2, failed: 3, blocked: 4, done: 5, cancelled: 6, skipped: 7 };

export const JOB_STATES: string[] = [...table.JOB_STATES].sort((a, b) => RANK[a] - RANK[b]);
export const RUN_STATES: string[] = [...table.RUN_STATES];
export const STAGES: string[] = [...table.STAGES];

const STAGE_WORDS: Record<Stage, string> = {
	import: "Import",
	eft: "Judge data",
	sft: "SFT",
	protegi: "Judge prompt",
	prompts: "Prompts",
	generate: "Generate",
	judge: "Judge",
	pair: "Pair",
	reference: "Reference",
	dpo: "DPO",
	versus: "Versus",
	health: "Health",
	bench: "Benchmarks",
	eval: "Eval",
};

export function stageWord(stage: string): string {
	return (STAGE_WORDS as Record<string, string>)[stage] ?? stage;
}

export function runEnded(state: string): boolean {
	return (table.RUN_TERMINAL as Record<string, number>)[state] === 1;
}

export function jobEnded(state: string): boolean {
	return (table.JOB_TERMINAL as Record<string, number>)[state] === 1;
}
