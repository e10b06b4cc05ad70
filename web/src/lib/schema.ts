/** Made of server/openapi.json by types.mjs; not written by hand. */

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** Two raters over n pairs: share of agreement with its 95 % Wilson interval, Cohen's kappa with the standard error of Fleiss, Cohen and Everitt, and the table (first or second answer; rows: the judge or reviewer a). null: undefined. */
export interface Agreement {
	n: number;
	agree: number;
	table: number[][];
	share: number | null;
	low: number | null;
	high: number | null;
	kappa: number | null;
	se: number | null;
	kappa_low: number | null;
	kappa_high: number | null;
}

export interface Attempt {
	n: number;
	job: string;
	iter: number;
	stage: string;
	shard: number;
	pass: number;
	worker: string | null;
	started_at: string | null;
	ended_at: string | null;
	end: "completed" | "failed" | "preempted" | "lease_lost" | "cancelled" | null;
	reason: string | null;
	exit_code: number | null;
	signal: number | null;
	/** units done when it began */
	from_progress: number | null;
	to_progress: number | null;
	log_size: number;
	/** of its work that lives on */
	useful_ms: number | null;
	lost_ms: number | null;
	/** what happened to it and when, in order, of one that runs as well; beyond 200 thinned evenly */
	marks: Mark[];
}

/** One request that changed something, or tried to. */
export interface AuditEntry {
	at: string;
	/** name of the token or user */
	who: string;
	/** id of the token, user:NAME, or login-link */
	identity: string;
	role: "none" | "viewer" | "operator" | "admin" | "worker";
	method: string;
	path: string;
	status: number;
	/** address */
	from: string;
	/** X-Request-Id */
	request: string;
	/** what was decided, where the path does not say it */
	note?: string;
}

export interface BlobSum {
	blobs: number;
	bytes: number;
}

export interface BulkResult {
	dry_run: boolean;
	matched: number;
	done: number;
	failed: number;
	failures: {
		id: string;
		detail: string;
	}[];
}

export interface Checkpoint {
	digest: string;
	run: string | null;
	iter: number | null;
	stage: StageName | null;
	job: string | null;
	role: string | null;
	name: string;
	kind: string | null;
	size_bytes: number | null;
	created_at: string | null;
	inputs: string[];
	metrics: Metrics | null;
	volumes?: Volumes;
	meta: Record<string, Json> | null;
	/** of one alone, not in lists: its run has given it up, and the collector will take it */
	given_up?: boolean;
}

export interface Claim {
	job: {
		id?: string;
		run?: string;
		stage?: StageName;
		iter?: number;
		shard?: number;
		pass?: number;
		seed?: string;
		spec?: Record<string, Json>;
		params?: Record<string, Json>;
		inputs?: Input[];
		resume?: {
			outputs?: Record<string, Json>;
			progress?: Record<string, Json>;
		} | null;
		key?: string | null;
		/** between two losses of this kind of machine, as seen; how often to checkpoint */
		loss_every_s?: number | null;
	};
	token: string;
	attempt: number;
	lease_ms: number;
}

export interface Dataset {
	digest: string;
	run: string | null;
	iter: number | null;
	stage: StageName | null;
	job: string | null;
	role: string | null;
	kind: string | null;
	rows: number | null;
	shard: number | null;
	pass: number | null;
	size_bytes: number | null;
	created_at: string | null;
	meta: Record<string, Json> | null;
	/** of a single dataset: what it was made from */
	inputs?: Input[];
}

export interface Delivery {
	/** of the notice */
	id: string;
	kind: "run.done" | "run.failed" | "run.cancelled" | "run.alarm" | "job.failed" | "job.stuck" | "worker.lost" | "attention.disk" | "attention.workers" | "test";
	at: string | null;
	/** of the answer; 0 when none came */
	status: number;
	/** null when it was delivered */
	error: string | null;
	tries: number;
	/** how long the try took */
	ms: number;
}

export interface Event {
	id: string;
	at: string | null;
	type: string;
	run: string;
	job: string;
	/** as in the event stream */
	data: Record<string, Json> | null;
}

export interface Filter {
	name: string;
	page: string;
	/** what stands behind the question mark of the page's address */
	query: string;
	changed_at: string | null;
}

/** what the driver says of one GPU; a figure it does not tell is absent */
export interface Gpu {
	device: number;
	name?: string;
	/** share of time with work */
	load?: number;
	/** share of time that memory was read or written */
	memory_load?: number;
	memory_mib?: number;
	memory_total_mib?: number;
	/** degrees Celsius */
	temperature?: number;
	/** watts */
	power?: number;
	/** uncorrected memory errors since the driver started */
	ecc_errors?: number;
	/** the last error the driver reported since the worker started */
	xid?: number;
}

export interface Hook {
	name: string;
	url: string;
	events: ("run.done" | "run.failed" | "run.cancelled" | "run.alarm" | "job.failed" | "job.stuck" | "worker.lost" | "attention.disk" | "attention.workers" | "test" | "*")[];
	enabled: boolean;
	/** the part of the ETag before the colon */
	revision: string;
	changed_at: string | null;
	/** of server.hooks_file, to be changed there */
	file: boolean;
	/** notices not yet delivered */
	waiting: number;
	/** only in the answer that makes it, unless it was given */
	secret?: string;
}

export interface Input {
	role: string;
	job?: string;
	output?: string;
	digest?: string;
	kind?: string;
	size?: number;
	meta?: Record<string, Json>;
}

export interface Job {
	id: string;
	run: string;
	iter: number;
	stage: StageName;
	shard: number;
	pass: number;
	state: JobState;
	attempts: number;
	failures: number;
	max_attempts: number;
	losses: number;
	preemptions: number;
	worker: string | null;
	progress: Progress;
	wait_reason: string | null;
	/** of one job alone, not in lists */
	waiting?: Waiting | null;
	/** kind of worker it needs */
	pool: string | null;
	priority: number;
	/** how often its result was declared invalid */
	generation: number;
	/** of one job alone, not in lists: another one after every decision and change of state; the part of the ETag before the colon */
	revision?: string;
	/** its worker beats without progress */
	stuck: boolean;
	created_at: string | null;
	started_at: string | null;
	ended_at: string | null;
	last_beat_at: string | null;
	error: Record<string, Json> | null;
	parents: string[];
	inputs: Input[];
	outputs: Output[] | null;
	params: Record<string, Json>;
	metrics: Metrics | null;
	checkpoint: Record<string, Json> | null;
	log_size: number | null;
	optional: boolean | null;
	info: Record<string, Json> | null;
}

export type JobState = "blocked" | "ready" | "running" | "done" | "delayed" | "failed" | "cancelled" | "skipped";

export interface LogHit {
	/** byte at which the line begins */
	offset: number;
	text: string;
}

export interface LogLine {
	/** when it was written; of a line without a time, that of the line before it */
	at: string | null;
	job: string;
	attempt: number;
	/** byte of that attempt's log at which the line begins: with job and attempt its name */
	offset: number;
	text: string;
	/** the line is longer than what is shown of it */
	cut: boolean;
}

export interface Mark {
	at: string | null;
	/** checkpoint: it kept one; notice: its machine will be taken; stuck: it beats without progress; cancel, pause, drain: the worker was told to stop */
	kind: "checkpoint" | "notice" | "stuck" | "cancel" | "pause" | "drain";
	/** units done then */
	done: number;
}

/** What a job measured; names are those of its stage. */
export type Metrics = Record<string, number | string | number[] | Record<string, Json> | null>;

export interface Model {
	name: string;
	iter: number;
	job: string;
	checkpoint: string;
	metrics: Metrics;
	run?: string;
	run_name?: string;
}

export interface Notice {
	/** the same however often it is sent */
	id: string;
	kind: "run.done" | "run.failed" | "run.cancelled" | "run.alarm" | "job.failed" | "job.stuck" | "worker.lost" | "attention.disk" | "attention.workers" | "test";
	at: string | null;
	/** one sentence */
	text: string;
	run?: string;
	job?: string;
	worker?: string;
	/** the page to look at */
	url: string;
}

export interface Operation {
	id: string;
	kind: "bulk.jobs" | "bulk.runs" | "garbage" | "rebuild";
	state: "queued" | "running" | "done" | "failed" | "cancelled";
	by: string;
	/** steps */
	done: number;
	/** 0 when nobody knows */
	total: number;
	/** what the request would have answered; of one that runs, so far */
	result: Record<string, Json> | null;
	error: string | null;
	created_at: string | null;
	started_at: string | null;
	ended_at: string | null;
}

export interface Output {
	role: string;
	kind: "checkpoint" | "train_state" | "dataset" | "progress";
	digest: string;
	size: number;
	volumes?: Volumes;
	meta?: Record<string, Json>;
}

export interface Pair {
	run: string;
	a: string;
	b: string;
	win: number;
	tie: number;
	loss: number;
	n: number;
	rate: number;
	low: number;
	high: number;
}

export interface Plan {
	plan: {
		stages?: Record<string, Json>[];
		total_jobs?: number;
	} | null;
	spec: Record<string, Json> | null;
	errors: {
		pointer?: string;
		detail?: string;
	}[];
}

/** RFC 9457. `type` is one short word such as not-found, invalid, stale, conflict. */
export interface Problem {
	type: string;
	title: string;
	status: number;
	detail?: string;
	instance?: string;
	errors?: {
		pointer?: string;
		detail?: string;
	}[];
}

export type Progress = {
	done: number;
	total: number;
	unit?: string;
} | null;

export interface Quota {
	owner: string;
	/** open runs; 0 for no limit, as in the others */
	runs: number;
	/** jobs at a time */
	running: number;
	/** of work in one day (UTC) */
	gpu_hours: number;
	used_runs?: number;
	used_running?: number;
	used_gpu_hours?: number;
	/** the part of the ETag before the colon */
	revision?: string;
}

/** What one person says of one pair. judge and human name the better answer in an order that says nothing of the judge. */
export interface Review {
	/** of prompt and both answers: the same wherever the pair stands */
	key: string;
	/** row in the dataset asked for; null when it is not there */
	n: number | null;
	id: string;
	/** where it was said */
	dataset: string;
	by: string;
	verdict: Verdict;
	note: string;
	blind: boolean;
	judge: "first" | "second";
	human: "first" | "second" | null;
	at: string | null;
}

/** reviewed: pairs with a verdict; split: those where as many agree as disagree, which the agreement of the majority with the judge leaves out. */
export interface ReviewSummary {
	pairs: number;
	reviewed: number;
	split: number;
	agreement: Agreement;
	reviewers: {
		by: string;
		reviewed: number;
		skipped: number;
		agreement: Agreement;
	}[];
	between: {
		a: string;
		b: string;
		agreement: Agreement;
	}[];
}

export type Role = "viewer" | "operator" | "admin" | "worker";

/** The line of data.jsonl without token ids, with its number and summary. */
export interface Row {
	n: number;
	flags: string[];
	row_score?: number | null;
	row_margin?: number | null;
	row_length?: number | null;
	[name: string]: Json | undefined;
}

export interface Run {
	id: string;
	name: string;
	state: RunState;
	created_at: string | null;
	updated_at: string | null;
	ended_at: string | null;
	iterations: number;
	seed: number;
	/** as at submission until somebody changes them */
	notes: string;
	tags: string[];
	starred: boolean;
	/** another one after every decision and change of state; the part of the ETag before the colon */
	revision: string;
	submitted_by: string;
	/** whose quota it counts against */
	owner: string | null;
	/** 0 goes before all others; waiting improves it */
	class: number;
	weight: number;
	/** jobs at a time; 0 for any number */
	max_running: number;
	/** seconds of work that lives on in results and checkpoints */
	useful_s: number;
	/** seconds of work lost with its attempt */
	lost_s: number;
	useful_cost: number;
	lost_cost: number;
	/** attempts that a lost or preempted worker ended */
	torn_off?: number;
	/** why the judge's health paused the run, while it is paused */
	alarm?: {
		why: string;
		job: string;
	};
	counts: Record<string, number>;
	progress: {
		jobs_done: number;
		jobs_total: number;
	};
	stages: Stage[];
	models: Model[];
	final_digest: string | null;
	error: string | null;
	spec?: Record<string, Json>;
}

export type RunState = "active" | "paused" | "draining" | "done" | "failed" | "cancelled";

export interface Series {
	job: string;
	stage: string;
	iter: number;
	shard: number;
	state: string;
	variant: string;
	params: Record<string, Json> | null;
	final: Record<string, Json> | null;
	points: ({
		step: number;
		[name: string]: Json | undefined;
	})[];
}

export interface Session {
	user: string;
	role: Role;
	server_time: string | null;
	version: string;
	no_auth: boolean;
}

export interface Stage {
	iter: number;
	stage: StageName;
	state: JobState;
	counts: Record<string, number>;
	planned: number;
	estimate: boolean;
	done_units: number;
	total_units: number;
	unit: string | null;
	seconds: number;
	tokens: number;
	/** Of the jobs that are done; 0 when none of them counts tokens. */
	tokens_per_s: number;
}

export type StageName = "import" | "eft" | "sft" | "protegi" | "prompts" | "generate" | "judge" | "pair" | "reference" | "dpo" | "versus" | "health" | "bench" | "eval";

export interface Stats {
	digest: string;
	rows: number;
	scores: Record<string, Json> | null;
	histogram: {
		lo: number;
		hi: number;
		n: number;
	}[];
	points: number[][];
	sampled: boolean;
	n_points: number;
	length_score_r: number | null;
	flags: Record<string, Json>;
	counters: Record<string, Json>;
}

export interface Token {
	id: string;
	name: string;
	role: Role;
	created_at: string | null;
	expires_at: string | null;
	last_used_at: string | null;
}

export interface User {
	name: string;
	/** another one after every change; the part of the ETag before the colon */
	revision: string;
	role: Role;
	created_at: string | null;
	changed_at: string | null;
}

export type Verdict = "agree" | "disagree" | "skip";

/** Where one archive does not hold it all: the archives that do, blobs of their own. The artifact's own is small and names them. */
export type Volumes = {
	digest: string;
	size: number;
}[];

export interface Waiting {
	/** null while it does not wait */
	reason: string | null;
	/** of a ready job: 1 is the next of its run in its queue */
	position: number | null;
	/** ready jobs of its run in its queue */
	queue_length: number | null;
	/** runs that are served before its own as things are; null while its run is not served */
	runs_ahead: number | null;
	/** of the present reason */
	since_at: string | null;
	/** what it waited for, the earliest first; waits of less than a second are left out */
	history: ({
		reason: string;
		from_at: string;
		/** null: it still lasts */
		to_at: string | null;
	})[];
}

export interface Worker {
	id: string;
	name: string;
	state: "idle" | "busy" | "draining" | "cordoned" | "unhealthy" | "lost" | "gone";
	job: string | null;
	last_beat_at: string | null;
	started_at: string | null;
	engine: string | null;
	code: string | null;
	host: string | null;
	pid: number | null;
	threads: number | null;
	memory_bytes: number | null;
	labels: Record<string, string> | null;
	price_per_hour: number | null;
	stages: string[] | null;
	jobs_done: number;
	preemptions: number;
	/** kinds of jobs it takes beside those any worker may */
	pools: string[] | null;
	/** as of the last beat; null of workers that say nothing of GPUs */
	gpus: Gpu[] | null;
	/** why it is given no job */
	unhealthy: string | null;
}
