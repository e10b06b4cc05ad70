/** A line chart in SVG: faint raw lines under smoothed ones, lin/log, one cursor for all charts, live data. */
import { signal } from "@preact/signals";
import { useMemo, useState } from "preact/hooks";
import { fmtNum } from "../lib/fmt";
import { query, setQuery } from "../lib/router";
import { useWidth } from "../ui/width";
import { tone } from "./colours";
import { logTicks, scale, ticks, unitText, unitTicks, yText, type Scale, type Unit } from "./scale";
import { extent, join, nearest, smooth, summary, thin, type Line } from "./series";

export interface LinesProps {
	title: string;
	lines: Line[];
	log?: boolean;
	smoothing?: number;
	height?: number;
	unit?: Unit;
	/** Fixed bounds, for accuracies. */
	bounds?: [number, number];
	hint?: string;
	/** Names of x = 0, 1, 2 … instead of numbers. */
	names?: string[];
	/** Charts with the same key zoom together; it is the parameter in the address. */
	zoom?: string;
}

const BUCKETS = 1000;
/** Fewer points than this are shown as they are. */
const SMOOTH_LEAST = 20;
const PAD = { l: 52, r: 8, t: 8, b: 24 };
/** A drag shorter than this is a click. */
const DRAG_PX = 6;

/** Where the pointer is, in units of x: every chart of that unit shows it. */
const cursor = signal<{ x: number; unit: Unit } | null>(null);

function useZoom(key: string): [[number, number] | null, (z: [number, number] | null) => void] {
	const m = /^(-?[\d.e]+)~(-?[\d.e]+)$/.exec(query(key));
	const z: [number, number] | null = m && Number(m[2]) > Number(m[1]) ? [Number(m[1]), Number(m[2])] : null;
	return [z, (v) => setQuery({ [key]: v ? v.map((x) => Number(x.toPrecision(6))).join("~") : null })];
}

function yRange(lines: Line[], x: Scale, p: LinesProps): [number, number] {
	if (p.bounds) return p.bounds;
	const [lo, hi] = extent(lines, x.lo, x.hi);
	if (lo > hi) return p.log ? [0.1, 1] : [0, 1];
	if (p.log) return [lo / 1.1, hi * 1.1];
	const pad = (hi - lo || Math.abs(hi) || 1) * 0.08;
	return [lo - pad, hi + pad];
}

function path(l: Line, x: Scale, y: Scale, w: number, h: number): string {
	let d = "";
	for (const [a, b] of l.points) d += `${d ? "L" : "M"}${(x.at(a) * w).toFixed(1)} ${((1 - y.at(b)) * h).toFixed(1)}`;
	return d;
}

function Drawn({ lines, x, y, w, h, raw }: { lines: Line[]; x: Scale; y: Scale; w: number; h: number; raw?: boolean }) {
	return (
		<>
			{lines.map((l, i) => l.points.length > 2 || raw ? <path key={l.label} class={`ln ${tone(i)} ${raw ? "raw" : ""}`} d={path(l, x, y, w, h)} />
				: <g key={l.label} class={`ln ${tone(i)}`}><path d={path(l, x, y, w, h)} />{l.points.map(([a, b]) => <circle key={a} cx={x.at(a) * w} cy={(1 - y.at(b)) * h} r={3} />)}</g>)}
		</>
	);
}

/** Redrawn with every move of the pointer, so it is by itself. */
function Cursor({ lines, x, y, w, h, unit }: { lines: Line[]; x: Scale; y: Scale; w: number; h: number; unit: Unit }) {
	const c = cursor.value;
	if (!c || c.unit !== unit || c.x < x.lo || c.x > x.hi) return null;
	return (
		<g class="cursor">
			<line x1={x.at(c.x) * w} x2={x.at(c.x) * w} y1={0} y2={h} />
			{lines.map((l, i) => {
				const at = nearest(l.points, c.x);
				return at && <circle key={l.label} class={tone(i)} cx={x.at(at[0]) * w} cy={(1 - y.at(at[1])) * h} r={3.5} />;
			})}
		</g>
	);
}

const place = (unit: Unit, x: number): string => (unit === "time" ? "after " : unit + " ") + unitText(unit, x);

function Legend({ lines, unit, names, x }: { lines: Line[]; unit: Unit; names?: string[]; x: Scale }) {
	const c = cursor.value && cursor.value.unit === unit && cursor.value.x >= x.lo && cursor.value.x <= x.hi ? cursor.value : null;
	return (
		<ul class="legend">
			{lines.map((l, i) => (
				<li key={l.label}>
					<i class={`swatch ${tone(i)}`} />
					<span class="legend-name">{l.label}</span>
					<b class="num">{fmtNum((c ? nearest(l.points, c.x) : l.points.at(-1))?.[1] ?? null)}</b>
				</li>
			))}
			{c && <li class="dim num">{names?.[Math.round(c.x)] ?? place(unit, c.x)}</li>}
		</ul>
	);
}

export function Lines(p: LinesProps) {
	const unit = p.unit ?? "step";
	const [ref, width] = useWidth<HTMLDivElement>(160);
	const [table, setTable] = useState(false);
	const [brush, setBrush] = useState<[number, number] | null>(null);
	const [zoom, setZoom] = useZoom(p.zoom ?? "zoom");
	const height = p.height ?? 200;
	const w = Math.max(1, width - PAD.l - PAD.r);
	const h = height - PAD.t - PAD.b;
	const weight = p.lines.some((l) => l.points.length >= SMOOTH_LEAST) ? (p.smoothing ?? 0) : 0;
	const stamp = p.lines.map((l) => `${l.label} ${l.points.length} ${l.points.at(-1)?.join()}`).join() + [p.log, weight, unit];
	const [raw, shown] = useMemo(() => {
		const raw = p.lines.map((l) => ({ ...l, points: thin(p.log ? l.points.filter((q) => q[1] > 0) : l.points, BUCKETS) }));
		return [raw, weight ? raw.map((l) => ({ ...l, points: smooth(l.points, weight) })) : raw];
	}, [stamp]);
	const drawn = useMemo(() => {
		const [lo, hi] = zoom ?? [Math.min(...raw.map((l) => l.points[0]?.[0] ?? Infinity)), Math.max(...raw.map((l) => l.points.at(-1)?.[0] ?? -Infinity))];
		const x = scale(lo <= hi ? lo : 0, hi > lo ? hi : lo + 1);
		const y = scale(...yRange(raw, x, p), p.log);
		return { x, y };
	}, [raw, zoom?.join(), p.log, p.bounds?.join()]);
	const { x, y } = drawn;
	const yTicks = (p.log ? logTicks : ticks)(y.lo, y.hi, h / 28);
	const xTicks = p.names ? p.names.map((_, i) => i) : unitTicks(unit, x.lo, x.hi, w / 72);
	const art = useMemo(() => width > 0 && <>{weight > 0 && <Drawn lines={raw} x={x} y={y} w={w} h={h} raw />}<Drawn lines={shown} x={x} y={y} w={w} h={h} /></>, [drawn, shown, width, h]);

	const local = (e: PointerEvent): number => Math.max(0, Math.min(1, (e.clientX - (ref.current?.getBoundingClientRect().left ?? 0) - PAD.l) / w));
	const down = (e: PointerEvent): void => {
		if (e.button === 0 && e.pointerType !== "touch") setBrush([local(e), local(e)]);
	};
	const move = (e: PointerEvent): void => {
		cursor.value = { x: x.value(local(e)), unit };
		if (brush) setBrush([brush[0], local(e)]);
	};
	const up = (): void => {
		if (brush && Math.abs(brush[1] - brush[0]) * w > DRAG_PX) setZoom([x.value(Math.min(...brush)), x.value(Math.max(...brush))]);
		setBrush(null);
	};
	const leave = (): void => {
		cursor.value = null;
		up();
	};
	const name = (v: number): string => p.names?.[v] ?? unitText(unit, v);
	return (
		<figure class="chart">
			<figcaption>
				<span class="chart-title" title={p.hint}>{p.title}</span>
				<span>{zoom && <button class="link-btn" onClick={() => setZoom(null)}>fit</button>} <button class="link-btn" onClick={() => setTable(!table)}>{table ? "hide table" : "table"}</button></span>
			</figcaption>
			<div ref={ref} class="plot" style={{ height: `${height}px` }} onPointerDown={down} onPointerMove={move} onPointerUp={up} onPointerLeave={leave} onDblClick={() => setZoom(null)}>
				{width > 0 && (
					<svg width={width} height={height} role="img" aria-label={`${p.title}. ${p.lines.map(summary).join(". ")}`}>
						{yTicks.map((v) => <g key={v} transform={`translate(0 ${PAD.t + (1 - y.at(v)) * h})`}><line class="gridline" x1={PAD.l} x2={width - PAD.r} /><text x={PAD.l - 8} y={4} text-anchor="end">{yText(v)}</text></g>)}
						{xTicks.map((v) => <g key={v} transform={`translate(${PAD.l + x.at(v) * w} 0)`}><line class="gridline" y1={PAD.t} y2={PAD.t + h} /><text y={height - 7} text-anchor={x.at(v) * w > w - 14 ? "end" : "middle"}>{name(v)}</text></g>)}
						<svg x={PAD.l} y={PAD.t} width={w} height={h}>
							{art}
							<Cursor lines={shown} x={x} y={y} w={w} h={h} unit={unit} />
							{brush && <rect class="gbrush" x={Math.min(...brush) * w} width={Math.abs(brush[1] - brush[0]) * w} height={h} />}
						</svg>
					</svg>
				)}
			</div>
			<Legend lines={shown} unit={unit} names={p.names} x={x} />
			{table && <DataTable lines={p.lines} head={p.names ? "" : unit} text={(v) => p.names?.[v] ?? unitText(unit, v)} />}
		</figure>
	);
}

function DataTable({ lines, head, text }: { lines: Line[]; head: string; text: (v: number) => string }) {
	const [xs, ...cols] = join(lines.map((l) => ({ ...l, points: thin(l.points, 50) })));
	return (
		<div class="table-scroll short" tabIndex={0}>
			<table class="plain num">
				<thead><tr><th>{head}</th>{lines.map((l) => <th key={l.label}>{l.label}</th>)}</tr></thead>
				<tbody>
					{xs.map((v, i) => <tr key={v}><td>{text(v)}</td>{cols.map((c, k) => <td key={k}>{fmtNum(c[i])}</td>)}</tr>)}
				</tbody>
			</table>
		</div>
	);
}
