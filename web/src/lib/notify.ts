/** Notices of the desktop, when asked for: a run that ended, paused itself or failed, also while the page is hidden. */
import { effect } from "@preact/signals";
import { listen, eventRun } from "../live/client";
import { getJson } from "./api";
import { notices } from "./prefs";
import { lookOf } from "./states";
import type { Run } from "./types";

/** Of a run that ended or stands still until somebody comes. */
const TOLD = new Set(["done", "failed", "paused"]);

/** Null when this page can ask, else why not: browsers give notices to secure pages alone. */
export function cannotNotify(): string | null {
	if (typeof Notification === "undefined" || !isSecureContext) return "Browsers show notices for https and for localhost only.";
	return Notification.permission === "denied" ? "This browser was told to show no notices of this address." : null;
}

/** Turns them on after the browser's own question; says whether they are on. */
export async function askNotices(): Promise<boolean> {
	if (cannotNotify() || (await Notification.requestPermission()) !== "granted") return false;
	notices.value = "on";
	return true;
}

async function tell(id: string, state: string): Promise<void> {
	const run = await getJson<Run>(`/runs/${encodeURIComponent(id)}`).catch(() => null);
	// With one tag for all tabs the browser shows it once.
	const n = new Notification(`${run?.name || id}: ${lookOf(state).word}`, { tag: `pawl-${id}-${state}`, body: run?.alarm?.why ?? run?.error ?? "" });
	n.onclick = () => {
		focus();
		location.assign(`/runs/${encodeURIComponent(id)}`);
	};
}

export function startNotices(): () => void {
	let stop: (() => void) | undefined;
	const off = effect(() => {
		stop?.();
		stop = notices.value === "on" && !cannotNotify() ? listen(["runs"], (e) => {
			const inner = (e.data.data ?? {}) as Record<string, unknown>;
			const state = inner.state ?? e.data.state;
			if (e.type === "run" && typeof state === "string" && TOLD.has(state)) void tell(eventRun(e), state);
		}) : undefined;
	});
	return () => {
		off();
		stop?.();
	};
}
