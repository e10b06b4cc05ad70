/** Is everything all right, and when will the next model be there? */
import { Bar, Card, Command, Empty, ErrorCard, Skeleton, StateTag, Time } from "../ui/bits";
import { Strip } from "../chart/pipeline";
import { eta, etaText } from "../lib/eta";
import { fmtInt, fmtMoney, fmtPct, fmtTime, ms, plural, serverNow, tick } from "../lib/fmt";
import { useQuery } from "../lib/query";
import { runEnded } from "../lib/states";
import type { List, ModelInfo, Run, Worker } from "../lib/types";
import { sentence } from "../lib/wire";
import { may } from "../lib/api";

interface Alarm { text: string; href: string; tone: "bad" | "warn" }

const LOST_MS = 90_000;

export function alarms(runs: Run[], workers: Worker[], now: number): Alarm[] {
	const out: Alarm[] = [];
	for (const r of runs) {
		const failed = (r.stages ?? []).reduce((n, s) => n + (s.counts?.failed ?? 0), 0);
		if (r.state === "failed") {
			if (now - (ms(r.ended_at ?? r.updated_at) ?? 0) < 86_400_000) out.push({ tone: "bad", href: `/runs/${r.id}/jobs?state=failed`, text: `${r.name} failed${r.error ? ": " + sentence(r.error) : ""}` });
		} else if (failed && !runEnded(r.state)) out.push({ tone: "bad", href: `/runs/${r.id}/jobs?state=failed`, text: `${r.name}: ${plural(failed, "failed job")} waiting for a person` });
		const delayed = (r.stages ?? []).reduce((n, s) => n + (s.counts?.delayed ?? 0), 0);
		if (delayed && r.state === "active") out.push({ tone: "warn", href: `/runs/${r.id}/jobs?state=delayed`, text: `${r.name}: ${plural(delayed, "job")} waiting to be tried again` });
	}
	const alive = workers.filter((w) => w.state !== "lost" && w.state !== "gone");
	const waiting = runs.some((r) => r.state === "active" && (r.stages ?? []).some((s) => (s.counts?.ready ?? 0) > 0));
	if (!alive.length && waiting) out.push({ tone: "bad", href: "/workers", text: "Jobs are ready but no worker is connected" });
	for (const w of workers) if (w.state === "lost" && now - (ms(w.last_beat_at) ?? 0) < 3_600_000) out.push({ tone: "warn", href: "/workers", text: `Worker ${w.name} has not been heard since ${fmtTime(w.last_beat_at)}` });
	for (const w of alive) if (w.unhealthy) out.push({ tone: "bad", href: "/workers", text: `Worker ${w.name} takes no jobs: ${w.unhealthy}` });
	for (const w of alive) if (w.state === "busy" && w.last_beat_at && now - (ms(w.last_beat_at) ?? now) > LOST_MS) out.push({ tone: "warn", href: "/workers", text: `Worker ${w.name} is silent` });
	return out;
}

export function share(r: Run): number {
	const p = r.progress;
	return p && p.jobs_total ? p.jobs_done / p.jobs_total : r.state === "done" ? 1 : 0;
}

/** The headline of a finished run: its last model's figures. */
export function headline(models: ModelInfo[] | undefined): string {
	const num = (m: ModelInfo | undefined, k: string): number | null => (typeof m?.metrics?.[k] === "number" ? (m.metrics[k] as number) : null);
	const list = (models ?? []).filter((m) => m.metrics && Object.keys(m.metrics).length);
	const last = list[list.length - 1];
	const first = list[0];
	if (!last || !first) return "";
	const a = num(last, "truth.greedy_accuracy");
	const b = num(first, "truth.greedy_accuracy");
	if (a !== null && b !== null && last !== first) return `${first.name} ${fmtPct(b, 0)} → ${last.name} ${fmtPct(a, 0)} accuracy`;
	const j = num(last, "rm.pairwise_accuracy");
	return j === null ? "" : `${last.name} judges ${fmtPct(j, 0)} of pairs right`;
}

function ActiveRun({ run }: { run: Run }) {
	void tick.value;
	const p = run.progress;
	return (
		<li class="run-card" data-row>
			<div class="run-card-head">
				<a class="run-name" href={`/runs/${run.id}`}>{run.name || run.id}</a>
				<StateTag state={run.state} />
				<code class="dim">{run.id}</code>
			</div>
			<Strip stages={run.stages} />
			<div class="run-card-foot">
				<Bar value={share(run)} label={`${run.name}: jobs done`} />
				<span class="num">{fmtInt(p?.jobs_done ?? 0)} / {fmtInt(p?.jobs_total ?? 0)} jobs</span>
				{(run.useful_cost ?? 0) + (run.lost_cost ?? 0) > 0 && <span class="num">{fmtMoney((run.useful_cost ?? 0) + (run.lost_cost ?? 0))}</span>}
				<span class="dim num">{etaText(eta(run, serverNow()))}</span>
			</div>
		</li>
	);
}

function Fleet({ workers, runs }: { workers: Worker[]; runs: Run[] }) {
	const n = (s: string): number => workers.filter((w) => w.state === s).length;
	const waiting = runs.filter((r) => !runEnded(r.state)).flatMap((r) => r.stages ?? []).reduce((t, s) => t + (s.counts?.ready ?? 0), 0);
	const preempted = workers.reduce((t, w) => t + (w.preemptions ?? 0), 0);
	const alive = n("busy") + n("idle") + n("draining");
	const kept = runs.reduce((t, r) => t + (r.useful_s ?? 0), 0);
	const worked = kept + runs.reduce((t, r) => t + (r.lost_s ?? 0), 0);
	return (
		<div class="tiles">
			<a class="tile" href="/workers"><span>Workers busy</span><b class="num">{n("busy")}<small> / {alive}</small></b></a>
			<div class="tile"><span>Jobs ready to start</span><b class="num">{fmtInt(waiting)}</b></div>
			<div class="tile"><span>Preemptions</span><b class="num">{fmtInt(preempted)}</b></div>
			{worked > 0 && <div class="tile" title="Of the time workers gave to these runs, what lives on in results and checkpoints"><span>Useful work</span><b class="num">{fmtPct(kept / worked)}</b></div>}
			<a class="tile" href="/workers"><span>Workers lost</span><b class={`num ${n("lost") ? "bad" : ""}`}>{n("lost")}</b></a>
		</div>
	);
}

export function FirstSteps() {
	const url = location.origin;
	return (
		<Empty title="Nothing has run here yet">
			<p>A run takes a base model and seed data, trains M1, lets it write and judge its own answers, and trains the next model on the pairs it preferred. Three steps:</p>
			<ol class="steps">
				<li><b>Start a worker</b> on this machine or any other that reaches this address.<Command text={`pawl-worker --server ${url} --token-file worker.token`} /></li>
				<li><b>Submit a run.</b> Every field has a default; a small model on the CPU is enough to see it work. <a class="btn primary" href="/runs/new">New run</a></li>
				<li><b>Watch it.</b> Open the run: stages fill, losses fall, and every sample the model judged can be read.</li>
			</ol>
		</Empty>
	);
}

export function Overview() {
	const topics = ["runs", "jobs", "workers"];
	const runs = useQuery<List<Run>>("/runs?limit=50", { topics, on: (e) => e.type === "run" || e.type === "job" });
	const workers = useQuery<List<Worker>>("/workers", { topics, on: (e) => e.type === "worker" });
	const list = runs.data?.items ?? [];
	const fleet = workers.data?.items ?? [];
	const active = list.filter((r) => !runEnded(r.state));
	const ended = list.filter((r) => runEnded(r.state)).sort((a, b) => (ms(b.ended_at ?? b.updated_at) ?? 0) - (ms(a.ended_at ?? a.updated_at) ?? 0)).slice(0, 8);
	const bells = alarms(list, fleet, serverNow());
	return (
		<>
			<div class="page-head">
				<h1>Overview</h1>
				{may("operator") && <a class="btn primary" href="/runs/new">New run</a>}
			</div>
			{bells.length > 0 && (
				<ul class="alarms" aria-label="Needs attention">
					{bells.slice(0, 6).map((a) => <li key={a.text} class={`tone-${a.tone}`}><a href={a.href}>{a.text}</a></li>)}
				</ul>
			)}
			{runs.error !== undefined && !runs.data && <ErrorCard error={runs.error} retry={runs.reload} />}
			{runs.loading ? <Skeleton lines={8} /> : runs.data && list.length === 0 ? <FirstSteps /> : runs.data && (
				<>
					<Fleet workers={fleet} runs={list} />
					<Card title="Active runs" more={<a href="/runs">All runs</a>}>
						{active.length ? <ul class="run-cards">{active.slice(0, 10).map((r) => <ActiveRun key={r.id} run={r} />)}</ul> : <p class="dim pad">Nothing is running. The finished runs are below.</p>}
					</Card>
					{ended.length > 0 && (
						<Card title="Recently finished">
							<table class="cards">
								<thead><tr><th>Run</th><th>State</th><th>Result</th><th>Ended</th></tr></thead>
								<tbody>
									{ended.map((r) => (
										<tr key={r.id} data-row>
											<td data-label="Run"><a href={`/runs/${r.id}`}>{r.name || r.id}</a> <code class="dim">{r.id}</code></td>
											<td data-label="State"><StateTag state={r.state} /></td>
											<td data-label="Result">{headline(r.models) || <span class="dim">–</span>}</td>
											<td data-label="Ended"><Time t={r.ended_at ?? r.updated_at} age /></td>
										</tr>
									))}
								</tbody>
							</table>
						</Card>
					)}
				</>
			)}
		</>
	);
}

