/** Notices of the server: the newest of a week, and which of them this browser has not been shown yet. */
import { signal } from "@preact/signals";
import { ms } from "./fmt";
import type { Notice } from "./schema";
import type { Tone } from "./states";

const KEY = "pawl.seen";

function kept(): number {
	try {
		return Number(localStorage.getItem(KEY)) || 0;
	} catch {
		return 0;
	}
}

/** When the newest notice that was shown came; kept by this browser, never sent. */
export const seen = signal(kept());
if (typeof addEventListener === "function") addEventListener("storage", (e) => { if (e.key === KEY) seen.value = kept(); });

export function markSeen(list: Notice[]): void {
	const newest = Math.max(seen.peek(), ...list.map((n) => ms(n.at) ?? 0));
	if (newest === seen.peek()) return;
	seen.value = newest;
	try {
		localStorage.setItem(KEY, String(newest));
	} catch {
		/* private mode: as long as the page lives */
	}
}

export const isNew = (n: Notice, since: number): boolean => (ms(n.at) ?? 0) > since;

export function unread(list: Notice[] | undefined, since: number): number {
	return (list ?? []).filter((n) => isNew(n, since)).length;
}

const LOOKS: Record<Notice["kind"], [string, Tone]> = {
	"run.done": ["run done", "ok"], "run.failed": ["run failed", "bad"], "run.cancelled": ["run cancelled", "idle"], "run.alarm": ["judge not well", "bad"],
	"job.failed": ["job failed", "bad"], "job.stuck": ["no progress", "warn"], "worker.lost": ["worker lost", "warn"],
	"attention.disk": ["disk nearly full", "bad"], "attention.workers": ["no worker", "warn"], test: ["test", "idle"],
};

export function lookOfNotice(n: Notice): { word: string; tone: Tone } {
	const [word, tone] = LOOKS[n.kind] ?? [n.kind, "idle"];
	return { word, tone };
}

/** The page of this browser to look at, whatever address the server is known by outside. */
export function hrefOf(n: Notice): string {
	if (n.job) return `/jobs/${encodeURIComponent(n.job)}`;
	if (n.run) return `/runs/${encodeURIComponent(n.run)}`;
	return n.kind.startsWith("worker") || n.kind === "attention.workers" ? "/workers" : n.kind === "attention.disk" ? "/checkpoints" : "/notices";
}
