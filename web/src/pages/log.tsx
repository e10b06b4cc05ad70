/**
 * The log of one attempt, opened at its tail. It holds a window of at most WINDOW bytes, however
 * large the log is; follow keeps the window at the end by long polling, search looks through it all.
 */
import { useEffect, useRef, useState } from "preact/hooks";
import { Copy } from "../ui/bits";
import { useKeys } from "../ui/keys";
import { call, problemText } from "../lib/api";
import { fmtBytes } from "../lib/fmt";
import { query, setQuery } from "../lib/router";
import { paused } from "../live/client";
import { clean, merge, type Chunk } from "../lib/log_text";

const TAIL = 64 * 1024;
const STEP = 128 * 1024;
const WINDOW = 512 * 1024;
const WAIT_S = 20;

async function fetchChunk(base: string, offset: number, limit: number, wait: number, abort: AbortSignal): Promise<Chunk> {
	const r = await call(`${base}?offset=${offset}&limit=${limit}${wait ? `&wait=${wait}` : ""}`, { raw: true, signal: abort });
	const text = await r.text();
	const size = Number(r.headers.get("X-Log-Size") ?? text.length);
	const bytes = new TextEncoder().encode(text).length;
	const start = Number(r.headers.get("X-Log-Offset") ?? (offset < 0 ? Math.max(0, size - bytes) : offset));
	return { start, end: Math.min(size, start + bytes), size, text };
}

function Marked({ line, find }: { line: string; find: string }) {
	const at = find ? line.toLowerCase().indexOf(find.toLowerCase()) : -1;
	if (at < 0) return <>{line}</>;
	return <>{line.slice(0, at)}<mark>{line.slice(at, at + find.length)}</mark>{line.slice(at + find.length)}</>;
}

export function LogView({ job, attempt, live }: { job: string; attempt: number; live: boolean }) {
	const base = `/jobs/${encodeURIComponent(job)}/attempts/${attempt}/log`;
	const [chunk, set] = useState<Chunk | null>(null);
	const [follow, setFollow] = useState(true);
	const [wrap, setWrap] = useState(true);
	const [only, setOnly] = useState(false);
	const [error, setError] = useState("");
	const box = useRef<HTMLDivElement>(null);
	const find = query("find");
	const now = useRef(chunk);
	now.current = chunk;

	useEffect(() => {
		const abort = new AbortController();
		let dead = false;
		const nap = (t: number): Promise<void> => new Promise((ok) => setTimeout(ok, t));
		const loop = async (): Promise<void> => {
			while (!dead) {
				if (document.hidden || paused.value) {
					await nap(1000);
					continue;
				}
				const began = Date.now();
				try {
					const have = now.current;
					const next = await fetchChunk(base, have ? have.end : -TAIL, have ? STEP : TAIL, have && live ? WAIT_S : 0, abort.signal);
					if (dead) return;
					setError("");
					if (!have || next.text) set((old) => merge(old, next, WINDOW));
					if (!live && next.end >= next.size) return;
					if (!next.text) await nap(Math.max(0, 2000 - (Date.now() - began)));
				} catch (e) {
					if (dead) return;
					setError(problemText(e));
					if (!live) return;
					await nap(5000);
				}
			}
		};
		void loop();
		return () => {
			dead = true;
			abort.abort();
		};
	}, [base, live]);

	useEffect(() => {
		const el = box.current;
		if (el && follow) el.scrollTop = el.scrollHeight;
	}, [chunk, follow, wrap]);

	const older = async (): Promise<void> => {
		if (!chunk || chunk.start === 0) return;
		setFollow(false);
		const from = Math.max(0, chunk.start - STEP);
		try {
			const c = await fetchChunk(base, from, chunk.start - from, 0, new AbortController().signal);
			set((old) => (old ? { ...old, start: c.start, text: c.text + old.text } : c));
		} catch (e) {
			setError(problemText(e));
		}
	};
	const scrolled = (): void => {
		const el = box.current;
		if (!el) return;
		const end = el.scrollHeight - el.scrollTop - el.clientHeight < 24;
		if (end !== follow) setFollow(end);
	};
	useKeys({ f: () => setFollow((v) => !v) });

	const lines = chunk ? clean(chunk.text).replace(/\n$/, "").split("\n") : [];
	const hits = find ? lines.filter((l) => l.toLowerCase().includes(find.toLowerCase())).length : 0;
	const shown = only && find ? lines.filter((l) => l.toLowerCase().includes(find.toLowerCase())) : lines;
	return (
		<section class="card log-card">
			<header class="card-head">
				<h2>Log of attempt {attempt}</h2>
				<span class="dim num">{chunk ? fmtBytes(chunk.size) : ""}</span>
				<div class="row tools grow-right wrap">
					<input type="search" data-search class="small-input" placeholder="Find in the log" aria-label="Find in the log" value={find} onInput={(e) => setQuery({ find: e.currentTarget.value })} />
					{find && <span class="dim num" role="status">{hits} lines</span>}
					{find && <label class="check"><input type="checkbox" checked={only} onChange={(e) => setOnly(e.currentTarget.checked)} /> only these</label>}
					<button class="chip" aria-pressed={follow} onClick={() => setFollow(!follow)}>{live ? "Follow" : "At end"}</button>
					<button class="chip" aria-pressed={wrap} onClick={() => setWrap(!wrap)}>Wrap</button>
					<Copy text={() => (chunk ? clean(chunk.text) : "")} what="the shown log" />
					<a class="btn small" href={`/api/v1${base}`} download={`${job}.${attempt}.log`}>Download</a>
				</div>
			</header>
			{error && <p class="field-error pad" role="status">{error}</p>}
			<div ref={box} class={`log ${wrap ? "wrap" : ""}`} tabIndex={0} role="log" aria-live="off" aria-label={`Log of attempt ${attempt}`} onScroll={scrolled}>
				{chunk && chunk.start > 0 && <button class="btn small" onClick={older}>Load earlier ({fmtBytes(chunk.start)})</button>}
				{chunk && !chunk.text && <p class="dim">{live ? "Nothing written yet." : "This attempt wrote no log."}</p>}
				<pre>{shown.map((l, i) => <span key={i} class={level(l)}><Marked line={l} find={find} />{"\n"}</span>)}</pre>
			</div>
		</section>
	);
}

function level(l: string): string {
	if (/\b(error|fatal|panic|failed)\b/i.test(l)) return "log-bad";
	if (/\bwarn(ing)?\b/i.test(l)) return "log-warn";
	return "";
}
