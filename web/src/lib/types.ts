/** What the server sends (API v1): types made of its description, under the names the pages use. */
import type { Attempt, Checkpoint as WireCheckpoint, Dataset as WireDataset, Input, Output } from "./schema";

export type { AuditEntry, Gpu, Job, Json, Metrics, Model as ModelInfo, Progress, Run, Stage as StageInfo, User, Worker } from "./schema";

export interface List<T> { items: T[]; next_cursor?: string | null }

export interface Counts { [state: string]: number }

export type ArtifactRef = (Input | Output) & { job?: string };

export type WireAttempt = Attempt;

/** Of an artifact that the store alone knows, much is null; the lists never hold one. */
type Known<T> = { [K in keyof T]: NonNullable<T[K]> };

export type Checkpoint = Known<Omit<WireCheckpoint, "meta">> & { meta: { lora?: Adapter } | null };

/** The low-rank adapter a model was trained with; the files lie in the training state. */
export interface Adapter {
	r: number;
	alpha: number;
	targets: string;
	parameters: number;
}

export type Dataset = Known<WireDataset>;

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
