/** One run: where it is, whether it is healthy, what can be done. The tab is part of the path. */
import { useEffect, useMemo, useRef } from "preact/hooks";
import { Copy, ErrorCard, Skeleton, StateTag } from "../ui/bits";
import { Pipeline } from "../chart/pipeline";
import { say } from "../ui/toast";
import { plural } from "../lib/fmt";
import { useQuery } from "../lib/query";
import { lookOf, runEnded } from "../lib/states";
import type { Job, List, Run, WireAttempt } from "../lib/types";
import { attemptsOf, sentence, type Attempt } from "../lib/wire";
import { eventRun } from "../live/client";
import { RunActions } from "./run_actions";
import { ChartsTab } from "./run_charts";
import { RunFacts } from "./run_facts";
import { LogTab } from "./run_log";
import { Notes, Star } from "./run_notes";
import { jobName, JobsTab } from "./run_jobs";
import { TimelineTab } from "./run_timeline";
import { EventsTab } from "./run_events";
import { CheckpointsTab, ConfigTab, DataTab } from "./run_tabs";

const TABS: [string, string][] = [
	["timeline", "Timeline"],
	["jobs", "Jobs"],
	["charts", "Charts"],
	["data", "Data"],
	["checkpoints", "Checkpoints"],
	["config", "Config"],
	["events", "Events"],
	["log", "Log"],
];

/** Why the run stands: the run's own sentence, and what the first failed jobs said. */
function Trouble({ run }: { run: Run }) {
	const failed = (run.stages ?? []).reduce((n, s) => n + (s.counts?.failed ?? 0), 0);
	const path = `/runs/${encodeURIComponent(run.id)}/jobs?state=failed`;
	const q = useQuery<List<Job>>(failed ? path : null, { topics: ["run:" + run.id], on: (e) => e.type === "job" && eventRun(e) === run.id });
	if (!failed && !run.error) return null;
	const jobs = q.data?.items ?? [];
	return (
		<div class="error-card">
			<strong>{runEnded(run.state) ? "The run stopped" : `${plural(failed, "job")} failed and wait for a person`}</strong>
			{run.error && <p>{sentence(run.error)}</p>}
			{jobs.length > 0 && <ul>{jobs.slice(0, 3).map((j) => <li key={j.id}><a href={`/jobs/${encodeURIComponent(j.id)}`}>{jobName(j)}</a>{j.iter ? `, iteration ${j.iter}` : ""}: {sentence(j.error) || "no reason was given"}</li>)}</ul>}
			{jobs.length > 3 && <p><a href={path}>All {jobs.length} failed jobs</a></p>}
		</div>
	);
}

/** What the examination of the judge found; somebody decides whether the run goes on. */
function AlarmCard({ alarm }: { alarm: NonNullable<Run["alarm"]> }) {
	return (
		<div class="error-card">
			<strong>The judge is not well: the run is paused</strong>
			<p>{sentence(alarm.why)} <a href={`/jobs/${encodeURIComponent(alarm.job)}`}>What was measured</a></p>
		</div>
	);
}

/** Says each change of state once to a screen reader and in the toast; never on each tick. */
function useAnnounce(run: Run | undefined): void {
	const last = useRef("");
	useEffect(() => {
		if (!run) return;
		const now = `${run.name || run.id}: ${lookOf(run.state).word}`;
		if (last.current && last.current !== now) say(now);
		last.current = now;
	}, [run?.state]);
}

function Tab({ tab, run, attempts }: { tab: string; run: Run; attempts: Attempt[] | null }) {
	if (tab === "jobs") return <JobsTab run={run} />;
	if (tab === "charts") return <ChartsTab run={run} />;
	if (tab === "data") return <DataTab run={run} />;
	if (tab === "checkpoints") return <CheckpointsTab run={run} />;
	if (tab === "config") return <ConfigTab run={run} />;
	if (tab === "log") return <LogTab run={run} />;
	if (tab === "events") return <EventsTab run={run} />;
	return <TimelineTab run={run} attempts={attempts} />;
}

export function RunPage({ id, tab }: { id: string; tab: string }) {
	const q = useQuery<Run>(`/runs/${encodeURIComponent(id)}`, {
		topics: ["run:" + id],
		on: (e) => (e.type === "run" || e.type === "job") && eventRun(e) === id,
	});
	const tries = useQuery<List<WireAttempt>>(`/runs/${encodeURIComponent(id)}/attempts`, {
		topics: ["run:" + id],
		on: (e) => e.type === "job" && eventRun(e) === id,
	});
	const attempts = useMemo(() => (tries.data ? attemptsOf(tries.data.items) : null), [tries.data]);
	const run = q.data;
	useAnnounce(run);
	useEffect(() => {
		if (run) document.title = `${run.name || run.id} · ${lookOf(run.state).word} · Pawl`;
	}, [run?.name, run?.state]);
	if (!run) return q.error !== undefined ? <ErrorCard error={q.error} retry={q.reload} /> : <Skeleton lines={10} />;
	const base = `/runs/${encodeURIComponent(id)}`;
	return (
		<>
			<nav class="crumbs" aria-label="Breadcrumb"><a href="/runs">Runs</a><span aria-hidden="true">/</span><span class="num">{run.id}</span><Copy text={run.id} what="run id" />{run.submitted_by && <span>by {run.submitted_by}</span>}</nav>
			<div class="page-head">
				<h1>{run.name || run.id}</h1>
				<Star run={run} done={q.reload} />
				<StateTag state={run.state} />
				<RunActions run={run} done={q.reload} />
			</div>
			<Notes run={run} done={q.reload} />
			<Trouble run={run} />
			{run.alarm && <AlarmCard alarm={run.alarm} />}
			<RunFacts run={run} attempts={attempts ?? []} />
			<Pipeline stages={run.stages} href={(iter, stage) => `${base}/jobs?iter=${iter}&stage=${stage}`} />
			<nav class="tabs" aria-label="Parts of the run">
				{TABS.map(([k, word]) => <a key={k} href={`${base}/${k}`} aria-current={tab === k ? "page" : undefined}>{word}</a>)}
			</nav>
			<div class="tab-body"><Tab key={tab} tab={tab} run={run} attempts={attempts} /></div>
		</>
	);
}
