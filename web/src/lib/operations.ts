/** What the server goes on with after it has answered: begun from this tab, followed until it ends, also over a reload. */
import { signal } from "@preact/signals";
import { ApiError, call, getJson, problemText, send } from "./api";
import type { BulkResult, Operation } from "./schema";

export interface Watched {
	id: string;
	title: string;
	op: Operation | null;
	error: string;
}

const KEY = "pawl.operations";
const LOOK_MS = 700;
const AGAIN_MS = 4000;

export const watched = signal<Watched[]>([]);
/** What to do when one ends; gone with a reload, when the pages are asked anew anyway. */
const ends = new Map<string, () => void>();

export const isOpen = (o: Operation | null): boolean => !o || o.state === "queued" || o.state === "running";

function keep(list: Watched[]): void {
	watched.value = list;
	try {
		sessionStorage.setItem(KEY, JSON.stringify(list.filter((w) => isOpen(w.op)).map((w) => [w.id, w.title])));
	} catch {
		/* private mode: followed as long as the page lives */
	}
}

function put(id: string, change: Partial<Watched>): void {
	keep(watched.peek().map((w) => (w.id === id ? { ...w, ...change } : w)));
}

async function look(id: string): Promise<void> {
	if (!watched.peek().some((w) => w.id === id)) return;
	let again = LOOK_MS;
	try {
		const op = await getJson<Operation>(`/operations/${encodeURIComponent(id)}`);
		put(id, { op, error: "" });
		if (!isOpen(op)) {
			ends.get(id)?.();
			ends.delete(id);
			return;
		}
	} catch (e) {
		if (e instanceof ApiError && e.status === 404) return dismiss(id);
		put(id, { error: problemText(e) });
		again = AGAIN_MS;
	}
	setTimeout(() => void look(id), again);
}

function follow(id: string, title: string, op: Operation | null): void {
	keep([...watched.peek().filter((w) => w.id !== id), { id, title, op, error: "" }]);
	void look(id);
}

/** Asks for it; the server may have done it by the time it answers. */
export async function begin(path: string, body: unknown, title: string, ended: () => void): Promise<void> {
	const r = await call(path, { method: "POST", body, later: true });
	const o = (await r.json()) as Operation | BulkResult;
	if ("id" in o) {
		ends.set(o.id, ended);
		return follow(o.id, title, o);
	}
	const id = `now-${Date.now()}`;
	const at = new Date().toISOString();
	const op: Operation = { id, kind: "bulk.jobs", state: "done", by: "", done: o.matched, total: o.matched, result: o as unknown as Operation["result"], error: null, created_at: at, started_at: at, ended_at: at };
	keep([...watched.peek(), { id, title, op, error: "" }]);
	ended();
}

export async function stop(id: string): Promise<void> {
	await send("POST", `/operations/${encodeURIComponent(id)}/cancel`);
}

export function dismiss(id: string): void {
	ends.delete(id);
	keep(watched.peek().filter((w) => w.id !== id));
}

/** Those this tab had begun before it was loaded again. */
export function startOperations(): void {
	try {
		const list = JSON.parse(sessionStorage.getItem(KEY) ?? "[]") as [string, string][];
		for (const [id, title] of list) if (!watched.peek().some((w) => w.id === id)) follow(id, title, null);
	} catch {
		/* nothing kept */
	}
}
