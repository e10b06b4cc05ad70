/** What the run would do: jobs per stage, from the server's own planner. */
import { fmtInt } from "../lib/fmt";
import { stageWord } from "../lib/states";

export interface PlanStage { iter: number; stage: string; jobs: number; estimate?: boolean }
export interface Plan { stages?: PlanStage[]; total_jobs?: number }

export function PlanRail({ plan, busy, stale }: { plan: Plan | null; busy: boolean; stale: boolean }) {
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
					<p class="dim small pad-x">Counts marked ≈ follow from results not there yet. Finished results of equal earlier jobs are used again.</p>
				</>
			)}
		</section>
	);
}
