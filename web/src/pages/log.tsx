/**
 * The log of one attempt, opened at its tail. It holds a window of at most WINDOW bytes, however
 * large the log is: scrolling up or down moves the window, follow keeps it at the end by long
 * polling, search runs on the server and jumps to a place by its offset.
 */
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { Copy } from "../ui/bits";
import { useKeys } from "../ui/keys";
import { call, problemText } from "../lib/api";
import { fmtBytes, fmtInt } from "../lib/fmt";
import { append, endOf, level, linesOf, prepend, type Chunk, type Level, type LogLine } from "../lib/log_text";
import { query, setQuery } from "../lib/router";
import { paused } from "../live/client";
import { Hits, marked, saveText, useFind } from "./log_find";

const TAIL = 64 * 1024;
const STEP = 128 * 1024;
const WINDOW = 512 * 1024;
const WAIT_S = 20;
/** Lines whose offsets share a block are drawn together, and only while they are near the screen. */
const BLOCK = 8 * 1024;
const NEAR_PX = 300;

async function fetchChunk(base: string, offset: number, limit: number, wait = 0, abort?: AbortSignal): Promise<Chunk> {
	const r = await call(`${base}?offset=${offset}&limit=${limit}${wait ? `&wait=${wait}` : ""}`, { raw: true, signal: abort });
	const bytes = new Uint8Array(await r.arrayBuffer());
	const size = Number(r.headers.get("X-Log-Size") ?? bytes.length);
	return { start: Number(r.headers.get("X-Log-Offset") ?? (offset < 0 ? Math.max(0, size - bytes.length) : offset)), size, bytes };
}

interface View {
	chunk: Chunk | null;
	error: string;
	follow: boolean;
	setFollow: (on: boolean) => void;
	older: () => void;
	newer: () => void;
	jump: (offset: number) => void;
}

/** The window and what moves it. Moving never runs twice at once. */
function useWindow(base: string, live: boolean, box: { current: HTMLElement | null }): View {
	const [chunk, set] = useState<Chunk | null>(null);
	const [follow, setFollow] = useState(true);
	const [error, setError] = useState("");
	const now = useRef({ chunk, follow, moving: false });
	now.current.chunk = chunk;
	now.current.follow = follow;
	useEffect(() => {
		const abort = new AbortController();
		const nap = (t: number): Promise<void> => new Promise((ok) => setTimeout(ok, t));
		const loop = async (): Promise<void> => {
			while (!abort.signal.aborted) {
				const have = now.current.chunk;
				const whole = have && !live && endOf(have) >= have.size;
				if (document.hidden || paused.value || whole || (have && !now.current.follow)) {
					await nap(500);
					continue;
				}
				const began = Date.now();
				try {
					const next = await fetchChunk(base, have ? endOf(have) : -TAIL, have ? STEP : TAIL, have && live ? WAIT_S : 0, abort.signal);
					setError("");
					if (now.current.follow || !now.current.chunk) set((old) => append(old, next, WINDOW));
					if (!next.bytes.length) await nap(Math.max(0, 2000 - (Date.now() - began)));
				} catch (e) {
					if (abort.signal.aborted) return;
					setError(problemText(e));
					await nap(5000);
				}
			}
		};
		void loop();
		return () => abort.abort();
	}, [base, live]);
	// What grows above the line under the eye must not push it away.
	const eye = useRef<{ at: string; y: number } | null>(null);
	useLayoutEffect(() => {
		const mark = eye.current;
		const line = mark && box.current?.querySelector(`[data-at="${mark.at}"]`);
		if (mark && line && box.current) box.current.scrollTop += line.getBoundingClientRect().top - mark.y;
		eye.current = null;
	}, [chunk]);
	const look = (): void => {
		const el = box.current;
		const edge = el?.getBoundingClientRect().top ?? 0;
		const line = el && [...el.querySelectorAll<HTMLElement>("[data-at]")].find((x) => x.getBoundingClientRect().bottom > edge);
		eye.current = line ? { at: line.dataset.at!, y: line.getBoundingClientRect().top } : null;
	};
	const move = (from: number, limit: number, put: (old: Chunk | null, got: Chunk) => Chunk): void => {
		if (now.current.moving || limit <= 0) return;
		now.current.moving = true;
		fetchChunk(base, from, limit)
			.then((got) => {
				look();
				set((old) => put(old, got));
			})
			.catch((e: unknown) => setError(problemText(e)))
			.finally(() => { now.current.moving = false; });
	};
	return {
		chunk, error, follow,
		setFollow: (on) => {
			if (on && chunk && endOf(chunk) < chunk.size) set(null);
			setFollow(on);
		},
		older: () => {
			if (!chunk?.start) return;
			setFollow(false);
			const from = Math.max(0, chunk.start - STEP);
			move(from, chunk.start - from, (old, got) => (old ? prepend(old, got, WINDOW) : got));
		},
		newer: () => chunk && move(endOf(chunk), STEP, (old, got) => append(old, got, WINDOW)),
		jump: (offset) => {
			setFollow(false);
			if (chunk && offset >= chunk.start && offset < endOf(chunk)) set({ ...chunk });
			else move(Math.max(0, offset - STEP / 2), STEP, (_, got) => got);
		},
	};
}

const LEVELS: [Level, string][] = [["", "all"], ["warn", "warnings"], ["bad", "errors"]];

function Lines({ lines, find, at }: { lines: LogLine[]; find: string; at: number }) {
	const blocks = new Map<number, LogLine[]>();
	for (const l of lines) {
		const k = Math.floor(l.offset / BLOCK);
		const b = blocks.get(k);
		if (b) b.push(l);
		else blocks.set(k, [l]);
	}
	return (
		<pre>
			{[...blocks].map(([k, b]) => (
				<div key={k} class="log-block">
					{b.map((l) => <span key={l.offset} data-at={l.offset} class={`${level(l.text) && "log-" + level(l.text)} ${l.offset === at ? "log-here" : ""}`}>{marked(l.text, find)}{"\n"}</span>)}
				</div>
			))}
		</pre>
	);
}

export function LogView({ job, attempt, live }: { job: string; attempt: number; live: boolean }) {
	const base = `/jobs/${encodeURIComponent(job)}/attempts/${attempt}/log`;
	const box = useRef<HTMLDivElement>(null);
	const field = useRef<HTMLInputElement>(null);
	const w = useWindow(base, live, box);
	const { chunk, follow } = w;
	const [only, setOnly] = useState(false);
	const wrap = query("wrap") !== "0";
	const least = query("level") as Level;
	const find = query("find");
	const here = useRef(-1);
	const found = useFind(base, find, (h) => {
		here.current = h.offset;
		w.jump(h.offset);
	});
	const lines = useMemo(() => (chunk ? linesOf(chunk) : []), [chunk]);
	const shown = least ? lines.filter((l) => level(l.text) === "bad" || (least === "warn" && level(l.text))) : lines;
	useEffect(() => {
		const el = box.current;
		if (el && follow) el.scrollTop = el.scrollHeight;
	}, [chunk, follow, wrap, least]);
	// Blocks get their true height when they come near the screen; the end is still the end.
	const stay = useRef(follow);
	stay.current = follow;
	useEffect(() => {
		const el = box.current;
		if (!el) return;
		const o = new ResizeObserver(() => {
			if (stay.current) el.scrollTop = el.scrollHeight;
		});
		for (const x of [el, el.querySelector("pre")]) if (x) o.observe(x);
		return () => o.disconnect();
	}, []);
	const top = useRef(0);
	const target = useRef(-1);
	useEffect(() => {
		if (here.current < 0 || here.current === target.current) return;
		const line = box.current?.querySelector(`[data-at="${here.current}"]`);
		if (!line) return;
		target.current = here.current;
		line.scrollIntoView({ block: "center" });
	}, [chunk, found.at]);
	const scrolled = (): void => {
		const el = box.current;
		if (!el || !chunk) return;
		const below = el.scrollHeight - el.scrollTop - el.clientHeight;
		const up = el.scrollTop < top.current;
		top.current = el.scrollTop;
		if (below < 24 && endOf(chunk) >= chunk.size) {
			if (!follow && live) w.setFollow(true);
		} else if (up && below > 48 && follow) w.setFollow(false);
		if (below < NEAR_PX && endOf(chunk) < chunk.size && !follow) w.newer();
		if (el.scrollTop < NEAR_PX && chunk.start > 0 && !follow) w.older();
	};
	const step = (by: number): void => found.go(found.at < 0 ? (by > 0 ? 0 : -1) : found.at + by);
	useKeys({ f: () => w.setFollow(!follow), n: () => step(1), N: () => step(-1), g: () => w.jump(0), G: () => w.setFollow(true) });
	const text = (): string => (only && find ? found.hits : shown).map((l) => l.text).join("\n") + "\n";
	const name = `${job}.${attempt}`;
	return (
		<section class="card log-card">
			<header class="card-head">
				<h2>Log of attempt {attempt}</h2>
				<span class="dim num">{chunk ? fmtBytes(chunk.size) : ""}</span>
				<div class="row tools grow-right wrap">
					<input ref={field} type="search" data-search class="small-input" placeholder="Find in the whole log" aria-label="Find in the whole log" value={find} onInput={(e) => setQuery({ find: e.currentTarget.value })} onKeyDown={(e) => e.key === "Enter" && (e.preventDefault(), step(e.shiftKey ? -1 : 1))} />
					{find && <span class="dim num" role="status">{found.busy ? "searching…" : `${found.at >= 0 ? `${found.at + 1} of ` : ""}${fmtInt(found.hits.length)}${found.more ? "+" : ""}`}</span>}
					{find && <span class="row tight"><button class="btn small" aria-label="Previous match" title="Previous match (N)" onClick={() => step(-1)}>↑</button><button class="btn small" aria-label="Next match" title="Next match (n)" onClick={() => step(1)}>↓</button><button class="chip" aria-pressed={only} onClick={() => setOnly(!only)}>only these</button></span>}
					<select aria-label="Level" value={least} onChange={(e) => setQuery({ level: e.currentTarget.value })}>{LEVELS.map(([k, word]) => <option key={k} value={k}>{word}</option>)}</select>
					<button class="chip" aria-pressed={!wrap ? "false" : "true"} onClick={() => setQuery({ wrap: wrap ? "0" : null })}>Wrap</button>
					<button class="icon-btn" aria-label="To the top" title="To the top (g)" onClick={() => { w.jump(0); box.current?.scrollTo(0, 0); }}>⇱</button>
					<button class="chip" aria-pressed={follow} title="Stay at the end (f)" onClick={() => w.setFollow(!follow)}>{live ? "Follow" : "At end"}</button>
					<Copy text={text} what="the shown lines" />
					{(least || (only && find)) && <button class="btn small" onClick={() => saveText(`${name}.part.log`, text())}>Save these</button>}
					<a class="btn small" href={`/api/v1${base}/content`} download={`${name}.log`}>Download</a>
				</div>
			</header>
			{(w.error || found.error) && <p class="field-error pad" role="status">{w.error || found.error}</p>}
			{only && find ? <Hits found={found} mark={(t) => marked(t, find)} /> : null}
			<div ref={box} class={`log ${wrap ? "wrap" : ""} ${only && find ? "log-low" : ""}`} tabIndex={0} role="log" aria-live="off" aria-label={`Log of attempt ${attempt}`} onScroll={scrolled}>
				{chunk && chunk.start > 0 && <button class="btn small" onClick={w.older}>Earlier ({fmtBytes(chunk.start)})</button>}
				{chunk && !chunk.bytes.length && <p class="dim">{live ? "Nothing written yet." : "This attempt wrote no log."}</p>}
				{chunk && least && !shown.length && <p class="dim">No such line in the {fmtBytes(chunk.bytes.length)} shown; search looks through all of it.</p>}
				<Lines lines={shown} find={find} at={here.current} />
			</div>
		</section>
	);
}
