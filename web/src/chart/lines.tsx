/** A uPlot line chart: faint raw lines under smoothed ones, lin/log, synced cursor, live data. */
import uPlot from "uplot";
import { useEffect, useRef, useState } from "preact/hooks";
import { fmtNum } from "../lib/fmt";
import { paint } from "../lib/prefs";
import { colour, SERIES, withAlpha } from "./colours";
import { join, smooth, summary, thin, type Line } from "./series";

export interface LinesProps {
	title: string;
	lines: Line[];
	log?: boolean;
	smoothing?: number;
	height?: number;
	xLabel?: string;
	/** Fixed bounds, for accuracies. */
	bounds?: [number, number];
	hint?: string;
	/** Names of x = 0, 1, 2 … instead of numbers. */
	names?: string[];
}

const BUCKETS = 1000;
/** Fewer points than this are shown as they are. */
const SMOOTH_LEAST = 20;
/** Steps are whole numbers, so ticks are too. */
const WHOLE = [1, 2, 5].flatMap((m) => Array.from({ length: 9 }, (_, e) => m * 10 ** e)).sort((a, b) => a - b);
const fontOf = (): string => `11px ${getComputedStyle(document.body).fontFamily}`;

function options(p: LinesProps, width: number, smoothed: boolean): uPlot.Options {
	const text = colour("muted");
	const grid = { stroke: colour("grid"), width: 1 };
	const axis = { stroke: text, grid, ticks: { show: false }, font: fontOf() };
	const series: uPlot.Series[] = [{ label: p.xLabel ?? "step" }];
	p.lines.forEach((l, i) => {
		const c = colour(SERIES[i % SERIES.length]!);
		const points = l.points.length < 3 ? { show: true, size: 6, fill: c, stroke: c } : { show: false };
		if (smoothed) series.push({ label: l.label + " (raw)", stroke: withAlpha(c, 0.28), width: 1, spanGaps: true, points: { show: false } });
		series.push({ label: l.label, stroke: c, width: 1.75, spanGaps: true, points });
	});
	const wide = (v: number): string => (v === 0 ? "0" : Math.abs(v) >= 1e5 || Math.abs(v) < 1e-3 ? Number(v.toPrecision(3)).toExponential() : String(Number(v.toPrecision(4))));
	return {
		width,
		height: p.height ?? 200,
		padding: [8, 8, 0, 0],
		cursor: { sync: { key: "pawl" }, y: false, points: { size: 7 } },
		legend: { show: false },
		scales: {
			x: { time: false },
			y: p.log ? { distr: 3 } : p.bounds ? { range: () => p.bounds! } : { range: (_u, lo, hi) => padded(lo, hi) },
		},
		axes: [
			{ ...axis, size: 28, space: 64, incrs: WHOLE, values: (_u, vs) => vs.map((v) => (Number.isInteger(v) ? (p.names?.[v] ?? (p.names ? "" : String(v))) : "")) },
			{ ...axis, size: 52, space: 32, values: (_u, vs) => vs.map((v) => (v === null ? "" : wide(v))) },
		],
		series,
	};
}

function padded(lo: number | null, hi: number | null): [number, number] {
	if (lo === null || hi === null) return [0, 1];
	const pad = (hi - lo || Math.abs(hi) || 1) * 0.08;
	return [lo - pad, hi + pad];
}

function positive(lines: Line[]): Line[] {
	return lines.map((l) => ({ ...l, points: l.points.filter((q) => q[1] > 0) }));
}

export function Lines(p: LinesProps) {
	const host = useRef<HTMLDivElement>(null);
	const plot = useRef<uPlot | null>(null);
	const [at, setAt] = useState<number | null>(null);
	const [table, setTable] = useState(false);
	const weight = p.lines.some((l) => l.points.length >= SMOOTH_LEAST) ? (p.smoothing ?? 0) : 0;
	const smoothed = weight > 0;
	const shown = (p.log ? positive(p.lines) : p.lines).map((l) => ({ ...l, points: thin(l.points, BUCKETS) }));
	const all = smoothed ? shown.flatMap((l) => [l, { ...l, points: smooth(l.points, weight) }]) : shown;
	const data = join(all);
	const shape = `${p.lines.map((l) => l.label).join("|")}/${p.log}/${smoothed}/${p.lines.some((l) => l.points.length < 3)}/${paint.value}`;
	const latest = useRef(data);
	latest.current = data;

	useEffect(() => {
		const el = host.current;
		if (!el) return;
		const u = new uPlot(options(p, Math.max(160, el.clientWidth), smoothed), latest.current as uPlot.AlignedData, el);
		u.hooks.setCursor = [() => setAt(u.cursor.idx ?? null)];
		plot.current = u;
		const watch = new ResizeObserver(() => u.setSize({ width: Math.max(160, el.clientWidth), height: p.height ?? 200 }));
		watch.observe(el);
		return () => {
			watch.disconnect();
			u.destroy();
			plot.current = null;
		};
	}, [shape]);

	const stamp = data.map((c) => c.length).join() + "/" + p.lines.map((l) => l.points.at(-1)?.join()).join();
	useEffect(() => {
		const u = plot.current;
		if (!u) return;
		// A zoomed chart stays where the person put it; a whole one grows with the data.
		const xs = u.data[0];
		const { min, max } = u.scales.x!;
		const whole = min == null || max == null || !xs.length || (min <= xs[0]! && max >= xs[xs.length - 1]!);
		u.setData(latest.current as uPlot.AlignedData, whole);
		if (!whole) u.redraw();
	}, [stamp, weight]);

	return (
		<figure class="chart">
			<figcaption>
				<span class="chart-title" title={p.hint}>{p.title}</span>
				<button class="link-btn" onClick={() => setTable(!table)}>{table ? "hide table" : "table"}</button>
			</figcaption>
			<div ref={host} class="plot" role="img" aria-label={`${p.title}. ${p.lines.map(summary).join(". ")}`} />
			<ul class="legend">
				{shown.map((l, i) => {
					const col = data[smoothed ? 2 * i + 2 : i + 1];
					const v = at !== null && col ? col[at] : l.points.at(-1)?.[1];
					return (
						<li key={l.label}>
							<i class={`swatch ${SERIES[i % SERIES.length]}`} />
							<span class="legend-name">{l.label}</span>
							<b class="num">{fmtNum(v ?? null)}</b>
						</li>
					);
				})}
				{at !== null && data[0][at] !== undefined && <li class="dim num">{p.names?.[data[0][at]!] ?? `${p.xLabel ?? "step"} ${data[0][at]}`}</li>}
			</ul>
			{table && <DataTable lines={p.lines} x={p.xLabel ?? "step"} names={p.names} />}
		</figure>
	);
}

function DataTable({ lines, x, names }: { lines: Line[]; x: string; names?: string[] }) {
	const [xs, ...cols] = join(lines.map((l) => ({ ...l, points: thin(l.points, 50) })));
	return (
		<div class="table-scroll short" tabIndex={0}>
			<table class="plain num">
				<thead><tr><th>{x}</th>{lines.map((l) => <th key={l.label}>{l.label}</th>)}</tr></thead>
				<tbody>
					{xs.map((v, i) => <tr key={v}><td>{names?.[v] ?? v}</td>{cols.map((c, k) => <td key={k}>{fmtNum(c[i])}</td>)}</tr>)}
				</tbody>
			</table>
		</div>
	);
}
