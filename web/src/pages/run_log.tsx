/** The logs of every attempt of a run as one, by time: opened at its end, older lines on request, searched by the server. */
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { Empty, ErrorCard, Skeleton } from "../ui/bits";
import { Field } from "../ui/field";
import { getJson } from "../lib/api";
import { fmtBytes, fmtClock, fmtTime, plural } from "../lib/fmt";
import { clean, level } from "../lib/log_text";
import { lineKey, mergeLines } from "../lib/merged";
import { useQuery } from "../lib/query";
import { hrefWith, qs, query } from "../lib/router";
import type { LogLine } from "../lib/schema";
import { runEnded, STAGES, stageWord } from "../lib/states";
import type { Run } from "../lib/types";
import { splitJob } from "../lib/wire";
import { eventRun } from "../live/client";
import { marked } from "./log_find";

interface Page { items: LogLine[]; next_cursor: string | null; sources: number; bytes: number }

/** So many lines stay in the page; the oldest go first, the server has them. */
const KEEP = 4000;
const REFRESH_MS = 5000;

function useLines(path: string, live: boolean): { lines: LogLine[]; page: Page | undefined; older: (() => void) | null; error: unknown; reload: () => void } {
	const q = useQuery<Page>(path, { every: live ? REFRESH_MS : 0, topics: [], on: (e) => live && e.type === "log" && path.includes(`/${eventRun(e)}/`) });
	const [held, set] = useState<{ path: string; lines: LogLine[]; cursor: string | null; back: boolean } | null>(null);
	const [error, setError] = useState<unknown>(undefined);
	useEffect(() => {
		if (!q.data || q.previous) return;
		set((h) => {
			if (h?.path !== path) return { path, lines: q.data!.items, cursor: q.data!.next_cursor, back: false };
			const lines = mergeLines(h.lines, q.data!.items);
			return { ...h, lines: h.back ? lines : lines.slice(-KEEP) };
		});
	}, [q.data, q.previous, path]);
	const mine = held?.path === path ? held : null;
	const older = (): void => {
		getJson<Page>(`${path}${path.includes("?") ? "&" : "?"}cursor=${encodeURIComponent(mine!.cursor!)}`)
			.then((p) => set((h) => (h?.path === path ? { path, lines: mergeLines(h.lines, p.items), cursor: p.next_cursor, back: true } : h)))
			.catch(setError);
	};
	return { lines: mine?.lines ?? [], page: mine ? q.data : undefined, older: mine?.cursor ? older : null, error: q.error ?? error, reload: q.reload };
}

const shortJob = (id: string): string => {
	const w = splitJob(id);
	return `${w.iter}.${w.stage}.${w.shard}${w.stage === "judge" ? `.${w.pass}` : ""}`;
};

function Row({ l, above, find }: { l: LogLine; above: LogLine | undefined; find: string }) {
	const other = l.job !== above?.job || l.attempt !== above.attempt;
	return (
		<span class={`mline ${level(l.text) && "log-" + level(l.text)}`}>
			<span class="dim num" title={fmtTime(l.at, true)}>{fmtClock(l.at)}</span>
			<a class={other ? "" : "again"} href={`/jobs/${encodeURIComponent(l.job)}?attempt=${l.attempt}`} tabIndex={other ? 0 : -1}>{shortJob(l.job)} #{l.attempt}</a>
			<span class="wrap-any">{marked(clean(l.text), find)}{l.cut && <span class="dim"> … longer</span>}</span>
		</span>
	);
}

export function LogTab({ run }: { run: Run }) {
	const stage = query("stage");
	const job = query("job");
	const find = query("find");
	const path = `/runs/${encodeURIComponent(run.id)}/log` + qs({ stage, job, q: find });
	const { lines, page, older, error, reload } = useLines(path, !runEnded(run.state));
	const box = useRef<HTMLDivElement>(null);
	const end = useRef(true);
	const first = lines[0] && lineKey(lines[0]);
	const before = useRef({ first, high: 0 });
	// At its end it stays there; where older lines came above, what was read stays under the eye.
	useLayoutEffect(() => {
		const el = box.current;
		if (!el) return;
		if (end.current) el.scrollTop = el.scrollHeight;
		else if (before.current.first !== first) el.scrollTop += el.scrollHeight - before.current.high;
		before.current = { first, high: el.scrollHeight };
	}, [lines]);
	const look = (): void => {
		const el = box.current!;
		end.current = el.scrollHeight - el.scrollTop - el.clientHeight < 30;
	};
	// A busy browser says late that one has scrolled.
	const back = (): void => { look(); older!(); };
	const stages = useMemo(() => STAGES.filter((s) => (run.stages ?? []).some((x) => x.stage === s)), [run.stages]);
	return (
		<>
			<div class="row wrap tools">
				<div class="chips" role="group" aria-label="Stage">
					<a class="chip" aria-current={!stage && !job ? "true" : undefined} href={hrefWith({ stage: null, job: null })}>every stage</a>
					{job && <a class="chip" aria-current="true" title="Every job" href={hrefWith({ job: null })}>{job} ✕</a>}
					{stages.map((s) => <a key={s} class="chip" aria-current={stage === s ? "true" : undefined} href={hrefWith({ stage: s, job: null })}>{stageWord(s)}</a>)}
				</div>
				<Field name="find" label="Only lines with" wide />
				{page && <span class="dim num grow-right">{plural(page.sources, "log")}, {fmtBytes(page.bytes)}</span>}
				<a class="btn small" href={`/api/v1/runs/${encodeURIComponent(run.id)}/log/content` + qs({ stage, job, q: find })} download={`${run.id}.log`}>{find || stage || job ? "Download these" : "Download"}</a>
			</div>
			{error !== undefined && <ErrorCard error={error} retry={reload} />}
			{!page ? error === undefined && <Skeleton lines={10} /> : !lines.length ? (
				<Empty title={find ? "No line has that text" : "Nothing was logged yet"}>{older ? <p><button class="btn small" onClick={older}>Look further back</button></p> : <p>Workers send their logs while they work.</p>}</Empty>
			) : (
				<div class="log merged card" ref={box} onScroll={look} tabIndex={0} role="log" aria-label="Merged log">
					<p>{older ? <button class="btn small" onClick={back}>Older lines</button> : <span class="dim small">The beginning.</span>}</p>
					{lines.map((l, i) => <Row key={lineKey(l)} l={l} above={lines[i - 1]} find={find} />)}
				</div>
			)}
		</>
	);
}
