/** Single-letter shortcuts, ignored while typing and with modifiers, and off when switched off. */
import { useEffect, useRef } from "preact/hooks";
import { shortcuts } from "../lib/prefs";

export type KeyMap = Record<string, (e: KeyboardEvent) => void>;

function typing(e: KeyboardEvent): boolean {
	const t = e.target as HTMLElement | null;
	return !!t && (t.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(t.tagName));
}

/** The frame's own keys come last, whatever was mounted first: a page may mean something else by one. */
const maps: { current: KeyMap }[] = [];

function onKey(e: KeyboardEvent): void {
	if (e.ctrlKey || e.metaKey || e.altKey || e.defaultPrevented) return;
	if (e.key !== "Escape" && (typing(e) || shortcuts.value === "off")) return;
	if (document.querySelector("dialog[open]")) return;
	const f = maps.find((m) => m.current[e.key])?.current[e.key];
	if (!f) return;
	if (e.key !== "Escape") e.preventDefault();
	f(e);
}

export function useKeys(map: KeyMap, frame = false): void {
	const ref = useRef(map);
	ref.current = map;
	useEffect(() => {
		if (!maps.length) addEventListener("keydown", onKey);
		if (frame) maps.push(ref);
		else maps.unshift(ref);
		return () => {
			maps.splice(maps.indexOf(ref), 1);
			if (!maps.length) removeEventListener("keydown", onKey);
		};
	}, []);
}

/** j/k move the focus through rows carrying data-row. */
export function moveRow(step: number): void {
	const rows = [...document.querySelectorAll<HTMLElement>("main [data-row]")];
	if (!rows.length) return;
	const at = rows.findIndex((r) => r.contains(document.activeElement));
	const next = rows[Math.max(0, Math.min(rows.length - 1, at < 0 ? 0 : at + step))];
	const target = next?.matches("a,button,[tabindex]") ? next : next?.querySelector<HTMLElement>("a,button");
	target?.focus();
	next?.scrollIntoView({ block: "nearest" });
}
