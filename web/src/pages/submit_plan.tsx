/** What the run would do: jobs per stage from the server's own planner, hours and cost by an earlier run. */
import { fmtDuration, fmtInt, fmtMoney } from "../lib/fmt";
import { basisOf, estimate, type PlanStage } from "../lib/estimate";
import { useQuery } from "../lib/query";
import { stageWord } from "../lib/states";
import type { List, Run, Worker } from "../lib/types";

export interface Plan { stages?: PlanStage[]; total_jobs?: number }

function Costs({ stages, from }: { stages: PlanStage[]; from: string }) {
	const runs = useQuery<List<Run>>("/runs?limit=50", { every: 0 });
	const workers = useQuery<List<Worker>>("/workers", { every: 0 });
	if (!runs.data) return null;
	const e = estimate(stages, basisOf(runs.data.items, from));
	if (!e) return <p class="dim small pad-x">Hours and cost are estimated from a finished run; there is none yet.</p>;
	const hands = (workers.data?.items ?? []).filter((w) => w.state === "idle" || w.state === "busy").length;
	return (
		<div class="plan-cost">
			<p class="plan-total"><b class="num">≈ {e.hours < 0.1 ? e.hours.toFixed(2) : e.hours.toFixed(1)}</b> worker-hours{e.cost !== null && <> · <b class="num">{fmtMoney(e.cost)}</b></>}</p>
			<p class="dim small pad-x">From what each job took in <a href={`/runs/${e.basis.id}`}>{e.basis.name || e.basis.id}</a>{e.cost === null ? ", whose workers had no price" : ""}{hands ? `; at best ${fmtDuration((e.hours * 3600) / hands)} on the ${fmtInt(hands)} connected` : ""}.{e.unknown.length ? ` Nothing is known of ${e.unknown.map(stageWord).join(", ")}.` : ""}</p>
		</div>
	);
}

export function PlanRail({ plan, busy, stale, from }: { plan: Plan | null; busy: boolean; stale: boolean; from: string }) {
	const stages = plan?.stages ?? [];
	const iters = [...new Set(stages.map((s) => s.iter))].sort((a, b) => a - b);
	const guess = stages.some((s) => s.estimate);
	return (
		<section class={`card plan ${stale && plan ? "fading" : ""}`} aria-busy={busy} aria-live="polite">
			<header class="card-head"><h2>Plan</h2><span class="dim small">{busy ? "checking…" : plan ? "dry run" : ""}</span></header>
			{!plan ? <p class="dim pad">The plan appears when the required fields are filled in.</p> : (
				<>
					<p class="plan-total"><b class="num">{guess ? "≈ " : ""}{fmtInt(plan.total_jobs ?? stages.reduce((n, s) => n + s.jobs, 0))}</b> jobs</p>
					<table class="plain">
						<tbody>
							{iters.map((i) => (
								<tr key={i}>
									<th scope="row">{i === 0 ? "Seed" : `Iteration ${i}`}</th>
									<td>{stages.filter((s) => s.iter === i).map((s) => <span key={s.stage} class="plan-stage">{stageWord(s.stage)} <b class="num">{s.estimate ? "≈" : ""}{fmtInt(s.jobs)}</b></span>)}</td>
								</tr>
							))}
						</tbody>
					</table>
					<Costs stages={stages} from={from} />
					<p class="dim small pad-x">Counts marked ≈ follow from results not there yet. Finished results of equal earlier jobs are used again.</p>
				</>
			)}
		</section>
	);
}
