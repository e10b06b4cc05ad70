/** What a search for a better judge prompt tried: share of pairs in the right order, and the words changed. */
import { useState } from "preact/hooks";
import { Card } from "../ui/bits";
import { wordDiff } from "../lib/diff";
import { fmtInt, fmtPct } from "../lib/fmt";
import { useQuery } from "../lib/query";
import { hrefWith, query } from "../lib/router";
import type { Dataset, List, Run } from "../lib/types";

/** Each shows its text against the start's; more on request. */
const SHOWN = 100;

interface Candidate { id: string; parent: string | null; how: string; state: string; why: string | null; reason: string | null; text: string; trials: number; score: number | null; held_out: number | null }

function Changed({ from, to }: { from: string; to: string }) {
	return <>{wordDiff(from, to).map((w, i) => (w.kind === "same" ? w.text : w.kind === "add" ? <ins key={i}>{w.text}</ins> : <del key={i}>{w.text}</del>))}</>;
}

/** Best first; the start, what stayed, and all others on request. */
export function PromptSearch({ run }: { run: Run }) {
	const sought = run.stages?.some((s) => s.stage === "protegi");
	const sets = useQuery<List<Dataset>>(sought ? `/datasets?run=${encodeURIComponent(run.id)}&stage=protegi` : null, { every: 0 });
	const set = sets.data?.items.find((d) => d.role === "candidates");
	const q = useQuery<List<{ row?: Candidate }>>(set ? `/datasets/${set.digest}/rows?limit=500` : null, { every: 0, all: true });
	const [most, setMost] = useState(SHOWN);
	const all = (q.data?.items ?? []).map((x) => (x.row ?? x) as Candidate);
	const start = all[0];
	if (!start) return null;
	const whole = query("tried") === "1";
	const fit = all.filter((c) => whole || c === start || c.state === "winner" || c.state === "beam").sort((a, b) => (b.score ?? -1) - (a.score ?? -1));
	const shown = fit.slice(0, most);
	return (
		<Card title="Judge prompts tried">
			<table class="cards">
				<thead><tr><th>Candidate</th><th class="r">Trials</th><th class="r">Score</th><th class="r">Held out</th><th>Against the start</th></tr></thead>
				<tbody>
					{shown.map((c) => (
						<tr key={c.id} class={c.state === "winner" ? "strong-row" : ""} title={c.why ?? c.reason ?? undefined}>
							<td data-label="Candidate"><span class="num">{c.id}</span> <span class="dim small">{c.parent ? `${c.how} of ${c.parent}, ` : "start, "}{c.state}</span></td>
							<td data-label="Trials" class="r num">{fmtInt(c.trials)}</td>
							<td data-label="Score" class="r num">{fmtPct(c.score)}</td>
							<td data-label="Held out" class="r num">{fmtPct(c.held_out)}</td>
							<td data-label="Against the start" class="model-text"><Changed from={start.text} to={c.text} /></td>
						</tr>
					))}
				</tbody>
			</table>
			<p class="pad row wrap">
				{fit.length > shown.length && <button class="btn small" onClick={() => setMost(most + SHOWN)}>{fmtInt(shown.length)} of {fmtInt(fit.length)}; show more</button>}
				<a class="btn small" href={hrefWith({ tried: whole ? null : "1" })}>{whole ? "Only what stayed" : `All ${fmtInt(all.length)} tried`}</a>
			</p>
		</Card>
	);
}
