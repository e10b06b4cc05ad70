/** Checkpoints as a table, and as the graph of how they came about. */
import { useMemo } from "preact/hooks";
import { Copy, Hash, Time } from "../ui/bits";
import { LineageGraph } from "../chart/lineage";
import { archivesOf } from "../lib/archives";
import { fmtBytes, fmtPct } from "../lib/fmt";
import { lineage } from "../lib/lineage";
import { useQuery } from "../lib/query";
import { stageWord } from "../lib/states";
import type { Checkpoint, Dataset, List } from "../lib/types";

export function curlFor(c: Pick<Checkpoint, "digest" | "volumes" | "name">): string {
	return archivesOf(c, c.name).map((a) => `curl -C - -H "Authorization: Bearer $(cat token)" -o ${a.file} ${location.origin}${a.href}`).join("\n");
}

export function isModel(c: Checkpoint): boolean {
	return !c.kind || c.kind === "checkpoint";
}

export function RunLineage({ run, items }: { run: string; items: Checkpoint[] }) {
	const q = useQuery<List<Dataset>>(`/datasets?limit=200&run=${encodeURIComponent(run)}`, { every: 0 });
	const l = useMemo(() => lineage(items, q.data?.items ?? []), [items, q.data]);
	return <LineageGraph l={l} />;
}

/** What its evaluation found, in a word. */
function headline(c: Checkpoint): string {
	const num = (k: string): number | null => (typeof c.metrics?.[k] === "number" ? (c.metrics[k] as number) : null);
	const right = num("truth.greedy_accuracy");
	const pairs = num("rm.pairwise_accuracy");
	return right !== null ? `${fmtPct(right, 0)} right` : pairs !== null ? `judges ${fmtPct(pairs, 0)} right` : "";
}

export function CheckpointTable({ items, showRun }: { items: Checkpoint[]; showRun?: boolean }) {
	const told = items.some((c) => headline(c));
	return (
		<div class="card">
			<table class="cards ckpts">
				<thead><tr><th>Checkpoint</th>{showRun && <th>Run</th>}<th>Made by</th>{told && <th class="r">Result</th>}<th class="r">Size</th><th class="digest">sha256</th><th>Written</th><th><span class="sr">Actions</span></th></tr></thead>
				<tbody>
					{items.map((c) => (
						<tr key={c.digest + c.job} data-row class={/^(M\d+|SFT)$/.test(c.name) ? "strong-row" : ""}>
							<td data-label="Checkpoint"><a href={`/checkpoints/${c.digest}`}>{c.name || "checkpoint"}</a>{!isModel(c) && <span class="dim small"> training state</span>}</td>
							{showRun && <td data-label="Run"><a class="quiet" href={`/runs/${c.run}/checkpoints`}>{c.run}</a></td>}
							<td data-label="Made by"><a class="quiet" href={`/jobs/${encodeURIComponent(c.job)}`}>{c.iter ? `iteration ${c.iter}, ` : ""}{stageWord(c.stage)} {c.job.split(".")[3]}</a></td>
							{told && <td data-label="Result" class="r num">{headline(c) || <span class="dim">–</span>}</td>}
							<td data-label="Size" class="r num">{fmtBytes(c.size_bytes)}</td>
							<td data-label="sha256" class="digest"><Hash digest={c.digest} /></td>
							<td data-label="Written"><Time t={c.created_at} /></td>
							<td class="r nowrap">{c.volumes ? <a class="btn small" href={`/checkpoints/${c.digest}`}>{c.volumes.length + 1} files</a> : <a class="btn small" href={`/api/v1/checkpoints/${c.digest}/content`} download={`${c.name.replace(/[^A-Za-z0-9._-]/g, "-")}.tar`}>Download</a>} <Copy class="wide-only" text={() => curlFor(c)} label="curl" what="the curl command; it resumes a broken download" /></td>
						</tr>
					))}
				</tbody>
			</table>
		</div>
	);
}
