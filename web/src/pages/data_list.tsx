/** Datasets: what the runs wrote, newest first; each opens in the sample browser. */
import { Empty, ErrorCard, Hash, Skeleton, Time } from "../ui/bits";
import { fmtBytes, fmtInt } from "../lib/fmt";
import { useQuery } from "../lib/query";
import { hrefWith, qs, query, setQuery } from "../lib/router";
import { stageWord, STAGES } from "../lib/states";
import type { Dataset, List, Run } from "../lib/types";

/** What people look for first: whole samples, then pairs, then what the models answered. */
const FIRST = ["samples", "pairs", "generations", "rm", "eft", "prompts"];

/** Runs stay together, in the order they came in. */
function order(runs: string[]): (a: Dataset, b: Dataset) => number {
	const f = (d: Dataset): number => (FIRST.indexOf(d.role) + 100) % 100;
	return (a, b) => runs.indexOf(a.run) - runs.indexOf(b.run) || b.iter - a.iter || f(a) - f(b) || STAGES.indexOf(a.stage) - STAGES.indexOf(b.stage) || a.job.localeCompare(b.job, undefined, { numeric: true });
}

const ABOUT: Record<string, string> = {
	samples: "every answer with its judgements", pairs: "what DPO trains on", generations: "answers to the test prompts", rm: "held-out ranked answers, judged",
	h2h: "compared with the model before", eft: "judge training data", ift: "instruction data", prompts: "prompts of the iteration", eval: "held-out ranked answers",
	test: "test prompts", responses: "answers of one shard", judgements: "one judge pass over one shard", reflogps: "reference log-probs",
	candidates: "judge prompts tried", trials: "what judge and writer answered", template: "the judge prompt found",
};

/** Sets of one shard come by the hundred and are all in `samples` too. */
const BETWEEN = new Set(["responses", "judgements", "reflogps"]);

function madeBy(d: Dataset): string {
	const [, , , shard, pass] = d.job.split(".");
	return `${stageWord(d.stage)} ${shard ?? ""}${d.stage === "judge" ? ` pass ${pass}` : ""}`;
}

/** `names`: of runs, when the sets of several stand here. */
export function DatasetTable({ items: all, names }: { items: Dataset[]; names?: Map<string, string> }) {
	const whole = query("all") === "1";
	const hidden = all.filter((d) => BETWEEN.has(d.role)).length;
	const items = whole || hidden === all.length ? all : all.filter((d) => !BETWEEN.has(d.role));
	const runs = [...new Set(items.map((d) => d.run))];
	return (
		<div class="card">
			<table class="cards sets">
				<thead><tr><th>Dataset</th>{names && <th>Run</th>}<th>Iteration</th><th>Made by</th><th class="r">Rows</th><th class="r">Size</th><th class="digest">Digest</th><th>Written</th></tr></thead>
				<tbody>
					{[...items].sort(order(runs)).map((d) => (
						<tr key={d.digest + d.job + d.role} data-row class={FIRST.indexOf(d.role) < 2 && FIRST.includes(d.role) ? "strong-row" : ""}>
							<td data-label="Dataset"><a href={`/data/${d.digest}`}>{d.role}</a> <span class="dim small">{ABOUT[d.role] ?? ""}</span></td>
							{names && <td data-label="Run"><a class="quiet" href={`/runs/${d.run}/data`}>{names.get(d.run) || d.run}</a></td>}
							<td data-label="Iteration" class="num">{d.iter === 0 ? "seed" : d.iter}</td>
							<td data-label="Made by"><a class="quiet" href={`/jobs/${encodeURIComponent(d.job)}`}>{madeBy(d)}</a></td>
							<td data-label="Rows" class="r num">{fmtInt(d.rows)}</td>
							<td data-label="Size" class="r num">{fmtBytes(d.size_bytes)}</td>
							<td data-label="Digest" class="digest"><Hash digest={d.digest} /></td>
							<td data-label="Written"><Time t={d.created_at} /></td>
						</tr>
					))}
				</tbody>
			</table>
			{hidden > 0 && hidden < all.length && <p class="pad"><a class="btn small" href={hrefWith({ all: whole ? null : "1" })}>{whole ? "Hide" : "Show"} {hidden} sets of single shards</a></p>}
		</div>
	);
}

export function DataList() {
	const run = query("run");
	const iter = query("iter");
	const stage = query("stage");
	const cursor = query("cursor");
	const runs = useQuery<List<Run>>("/runs?limit=50", { topics: ["runs"], on: (e) => e.type === "run" });
	const q = useQuery<List<Dataset>>("/datasets" + qs({ run, iter, stage, cursor, limit: 100 }), { topics: ["jobs"], on: (e) => e.type === "job" && (e.data.data as { state?: string } | undefined)?.state === "done" });
	return (
		<>
			<div class="page-head"><h1>Data</h1></div>
			<div class="row wrap tools">
				<label class="inline">Run <select value={run} onChange={(e) => setQuery({ run: e.currentTarget.value, cursor: null })}>
					<option value="">every run</option>
					{(runs.data?.items ?? []).map((r) => <option key={r.id} value={r.id}>{r.name || r.id}</option>)}
				</select></label>
				<div class="chips" role="group" aria-label="Stage">
					<a class="chip" aria-current={stage ? undefined : "true"} href={hrefWith({ stage: null, cursor: null })}>every stage</a>
					{STAGES.filter((s) => s !== "sft" && s !== "dpo").map((s) => <a key={s} class="chip" aria-current={stage === s ? "true" : undefined} href={hrefWith({ stage: s, cursor: null })}>{stageWord(s)}</a>)}
				</div>
			</div>
			{q.error !== undefined && !q.data && <ErrorCard error={q.error} retry={q.reload} />}
			{q.loading ? <Skeleton lines={6} /> : q.data && !q.data.items.length ? (
				<Empty title="No data here yet"><p>Each stage writes what it made: prompts, answers, judgements, pairs. They appear when the first job is done.</p></Empty>
			) : q.data && <div class={q.previous ? "fading" : ""}><DatasetTable items={q.data.items} names={run ? undefined : new Map((runs.data?.items ?? []).map((r) => [r.id, r.name]))} /></div>}
			<div class="row end">
				{cursor && <a class="btn small" href={hrefWith({ cursor: null })}>Newest</a>}
				{q.data?.next_cursor && <a class="btn small" href={hrefWith({ cursor: q.data.next_cursor })}>More</a>}
			</div>
		</>
	);
}
