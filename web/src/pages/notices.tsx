/** What people want to be told of: the notices of a week, those not seen yet marked; and what the server goes on with by itself. */
import { useEffect, useRef } from "preact/hooks";
import { Bar, Card, Empty, ErrorCard, Skeleton, StateTag, Time } from "../ui/bits";
import { CopyAs } from "../ui/copy_as";
import { may } from "../lib/api";
import { standing } from "../lib/bulk";
import { cliOf } from "../lib/commands";
import { hrefOf, isNew, lookOfNotice, markSeen, seen } from "../lib/feed";
import { fmtInt } from "../lib/fmt";
import { useQuery } from "../lib/query";
import { hrefWith, qs, query, setQuery } from "../lib/router";
import type { Notice, Operation } from "../lib/schema";
import { visible } from "../lib/sample";
import type { List } from "../lib/types";

const PAGE = 50;

function Line({ n, fresh }: { n: Notice; fresh: boolean }) {
	const l = lookOfNotice(n);
	return (
		<li class={fresh ? "fresh" : ""} data-row>
			<span class="num dim"><Time t={n.at} /></span>
			<span class={`etype tone-${l.tone}`}>{fresh && <span class="sr">new: </span>}{l.word}</span>
			<a href={hrefOf(n)} class="quiet">{visible(n.text)}</a>
		</li>
	);
}

const KINDS: Record<Operation["kind"], string> = { "bulk.jobs": "many jobs", "bulk.runs": "many runs", garbage: "collection of garbage", rebuild: "rebuild from the store" };

function Work() {
	const q = useQuery<List<Operation>>(may("operator") ? "/operations?limit=10" : null, { every: 5000 });
	const list = q.data?.items ?? [];
	if (!list.length) return null;
	return (
		<Card title="Operations" more={<span class="dim small">what takes longer than a request, of the last week</span>}>
			<table class="cards">
				<thead><tr><th>What</th><th>State</th><th>How far</th><th>By</th><th>Begun</th></tr></thead>
				<tbody>
					{list.map((o) => {
						const s = standing(o);
						return (
							<tr key={o.id}>
								<td data-label="What">{KINDS[o.kind] ?? o.kind}</td>
								<td data-label="State"><StateTag state={o.state === "queued" ? "ready" : o.state} /></td>
								<td data-label="How far"><span class="row tight">{s.open && s.of > 0 && <Bar value={s.steps / s.of} label={`${o.id}: done`} />}<span class="num">{s.text}{s.failed ? `, ${fmtInt(s.failed)} refused` : ""}</span></span></td>
								<td data-label="By">{o.by || "–"}</td>
								<td data-label="Begun"><Time t={o.created_at} age /></td>
							</tr>
						);
					})}
				</tbody>
			</table>
		</Card>
	);
}

export function Notices() {
	const cursor = query("cursor");
	const kind = query("kind");
	const q = useQuery<List<Notice>>("/notices" + qs({ limit: PAGE, cursor }), { topics: ["notices"], on: (e) => e.type === "notice" });
	const items = q.data?.items ?? [];
	// What was new when the page was opened stays marked while one reads.
	const since = useRef(seen.peek());
	useEffect(() => {
		if (items.length && !document.hidden) markSeen(items);
	}, [q.data]);
	const groups: [string, string][] = [["", "everything"], ["run", "runs"], ["job", "jobs"], ["worker", "workers"], ["attention", "attention"]];
	const shown = items.filter((n) => !kind || n.kind.startsWith(kind + "."));
	return (
		<>
			<div class="page-head"><h1>Notices</h1><div class="actions"><CopyAs cli form={() => ({ method: "GET", path: "/notices", cli: cliOf("notice", "list") })} /></div></div>
			<div class="row wrap tools">
				<div class="chips" role="group" aria-label="Of what">{groups.map(([k, word]) => <button key={k} class="chip" aria-pressed={kind === k} onClick={() => setQuery({ kind: k })}>{word}</button>)}</div>
				<p class="dim grow-right">The same goes to <a href="/settings">webhooks and desktop notices</a>, if you ask for it.</p>
			</div>
			{q.error !== undefined && !q.data && <ErrorCard error={q.error} retry={q.reload} />}
			{q.loading ? <Skeleton lines={6} /> : q.data && !shown.length ? (
				<Empty title={kind ? "Nothing of this kind" : "Nothing to tell"}><p>When a run ends, a job fails or makes no progress, a worker is lost or the disk fills up, it is said here and kept for a week.</p></Empty>
			) : <ol class="card events notices">{shown.map((n) => <Line key={n.id} n={n} fresh={isNew(n, since.current)} />)}</ol>}
			<div class="row end">
				{cursor && <a class="btn small" href={hrefWith({ cursor: null })}>Newest</a>}
				{q.data?.next_cursor && <a class="btn small" href={hrefWith({ cursor: q.data.next_cursor })}>Older</a>}
			</div>
			<Work />
		</>
	);
}
