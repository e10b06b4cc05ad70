/** Made from queue/states.def by `make states`: edit that. */
export const JOB_STATES = [
	"blocked",
	"ready",
	"running",
	"done",
	"delayed",
	"failed",
	"cancelled",
	"skipped",
] as const;
export type JobState = (typeof JOB_STATES)[number];
export const JOB_TERMINAL: Record<JobState, 0 | 1> = {
	blocked: 0,
	ready: 0,
	running: 0,
	done: 1,
	delayed: 0,
	failed: 1,
	cancelled: 1,
	skipped: 1,
};
export const JOB_MOVES: readonly (readonly [JobState, JobState, string])[] = [
	["blocked", "ready", "the last parent ended, enough succeeded"],
	["blocked", "skipped", "the last parent ended, too few succeeded"],
	["blocked", "cancelled", "cancel"],
	["ready", "running", "claim"],
	["ready", "cancelled", "cancel"],
	["ready", "blocked", "a parent was retried"],
	["running", "done", "complete"],
	["running", "delayed", "fail, attempts left"],
	["running", "failed", "fatal, or the last attempt"],
	["running", "ready", "preempted or lease lost"],
	["running", "blocked", "given back while a parent is retried"],
	["running", "cancelled", "cancelled and given back, or grace over"],
	["delayed", "ready", "due"],
	["delayed", "cancelled", "cancel"],
	["delayed", "blocked", "a parent was retried"],
	["failed", "ready", "retry"],
	["failed", "blocked", "retry"],
	["cancelled", "ready", "retry"],
	["cancelled", "blocked", "retry"],
	["skipped", "blocked", "retry"],
	["done", "ready", "invalidated"],
	["done", "blocked", "invalidated"],
];
export const RUN_STATES = [
	"active",
	"paused",
	"draining",
	"done",
	"failed",
	"cancelled",
] as const;
export type RunState = (typeof RUN_STATES)[number];
export const RUN_TERMINAL: Record<RunState, 0 | 1> = {
	active: 0,
	paused: 0,
	draining: 0,
	done: 1,
	failed: 1,
	cancelled: 1,
};
export const STAGES = [
	"import",
	"eft",
	"sft",
	"protegi",
	"prompts",
	"generate",
	"judge",
	"pair",
	"reference",
	"dpo",
	"versus",
	"health",
	"bench",
	"eval",
] as const;
export type Stage = (typeof STAGES)[number];
