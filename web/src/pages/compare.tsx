/** Models side by side: figures, head to head with intervals, length beside win rate, curves, settings. */
import { Card, Copy, Empty, ErrorCard, Skeleton } from "../ui/bits";
import { Lines } from "../chart/lines";
import { curves, over } from "../lib/curves";
import { differing } from "../lib/diff";
import { effort } from "../lib/effort";
import { fmtDuration, fmtMoney, fmtPct } from "../lib/fmt";
import { useQuery } from "../lib/query";
import { hrefWith, query, setQuery } from "../lib/router";
import type { Json, List, ModelInfo, Run } from "../lib/types";
import { movedTogether } from "../lib/winrate";
import { unitNow, useSeries, ChartTools } from "./run_charts";
import { HeadToHead, type PairFigure } from "./compare_pairs";
import { SamePrompt } from "./compare_prompt";

interface CompareBody { models?: ModelInfo[]; pairs?: PairFigure[] }

const ROWS: { title: string; rows: [string, string, "pct" | "num", "up" | "down" | ""][] }[] = [
	{ title: "Answers, by the scorer", rows: [
		["truth.greedy_accuracy", "accuracy, greedy", "pct", "up"], ["truth.sampled_accuracy", "accuracy, sampled", "pct", "up"],
		["truth.greedy_score", "score, greedy", "num", "up"], ["truth.sampled_score", "score, sampled", "num", "up"]] },
	{ title: "Judging held-out ranked answers", rows: [
		["rm.pairwise_accuracy", "pairwise accuracy", "pct", "up"], ["rm.five_best", "5-best", "pct", "up"], ["rm.exact_match", "exact match", "pct", "up"],
		["rm.spearman", "Spearman ρ", "num", "up"], ["rm.kendall", "Kendall τ", "num", "up"], ["rm.coverage", "judged", "pct", "up"], ["rm.ties", "ties", "pct", "down"]] },
	{ title: "Health of the judge", rows: [
		["health.consistent", "same verdict in both orders", "pct", "up"], ["health.parse_fail", "unreadable", "pct", "down"], ["health.pile", "on one score", "pct", "down"],
		["health.length_score", "length with score", "num", ""], ["health.self_gain", "love of itself", "num", ""]] },
	{ title: "Length", rows: [["length.greedy", "tokens, greedy", "num", ""], ["length.sampled", "tokens, sampled", "num", ""]] },
];

/** One form down a row: decimals by size, so that figures line up. */
function figure(v: number | null): string {
	if (v === null) return "–";
	const a = Math.abs(v);
	return (v < 0 ? "−" : "") + a.toFixed(a >= 100 ? 0 : a >= 10 ? 1 : 2);
}

const val = (m: ModelInfo, k: string): number | null => (typeof m.metrics?.[k] === "number" ? (m.metrics[k] as number) : null);

/** What making a model took: the stages of its iteration, at what its run paid for an hour of work. */
function Took({ models, runs }: { models: ModelInfo[]; runs: Run[] }) {
	const all = models.map((m) => effort(runs.find((r) => r.id === m.run), m, models));
	if (!all.some((x) => x)) return null;
	const priced = all.some((x) => x?.cost);
	return (
		<tbody>
			<tr class="group"><th colSpan={models.length + 1} scope="rowgroup">What it took, with the stages before it in its iteration</th></tr>
			<tr><th scope="row">worker time</th>{all.map((x, i) => <td key={models[i]!.name} class="r num">{x ? fmtDuration(x.seconds) : "–"}</td>)}</tr>
			{priced && <tr><th scope="row">cost</th>{all.map((x, i) => <td key={models[i]!.name} class="r num">{x?.cost ? fmtMoney(x.cost) : "–"}</td>)}</tr>}
		</tbody>
	);
}

function Matrix({ models, runs }: { models: ModelInfo[]; runs: Run[] }) {
	return (
		<div class="table-scroll" tabIndex={0}>
			<table class="matrix">
				<thead><tr><th />{models.map((m) => <th key={m.name} class="r">{m.checkpoint ? <a href={`/checkpoints/${m.checkpoint}`}>{m.name}</a> : m.name}</th>)}</tr></thead>
				{ROWS.map((g) => {
					const rows = g.rows.filter(([k]) => models.some((m) => val(m, k) !== null));
					if (!rows.length) return null;
					return (
						<tbody key={g.title}>
							<tr class="group"><th colSpan={models.length + 1} scope="rowgroup">{g.title}</th></tr>
							{rows.map(([k, word, kind, dir]) => {
								const vs = models.map((m) => val(m, k));
								const known = vs.filter((v): v is number => v !== null);
								const best = dir === "up" ? Math.max(...known) : dir === "down" ? Math.min(...known) : NaN;
								return (
									<tr key={k} title={k}>
										<th scope="row">{word}</th>
										{vs.map((v, i) => (
											<td key={models[i]!.name} class={`r num ${v === best && known.some((x) => x !== best) ? "best" : ""}`}>
												{kind === "pct" ? fmtPct(v) : figure(v)}
												{kind === "pct" && v !== null && <span class="spark" aria-hidden="true"><i style={{ width: `${100 * Math.max(0, Math.min(1, v))}%` }} /></span>}
											</td>
										))}
									</tr>
								);
							})}
						</tbody>
					);
				})}
				<Took models={models} runs={runs} />
			</table>
		</div>
	);
}

function pairsFrom(body: CompareBody | undefined): PairFigure[] {
	if (body?.pairs?.length) return body.pairs;
	return (body?.models ?? []).flatMap((m) => {
		const x = m.metrics ?? {};
		const n = val(m, "h2h.n");
		return n ? [{ a: m.name, b: typeof x["h2h.opponent"] === "string" ? x["h2h.opponent"] : "the one before", win: val(m, "h2h.win") ?? 0, tie: val(m, "h2h.tie") ?? 0, loss: val(m, "h2h.loss") ?? 0, n }] : [];
	});
}

/** With several runs a model's name says whose it is. */
function named(body: CompareBody | undefined, several: boolean): { models: ModelInfo[]; pairs: PairFigure[] } {
	const pairs = pairsFrom(body);
	if (!several) return { models: body?.models ?? [], pairs };
	const full = (name: string, run: string | null | undefined): string => (run ? `${name} ${run}` : name);
	return { models: (body?.models ?? []).map((m) => ({ ...m, name: full(m.name, m.run) })), pairs: pairs.map((p) => ({ ...p, a: full(p.a, p.run), b: full(p.b, p.run) })) };
}

function csv(models: ModelInfo[]): string {
	const keys = ROWS.flatMap((g) => g.rows).map(([k]) => k).filter((k) => models.some((m) => val(m, k) !== null));
	return [["figure", ...models.map((m) => m.name)], ...keys.map((k) => [k, ...models.map((m) => val(m, k) ?? "")])].map((r) => r.join(",")).join("\n");
}

function markdown(models: ModelInfo[], pairs: PairFigure[]): string {
	const head = `| | ${models.map((m) => m.name).join(" | ")} |\n|---|${models.map(() => "---:").join("|")}|`;
	const rows = ROWS.flatMap((g) => g.rows).filter(([k]) => models.some((m) => val(m, k) !== null))
		.map(([k, word, kind]) => `| ${word} | ${models.map((m) => (kind === "pct" ? fmtPct(val(m, k)) : figure(val(m, k)))).join(" | ")} |`);
	const h = pairs.map((p) => `${p.a} against ${p.b}: win ${p.win}, tie ${p.tie}, loss ${p.loss}, n = ${p.n}`);
	return [head, ...rows, "", ...h].join("\n");
}

/** What moves from model to model: figures, judge, scores given, lengths. */
const DRIFT: { title?: string; bounds?: [number, number]; lines: [string, string][] }[] = [
	{ bounds: [0, 1.02], lines: [["truth.greedy_accuracy", "answers right"], ["rm.pairwise_accuracy", "judge agrees with people"]] },
	{ title: "The judge", lines: [["health.pile", "on one score"], ["pair.at_max", "at the top score"], ["pair.parse_fail", "unreadable"], ["health.length_score", "length with score"], ["health.self_gain", "love of itself"]] },
	{ title: "Scores", lines: [["pair.mean_score", "mean score given"]] },
	{ title: "Tokens", lines: [["pair.chosen_len", "chosen"], ["pair.rejected_len", "rejected"], ["length.sampled", "sampled"]] },
];

function Progress({ models, rest }: { models: ModelInfo[]; rest?: boolean }) {
	const drawn = DRIFT.filter((g) => !g.title === !rest).map((g) => ({ ...g, lines: g.lines.map(([k, label]) => ({ label, points: models.map((m, i): [number, number | null] => [i, val(m, k)]).filter((p): p is [number, number] => p[1] !== null) })).filter((l) => l.points.length > 1) })).filter((g) => g.lines.length);
	if (!drawn.length) return null;
	const charts = drawn.map((g) => <Lines key={g.title} title={g.title ?? `From ${models[0]!.name} to ${models[models.length - 1]!.name}`} lines={g.lines} bounds={g.bounds} names={models.map((m) => m.name)} height={rest ? 140 : 180} />);
	return rest ? <div class="charts drift">{charts}</div> : <div class="card pad">{charts}</div>;
}

function Overlaid({ run }: { run: Run }) {
	const { series } = useSeries(run);
	const by = curves(series, "dpo");
	const log = query("scale") === "log";
	const weight = Number(query("smooth", "0.6"));
	const unit = unitNow();
	const charts: [string, string][] = [["DPO loss", "loss"], ["Reward margin", "rewards/margins"], ["Preference accuracy", "rewards/accuracies"], ["Chosen log-prob", "logps/chosen"]];
	const shown = charts.map(([title, key]) => ({ title, lines: [...by.entries()].map(([label, s]) => ({ label, points: over(s, key, unit) })).filter((l) => l.points.length) })).filter((c) => c.lines.length);
	if (!shown.length) return null;
	return (
		<>
			<h2>Training, overlaid</h2>
			<ChartTools series={series} />
			<div class="charts pairs">{shown.map((c) => <Lines key={c.title} title={c.title} lines={c.lines} log={log} smoothing={weight} unit={unit} />)}</div>
		</>
	);
}

function ConfigDiff({ runs, a, b }: { runs: Run[]; a: string; b: string }) {
	const qa = useQuery<Run>(a ? `/runs/${a}` : null, { every: 0 });
	const qb = useQuery<Run>(b && b !== a ? `/runs/${b}` : null, { every: 0 });
	const skip = query("ignore", "name, notes");
	const ignore = skip.split(",").map((s) => s.trim()).filter(Boolean);
	const rows = qa.data && qb.data ? differing([(qa.data.spec ?? {}) as Json, (qb.data.spec ?? {}) as Json]).filter(([k]) => !ignore.some((i) => k === i || k.startsWith(i + "."))) : [];
	return (
		<Card title="Settings that differ" class="pad-body">
			<div class="row wrap tools">
				<label class="inline">against <select value={b} onChange={(e) => setQuery({ diff: e.currentTarget.value })}>
					<option value="">choose a run</option>
					{runs.filter((r) => r.id !== a).map((r) => <option key={r.id} value={r.id}>{r.name || r.id} ({r.id})</option>)}
				</select></label>
				<label class="inline">ignore <input value={skip} onInput={(e) => setQuery({ ignore: e.currentTarget.value === "name, notes" ? null : e.currentTarget.value || " " })} /></label>
			</div>
			{qa.data && qb.data && (rows.length ? (
				<table class="kv">
					<thead><tr><th>Setting</th><th>{qa.data.name || a}</th><th>{qb.data.name || b}</th></tr></thead>
					<tbody>{rows.map(([k, [x, y]]) => <tr key={k}><th scope="row"><code>{k}</code></th><td class="num wrap-any">{x ?? "–"}</td><td class="num wrap-any">{y ?? "–"}</td></tr>)}</tbody>
				</table>
			) : <p>The two runs have the same settings.</p>)}
		</Card>
	);
}

export function Compare() {
	const runs = useQuery<List<Run>>("/runs?limit=100", { topics: ["runs"], on: (e) => e.type === "run" });
	const list = runs.data?.items ?? [];
	const id = query("run") || list.find((r) => r.state === "done")?.id || list[0]?.id || "";
	const beside = query("with").split(",").filter((x) => x && x !== id);
	const q = useQuery<CompareBody>(id ? `/compare?run=${[id, ...beside].map(encodeURIComponent).join(",")}` : null, { topics: ["run:" + id], on: (e) => e.type === "job" && (e.data.data as { stage?: string; state?: string } | undefined)?.state === "done" });
	const run = list.find((r) => r.id === id);
	const { models, pairs } = named(q.data, beside.length > 0);
	const warnings = movedTogether(models, pairs);
	if (runs.loading) return <Skeleton lines={8} />;
	if (!list.length) return runs.error !== undefined ? <ErrorCard error={runs.error} retry={runs.reload} /> : <><div class="page-head"><h1>Compare models</h1></div><Empty title="Nothing to compare yet"><p>When a run has evaluated a model, its figures stand here beside those of the models before it.</p></Empty></>;
	return (
		<>
			<div class="page-head"><h1>Compare models</h1></div>
			<div class="row wrap tools">
				<label class="inline">Run <select value={id} onChange={(e) => setQuery({ run: e.currentTarget.value }, true)}>{list.map((r) => <option key={r.id} value={r.id}>{r.name || r.id} ({r.id})</option>)}</select></label>
				<a class="btn small" href={`/runs/${id}`}>Open the run</a>
				{models.length > 0 && <Copy text={() => markdown(models, pairs)} label="Markdown" what="the table as Markdown" />}
				{models.length > 0 && <Copy text={() => csv(models)} label="CSV" what="the table as CSV" />}
				{list.length > 1 && <label class="inline">beside <select value="" onChange={(e) => setQuery({ with: [...beside, e.currentTarget.value].join(",") }, true)}>
					<option value="">add a run</option>
					{list.filter((r) => r.id !== id && !beside.includes(r.id)).map((r) => <option key={r.id} value={r.id}>{r.name || r.id}</option>)}
				</select></label>}
				{beside.map((r) => <a key={r} class="chip" href={hrefWith({ with: beside.filter((x) => x !== r).join(",") })} aria-label={`Take ${r} away`}>{r} ✕</a>)}
			</div>
			{q.error !== undefined && !q.data && <ErrorCard error={q.error} retry={q.reload} />}
			{q.loading ? <Skeleton lines={8} /> : !models.some((m) => m.metrics && Object.keys(m.metrics).length) ? <Empty title="No model of this run has been evaluated yet"><p>The first figures come from the eval stage of the seed models. <a href={hrefWith({ run: null })}>Choose another run</a></p></Empty> : (
				<>
					{warnings.map((w) => <p key={w} class="note warn" role="note">{w}</p>)}
					<div class="two uneven">
						<Card title="Figures"><Matrix models={models} runs={list} /></Card>
						<div>
							<Progress models={models} />
							{pairs.length > 0 && <Card title="Head to head" class="pad-body"><HeadToHead pairs={pairs} models={models} run={id} /></Card>}
						</div>
					</div>
					<Progress models={models} rest />
					<SamePrompt run={id} models={models} />
					{run && <Overlaid key={run.id} run={run} />}
				</>
			)}
			{list.length > 1 && <ConfigDiff runs={list} a={id} b={query("diff") === id ? "" : query("diff")} />}
		</>
	);
}
