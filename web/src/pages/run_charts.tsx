/** Training curves of a run, live: metric events are appended as they come. */
import { useEffect, useState } from "preact/hooks";
import { Lines } from "../chart/lines";
import type { Unit } from "../chart/scale";
import type { Line } from "../chart/series";
import { Empty, ErrorCard, Skeleton } from "../ui/bits";
import { appendPoint, curves, over, UNITS } from "../lib/curves";
import { useQuery } from "../lib/query";
import { query, setQuery } from "../lib/router";
import { runEnded } from "../lib/states";
import type { Run } from "../lib/types";
import { seriesOf, type Series } from "../lib/wire";
import { eventJob, eventRun, listen } from "../live/client";

interface Chart {
	title: string;
	stage: string;
	keys: [string, string][];
	bounds?: [number, number];
	hint?: string;
	/** Set by a schedule, not measured: smoothing would only falsify it. */
	exact?: boolean;
}

const CHARTS: Chart[] = [
	{ title: "DPO loss", stage: "dpo", keys: [["loss", ""]], hint: "Starts at ln 2 ≈ 0.693, where the model equals its reference." },
	{ title: "Reward margin", stage: "dpo", keys: [["rewards/margins", ""]], hint: "Mean of chosen minus rejected reward, in units of β·log-ratio." },
	{ title: "Preference accuracy", stage: "dpo", keys: [["rewards/accuracies", ""]], bounds: [0, 1.02] },
	{ title: "Chosen and rejected reward", stage: "dpo", keys: [["rewards/chosen", "chosen"], ["rewards/rejected", "rejected"]] },
	{ title: "Chosen and rejected log-prob", stage: "dpo", keys: [["logps/chosen", "chosen"], ["logps/rejected", "rejected"]] },
	{ title: "DPO learning rate", stage: "dpo", keys: [["learning_rate", ""]], exact: true },
	{ title: "DPO gradient norm", stage: "dpo", keys: [["grad_norm", ""]] },
	{ title: "SFT loss", stage: "sft", keys: [["loss", ""]] },
	{ title: "SFT token accuracy", stage: "sft", keys: [["mean_token_accuracy", ""]], bounds: [0, 1.02] },
	{ title: "SFT learning rate", stage: "sft", keys: [["learning_rate", ""]], exact: true },
	{ title: "SFT gradient norm", stage: "sft", keys: [["grad_norm", ""]] },
];

export function unitNow(): Unit {
	return UNITS.find(([u]) => u === query("x"))?.[0] ?? "step";
}

export function linesFor(series: Series[], c: Chart, unit: Unit): Line[] {
	const out: Line[] = [];
	for (const [name, s] of curves(series, c.stage))
		for (const [key, word] of c.keys) {
			const points = over(s, key, unit);
			if (points.length) out.push({ label: [name, word].filter(Boolean).join(" "), points });
		}
	return out;
}

export function useSeries(run: Run): { series: Series[]; error: unknown; loading: boolean; reload: () => void } {
	const q = useQuery<unknown>(`/runs/${encodeURIComponent(run.id)}/metrics`, { every: runEnded(run.state) ? 0 : 30_000 });
	const [series, set] = useState<Series[]>([]);
	useEffect(() => {
		if (q.data !== undefined) set(seriesOf(q.data));
	}, [q.data]);
	useEffect(() => listen(["run:" + run.id], (e) => {
		if (e.type !== "metric" || eventRun(e) !== run.id) return;
		const d = (e.data.data ?? e.data) as Record<string, unknown>;
		const row = (d.values && typeof d.values === "object" ? { step: d.step, ...(d.values as object) } : d) as Record<string, unknown>;
		set((old) => appendPoint(old, eventJob(e), row));
	}), [run.id]);
	return { series, error: q.error, loading: q.loading, reload: q.reload };
}

/** Only what the figures carry is offered. */
export function UnitChips({ series }: { series: Series[] }) {
	const have = UNITS.filter(([, , key]) => !key || series.some((s) => s.points[key]?.length));
	if (have.length < 2) return null;
	return (
		<div class="chips" role="group" aria-label="What the x axis counts">
			{have.map(([u, word]) => <button key={u} class="chip" aria-pressed={unitNow() === u} onClick={() => setQuery({ x: u === "step" ? null : u, zoom: null, "zoom.sft": null, "zoom.dpo": null })}>{word}</button>)}
		</div>
	);
}

export function ChartTools({ series }: { series: Series[] }) {
	const weight = Number(query("smooth", "0.6"));
	return (
		<div class="row wrap tools">
			<UnitChips series={series} />
			<div class="chips" role="group" aria-label="Scale of the y axis">
				<button class="chip" aria-pressed={query("scale") !== "log"} onClick={() => setQuery({ scale: null })}>linear</button>
				<button class="chip" aria-pressed={query("scale") === "log"} onClick={() => setQuery({ scale: "log" })}>logarithmic</button>
			</div>
			<label class="range">Smoothing <input type="range" min="0" max="0.95" step="0.05" value={weight} onInput={(e) => setQuery({ smooth: e.currentTarget.value === "0.6" ? null : e.currentTarget.value })} /> <output class="num">{weight.toFixed(2)}</output></label>
			<span class="dim grow-right">Raw values stay faint behind. Drag to zoom, double-click to fit.</span>
		</div>
	);
}

export function ChartsTab({ run }: { run: Run }) {
	const { series, error, loading, reload } = useSeries(run);
	const weight = Number(query("smooth", "0.6"));
	const log = query("scale") === "log";
	if (loading) return <Skeleton lines={8} />;
	if (error !== undefined && !series.length) return <ErrorCard error={error} retry={reload} />;
	const unit = unitNow();
	const charts = CHARTS.map((c) => ({ c, lines: linesFor(series, c, unit) })).filter((x) => x.lines.length);
	if (!charts.length) return <Empty title="No curve yet"><p>Curves begin with the first SFT step; reward margin and accuracy with the first DPO step.</p></Empty>;
	return (
		<>
			<ChartTools series={series} />
			<div class="charts">
				{charts.map(({ c, lines }) => <Lines key={c.title} title={c.title} lines={lines} log={log && !c.bounds} smoothing={c.exact ? 0 : weight} bounds={c.bounds} hint={c.hint} unit={unit} zoom={"zoom." + c.stage} />)}
			</div>
		</>
	);
}
