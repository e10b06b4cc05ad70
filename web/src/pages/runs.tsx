/** All runs, filtered by state and by name; the filter is in the address. */
import { useEffect, useState } from "preact/hooks";
import { Bar, Empty, ErrorCard, Skeleton, StateTag, Time } from "../ui/bits";
import { PickBar, PickCell, PickHead, usePicks } from "../ui/pick";
import { say } from "../ui/toast";
import { Strip } from "../chart/pipeline";
import { may, problemText } from "../lib/api";
import { fmtInt } from "../lib/fmt";
import { getAll, useQuery } from "../lib/query";
import { hrefWith, qs, query, setQuery } from "../lib/router";
import { lookOf, RUN_STATES } from "../lib/states";
import type { List, Run } from "../lib/types";
import { FirstSteps, share } from "./overview";
import { Star, Tags } from "./run_notes";
import { RunBulk } from "./runs_bulk";

export function Runs() {
	const state = query("state");
	const q = query("q");
	const tag = query("tag");
	const starred = query("starred");
	const cursor = query("cursor");
	const filter = { state, q, tag, starred };
	const runs = useQuery<List<Run>>("/runs" + qs({ limit: 50, ...filter, cursor }), { topics: ["runs", "jobs"], on: (e) => e.type === "run" || e.type === "job" });
	const list = runs.data?.items ?? [];
	const [beyond, setBeyond] = useState<Run[] | null>(null);
	useEffect(() => setBeyond(null), [state, q, tag, starred]);
	const known = [...list, ...(beyond ?? []).filter((r) => !list.some((x) => x.id === r.id))];
	const acts = may("operator");
	const picks = usePicks(known.map((r) => r.id), acts);
	const all = (): void => {
		getAll<List<Run>>("/runs" + qs({ limit: 200, ...filter }))
			.then((d) => { setBeyond(d.items); picks.set(d.items.map((r) => r.id)); })
			.catch((e: unknown) => say(problemText(e)));
	};
	const whole = !cursor && !runs.data?.next_cursor;
	const done = (): void => { picks.set([]); runs.reload(); };
	return (
		<>
			<div class="page-head">
				<h1>Runs</h1>
				{may("operator") && <a class="btn primary" href="/runs/new">New run</a>}
			</div>
			<div class="row wrap tools">
				<input type="search" data-search class="grow" placeholder="Name or id" aria-label="Filter runs by name or id" value={q} onInput={(e) => setQuery({ q: e.currentTarget.value, cursor: null })} />
				<div class="chips" role="group" aria-label="State">
					<a class="chip" aria-current={state === "" ? "true" : undefined} href={hrefWith({ state: null, cursor: null })}>all</a>
					{RUN_STATES.map((s) => <a key={s} class="chip" aria-current={state === s ? "true" : undefined} href={hrefWith({ state: s, cursor: null })}>{lookOf(s).word}</a>)}
				</div>
				<div class="chips">
					<a class="chip" aria-current={starred ? "true" : undefined} href={hrefWith({ starred: starred ? null : "1", cursor: null })}>starred</a>
					{tag && <a class="chip" aria-current="true" title="Runs with any tag" href={hrefWith({ tag: null, cursor: null })}>tag: {tag} ✕</a>}
				</div>
			</div>
			{runs.error !== undefined && !runs.data && <ErrorCard error={runs.error} retry={runs.reload} />}
			{runs.loading ? <Skeleton lines={8} /> : list.length === 0 ? (
				state || q || tag || starred ? <Empty title="No run fits the filter"><p><a href="/runs">Show all runs</a></p></Empty> : runs.data && <FirstSteps />
			) : (
				<div class={`card ${runs.previous ? "fading" : ""}`} aria-busy={runs.previous}>
					<table class="cards">
						<thead><tr>{acts && <PickHead picks={picks} shown={list.map((r) => r.id)} noun="run" />}<th>Run</th><th>State</th><th>Stages</th><th class="r">Jobs</th><th>Submitted</th></tr></thead>
						<tbody>
							{list.map((r) => (
								<tr key={r.id} data-row={r.id} class={picks.has(r.id) ? "picked" : ""}>
									{acts && <PickCell picks={picks} id={r.id} name={r.name || r.id} />}
									<td data-label="Run"><span class="run-name"><a href={`/runs/${r.id}`}>{r.name || r.id}</a><Star run={r} done={runs.reload} /></span><span class="run-sub"><code class="dim">{r.id}</code><Tags tags={r.tags} /></span></td>
									<td data-label="State"><StateTag state={r.state} /></td>
									<td data-label="Stages" class="strip-cell"><Strip stages={r.stages} /><Bar value={share(r)} tone={lookOf(r.state).tone} /></td>
									<td data-label="Jobs" class="r num">{fmtInt(r.progress?.jobs_done ?? 0)} / {fmtInt(r.progress?.jobs_total ?? 0)}</td>
									<td data-label="Submitted"><Time t={r.created_at} age /></td>
								</tr>
							))}
						</tbody>
					</table>
				</div>
			)}
			<PickBar picks={picks} noun="run" matching={whole ? list.length : beyond && beyond.length} all={all}><RunBulk picks={picks} runs={known} done={done} /></PickBar>
			<div class="row end">
				{cursor && <a class="btn small" href={hrefWith({ cursor: null })}>Newest</a>}
				{runs.data?.next_cursor && <a class="btn small" href={hrefWith({ cursor: runs.data.next_cursor })}>Older</a>}
			</div>
		</>
	);
}
