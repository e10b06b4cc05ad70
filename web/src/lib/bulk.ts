/** One decision for many rows: which of them it can be made for, and what the server says of it while it makes them. Pure. */
import type { BulkResult, Operation } from "./schema";

/** The ids from one to the other as they stand, both included; only the second when the first is not there. */
export function stretch(order: string[], from: string, to: string): string[] {
	const [a, b] = [order.indexOf(from), order.indexOf(to)];
	return a < 0 || b < 0 ? [to] : order.slice(Math.min(a, b), Math.max(a, b) + 1);
}

export interface Standing {
	open: boolean;
	/** Steps taken, of how many; the sum may not be known. */
	steps: number;
	of: number;
	done: number;
	failed: number;
	failures: BulkResult["failures"];
	/** "12 of 48", "stopped after 12 of 48", or what went wrong. */
	text: string;
}

const count = (x: unknown): number => (typeof x === "number" ? x : 0);

/** How far an operation is; the result of one that runs may lag behind its steps. */
export function standing(o: Operation): Standing {
	const r = (o.result ?? {}) as Partial<BulkResult>;
	const open = o.state === "queued" || o.state === "running";
	const failed = count(r.failed);
	const done = Math.max(count(r.done), o.done - failed, 0);
	const of = Math.max(o.total, count(r.matched));
	const far = of ? `${o.done} of ${of}` : String(o.done);
	const text = o.state === "queued" ? "waits for its turn" : open ? far : o.state === "cancelled" ? `stopped after ${far}` : o.state === "failed" ? (o.error ?? "failed") : of ? `${done} of ${of}` : "done";
	return { open, steps: o.done, of, done, failed, failures: r.failures ?? [], text };
}
