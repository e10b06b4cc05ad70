/** What happened in a run: as it happens, and back as far as the server keeps events. */
import { useEffect, useMemo, useState } from "preact/hooks";
import { Empty, ErrorCard, Skeleton } from "../ui/bits";
import { getJson } from "../lib/api";
import { fmtClock, fmtTime } from "../lib/fmt";
import { useQuery } from "../lib/query";
import { qs, query, setQuery } from "../lib/router";
import type { Event } from "../lib/schema";
import { lookOf } from "../lib/states";
import type { List, Run } from "../lib/types";
import { jobWords, sentence } from "../lib/wire";
import { eventJob, eventRun, listen } from "../live/client";
import type { StreamEvent } from "../live/stream";

interface Line { key: string; at: number; type: string; what: string; text: string; state: string; job: string }

export function lineOf(e: StreamEvent): Line {
	const d = { ...e.data, ...((e.data.data ?? {}) as Record<string, unknown>) } as Record<string, unknown>;
	const job = eventJob(e);
	const state = typeof d.state === "string" ? d.state : "";
	const progress = d.progress as { done?: number; total?: number; unit?: string } | undefined;
	const parts = [
		progress && typeof progress === "object" && progress.total ? `${progress.done} / ${progress.total} ${progress.unit ?? ""}` : "",
		typeof d.step === "number" ? `step ${d.step}` : "",
		typeof d.attempt === "number" ? `attempt ${d.attempt}` : "",
		typeof d.worker === "string" ? d.worker : "",
		sentence(d.reason),
	];
	const stamp = /^(\d{13})-/.exec(e.id)?.[1];
	return { key: e.id || String(Math.random()), at: stamp ? Number(stamp) : Date.now(), type: e.type, what: job ? jobWords(job) : "", text: parts.filter(Boolean).join(" · "), state, job };
}

const PAGE = 100;
/** Of those that came while the page was open; the server has the others. */
const KEEP = 500;
const ofPage = (e: Event): Line => lineOf({ id: e.id, type: e.type, data: e as unknown as Record<string, unknown> });

interface Kept { path: string; items: Event[]; cursor: string | null }

/** The first page, asked anew, begins later: what is known behind it stays, unless there would be a gap. */
function joined(kept: Kept | null, path: string, first: List<Event> | undefined): Kept | null {
	if (!first) return kept;
	const known = new Set(kept?.items.map((e) => e.id));
	const fresh = first.items.filter((e) => !known.has(e.id));
	if (!kept || (fresh.length > 0 && fresh.length === first.items.length)) return { path, items: first.items, cursor: first.next_cursor ?? null };
	return { ...kept, items: [...fresh, ...kept.items] };
}

/** Pages the server has, newest first; each `more` adds an older one. */
function useHistory(path: string): { lines: Line[]; more: (() => void) | null; error: unknown; loading: boolean; reload: () => void } {
	const q = useQuery<List<Event>>(path, { every: 0 });
	const [kept, set] = useState<Kept | null>(null);
	const [error, setError] = useState<unknown>(undefined);
	const mine = useMemo(() => joined(kept?.path === path ? kept : null, path, q.data), [kept, path, q.data]);
	const lines = useMemo(() => (mine?.items ?? []).map(ofPage), [mine]);
	const more = (): void => {
		getJson<List<Event>>(`${path}&cursor=${encodeURIComponent(mine!.cursor!)}`)
			.then((d) => { setError(undefined); set({ path, items: [...mine!.items, ...d.items], cursor: d.next_cursor ?? null }); })
			.catch(setError);
	};
	return { lines, more: mine?.cursor ? more : null, error: q.error ?? error, loading: q.loading, reload: q.reload };
}

function Day({ at, above }: { at: number; above: number | undefined }) {
	const day = fmtTime(at).slice(0, 10);
	return above !== undefined && fmtTime(above).slice(0, 10) === day ? null : <li class="day">{day}</li>;
}

export function EventsTab({ run }: { run: Run }) {
	const [live, set] = useState<Line[]>([]);
	const metrics = query("metrics") === "1";
	const old = useHistory(`/runs/${encodeURIComponent(run.id)}/events` + qs({ limit: PAGE, metrics: metrics ? "1" : null }));
	useEffect(() => listen(["run:" + run.id], (e) => {
		if (e.type === "reset" || e.type === "bye" || eventRun(e) !== run.id) return;
		set((have) => (have.some((l) => l.key === e.id) ? have : [lineOf(e), ...have].slice(0, KEEP)));
	}), [run.id]);
	const known = new Set(old.lines.map((l) => l.key));
	const shown = [...live.filter((l) => !known.has(l.key) && (metrics || l.type !== "metric")), ...old.lines];
	return (
		<>
			<div class="row wrap tools">
				<label class="check"><input type="checkbox" checked={metrics} onChange={(e) => setQuery({ metrics: e.currentTarget.checked ? "1" : null })} /> Metrics too</label>
				<span class="dim">Newest first.</span>
			</div>
			{old.error !== undefined && <ErrorCard error={old.error} retry={old.reload} />}
			{old.loading && !shown.length ? <Skeleton lines={8} /> : !shown.length ? <Empty title="Listening"><p>State changes, progress and losses of this run appear here as they happen.</p></Empty> : (
				<ol class="card events">
					{shown.flatMap((l, i) => [
						<Day key={"day" + l.key} at={l.at} above={shown[i - 1]?.at} />,
						<li key={l.key}>
							<span class="num dim">{fmtClock(l.at)}</span>
							<span class={`etype tone-${lookOf(l.state).tone}`}>{l.type}</span>
							<span>{l.job ? <a href={`/jobs/${encodeURIComponent(l.job)}`}>{l.what}</a> : "run"} {l.state && <b>{lookOf(l.state).word}</b>} <span class="dim">{l.text}</span></span>
						</li>,
					])}
				</ol>
			)}
			{shown.length > 0 && <p class="row end">{old.more ? <button class="btn small" onClick={old.more}>Older</button> : <span class="dim small">The server keeps no older events of this run.</span>}</p>}
		</>
	);
}
