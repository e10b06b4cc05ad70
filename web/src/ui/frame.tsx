/** The frame round every page: skip link, navigation, live pill, zone and theme switches, help. */
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { lastAnswer, reachable, send, session } from "../lib/api";
import { seen, unread } from "../lib/feed";
import { fmtClock, tick, zoneLabel } from "../lib/fmt";
import { startNotices } from "../lib/notify";
import { cycleTheme, theme, zone } from "../lib/prefs";
import { useQuery } from "../lib/query";
import { go, place, turned } from "../lib/router";
import type { Notice } from "../lib/schema";
import type { List } from "../lib/types";
import { link, listen, paused, pending, setPaused } from "../live/client";
import { moveRow, useKeys } from "./keys";
import { Dialogs } from "./dialog";
import { Help, helpOpen } from "./help";
import { Operations } from "./operations";
import { Toast } from "./toast";

const NAV: [string, string, string][] = [
	["/", "Overview", "M2.5 7.5 8 3l5.5 4.5V13h-4V9.5h-3V13h-4z"],
	["/runs", "Runs", "M3 4h10M3 8h10M3 12h6"],
	["/workers", "Workers", "M3 3.5h10v4H3zM3 9.5h10v3H3zM5.5 5.5h.1M5.5 11h.1"],
	["/data", "Data", "M3 4.5c0-2 10-2 10 0v7c0 2-10 2-10 0zM3 4.5c0 2 10 2 10 0M3 8c0 2 10 2 10 0"],
	["/checkpoints", "Checkpoints", "M4 2.5h8v11L8 10.5l-4 3z"],
	["/compare", "Compare", "M3 13V8m3.5 5V3.5M10 13V6m3 7V10"],
];

function active(path: string): boolean {
	const p = place.value.path;
	if (path === "/") return p === "/";
	if (path === "/runs") return p.startsWith("/runs") || p.startsWith("/jobs");
	return p.startsWith(path);
}

function LivePill() {
	const away = !reachable.value || link.value === "connecting";
	const state = paused.value ? "paused" : !reachable.value ? "offline" : link.value === "connecting" ? "connecting" : link.value;
	const words: Record<string, string> = {
		paused: pending.value ? `Paused, ${pending.value} new` : "Paused",
		offline: "Offline",
		connecting: "Reconnecting",
		polling: "Polling",
		live: "Live",
	};
	return (
		<button class={`pill pill-${state}`} onClick={() => setPaused(!paused.value)} aria-pressed={paused.value} title={paused.value ? "Updates stand still. Press to go on (p)" : "Press to stop updates (p)"}>
			<i aria-hidden="true" />
			<span>{words[state]}</span>
			<span class="sr" role="status">{away ? "connection lost" : ""}</span>
		</button>
	);
}

/** Shown when what is on screen may be old; waits a moment so that a short gap makes no noise. */
function StaleBanner() {
	void tick.value;
	const since = useRef(0);
	const away = !reachable.value;
	if (!away) since.current = 0;
	else if (!since.current) since.current = Date.now();
	if (!away || Date.now() - since.current < 1500) return null;
	return (
		<div class="stale" role="status">
			The server cannot be reached. What you see is from <b class="num">{fmtClock(lastAnswer.value)}</b>; the page tries again by itself.
		</div>
	);
}

function ThemeButton() {
	const t = theme.value;
	return (
		<button class="icon-btn" onClick={cycleTheme} aria-label={`Theme: ${t}. Press to change`} title={`Theme: ${t}`}>
			<svg class="glyph" viewBox="0 0 16 16" aria-hidden="true">
				{t === "light" ? <><circle cx="8" cy="8" r="3" /><path d="M8 1.5v1.5M8 13v1.5M1.5 8H3M13 8h1.5M3.4 3.4l1 1M11.6 11.6l1 1M3.4 12.6l1-1M11.6 4.4l1-1" /></>
					: t === "dark" ? <path d="M13 9.5A5.5 5.5 0 0 1 6.5 3a5.5 5.5 0 1 0 6.5 6.5z" />
						: <><circle cx="8" cy="8" r="5.5" /><path d="M8 2.5a5.5 5.5 0 0 1 0 11z" class="fill" /></>}
			</svg>
		</button>
	);
}

function Account() {
	const s = session.value;
	if (!s) return null;
	const out = async (): Promise<void> => {
		await send("DELETE", "/session").catch(() => undefined);
		session.value = false;
		go("/login");
	};
	return (
		<details class="menu">
			<summary>
				<span class="wide-only">{s.user || "account"}</span>
				<svg class="glyph" viewBox="0 0 16 16" aria-label="Account"><circle cx="8" cy="5.5" r="2.6" /><path d="M3 13.5c0-5 10-5 10 0" /></svg>
			</summary>
			<div class="menu-box">
				<p><b>{s.user}</b><br /><span class="dim">{s.role}</span></p>
				<a href="/settings">Settings</a>
				<button class="link-btn" onClick={() => { helpOpen.value = true; }}>Keyboard help</button>
				<button class="link-btn" onClick={out}>Log out</button>
			</div>
		</details>
	);
}

/** How many notices this browser has not been shown. */
function Bell() {
	const q = useQuery<List<Notice>>("/notices?limit=50", { topics: ["notices"], on: (e) => e.type === "notice", every: 120_000 });
	const n = unread(q.data?.items, seen.value);
	return (
		<a class="icon-btn bell" href="/notices" aria-label={n ? `Notices, ${n} new` : "Notices"} title={n ? `${n} new notices` : "Notices"}>
			<svg class="glyph" viewBox="0 0 16 16" aria-hidden="true"><path d="M3.5 11.5h9c-1.2-1.2-1.2-2.4-1.2-4.3C11.3 4.8 10 3.3 8 3.3S4.7 4.8 4.7 7.2c0 1.9 0 3.1-1.2 4.3zM6.7 13.5h2.6" /></svg>
			{n > 0 && <span class="count num" aria-hidden="true">{n > 49 ? "50+" : n}</span>}
		</a>
	);
}

function Search() {
	const [text, setText] = useState("");
	const submit = (e: Event): void => {
		e.preventDefault();
		const t = text.trim();
		if (!t) return;
		if (/^r[a-z0-9]+\.\d+\.[a-z]+\.\d+\.\d+$/.test(t)) go(`/jobs/${t}`);
		else if (/^[0-9a-f]{64}$/.test(t)) go(`/checkpoints?digest=${t}`);
		else go(`/runs?q=${encodeURIComponent(t)}`);
		setText("");
		(document.activeElement as HTMLElement | null)?.blur();
	};
	return (
		<form class="search" role="search" onSubmit={submit}>
			<input id="global-search" type="search" placeholder="Find a run or job" aria-label="Find a run by name or id, or a job by id" value={text} onInput={(e) => setText(e.currentTarget.value)} />
			<kbd aria-hidden="true">/</kbd>
		</form>
	);
}

/** All menus but the one that `inside` lies in; whether there was one. The focus goes back to what opened it. */
function closeMenus(inside?: Element | null): boolean {
	const open = [...document.querySelectorAll("details.menu[open]")].filter((d) => !inside || !d.contains(inside));
	for (const d of open) {
		if (d.contains(document.activeElement)) d.querySelector("summary")?.focus();
		d.removeAttribute("open");
	}
	return open.length > 0;
}

export function Frame({ children }: { children: ComponentChildren }) {
	const main = useRef<HTMLElement>(null);
	useEffect(() => {
		if (turned.value > 0) main.current?.focus({ preventScroll: true });
		closeMenus();
	}, [turned.value]);
	useEffect(() => {
		const outside = (e: Event): void => void closeMenus(e.target as Element);
		document.addEventListener("pointerdown", outside);
		return () => document.removeEventListener("pointerdown", outside);
	}, []);
	useEffect(() => listen(["runs"], () => undefined), []);
	useEffect(startNotices, []);
	useKeys({
		"/": () => (document.querySelector<HTMLElement>("[data-search]") ?? document.getElementById("global-search"))?.focus(),
		"?": () => { helpOpen.value = true; },
		j: () => moveRow(1),
		k: () => moveRow(-1),
		p: () => setPaused(!paused.value),
		t: () => cycleTheme(),
		n: () => go("/runs/new"),
		Escape: () => {
			if (!closeMenus()) (document.activeElement as HTMLElement | null)?.blur?.();
		},
	}, true);
	return (
		<>
			<a class="skip" href="#main" onClick={(e) => { e.preventDefault(); main.current?.focus(); }}>Skip to the content</a>
			<header class="top">
				<a class="brand" href="/" aria-label="Pawl, overview">
					<svg viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="7" class="brand-bg" /><path d="M7 23V12l5 4V9l5 4V6l8 8v9z" class="brand-saw" /><path d="M7 26.5h18" class="brand-line" /></svg>
					<span>Pawl</span>
				</a>
				<nav class="nav" aria-label="Main">
					{NAV.map(([href, word, d]) => (
						<a key={href} href={href} aria-current={active(href) ? "page" : undefined}>
							<svg class="glyph" viewBox="0 0 16 16" aria-hidden="true"><path d={d} /></svg>
							<span>{word}</span>
						</a>
					))}
				</nav>
				<div class="top-tools">
					<Search />
					<LivePill />
					<Bell />
					<button class="text-btn num" onClick={() => { zone.value = zone.value === "utc" ? "local" : "utc"; }} title={`Times are shown in ${zoneLabel()}. Press to switch.`}>
						{zone.value === "utc" ? "UTC" : "Local"}
					</button>
					<ThemeButton />
					<Account />
				</div>
			</header>
			<StaleBanner />
			<main id="main" ref={main} tabIndex={-1}>{children}</main>
			<Operations />
			<Dialogs />
			<Help />
			<Toast />
		</>
	);
}
