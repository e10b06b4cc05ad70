/** Preferences of this browser: theme, time zone, shortcuts. Kept in localStorage, never sent. */
import { effect, signal } from "@preact/signals";

export type Theme = "auto" | "light" | "dark";
export type Zone = "local" | "utc";

function stored<T extends string>(key: string, allowed: readonly T[], fallback: T): T {
	try {
		const v = localStorage.getItem("pawl." + key) as T | null;
		return v !== null && allowed.includes(v) ? v : fallback;
	} catch {
		return fallback;
	}
}

function keep(key: string, value: string): void {
	try {
		localStorage.setItem("pawl." + key, value);
	} catch {
		/* private mode: the choice lasts as long as the page */
	}
}

export const theme = signal<Theme>(stored("theme", ["auto", "light", "dark"], "auto"));
export const zone = signal<Zone>(stored("zone", ["local", "utc"], "local"));
export const notices = signal<"on" | "off">(stored("notices", ["on", "off"], "off"));
export const shortcuts = signal<"on" | "off">(stored("shortcuts", ["on", "off"], "on"));

export function startPrefs(): void {
	effect(() => {
		keep("theme", theme.value);
		const root = document.documentElement;
		if (theme.value === "auto") delete root.dataset.theme;
		else root.dataset.theme = theme.value;
	});
	effect(() => keep("zone", zone.value));
	effect(() => keep("shortcuts", shortcuts.value));
	effect(() => keep("notices", notices.value));
}

export function cycleTheme(): void {
	theme.value = theme.value === "auto" ? "light" : theme.value === "light" ? "dark" : "auto";
}
