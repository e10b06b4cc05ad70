/** One job: what it does now, why it waits, its attempts, its log, what went in and came out. */
import { useEffect } from "preact/hooks";
import { Age, Bar, Card, Copy, ErrorCard, Fact, Hash, Skeleton, StateTag, Time } from "../ui/bits";
import { ask } from "../ui/dialog";
import { say } from "../ui/toast";
import { Lines } from "../chart/lines";
import { may, send } from "../lib/api";
import { cliOf } from "../lib/commands";
import { over } from "../lib/curves";
import { flatten, show } from "../lib/diff";
import { fmtBytes, fmtDuration, fmtInt, fmtNum, ms, serverNow, tick } from "../lib/fmt";
import { useQuery } from "../lib/query";
import { hrefWith, queryNum } from "../lib/router";
import { jobEnded, lookOf } from "../lib/states";
import type { ArtifactRef, Job, List, WireAttempt } from "../lib/types";
import { attemptsOf, refsOf, sentence, seriesOf, type Attempt } from "../lib/wire";
import { eventJob } from "../live/client";
import { LogView } from "./log";
import { unitNow, UnitChips } from "./run_charts";
import { jobName } from "./run_jobs";

/** What keeps it now, its place in the queue, and what kept it before. */
function Waiting({ w, open }: { w: Wait; open?: boolean }) {
	const past = [...w.history].reverse();
	void tick.value;
	const took = (h: Wait["history"][number]): string => fmtDuration(((ms(h.to_at) ?? serverNow()) - (ms(h.from_at) ?? serverNow())) / 1000);
	return (
		<Card title={open ? "Waiting" : "What it waited for"} class="pad-body">
			{open && w.position !== null && (
				<dl class="facts">
					{w.position !== null && w.position !== undefined && <Fact name="Place in its queue" title="Among the ready jobs of its run and stage"><span class="num">{fmtInt(w.position)}{w.queue_length ? ` of ${fmtInt(w.queue_length)}` : ""}</span></Fact>}
					{w.runs_ahead !== null && w.runs_ahead !== undefined && <Fact name="Runs before its own" title="They are served first when a worker asks now"><span class="num">{fmtInt(w.runs_ahead)}</span></Fact>}
					{w.since_at && w.position !== null && <Fact name="So since"><Time t={w.since_at} age /></Fact>}
				</dl>
			)}
			{past.length > 0 && (
				<table class="kv waits"><caption class="sr">Why it waited, newest first</caption>
					<tbody>{past.map((h, i) => <tr key={i}><th scope="row"><Time t={h.from_at} /> <span class="num">{took(h)}</span></th><td>{h.reason || "waiting"}</td></tr>)}</tbody>
				</table>
			)}
		</Card>
	);
}

/** Failures count towards the limit; preemptions and losses never do. */
function burnt(j: Job): string {
	return j.failures ? `, ${j.failures} of ${j.max_attempts} failures used up` : "";
}

function Saved({ last }: { last: Attempt | undefined }) {
	const save = last?.marks.filter((m) => m.kind === "checkpoint").at(-1);
	return save ? <>; last checkpoint <Age t={save.at} /></> : null;
}

function Sentence({ j, n, last }: { j: Job; n: number; last: Attempt | undefined }) {
	const tries = n ? `, attempt ${n}${burnt(j)}` : "";
	if (j.state === "running")
		return <p class="lead">Running on <b>{j.worker}</b> since <Time t={j.started_at} />{tries}; last heard <Age t={j.last_beat_at} /><Saved last={last} />{j.stuck ? <b class="warn">; it makes no progress</b> : null}.</p>;
	if (j.state === "done") return <p class="lead">Done <Time t={j.ended_at} age />{j.worker ? <> on <b>{j.worker}</b></> : null}.</p>;
	if (j.state === "failed") return <p class="lead">Failed and parked for a person: {sentence(j.error) || "no reason was given"}.</p>;
	if (j.state === "delayed") return <p class="lead">Will be tried again: {j.wait_reason || sentence(j.error) || "backing off"}.</p>;
	if (j.state === "ready") return <p class="lead">Ready, waiting for a worker{j.wait_reason ? `: ${j.wait_reason}` : ""}.</p>;
	if (j.state === "blocked") return <p class="lead">Blocked{j.wait_reason ? `: ${j.wait_reason}` : " by jobs that come before it"}.</p>;
	return <p class="lead">This job was {j.state}{j.wait_reason ? `: ${j.wait_reason}` : ""}.</p>;
}

type Wait = NonNullable<Job["waiting"]>;

function Attempts({ list, at }: { list: Attempt[]; at: number | null }) {
	void tick.value;
	return (
		<table class="cards">
			<thead><tr><th>#</th><th>End</th><th>Worker</th><th>Started</th><th class="r">Took</th><th>Progress</th><th class="r">Lost</th><th class="r">Log</th><th>Reason</th></tr></thead>
			<tbody>
				{[...list].reverse().map((a) => (
					<tr key={`${a.n}/${a.start}`} data-row aria-current={at === a.n ? "true" : undefined}>
						<td data-label="Attempt" class="num"><a href={hrefWith({ attempt: a.n })} aria-label={`Show the log of attempt ${a.n}`}>{a.n}</a></td>
						<td data-label="End"><StateTag state={a.how ?? "running"} /></td>
						<td data-label="Worker">{a.worker || "–"}</td>
						<td data-label="Started"><Time t={a.start} /></td>
						<td data-label="Took" class="r num">{fmtDuration(((a.end ?? serverNow()) - a.start) / 1000)}</td>
						<td data-label="Progress" class="num">{a.from && a.from !== "0" ? <span class="dim">from {a.from} </span> : null}{a.to || <span class="dim">–</span>}</td>
						<td data-label="Lost" class={`r num ${a.lost ? "warn" : "dim"}`}>{a.lost ? fmtDuration(a.lost / 1000) : "–"}</td>
						<td data-label="Log" class="r num dim">{a.logBytes ? fmtBytes(a.logBytes) : "–"}</td>
						<td data-label="Reason" class="wrap-any">{[a.reason, a.exit].filter(Boolean).join(", ") || <span class="dim">–</span>}</td>
					</tr>
				))}
			</tbody>
		</table>
	);
}

function refHref(r: ArtifactRef): string | null {
	if (["checkpoint", "train_state"].includes(r.kind ?? "") || ["model", "base", "ref", "state"].includes(r.role)) return `/checkpoints/${r.digest}`;
	return `/data/${r.digest}`;
}

function Refs({ list }: { list: ArtifactRef[] }) {
	if (!list.length) return <p class="dim pad">None yet.</p>;
	return (
		<table class="kv">
			<tbody>
				{list.map((r) => {
					const href = r.digest ? refHref(r) : null;
					return (
						<tr key={r.role + r.digest}>
							<th scope="row">{href ? <a href={href}>{r.role}</a> : r.role}</th>
							<td><Hash digest={r.digest} /> <span class="dim num">{r.size ? fmtBytes(r.size) : ""}{typeof r.meta?.rows === "number" ? ` · ${fmtInt(r.meta.rows)} rows` : ""}</span>{!r.digest && r.job && <a href={`/jobs/${encodeURIComponent(r.job)}`}>from {r.job}</a>}</td>
						</tr>
					);
				})}
			</tbody>
		</table>
	);
}

function Curves({ job }: { job: Job }) {
	const q = useQuery<unknown>(`/jobs/${encodeURIComponent(job.id)}/metrics`, {
		topics: ["run:" + job.run], on: (e) => e.type === "metric" && eventJob(e) === job.id, every: jobEnded(job.state) ? 0 : 20_000,
	});
	const series = seriesOf(q.data, job.id).slice(0, 1);
	const points = series[0]?.points ?? {};
	const unit = unitNow();
	const keys = ["loss", "rewards/margins", "rewards/accuracies", "mean_token_accuracy", "learning_rate", "grad_norm"].filter((k) => points[k]?.length);
	if (!keys.length) return null;
	return (
		<Card title="Curves" more={<UnitChips series={series} />}>
			<div class="charts pad">{keys.map((k) => <Lines key={k} title={k} unit={unit} lines={[{ label: k, points: over(series[0]!, k, unit) }]} smoothing={k === "learning_rate" ? 0 : 0.6} height={150} />)}</div>
		</Card>
	);
}

function Values({ job }: { job: Job }) {
	const rows = Object.entries(job.metrics ?? {}).filter(([, v]) => v !== null && typeof v !== "object");
	const params = flatten(job.params ?? {});
	return (
		<div class="two">
			<Card title="Parameters" more={<Copy text={JSON.stringify(job.params ?? {}, null, 2)} what="parameters" />}>
				<table class="kv"><tbody>{params.filter(([k]) => k).map(([k, v]) => <tr key={k}><th scope="row">{k}</th><td class="num wrap-any">{v}</td></tr>)}</tbody></table>
				{!params.some(([k]) => k) && <p class="dim pad">None.</p>}
			</Card>
			<Card title="Figures">
				<table class="kv"><tbody>{rows.map(([k, v]) => <tr key={k}><th scope="row">{k}</th><td class="num">{typeof v === "number" ? fmtNum(v) : show(v)}</td></tr>)}</tbody></table>
				{!rows.length && <p class="dim pad">They come when the job is done.</p>}
			</Card>
		</div>
	);
}

function Actions({ job, done }: { job: Job; done: () => void }) {
	const allowed = may("operator");
	const why = allowed ? undefined : "Needs the operator role";
	const path = `/jobs/${encodeURIComponent(job.id)}`;
	const act = (verb: string, title: string, body: string, yes: string, danger: boolean) => (): void =>
		ask({ title, body: <p>{body}</p>, yes, no: danger ? "Keep it" : undefined, danger, cli: true, form: () => ({ method: "POST", path: `${path}/${verb}`, cli: cliOf("job", verb, job.id) }), act: async () => { await send("POST", `${path}/${verb}`); say("Sent"); done(); } });
	return (
		<div class="actions">
			{(job.state === "failed" || job.state === "cancelled") && <button class="btn primary" disabled={!allowed} title={why} onClick={act("retry", `Retry ${job.id}?`, "It starts again from its last checkpoint, with its attempts counted from zero. Jobs that waited for it follow.", "Retry", false)}>Retry…</button>}
			{!jobEnded(job.state) && <button class="btn danger-quiet" disabled={!allowed} title={why} onClick={act("cancel", `Cancel ${job.id}?`, "This job and every job that needs its result will not run. What it did since its last checkpoint is lost.", "Cancel the job", true)}>Cancel…</button>}
		</div>
	);
}

const waits = (j: Job): boolean => j.state === "ready" || j.state === "blocked" || j.state === "delayed";

export function JobPage({ id }: { id: string }) {
	const path = `/jobs/${encodeURIComponent(id)}`;
	const run = id.split(".")[0] ?? "";
	const topics = ["run:" + run];
	const mine = (e: { data: Record<string, unknown>; type: string; id: string }): boolean => e.type === "job" && eventJob(e) === id;
	const q = useQuery<Job>(path, { topics, on: mine });
	const tries = useQuery<List<WireAttempt>>(path + "/attempts", { topics, on: mine });
	const list = attemptsOf(tries.data?.items, id);
	const job = q.data;
	useEffect(() => {
		if (job) document.title = `${jobName(job)} · ${job.state} · Pawl`;
	}, [job?.state]);
	if (!job) return q.error !== undefined ? <ErrorCard error={q.error} retry={q.reload} /> : <Skeleton lines={8} />;
	const last = list[list.length - 1]?.n ?? null;
	const shown = queryNum("attempt") ?? last;
	const p = job.progress;
	return (
		<>
			<nav class="crumbs" aria-label="Breadcrumb">
				<a href="/runs">Runs</a><span aria-hidden="true">/</span><a href={`/runs/${run}`}>{run}</a><span aria-hidden="true">/</span>
				<a href={`/runs/${run}/jobs?iter=${job.iter}&stage=${job.stage}`}>{job.iter ? `iteration ${job.iter}` : "seed"}</a><span aria-hidden="true">/</span><span class="num">{id}</span><Copy text={id} what="job id" />
			</nav>
			<div class="page-head"><h1>{jobName(job)}</h1><StateTag state={job.state} /><Actions job={job} done={q.reload} /></div>
			<Sentence j={job} n={last ?? 0} last={list[list.length - 1]} />
			<dl class="facts">
				{p && p.total > 0 && <Fact name="Progress"><span class="num">{fmtInt(p.done)} / {fmtInt(p.total)} {p.unit ?? ""}</span><Bar value={p.done / p.total} tone={lookOf(job.state).tone} label="progress" /></Fact>}
				<Fact name="Started" title="How often a worker took it"><span class="num">{job.attempts ?? 0} ×</span></Fact>
				<Fact name="Attempts burnt" title="Failures that count towards the limit"><span class="num">{job.failures ?? 0}</span></Fact>
				<Fact name="Preemptions" title="They never burn an attempt"><span class="num">{job.preemptions ?? 0}</span></Fact>
				<Fact name="Losses" title="Five losses without a new checkpoint count as one attempt"><span class="num">{job.losses ?? 0}</span></Fact>
				{typeof job.metrics?.tokens_per_s === "number" && <Fact name="Tokens per second"><span class="num">{fmtNum(job.metrics.tokens_per_s)}</span></Fact>}
			</dl>
			{job.waiting && waits(job) && <Waiting w={job.waiting} open />}
			{list.length > 0 && <Card title="Attempts" more={<a href={`/runs/${run}/log?job=${encodeURIComponent(id)}`}>All their logs as one</a>}><Attempts list={list} at={shown} /></Card>}
			{shown !== null && <LogView key={shown} job={id} attempt={shown} live={job.state === "running" && shown === last} />}
			<div class="two">
				<Card title="Inputs"><Refs list={refsOf(job.inputs)} /></Card>
				<Card title="Outputs"><Refs list={refsOf(job.outputs)} /></Card>
			</div>
			{job.waiting && !waits(job) && job.waiting.history.length > 0 && <Waiting w={job.waiting} />}
			<Curves job={job} />
			<Values job={job} />
		</>
	);
}
