/** The jobs of a run as a table: the plain twin of the timeline, filtered by stage and state. */
import { useState } from "preact/hooks";
import { Bar, Empty, ErrorCard, Skeleton, StateTag } from "../ui/bits";
import { PickBar, PickCell, PickHead, usePicks } from "../ui/pick";
import { SavedFilters } from "../ui/saved";
import { may } from "../lib/api";
import { fmtDuration, fmtInt, ms, serverNow, tick } from "../lib/fmt";
import { useQuery } from "../lib/query";
import { hrefWith, qs, query } from "../lib/router";
import { JOB_STATES, lookOf, stageWord, STAGES } from "../lib/states";
import type { Job, List, Run } from "../lib/types";
import { sentence } from "../lib/wire";
import { eventRun } from "../live/client";
import { JobBulk } from "./jobs_bulk";

const RANK = Object.fromEntries(JOB_STATES.map((s, i) => [s, i]));

function byPlan(a: Job, b: Job): number {
	return a.iter - b.iter || STAGES.indexOf(a.stage) - STAGES.indexOf(b.stage) || a.shard - b.shard || a.pass - b.pass;
}

function Took({ j }: { j: Job }) {
	const from = ms(j.started_at);
	if (from === null) return <span class="dim">–</span>;
	const to = ms(j.ended_at);
	if (to === null && j.state !== "running") return <span class="dim">–</span>;
	if (to === null) void tick.value;
	return <>{fmtDuration(((to ?? serverNow()) - from) / 1000)}</>;
}

function Where({ j }: { j: Job }) {
	if (j.state === "failed") return <span class="clip bad" title={sentence(j.error)}>{sentence(j.error) || "failed"}</span>;
	if (j.state === "running")
		return (
			<span class="row tight">
				<Bar value={j.progress && j.progress.total ? j.progress.done / j.progress.total : 0} label={`${j.id} progress`} />
				<span class="num dim">{j.progress?.total ? `${fmtInt(j.progress.done)} / ${fmtInt(j.progress.total)} ${j.progress.unit ?? ""}` : ""}</span>
			</span>
		);
	if (j.state === "done" || j.state === "cancelled" || j.state === "skipped") return <span class="dim">{j.worker ?? ""}</span>;
	return <span class="clip dim" title={j.wait_reason ?? ""}>{j.wait_reason ?? ""}</span>;
}

export function jobName(j: { stage: string; shard: number; pass: number; iter: number; params?: unknown }): string {
	const variant = (j.params as { variant?: string; name?: string } | undefined)?.variant ?? (j.params as { name?: string } | undefined)?.name;
	const bits = [stageWord(j.stage), String(j.shard)];
	if (j.stage === "judge") bits.push(`pass ${j.pass}`);
	if (variant) bits[1] = variant;
	return bits.join(" ");
}

export function JobsTab({ run }: { run: Run }) {
	const stage = query("stage");
	const iter = query("iter");
	const state = query("state");
	const sort = query("sort", "plan");
	const [most, setMost] = useState(200);
	const q = useQuery<List<Job>>(`/runs/${encodeURIComponent(run.id)}/jobs` + qs({ stage, iter, state }), {
		all: true,
		topics: ["run:" + run.id],
		on: (e) => e.type === "job" && eventRun(e) === run.id,
	});
	const jobs = [...(q.data?.items ?? [])].sort(sort === "state" ? (a, b) => (RANK[a.state] ?? 9) - (RANK[b.state] ?? 9) || byPlan(a, b) : byPlan);
	const shown = jobs.slice(0, most);
	const acts = may("operator");
	const picks = usePicks(jobs.map((j) => j.id), acts);
	const done = (): void => { picks.set([]); q.reload(); };
	const stages = [...new Set((run.stages ?? []).map((s) => s.stage))].sort((a, b) => STAGES.indexOf(a) - STAGES.indexOf(b));
	const iters = [...new Set((run.stages ?? []).map((s) => s.iter))].sort((a, b) => a - b);
	const chip = (key: string, now: string, value: string, word: string) => (
		<a key={value || "all"} class="chip" aria-current={now === value ? "true" : undefined} href={hrefWith({ [key]: value || null })}>{word}</a>
	);
	return (
		<>
			<div class="row wrap tools">
				<div class="chips" role="group" aria-label="Iteration">{chip("iter", iter, "", "every iteration")}{iters.map((i) => chip("iter", iter, String(i), i === 0 ? "seed" : String(i)))}</div>
				<div class="chips" role="group" aria-label="Stage">{chip("stage", stage, "", "every stage")}{stages.map((s) => chip("stage", stage, s, stageWord(s)))}</div>
				<div class="chips" role="group" aria-label="State">{chip("state", state, "", "any state")}{JOB_STATES.slice(0, 6).map((s) => chip("state", state, s, lookOf(s).word))}</div>
				<SavedFilters page="jobs" />
			</div>
			{q.error !== undefined && !q.data && <ErrorCard error={q.error} retry={q.reload} />}
			{q.loading ? <Skeleton lines={8} /> : !jobs.length ? <Empty title="No job fits the filter"><p>Jobs of later stages appear when the stage before them is done.</p></Empty> : (
				<div class={`card ${q.previous ? "fading" : ""}`} aria-busy={q.previous}>
					<table class="cards fixed jobs">
						<thead><tr>{acts && <PickHead picks={picks} shown={shown.map((j) => j.id)} noun="job" />}<th class="w-job">Job</th><th class="w-num">Iter.</th><th class="w-state"><a href={hrefWith({ sort: sort === "state" ? null : "state" })}>State{sort === "state" ? " ↓" : ""}</a></th><th>Where</th><th class="r w-num">Tries</th><th class="r w-time">Took</th></tr></thead>
						<tbody>
							{shown.map((j) => (
								<tr key={j.id} data-row={j.id} class={picks.has(j.id) ? "picked" : ""}>
									{acts && <PickCell picks={picks} id={j.id} name={jobName(j)} />}
									<td data-label="Job"><a href={`/jobs/${encodeURIComponent(j.id)}`}>{jobName(j)}</a></td>
									<td data-label="Iteration" class="num">{j.iter}</td>
									<td data-label="State"><StateTag state={j.state} /></td>
									<td data-label="Where"><Where j={j} /></td>
									<td data-label="Tries" class="r num" title={`started ${j.attempts ?? 0} times; ${j.failures ?? 0} failures, ${j.losses ?? 0} losses, ${j.preemptions ?? 0} preemptions`}>{(j.preemptions ?? 0) + (j.losses ?? 0) > 0 && <span class="warn" aria-label="cut short">↯ </span>}{j.attempts ?? 0}</td>
									<td data-label="Took" class="r num"><Took j={j} /></td>
								</tr>
							))}
						</tbody>
					</table>
					{jobs.length > most && <p class="pad"><button class="btn small" onClick={() => setMost(most + 500)}>Show more of {fmtInt(jobs.length)} jobs</button></p>}
				</div>
			)}
			<PickBar picks={picks} noun="job" matching={jobs.length} all={() => picks.set(jobs.map((j) => j.id))}><JobBulk picks={picks} jobs={jobs} done={done} /></PickBar>
		</>
	);
}
