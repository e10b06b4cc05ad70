/** The lighter tabs of a run: data, checkpoints, config. */
import { Copy, Empty, ErrorCard, Skeleton } from "../ui/bits";
import { CheckpointTable, RunLineage } from "./checkpoint_table";
import { DatasetTable } from "./data_list";
import { Agreement } from "./review";
import type { ReviewSummary } from "../lib/schema";
import { PromptSearch } from "./run_prompts";
import { newKey } from "../lib/api";
import { curlOf, submitCli } from "../lib/commands";
import { flatten } from "../lib/diff";
import { useQuery } from "../lib/query";
import type { Checkpoint, Dataset, List, Run } from "../lib/types";
import { eventRun } from "../live/client";

function RunReviews({ run }: { run: string }) {
	const s = useQuery<{ summary: ReviewSummary }>(`/runs/${encodeURIComponent(run)}/reviews`).data?.summary;
	return s && s.reviewed > 0 ? <section class="row wrap tools review-line" aria-label="Human review"><b>Human review</b><Agreement s={s} /><a class="btn small" href={`/api/v1/runs/${encodeURIComponent(run)}/reviews/export`} download>Reviews as JSONL</a></section> : null;
}

export function DataTab({ run }: { run: Run }) {
	const q = useQuery<List<Dataset>>(`/datasets?run=${encodeURIComponent(run.id)}`, { topics: ["run:" + run.id], on: (e) => e.type === "job" && eventRun(e) === run.id });
	if (!q.data) return q.error !== undefined ? <ErrorCard error={q.error} retry={q.reload} /> : <Skeleton />;
	if (!q.data.items.length) return <Empty title="No data yet"><p>Datasets appear when the jobs that write them are done.</p></Empty>;
	return <><RunReviews run={run.id} /><PromptSearch run={run} /><DatasetTable items={q.data.items} /></>;
}

export function CheckpointsTab({ run }: { run: Run }) {
	const q = useQuery<List<Checkpoint>>(`/checkpoints?run=${encodeURIComponent(run.id)}`, { topics: ["run:" + run.id], on: (e) => e.type === "job" && eventRun(e) === run.id });
	if (!q.data) return q.error !== undefined ? <ErrorCard error={q.error} retry={q.reload} /> : <Skeleton />;
	if (!q.data.items.length) return <Empty title="No checkpoint yet"><p>The first comes from the SFT stage.</p></Empty>;
	return <><RunLineage run={run.id} items={q.data.items} /><CheckpointTable items={q.data.items} /></>;
}

export function ConfigTab({ run }: { run: Run }) {
	const text = JSON.stringify(run.spec ?? {}, null, 2);
	const rows = flatten(run.spec ?? {});
	return (
		<>
			<div class="row wrap tools">
				<Copy text={text} label="Copy JSON" what="the configuration" />
				<Copy text={() => submitCli(text)} label="CLI" what="the command that submits it again" />
				<Copy text={() => curlOf({ method: "POST", path: "/runs", body: run.spec ?? {}, key: newKey() }, location.origin)} label="curl" what="the curl command that submits it again" />
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
