/** The lighter tabs of a run: data, checkpoints, config, events. */
import { useEffect, useState } from "preact/hooks";
import { Copy, Empty, ErrorCard, Skeleton } from "../ui/bits";
import { CheckpointTable } from "./checkpoint_table";
import { DatasetTable } from "./data_list";
import { fmtClock } from "../lib/fmt";
import { flatten } from "../lib/diff";
import { useQuery } from "../lib/query";
import { lookOf } from "../lib/states";
import type { Checkpoint, Dataset, List, Run } from "../lib/types";
import { sentence } from "../lib/wire";
import { eventJob, eventRun, listen } from "../live/client";
import type { StreamEvent } from "../live/stream";

export function DataTab({ run }: { run: Run }) {
	const q = useQuery<List<Dataset>>(`/datasets?run=${encodeURIComponent(run.id)}`, { topics: ["run:" + run.id], on: (e) => e.type === "job" && eventRun(e) === run.id });
	if (!q.data) return q.error !== undefined ? <ErrorCard error={q.error} retry={q.reload} /> : <Skeleton />;
	if (!q.data.items.length) return <Empty title="No data yet"><p>Datasets appear when the jobs that write them are done.</p></Empty>;
	return <DatasetTable items={q.data.items} />;
}

export function CheckpointsTab({ run }: { run: Run }) {
	const q = useQuery<List<Checkpoint>>(`/checkpoints?run=${encodeURIComponent(run.id)}`, { topics: ["run:" + run.id], on: (e) => e.type === "job" && eventRun(e) === run.id });
	if (!q.data) return q.error !== undefined ? <ErrorCard error={q.error} retry={q.reload} /> : <Skeleton />;
	if (!q.data.items.length) return <Empty title="No checkpoint yet"><p>The first comes from the SFT stage.</p></Empty>;
	return <CheckpointTable items={q.data.items} />;
}

export function ConfigTab({ run }: { run: Run }) {
	const text = JSON.stringify(run.spec ?? {}, null, 2);
	const rows = flatten(run.spec ?? {});
	return (
		<>
			<div class="row wrap tools">
				<Copy text={text} label="Copy JSON" what="the configuration" />
				<a class="btn small" href={`/runs/new?from=${encodeURIComponent(run.id)}`}>Open in the form</a>
				<a class="btn small" href={`/compare?diff=${encodeURIComponent(run.id)}`}>Compare with another run</a>
			</div>
			<div class="card">
				<table class="kv">
					<tbody>{rows.map(([k, v]) => <tr key={k}><th scope="row"><code>{k}</code></th><td class="num wrap-any">{v}</td></tr>)}</tbody>
				</table>
			</div>
		</>
	);
}

interface Line { key: string; at: number; type: string; what: string; text: string; state: string; job: string }

function lineOf(e: StreamEvent): Line {
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
	return { key: e.id || String(Math.random()), at: stamp ? Number(stamp) : Date.now(), type: e.type, what: job ? job.split(".").slice(1).join(" ") : "", text: parts.filter(Boolean).join(" · "), state, job };
}

const KEEP = 500;

export function EventsTab({ run }: { run: Run }) {
	const [lines, set] = useState<Line[]>([]);
	const [metrics, setMetrics] = useState(false);
	useEffect(() => listen(["run:" + run.id], (e) => {
		if (e.type === "reset" || e.type === "bye" || eventRun(e) !== run.id) return;
		set((old) => [lineOf(e), ...old].slice(0, KEEP));
	}), [run.id]);
	const shown = metrics ? lines : lines.filter((l) => l.type !== "metric");
	return (
		<>
			<div class="row wrap tools">
				<label class="check"><input type="checkbox" checked={metrics} onChange={(e) => setMetrics(e.currentTarget.checked)} /> Metrics too</label>
				<span class="dim">Newest first, the last {KEEP} since this page was opened.</span>
			</div>
			{!shown.length ? <Empty title="Listening"><p>State changes, progress and losses of this run appear here as they happen.</p></Empty> : (
				<ol class="card events">
					{shown.map((l) => (
						<li key={l.key}>
							<span class="num dim">{fmtClock(l.at)}</span>
							<span class={`etype tone-${lookOf(l.state).tone}`}>{l.type}</span>
							<span>{l.job ? <a href={`/jobs/${encodeURIComponent(l.job)}`}>{l.what}</a> : "run"} {l.state && <b>{lookOf(l.state).word}</b>} <span class="dim">{l.text}</span></span>
						</li>
					))}
				</ol>
			)}
		</>
	);
}
