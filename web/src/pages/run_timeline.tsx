/** The timeline tab: how its rows are grouped, and the drawing. */
import { useMemo } from "preact/hooks";
import { Gantt } from "../chart/gantt";
import { troubled, type Grouping } from "../chart/gantt_layout";
import { Card, Empty, Skeleton } from "../ui/bits";
import { serverNow } from "../lib/fmt";
import { hrefWith, query, setQuery } from "../lib/router";
import { runEnded } from "../lib/states";
import type { Run } from "../lib/types";
import type { Attempt } from "../lib/wire";

const GROUPS: [Grouping, string][] = [["stage", "stage"], ["job", "job"], ["worker", "worker"]];

export function TimelineTab({ run, attempts }: { run: Run; attempts: Attempt[] | null }) {
	const by = (query("group", "stage") as Grouping) || "stage";
	const fold = query("fold") !== "0";
	const odd = query("odd") === "1";
	const shown = useMemo(() => (attempts && odd ? troubled(attempts, serverNow()) : attempts), [attempts, odd]);
	if (!attempts || !shown) return <Skeleton lines={6} />;
	if (!attempts.length) return <Empty title="No attempt yet"><p>The first bar appears when a worker takes a job.</p></Empty>;
	return (
		<Card class="pad">
			<div class="row wrap tools">
				<div class="chips" role="group" aria-label="Group rows by">
					<span class="dim">Rows:</span>
					{GROUPS.map(([k, word]) => <a key={k} class="chip" aria-current={by === k ? "true" : undefined} href={hrefWith({ group: k })}>{word}</a>)}
				</div>
				<label class="check" title="Jobs that failed, were cut short, or took twice what is usual in their stage"><input type="checkbox" checked={odd} onChange={(e) => setQuery({ odd: e.currentTarget.checked ? "1" : null })} /> Only failed, cut short or slow</label>
				<label class="check"><input type="checkbox" checked={fold} onChange={(e) => setQuery({ fold: e.currentTarget.checked ? null : "0" })} /> Fold idle time</label>
			</div>
			{!shown.length ? <p class="dim">No job failed, was cut short or was slow.</p> : <Gantt attempts={shown} by={by} fold={fold} live={!runEnded(run.state)} />}
		</Card>
	);
}
