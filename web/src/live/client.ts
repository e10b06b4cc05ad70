/** The tab's end of the event stream: topics by page, Pause, and what the status pill shows. */
import { signal } from "@preact/signals";
import { reachable, session } from "../lib/api";
import { Stream, type LinkState, type StreamEvent } from "./stream";

declare const __WORKER__: string;

export const link = signal<LinkState>("connecting");
export const linkSince = signal(Date.now());
export const paused = signal(false);
export const pending = signal(0);

type Listener = (e: StreamEvent) => void;
const listeners = new Set<Listener>();
const topicCount = new Map<string, number>();
let announce: (topics: string[]) => void = () => undefined;

function deliver(e: StreamEvent): void {
	if (paused.value) {
		pending.value++;
		return;
	}
	for (const f of [...listeners]) f(e);
}

function setLink(s: LinkState): void {
	if (s === "live") reachable.value = true;
	if (link.value !== s) linkSince.value = Date.now();
	const back = s === "live" && link.value !== "live";
	link.value = s;
	if (back) deliver({ id: "", type: "reset", data: {} });
}

/** Trusted Types: the only script address this page may ever make is its own worker. */
function workerUrl(): string {
	interface Policy { createScriptURL(u: string): unknown }
	interface Factory { createPolicy(n: string, r: { createScriptURL(u: string): string }): Policy }
	const tt = (globalThis as { trustedTypes?: Factory }).trustedTypes;
	if (!tt) return __WORKER__;
	const policy = tt.createPolicy("pawl", {
		createScriptURL: (u) => {
			if (u !== __WORKER__) throw new TypeError("not our worker");
			return u;
		},
	});
	return policy.createScriptURL(__WORKER__) as string;
}

function viaWorker(): boolean {
	if (typeof SharedWorker === "undefined" || !__WORKER__) return false;
	try {
		const w = new SharedWorker(workerUrl(), { name: "pawl-live" });
		w.onerror = () => viaTab();
		w.port.onmessage = (m: MessageEvent<{ state?: LinkState; event?: StreamEvent }>) => {
			if (m.data.state) setLink(m.data.state);
			if (m.data.event) deliver(m.data.event);
		};
		let topics: string[] = [];
		announce = (t) => {
			topics = t;
			w.port.postMessage({ topics });
		};
		setInterval(() => w.port.postMessage({ topics }), 45_000);
		addEventListener("pagehide", () => w.port.postMessage({ bye: true }));
		addEventListener("pageshow", () => w.port.postMessage({ topics }));
		return true;
	} catch {
		return false;
	}
}

/** Without a SharedWorker: a stream of our own, given up while the tab is hidden. */
function viaTab(): void {
	if (typeof EventSource === "undefined") {
		link.value = "polling";
		return;
	}
	const s = new Stream(deliver, setLink);
	let topics: string[] = [];
	const apply = (): void => (document.hidden ? s.close() : s.want(topics));
	announce = (t) => {
		topics = t;
		apply();
	};
	document.addEventListener("visibilitychange", apply);
	announce([...topicCount.keys()]);
}

let started = false;
function start(): void {
	if (started || !session.value) return;
	started = true;
	if (!viaWorker()) viaTab();
}

let queued = false;
function tell(): void {
	if (queued) return;
	queued = true;
	queueMicrotask(() => {
		queued = false;
		start();
		announce([...topicCount.keys()]);
	});
}

/** Listens to events while the caller lives; returns the undo. */
export function listen(topics: string[], f: Listener): () => void {
	listeners.add(f);
	for (const t of topics) topicCount.set(t, (topicCount.get(t) ?? 0) + 1);
	tell();
	return () => {
		listeners.delete(f);
		for (const t of topics) {
			const n = (topicCount.get(t) ?? 1) - 1;
			if (n > 0) topicCount.set(t, n);
			else topicCount.delete(t);
		}
		tell();
	};
}

export function setPaused(p: boolean): void {
	if (paused.value === p) return;
	paused.value = p;
	if (p) return;
	pending.value = 0;
	deliver({ id: "", type: "reset", data: {} });
}

/** The run or job an event speaks of, wherever the server put it. */
export function eventRun(e: StreamEvent): string {
	const d = e.data;
	const inner = (d.data ?? {}) as Record<string, unknown>;
	const run = d.run ?? inner.run;
	if (typeof run === "string" && run) return run;
	return eventJob(e).split(".")[0] ?? "";
}

export function eventJob(e: StreamEvent): string {
	const inner = (e.data.data ?? {}) as Record<string, unknown>;
	const job = e.data.job ?? inner.job;
	return typeof job === "string" ? job : "";
}
