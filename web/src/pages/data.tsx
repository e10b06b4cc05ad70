/** The sample browser: health line, histogram and scatter as filters, list beside detail. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Empty, ErrorCard, Hash, Skeleton } from "../ui/bits";
import { Field } from "../ui/field";
import { useKeys } from "../ui/keys";
import { SavedFilters } from "../ui/saved";
import { Virtual } from "../ui/virtual";
import { Histogram, type Bin } from "../chart/hist";
import { Scatter, type Dot } from "../chart/scatter";
import { getJson, problemText } from "../lib/api";
import { fmtBytes, fmtInt } from "../lib/fmt";
import { useQuery } from "../lib/query";
import { hrefWith, place, qs, query, queryNum, setQuery } from "../lib/router";
import { rowOf, scoresLine, visible, type Row } from "../lib/sample";
import { health, pointsOf, scoreBins } from "../lib/stats";
import type { Dataset, List } from "../lib/types";
import { hides, MARKS, ReviewLine, useReviews, type Reviewing } from "./review";
import { Sample } from "./sample";

const FLAGS: [string, string][] = [["parse_fail", "parse failure"], ["tie", "tie"], ["truncated", "truncated"], ["duplicate", "duplicate"], ["refusal", "refusal"], ["chosen", "made a pair"], ["dropped", "dropped"]];
const SORTS: [string, string][] = [["", "as written"], ["-margin", "margin, largest first"], ["margin", "margin, smallest first"], ["-score", "score, highest first"], ["score", "score, lowest first"], ["-length", "length, longest first"], ["length", "length, shortest first"]];
const FILTERS = ["q", "min_score", "max_score", "min_margin", "min_length", "max_length", "flag", "sort"];
const PAGE = 200;
/** As .row-link is high. */
const ROW_PX = 72;

function useRows(digest: string): { rows: Row[]; more: boolean; next: () => void; error: unknown; loading: boolean; old: boolean; filter: string } {
	const filter = qs(Object.fromEntries(FILTERS.map((k) => [k, query(k)])));
	const base = `/datasets/${digest}/rows` + qs({ ...Object.fromEntries(FILTERS.map((k) => [k, query(k)])), limit: PAGE });
	const q = useQuery<List<unknown>>(base, { every: 0 });
	const [extra, setExtra] = useState<{ base: string; items: unknown[]; cursor: string | null } | null>(null);
	const [error, setError] = useState<unknown>(undefined);
	const mine = extra?.base === base ? extra : null;
	const cursor = mine ? mine.cursor : (q.data?.next_cursor ?? null);
	const rows = useMemo(() => [...(q.data?.items ?? []), ...(mine?.items ?? [])].map(rowOf), [q.data, mine]);
	const asked = useRef("");
	const next = (): void => {
		if (!cursor || asked.current === base + cursor) return;
		asked.current = base + cursor;
		getJson<List<unknown>>(base + "&cursor=" + encodeURIComponent(cursor))
			.then((d) => setExtra({ base, items: [...(mine?.items ?? []), ...d.items], cursor: d.next_cursor ?? null }))
			.catch((e: unknown) => {
				asked.current = "";
				setError(e);
			});
	};
	return { rows, more: !!cursor, next, error: q.error ?? error, loading: q.loading, old: q.previous, filter };
}

function Health({ facts }: { facts: [string, string, boolean][] }) {
	if (!facts.length) return null;
	return (
		<dl class="health" aria-label="Health of this dataset">
			{facts.map(([k, v, odd]) => <div key={k} class={odd ? "odd" : ""}><dt>{k}</dt><dd class="num">{v}</dd></div>)}
		</dl>
	);
}

function RowLink({ r, on, rv }: { r: Row; on: boolean; rv: Reviewing | null }) {
	const mine = rv?.of(r.n).mine;
	const hidden = hides(rv, r);
	return (
		<a class="row-link" data-row href={hrefWith({ at: r.n })} aria-current={on ? "true" : undefined}>
			<span class="row-prompt">{visible(r.view.prompt.slice(0, 160) || r.view.id)}</span>
			<span class="row-meta num">
				<span>{mine && <b title={`You: ${mine.verdict}`}>{MARKS[mine.verdict]} </b>}{(!hidden && scoresLine(r.view)) || `row ${r.n}`}</span>
				{hidden ? null : r.view.margin !== null ? <b>Δ {Number(r.view.margin.toFixed(2))}</b> : r.view.drop ? <span class="warn">{r.view.drop}</span> : null}
			</span>
		</a>
	);
}

function dots(rows: Row[]): Dot[] {
	return rows.flatMap((r) => r.view.cards.filter((c) => c.score !== null).map((c) => ({ x: c.tokens ?? c.text.length, y: c.score!, key: String(r.n), mark: c.mark })));
}

function Filters({ bins }: { bins: Bin[] }) {
	const flag = query("flag");
	const any = FILTERS.some((k) => query(k));
	return (
		<div class="row wrap tools filters" role="search" aria-label="Filter rows">
			<Field name="q" label="Search prompt and answers" wide />
			{bins.length > 0 && (
				<>
					<span class="row tight"><Field name="min_score" label="score ≥" /><Field name="max_score" label="≤" /></span>
					<Field name="min_margin" label="margin ≥" />
					<span class="row tight"><Field name="min_length" label="tokens ≥" /><Field name="max_length" label="≤" /></span>
					<label class="inline">flag <select value={flag} onChange={(e) => setQuery({ flag: e.currentTarget.value, at: null })}>
						<option value="">any</option>{FLAGS.map(([k, w]) => <option key={k} value={k}>{w}</option>)}
					</select></label>
					<label class="inline">sort <select value={query("sort")} onChange={(e) => setQuery({ sort: e.currentTarget.value, at: null })}>
						{SORTS.map(([k, w]) => <option key={k} value={k}>{w}</option>)}
					</select></label>
				</>
			)}
			{any && <a class="btn small" href={place.value.path}>Clear</a>}
		</div>
	);
}

export function DataPage({ digest }: { digest: string }) {
	const meta = useQuery<Dataset>(`/datasets/${digest}`, { every: 0 });
	const stats = useQuery<Record<string, unknown>>(`/datasets/${digest}/stats`, { every: 0 });
	const { rows, more, next, error, loading, old, filter } = useRows(digest);
	const at = queryNum("at") ?? rows[0]?.n ?? 0;
	const found = rows.find((r) => r.n === at);
	const lone = useQuery<unknown>(found || loading || queryNum("at") === null ? null : `/datasets/${digest}/rows/${at}`, { every: 0 });
	const shown = found ?? (lone.data !== undefined ? rowOf(lone.data, at) : undefined);
	const bins = useMemo(() => scoreBins(meta.data, stats.data, rows), [meta.data, stats.data, rows]);
	const filtered = filter !== "";
	const points = useMemo(() => {
		const mine = dots(rows);
		const all = pointsOf(stats.data);
		// Rows at hand can be opened; behind them, faint, what the server counted of the rest.
		return !filtered && all.length > mine.length ? [...all.map((p): Dot => ({ ...p, key: "" })), ...mine] : mine;
	}, [rows, stats.data, filtered]);
	const facts = useMemo(() => health(stats.data, rows), [stats.data, rows]);
	const rv = useReviews(digest, rows.some((r) => r.view.first));
	const step = (by: number): void => {
		const i = rows.findIndex((r) => r.n === at);
		const to = rows[Math.max(0, Math.min(rows.length - 1, i + by))];
		if (to) setQuery({ at: to.n });
	};
	useKeys({ j: () => step(1), k: () => step(-1) });
	const d = meta.data;
	useEffect(() => {
		if (d) document.title = `${d.role} · ${d.rows} rows · Pawl`;
	}, [d]);
	if (meta.error !== undefined && !d) return <ErrorCard error={meta.error} retry={meta.reload} />;
	return (
		<>
			<nav class="crumbs" aria-label="Breadcrumb"><a href="/data">Data</a>{d && <><span aria-hidden="true">/</span><a href={`/runs/${d.run}/data`}>{d.run}</a><span aria-hidden="true">/</span><span>{d.iter === 0 ? "seed" : `iteration ${d.iter}`}</span></>}</nav>
			<div class="page-head">
				<h1>{d ? d.role : "Dataset"}</h1>
				{d && <p class="dim num">{fmtInt(d.rows)} rows · {fmtBytes(d.size_bytes)} · made by <a class="quiet" href={`/jobs/${encodeURIComponent(d.job)}`}>{d.job}</a> · <Hash digest={d.digest} /></p>}
				<div class="actions"><SavedFilters page="data" /><a class="btn small" href={`/api/v1/datasets/${digest}/export${filter}`} download>{filtered ? "Export these" : "Export JSONL"}</a></div>
			</div>
			<Health facts={facts} />
			{bins.length > 0 && (
				<div class="two charts-2">
					<figure class="card pad chart">
						<figcaption><span class="chart-title">Mean score of candidates</span><span class="dim">click or drag to filter</span></figcaption>
						<Histogram bins={bins} from={queryNum("min_score")} to={queryNum("max_score")} name="Histogram of scores" pick={(lo, hi) => setQuery({ min_score: lo === null ? null : Number((lo - 0.001).toFixed(3)), max_score: hi === null ? null : Number((hi + 0.001).toFixed(3)), at: null })} />
					</figure>
					<div class="card pad"><Scatter dots={points} xName="tokens" yName="score" total={filtered ? undefined : Number(stats.data?.n_points) || undefined} open={(k) => setQuery({ at: k }, true)} /></div>
				</div>
			)}
			<Filters bins={bins} />
			{rv && <ReviewLine digest={digest} r={rv} />}
			{error !== undefined && <p class="field-error" role="alert">{problemText(error)}</p>}
			{loading ? <Skeleton lines={8} /> : !rows.length ? <Empty title="No row fits the filter"><p><a href={place.value.path}>Clear the filter</a></p></Empty> : (
				<div class={`browser ${old ? "fading" : ""}`}>
					<Virtual class="row-list card" label="Rows" count={rows.length} row={ROW_PX} at={rows.findIndex((r) => r.n === at)} near={more ? next : undefined} draw={(i) => <RowLink key={rows[i]!.n} r={rows[i]!} on={rows[i]!.n === at} rv={rv} />} />
					{shown ? <Sample row={shown} step={step} rv={rv} /> : lone.error !== undefined ? <ErrorCard error={lone.error} /> : <Skeleton />}
				</div>
			)}
		</>
	);
}
