/** All runs, filtered by state and by name; the filter is in the address. */
import { useEffect, useState } from "preact/hooks";
import { Bar, Empty, ErrorCard, Skeleton, StateTag, Time } from "../ui/bits";
import { PickBar, PickCell, PickHead, usePicks } from "../ui/pick";
import { SavedFilters } from "../ui/saved";
import { say } from "../ui/toast";
import { Strip } from "../chart/pipeline";
import { may, problemText, send } from "../lib/api";
import { fmtInt } from "../lib/fmt";
import { useQuery } from "../lib/query";
import { hrefWith, qs, query, setQuery } from "../lib/router";
import { lookOf, RUN_STATES } from "../lib/states";
import type { BulkResult } from "../lib/schema";
import type { List, Run } from "../lib/types";
import { FirstSteps, share } from "./overview";
import { Star, Tags } from "./run_notes";
import { RunBulk } from "./runs_bulk";

/** What of the list's filter is set, as a bulk request takes it. */
function runFilter(f: Record<string, string>): Record<string, unknown> {
	return Object.fromEntries(Object.entries(f).filter(([, v]) => v).map(([k, v]) => [k, k === "starred" ? true : v]));
}

export function Runs() {
	const state = query("state");
	const q = query("q");
	const tag = query("tag");
	const starred = query("starred");
	const cursor = query("cursor");
	const filter = { state, q, tag, starred };
	const runs = useQuery<List<Run>>("/runs" + qs({ limit: 50, ...filter, cursor }), { topics: ["runs", "jobs"], on: (e) => e.type === "run" || e.type === "job" });
	const list = runs.data?.items ?? [];
	const acts = may("operator");
	const picks = usePicks(list.map((r) => r.id), acts);
	const alone = !cursor && !runs.data?.next_cursor;
	// All that fit the filter, also those on other pages: the server counts and acts, no list of them is sent.
	const [whole, setWhole] = useState<{ filter: Record<string, unknown>; matched: number } | null>(null);
	useEffect(() => setWhole(null), [state, q, tag, starred, picks.ids.join()]);
	const all = (): void => {
		if (alone) return picks.set(list.map((r) => r.id));
		const body = runFilter(filter);
		send<BulkResult>("POST", "/runs/bulk", { action: "pause", filter: body, dry_run: true })
			.then((r) => setWhole({ filter: body, matched: r.matched }))
			.catch((e: unknown) => say(problemText(e)));
	};
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
				<SavedFilters page="runs" />
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
			<PickBar picks={picks} noun="run" matching={alone ? list.length : null} all={all} whole={whole?.matched}><RunBulk picks={picks} runs={list} all={whole} done={done} /></PickBar>
			<div class="row end">
				{cursor && <a class="btn small" href={hrefWith({ cursor: null })}>Newest</a>}
				{runs.data?.next_cursor && <a class="btn small" href={hrefWith({ cursor: runs.data.next_cursor })}>Older</a>}
			</div>
		</>
	);
}
