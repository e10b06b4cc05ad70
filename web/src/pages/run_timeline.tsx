import { useMemo } from "preact/hooks";
import { Gantt } from "../chart/gantt";
import type { Grouping } from "../chart/gantt_layout";
import { Card, Empty, ErrorCard, Skeleton } from "../ui/bits";
import { fmtDuration, fmtInt, serverNow, tick } from "../lib/fmt";
import { useQuery } from "../lib/query";
import { hrefWith, query, setQuery } from "../lib/router";
import { runEnded } from "../lib/states";
import type { List, Run, WireAttempt } from "../lib/types";
import { attemptsOf, type Attempt } from "../lib/wire";
import { eventRun } from "../live/client";

const GROUPS: [Grouping, string][] = [["stage", "stage"], ["job", "job"], ["worker", "worker"]];

/** Worker seconds, and the share that ended in something kept. */
function Effort({ list }: { list: Attempt[] }) {
	void tick.value;
	const took = (a: Attempt): number => ((a.end ?? serverNow()) - a.start) / 1000;
	const all = list.reduce((n, a) => n + took(a), 0);
	const cut = list.filter((a) => a.how === "preempted" || a.how === "lease_lost");
	const failed = list.filter((a) => a.how === "failed");
	return (
		<p class="dim num effort">
			{fmtInt(list.length)} attempts, {fmtDuration(all)} of worker time · {cut.length} cut short by preemption or loss ({fmtDuration(cut.reduce((n, a) => n + took(a), 0))}) · {failed.length} failed
		</p>
	);
}

export function TimelineTab({ run }: { run: Run }) {
	const q = useQuery<List<WireAttempt>>(`/runs/${encodeURIComponent(run.id)}/attempts`, {
		topics: ["run:" + run.id],
		on: (e) => e.type === "job" && eventRun(e) === run.id,
	});
	const attempts = useMemo(() => attemptsOf(q.data?.items), [q.data]);
	const by = (query("group", "stage") as Grouping) || "stage";
	const fold = query("fold") !== "0";
	if (!q.data) return q.error !== undefined ? <ErrorCard error={q.error} retry={q.reload} /> : <Skeleton lines={6} />;
	if (!attempts.length) return <Empty title="No attempt yet"><p>The first bar appears when a worker takes a job.</p></Empty>;
	return (
		<Card class="pad">
			<div class="row wrap tools">
				<div class="chips" role="group" aria-label="Group rows by">
					<span class="dim">Rows:</span>
					{GROUPS.map(([k, word]) => <a key={k} class="chip" aria-current={by === k ? "true" : undefined} href={hrefWith({ group: k })}>{word}</a>)}
				</div>
				<label class="check"><input type="checkbox" checked={fold} onChange={(e) => setQuery({ fold: e.currentTarget.checked ? null : "0" })} /> Fold idle time</label>
			</div>
			<Gantt attempts={attempts} by={by} fold={fold} live={!runEnded(run.state)} />
			<Effort list={attempts} />
		</Card>
	);
}
