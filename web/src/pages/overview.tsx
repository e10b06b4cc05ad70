/** Is everything all right, and when will the next model be there? */
import { Bar, Card, Command, Empty, ErrorCard, Skeleton, StateTag, Time } from "../ui/bits";
import { Strip } from "../chart/pipeline";
import { eta, etaText } from "../lib/eta";
import { hrefOf } from "../lib/feed";
import { fmtInt, fmtMoney, fmtPct, fmtTime, ms, plural, serverNow, tick } from "../lib/fmt";
import { useQuery } from "../lib/query";
import type { Notice } from "../lib/schema";
import { runEnded, stageWord } from "../lib/states";
import type { List, ModelInfo, Run, Worker } from "../lib/types";
import { grown } from "../lib/winrate";
import { sentence } from "../lib/wire";
import { may } from "../lib/api";

interface Alarm { text: string; href: string; tone: "bad" | "warn" }

const LOST_MS = 90_000;
/** Of judgements; more than this is told. */
const UNREADABLE = 0.1;
/** Notices of something that may still be so. */
const FRESH_MS = 3_600_000;

/** What the newest model's judge wrote that no score could be read from, when it is much. */
function unreadable(r: Run): { model: string; share: number } | null {
	for (const m of [...(r.models ?? [])].reverse())
		for (const k of ["pair.parse_fail", "health.parse_fail"]) {
			const v = m.metrics?.[k];
			if (typeof v === "number") return v > UNREADABLE ? { model: m.name, share: v } : null;
		}
	return null;
}

/** What the server noticed itself and no list here tells. */
export function told(notices: Notice[], now: number): Alarm[] {
	return notices.filter((n) => (n.kind === "attention.disk" || n.kind === "job.stuck") && now - (ms(n.at) ?? 0) < FRESH_MS).slice(0, 2).map((n) => ({ tone: n.kind === "job.stuck" ? "warn" : "bad", href: hrefOf(n), text: `${n.text} (${fmtTime(n.at)})` }));
}

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
	for (const r of runs) {
		if (r.alarm && !runEnded(r.state)) out.push({ tone: "bad", href: `/runs/${r.id}`, text: `${r.name} is paused, its judge is not well: ${sentence(r.alarm.why)}` });
		const bad = unreadable(r);
		if (bad && !runEnded(r.state)) out.push({ tone: "warn", href: `/compare?run=${r.id}`, text: `${r.name}: ${fmtPct(bad.share, 0)} of the judgements of ${bad.model} cannot be read` });
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

/** How the last model stands against the one before: win rate, and what its length did. */
function against(list: ModelInfo[], num: (m: ModelInfo | undefined, k: string) => number | null): string {
	const last = list.at(-1);
	const n = num(last, "h2h.n");
	const o = last?.metrics?.["h2h.opponent"];
	if (!last || !n || typeof o !== "string") return "";
	const rate = ((num(last, "h2h.win") ?? 0) + (num(last, "h2h.tie") ?? 0) / 2) / n;
	const longer = grown(list, last.name, o);
	return `, ${fmtPct(rate, 0)} against ${o}${longer === null ? "" : `, length ${longer < 0 ? "−" : "+"}${fmtPct(Math.abs(longer), 0)}`}`;
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
	if (a !== null && b !== null && last !== first) return `${first.name} ${fmtPct(b, 0)} → ${last.name} ${fmtPct(a, 0)} accuracy${against(list, num)}`;
	const j = num(last, "rm.pairwise_accuracy");
	return j === null ? "" : `${last.name} judges ${fmtPct(j, 0)} of pairs right${against(list, num)}`;
}

/** What is being worked on: "iteration 1 of 2: Generate, Judge; 3 jobs at work". */
function nowAt(run: Run): string {
	const at = (run.stages ?? []).filter((s) => (s.counts?.running ?? 0) > 0);
	const iters = [...new Set(at.map((s) => s.iter))].sort((a, b) => a - b);
	if (!at.length) return "";
	const where = iters.map((i) => (i ? `iteration ${i} of ${run.iterations}` : "seed")).join(" and ");
	return `${where}: ${[...new Set(at.map((s) => stageWord(s.stage)))].join(", ")} · ${plural(at.reduce((n, s) => n + (s.counts?.running ?? 0), 0), "job")} at work`;
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
				{nowAt(run) && <span>{nowAt(run)}</span>}
				{(run.useful_cost ?? 0) + (run.lost_cost ?? 0) > 0 && <span class="num">{fmtMoney((run.useful_cost ?? 0) + (run.lost_cost ?? 0))}</span>}
				<span class="dim num">{etaText(eta(run, serverNow()))}</span>
			</div>
		</li>
	);
}

function Fleet({ workers, runs }: { workers: Worker[]; runs: Run[] }) {
	const n = (s: string): number => workers.filter((w) => w.state === s).length;
	const depth = new Map<string, number>();
	for (const s of runs.filter((r) => !runEnded(r.state)).flatMap((r) => r.stages ?? [])) if (s.counts?.ready) depth.set(s.stage, (depth.get(s.stage) ?? 0) + s.counts.ready);
	const waiting = [...depth.values()].reduce((t, v) => t + v, 0);
	const gpus = workers.filter((w) => w.state === "busy" || w.state === "idle" || w.state === "draining").flatMap((w) => (w.gpus ?? []).map((g) => ({ busy: w.state !== "idle", load: g.load })));
	const loads = gpus.map((g) => g.load).filter((x): x is number => typeof x === "number");
	const preempted = workers.reduce((t, w) => t + (w.preemptions ?? 0), 0);
	const alive = n("busy") + n("idle") + n("draining");
	const kept = runs.reduce((t, r) => t + (r.useful_s ?? 0), 0);
	const worked = kept + runs.reduce((t, r) => t + (r.lost_s ?? 0), 0);
	return (
		<div class="tiles">
			<a class="tile" href="/workers"><span>Workers busy</span><b class="num">{n("busy")}<small> / {alive}</small></b></a>
			{gpus.length > 0 && <a class="tile" href="/workers"><span>GPUs busy</span><b class="num">{gpus.filter((g) => g.busy).length}<small> / {gpus.length}{loads.length ? ` · ${fmtPct(loads.reduce((a, b) => a + b, 0) / loads.length, 0)} load` : ""}</small></b></a>}
			<div class="tile"><span>Jobs ready to start</span><b class="num">{fmtInt(waiting)}<small>{depth.size ? " " + [...depth].map(([s, v]) => `${stageWord(s)} ${fmtInt(v)}`).join(", ") : ""}</small></b></div>
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
	const notices = useQuery<List<Notice>>("/notices?limit=50", { topics: ["notices"], on: (e) => e.type === "notice", every: 120_000 });
	const bells = [...alarms(list, fleet, serverNow()), ...told(notices.data?.items ?? [], serverNow())];
	return (
		<>
			<div class="page-head">
				<h1>Overview</h1>
				{may("operator") && <a class="btn primary" href="/runs/new">New run</a>}
			</div>
			{bells.length > 0 && (
				<ul class="alarms" aria-label="Needs attention">
					{bells.slice(0, 6).map((a) => <li key={a.text} class={`tone-${a.tone}`}><a href={a.href}>{a.text}</a></li>)}
					{bells.length > 6 && <li class="tone-idle"><a href="/notices">and {bells.length - 6} more</a></li>}
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

