/** What the server sends (API v1). Fields that may be absent are marked so; pages must cope. */
export interface List<T> { items: T[]; next_cursor?: string | null }

export interface Counts { [state: string]: number }

export interface StageInfo {
	iter: number;
	stage: string;
	state: string;
	counts: Counts;
	planned?: number;
	done_units?: number;
	total_units?: number;
	unit?: string;
	seconds?: number;
	tokens?: number;
	tokens_per_s?: number;
}

export type Metrics = Record<string, number | string | number[] | null>;

export interface ModelInfo {
	name: string;
	iter?: number;
	run?: string;
	checkpoint?: string | null;
	metrics?: Metrics;
}

export interface Run {
	id: string;
	name: string;
	state: string;
	created_at: string;
	updated_at?: string;
	ended_at?: string | null;
	iterations: number;
	seed?: number | string;
	progress?: { jobs_done: number; jobs_total: number };
	stages?: StageInfo[];
	models?: ModelInfo[];
	final_digest?: string | null;
	error?: string | null | { detail?: string };
	spec?: Json;
}

export interface Progress { done: number; total: number; unit?: string }

export interface ArtifactRef { role: string; kind?: string; digest: string; size?: number; meta?: Record<string, unknown>; job?: string }

export interface Job {
	id: string;
	run: string;
	iter: number;
	stage: string;
	shard: number;
	pass: number;
	state: string;
	/** Times it was started; failures are the attempts it has burnt. */
	attempts?: number;
	failures?: number;
	losses?: number;
	preemptions?: number;
	worker?: string | null;
	progress?: Progress | null;
	wait_reason?: string | null;
	created_at?: string;
	started_at?: string | null;
	ended_at?: string | null;
	last_beat_at?: string | null;
	error?: unknown;
	inputs?: ArtifactRef[];
	outputs?: ArtifactRef[] | Record<string, ArtifactRef>;
	params?: Json;
	metrics?: Metrics;
}

export interface WireAttempt {
	n: number;
	job?: string;
	iter?: number;
	stage?: string;
	shard?: number;
	pass?: number;
	worker?: string;
	started_at?: string | number;
	started_ms?: number;
	ended_at?: string | number | null;
	ended_ms?: number | null;
	end?: string | null;
	reason?: unknown;
	exit_code?: number | null;
	signal?: number | string | null;
	from_progress?: unknown;
	to_progress?: unknown;
}

export interface Worker {
	id: string;
	name: string;
	state: string;
	job?: string | null;
	last_beat_at?: string;
	started_at?: string;
	engine?: string;
	code?: string;
	host?: string;
	threads?: number;
	memory_bytes?: number;
	labels?: Record<string, string> | string[] | string;
	jobs_done?: number;
	preemptions?: number;
	price_per_hour?: number;
}

export interface Checkpoint {
	digest: string;
	run: string;
	iter: number;
	stage: string;
	job: string;
	name: string;
	size_bytes: number;
	created_at: string;
	kind?: string;
	inputs?: string[];
	metrics?: Metrics;
	meta?: { lora?: Adapter };
}

/** The low-rank adapter a model was trained with; the files lie in the training state. */
export interface Adapter {
	r: number;
	alpha: number;
	targets: string;
	parameters: number;
}

export interface Dataset {
	digest: string;
	run: string;
	iter: number;
	stage: string;
	job: string;
	role: string;
	rows: number;
	size_bytes: number;
	created_at: string;
	meta?: Record<string, unknown>;
}

export interface PawlEvent {
	id?: string;
	type: string;
	run?: string;
	job?: string;
	data?: Record<string, unknown>;
	ts?: string | number;
	at?: string | number;
	time?: string | number;
}

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
