/**
 * useQuery: data that stays on screen while it is fetched again, refetched when an event says it
 * changed, never more than about once a second, and slowly anyway in case an event was missed.
 */
import { useEffect, useRef, useState } from "preact/hooks";
import { link, listen, paused } from "../live/client";
import type { StreamEvent } from "../live/stream";
import { getJson, reachable } from "./api";

const cache = new Map<string, unknown>();
const CACHE_MAX = 200;

function remember(key: string, value: unknown): void {
	cache.delete(key);
	cache.set(key, value);
	if (cache.size > CACHE_MAX) cache.delete(cache.keys().next().value as string);
}

export interface Query<T> {
	data: T | undefined;
	error: unknown;
	/** True on the first load only; later refetches keep the old data in sight. */
	loading: boolean;
	/** The data on screen belongs to an earlier address (filters just changed). */
	previous: boolean;
	reload: () => void;
}

export interface QueryOptions {
	topics?: string[];
	on?: (e: StreamEvent) => boolean;
	/** Slow poll in ms while live; 0 turns it off. Immutable things turn it off. */
	every?: number;
	/** Follow next_cursor and give the whole list, up to PAGES_MAX pages. */
	all?: boolean;
}

const PAGES_MAX = 40;

/** A list with every page of it in `items`. */
export async function getAll<T>(path: string, abort?: AbortSignal): Promise<T> {
	interface Page { items?: unknown[]; next_cursor?: string | null }
	const first = await getJson<Page>(path, abort);
	const items = [...(first.items ?? [])];
	let cursor = first.next_cursor;
	for (let n = 1; cursor && n < PAGES_MAX; n++) {
		const page = await getJson<Page>(`${path}${path.includes("?") ? "&" : "?"}cursor=${encodeURIComponent(cursor)}`, abort);
		items.push(...(page.items ?? []));
		cursor = page.next_cursor;
	}
	return { ...first, items, next_cursor: cursor ?? null } as T;
}

const LEAST_MS = 1000;
const POLL_MS = 5000;

export function useQuery<T>(path: string | null, options: QueryOptions = {}): Query<T> {
	const [, redraw] = useState(0);
	const r = useRef({ path: "", data: undefined as T | undefined, shown: "", error: undefined as unknown, busy: false, cost: 0 });
	const opt = useRef(options);
	opt.current = options;
	const topics = (options.topics ?? []).join(",");

	if (path !== null && r.current.path !== path) {
		r.current.path = path;
		r.current.error = undefined;
		if (cache.has(path)) {
			r.current.data = cache.get(path) as T;
			r.current.shown = path;
		}
	}
	const trigger = useRef<() => void>(() => undefined);

	useEffect(() => {
		if (path === null) return;
		const abort = new AbortController();
		let timer: ReturnType<typeof setTimeout> | undefined;
		let due = 0;
		let dead = false;
		const me = r.current;

		const arm = (after: number): void => {
			const at = Date.now() + after;
			if (timer !== undefined && due <= at) return;
			clearTimeout(timer);
			due = at;
			timer = setTimeout(load, after);
		};
		const slow = (): number | null => {
			if (link.value !== "live") return POLL_MS;
			const every = opt.current.every ?? 20_000;
			return every || null;
		};
		const load = async (): Promise<void> => {
			timer = undefined;
			if (dead) return;
			if (document.hidden || paused.value) {
				arm(POLL_MS);
				return;
			}
			me.busy = true;
			const began = Date.now();
			try {
				const data = await (opt.current.all ? getAll<T> : getJson<T>)(path, abort.signal);
				if (dead) return;
				remember(path, data);
				me.data = data;
				me.shown = path;
				me.error = undefined;
			} catch (e) {
				if (dead) return;
				me.error = e;
			}
			me.busy = false;
			me.cost = Date.now() - began;
			redraw((n) => n + 1);
			const next = me.error ? POLL_MS : opt.current.every === 0 ? null : slow();
			if (next !== null) arm(next);
		};
		trigger.current = () => arm(0);
		void load();
		const stop = listen(topics ? topics.split(",") : [], (e) => {
			if (e.type === "reset") arm(200);
			else if (opt.current.on?.(e)) arm(Math.max(LEAST_MS, 4 * me.cost));
		});
		const seen = (): void => {
			if (!document.hidden) arm(100);
		};
		document.addEventListener("visibilitychange", seen);
		return () => {
			dead = true;
			abort.abort();
			clearTimeout(timer);
			document.removeEventListener("visibilitychange", seen);
			stop();
		};
	}, [path, topics]);

	const me = r.current;
	return {
		data: path === null ? undefined : me.data,
		error: me.error,
		loading: path !== null && me.data === undefined && me.error === undefined,
		previous: me.data !== undefined && me.shown !== path,
		reload: () => trigger.current(),
	};
}

/** True when what is shown may be old: server gone, or the person paused. */
export function isStale(): boolean {
	return !reachable.value || link.value === "connecting";
}
