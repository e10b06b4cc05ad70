/** The address bar is the state: pages read path and query from here and write back to it. */
import { signal } from "@preact/signals";

export interface Place {
	path: string;
	query: URLSearchParams;
}

function here(): Place {
	return { path: location.pathname, query: new URLSearchParams(location.search) };
}

export const place = signal<Place>(here());

/** Raised on a real page change (not on a changed filter); the frame moves focus to main on it. */
export const turned = signal(0);

export function go(url: string, replace = false): void {
	const before = location.pathname;
	if (replace) history.replaceState(null, "", url);
	else history.pushState(null, "", url);
	place.value = here();
	if (location.pathname !== before) {
		scrollTo(0, 0);
		turned.value = turned.peek() + 1;
	}
}

/** Sets query parameters; null or "" removes one. Filters replace, deliberate steps push. */
export function setQuery(changes: Record<string, string | number | null>, push = false): void {
	const q = new URLSearchParams(location.search);
	for (const [k, v] of Object.entries(changes)) {
		if (v === null || v === "") q.delete(k);
		else q.set(k, String(v));
	}
	const text = q.toString();
	go(location.pathname + (text ? "?" + text : ""), !push);
}

export function query(name: string, fallback = ""): string {
	return place.value.query.get(name) ?? fallback;
}

export function queryNum(name: string): number | null {
	const t = query(name);
	if (t === "") return null;
	const v = Number(t);
	return Number.isFinite(v) ? v : null;
}

/** Same address with some parameters changed, for real links. */
export function hrefWith(changes: Record<string, string | number | null>): string {
	const q = new URLSearchParams(place.value.query);
	for (const [k, v] of Object.entries(changes)) {
		if (v === null || v === "") q.delete(k);
		else q.set(k, String(v));
	}
	const text = q.toString();
	return place.value.path + (text ? "?" + text : "");
}

export function qs(params: Record<string, string | number | null | undefined>): string {
	const q = new URLSearchParams();
	for (const [k, v] of Object.entries(params))
		if (v !== null && v !== undefined && v !== "") q.set(k, String(v));
	const text = q.toString();
	return text ? "?" + text : "";
}

/** Plain left clicks on our own links stay in the page; everything else is the browser's. */
export function startRouter(): void {
	addEventListener("popstate", () => {
		const before = place.peek().path;
		place.value = here();
		if (place.value.path !== before) turned.value = turned.peek() + 1;
	});
	document.addEventListener("click", (e) => {
		if (e.defaultPrevented || e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
		const a = (e.target as Element | null)?.closest?.("a");
		if (!a || a.target || a.hasAttribute("download") || a.origin !== location.origin) return;
		if (a.pathname.startsWith("/api/")) return;
		if (a.hash && a.pathname === location.pathname && a.search === location.search) return;
		e.preventDefault();
		go(a.pathname + a.search);
	});
}
