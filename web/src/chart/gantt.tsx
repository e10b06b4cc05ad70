/** The timeline drawing: one bar an attempt, ends marked by shape, folded idle, zoom by dragging. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { fmtClock, fmtDuration, fmtTime, serverNow, tick, zoneLabel } from "../lib/fmt";
import { lookOf } from "../lib/states";
import type { Attempt } from "../lib/wire";
import { lanes, layout, tickStep, type Bar, type Grouping, type Layout } from "./gantt_layout";

const ROW = 22;
const HEAD = 36;
const BAR_LEAST = 3;

interface View { a: number; b: number }

function useWidth(): [{ current: HTMLDivElement | null }, number] {
	const ref = useRef<HTMLDivElement>(null);
	const [w, setW] = useState(800);
	useEffect(() => {
		const el = ref.current;
		if (!el) return;
		const o = new ResizeObserver(() => setW(Math.max(240, el.clientWidth)));
		o.observe(el);
		return () => o.disconnect();
	}, []);
	return [ref, w];
}

function barWords(a: Attempt): string {
	const end = a.end ? fmtTime(a.end) : "running";
	const how = a.how ? lookOf(a.how).word : "running";
	const dur = fmtDuration(((a.end ?? serverNow()) - a.start) / 1000);
	return `${a.job} attempt ${a.n}, ${how}\n${fmtTime(a.start)} → ${end}, ${dur}\n${a.worker}${a.reason ? "\n" + a.reason : ""}`;
}

interface BarProps { b: Bar; y: number; h: number; px: (x: number) => number; hover: (b: Bar | null) => void }

function BarShape({ b, y, h, px, hover }: BarProps) {
	const x = px(b.x0);
	const w = Math.max(BAR_LEAST, px(b.x1) - x);
	const how = b.a.how ?? "running";
	return (
		<a href={`/jobs/${encodeURIComponent(b.a.job)}?attempt=${b.a.n}`} aria-label={barWords(b.a)} onMouseEnter={() => hover(b)} onMouseLeave={() => hover(null)} onFocus={() => hover(b)} onBlur={() => hover(null)}>
			<rect class={`gbar tone-${lookOf(how).tone} ${b.running ? "live" : ""}`} x={x} y={y} width={w} height={h} rx={Math.min(3, h / 3)} />
		</a>
	);
}

/** Where an attempt was cut off: a disc with a bolt, a cross where it failed; drawn over all bars. */
function EndMark({ b, y, h, px }: { b: Bar; y: number; h: number; px: (x: number) => number }) {
	const how = b.a.how;
	if (how !== "preempted" && how !== "lease_lost" && how !== "failed") return null;
	const x = Math.max(px(b.x1), px(b.x0) + BAR_LEAST);
	const my = y + h / 2;
	return (
		<g class={`gend tone-${lookOf(how).tone}`} transform={`translate(${x} ${my})`} pointer-events="none">
			<circle r={6.5} />
			{how === "failed" ? <path class="gcross" d="m-2.4-2.4 4.8 4.8m0-4.8-4.8 4.8" /> : <path class="gbolt" d="M.9-4.6-2.8.7h2.2l-.6 3.9L2.8-.8H.5z" />}
		</g>
	);
}

function Axis({ l, view, px, height }: { l: Layout; view: View; px: (x: number) => number; height: number }) {
	const span = l.timeAt(view.b) - l.timeAt(view.a);
	const wide = px(view.b) - px(view.a);
	const step = tickStep(span - l.folds.filter((f) => f.at > view.a && f.at < view.b).reduce((n, f) => n + f.seconds * 1000, 0), wide / 90);
	const out = [];
	let lastX = -1e9;
	for (let t = Math.ceil(l.timeAt(view.a) / step) * step; t <= l.timeAt(view.b) && out.length < 60; t += step) {
		const x = px(l.posOf(t));
		if (Math.abs(l.timeAt(l.posOf(t)) - t) > step / 4 || l.folds.some((f) => Math.abs(px(f.at) - x) < 14)) continue;
		if (x - lastX < 62) continue;
		lastX = x;
		out.push(
			<g key={t}>
				<line class="gridline" x1={x} x2={x} y1={4} y2={height} />
				<text x={x + 3} y={13}>{fmtClock(t, step < 60_000)}</text>
			</g>,
		);
	}
	const folds = l.folds.filter((f) => f.at >= view.a && f.at <= view.b);
	return (
		<g class="gaxis">
			{out}
			{folds.map((f) => (
				<g key={f.at} class="gfold">
					<title>{`${fmtDuration(f.seconds)} idle, folded`}</title>
					<path d={`M${px(f.at)} ${HEAD - 4}V${height}`} />
					<text x={px(f.at)} y={27} text-anchor="middle">{fmtDuration(f.seconds)} idle</text>
				</g>
			))}
		</g>
	);
}

export function Gantt({ attempts, by, fold, live }: { attempts: Attempt[]; by: Grouping; fold: boolean; live: boolean }) {
	const [ref, width] = useWidth();
	const now = live ? (void tick.value, serverNow()) : Math.max(0, ...attempts.map((a) => a.end ?? a.start));
	const l = useMemo(() => layout(attempts, by, now, fold), [attempts, by, fold, now]);
	const [zoom, setZoom] = useState<View | null>(null);
	const [brush, setBrush] = useState<View | null>(null);
	const [hover, setHover] = useState<Bar | null>(null);
	const [all, setAll] = useState(false);
	const view = zoom ?? { a: 0, b: l.length };
	const gutter = width < 560 ? 0 : 132;
	const right = 14;
	const px = (x: number): number => gutter + ((x - view.a) / Math.max(1, view.b - view.a)) * (width - gutter - right);
	const unpx = (x: number): number => view.a + ((x - gutter) / (width - gutter - right)) * (view.b - view.a);

	const rows = all ? l.rows : l.rows.slice(0, 120);
	let y = HEAD + 4;
	let group = "";
	const placed = rows.map((r) => {
		const head = r.group !== group;
		group = r.group;
		if (head) y += 20;
		const ln = lanes(r.bars);
		const h = gutter ? 0 : 14;
		const tall = Math.max(ROW, Math.min(72, ln.n * 12 + 8)) + h;
		const at = y;
		y += tall;
		return { r, head, at, h, tall: tall - h, ln };
	});
	const height = y + 6;
	const midZoom = (k: number): void => {
		const mid = (view.a + view.b) / 2;
		const half = Math.max(500, ((view.b - view.a) / 2) * k);
		const v = { a: Math.max(0, mid - half), b: Math.min(l.length, mid + half) };
		setZoom(v.a <= 0 && v.b >= l.length ? null : v);
	};
	const local = (e: PointerEvent): number => e.clientX - (ref.current?.getBoundingClientRect().left ?? 0);
	const down = (e: PointerEvent): void => {
		if (e.button !== 0 || e.pointerType === "touch" || (e.target as Element).closest("a")) return;
		const x = unpx(local(e));
		setBrush({ a: x, b: x });
	};
	const move = (e: PointerEvent): void => {
		if (brush) setBrush({ a: brush.a, b: unpx(local(e)) });
	};
	const up = (): void => {
		if (brush && Math.abs(px(brush.b) - px(brush.a)) > 8)
			setZoom({ a: Math.max(0, Math.min(brush.a, brush.b)), b: Math.min(l.length, Math.max(brush.a, brush.b)) });
		setBrush(null);
	};
	const lastHour = (): void => {
		const from = l.posOf(now - 3_600_000);
		setZoom(from <= 0 ? null : { a: from, b: l.length });
	};

	return (
		<div class="gantt">
			<div class="row wrap tools">
				<button class="btn small" onClick={() => setZoom(null)} disabled={!zoom}>Fit</button>
				<button class="btn small" onClick={lastHour}>Last hour</button>
				<button class="btn small" onClick={() => midZoom(0.5)} aria-label="Zoom in">+</button>
				<button class="btn small" onClick={() => midZoom(2)} aria-label="Zoom out" disabled={!zoom}>−</button>
				<span class="dim grow-right">Times in {zoneLabel()}. Drag to zoom.</span>
			</div>
			<div ref={ref} class="gantt-room" onPointerDown={down} onPointerMove={move} onPointerUp={up} onPointerLeave={up}>
				<svg width={width} height={height} role="group" aria-label="Timeline of attempts. The Jobs tab holds the same facts as a table.">
					<defs><clipPath id="gclip"><rect x={gutter} y={0} width={width - gutter} height={height} /></clipPath></defs>
					<g clip-path="url(#gclip)"><Axis l={l} view={view} px={px} height={height} /></g>
					{placed.map(({ r, head, at, h, tall, ln }) => (
						<g key={r.key}>
							{head && <text class="ggroup" x={0} y={at - 6}>{r.group}</text>}
							<line class="growline" x1={0} x2={width} y1={at + h + tall} y2={at + h + tall} />
							{gutter ? <text class="glabel" x={0} y={at + Math.min(tall / 2, 14) + 4}>{r.label.slice(0, 20)}</text> : <text class="glabel" x={0} y={at + 12}>{r.label}</text>}
							<g clip-path="url(#gclip)">
								{r.bars.map((b, i) => {
									const lh = (tall - 6) / ln.n;
									return <BarShape key={`${b.a.job}/${b.a.n}/${b.a.start}`} b={b} y={at + h + 3 + ln.lane[i]! * lh} h={Math.max(2, lh - 1.5)} px={px} hover={setHover} />;
								})}
								{r.bars.map((b, i) => {
									const lh = (tall - 6) / ln.n;
									return <EndMark key={`${b.a.job}/${b.a.n}/${b.a.start}`} b={b} y={at + h + 3 + ln.lane[i]! * lh} h={Math.max(2, lh - 1.5)} px={px} />;
								})}
							</g>
						</g>
					))}
					{live && <line class="gnow" x1={px(l.posOf(now))} x2={px(l.posOf(now))} y1={HEAD - 4} y2={height} />}
					{brush && <rect class="gbrush" x={Math.min(px(brush.a), px(brush.b))} y={HEAD} width={Math.abs(px(brush.b) - px(brush.a))} height={height - HEAD} />}
				</svg>
			</div>
			<p class="gantt-card" aria-hidden="true">{hover ? barWords(hover.a).split("\n").join(" · ") : "Point at a bar for its start, end, worker and reason."}</p>
			{l.rows.length > rows.length && <button class="btn small" onClick={() => setAll(true)}>Show all {l.rows.length} rows</button>}
			<Key />
		</div>
	);
}

function Key() {
	const items: [string, string][] = [["completed", "completed"], ["running", "running"], ["preempted", "preempted ↯"], ["lease_lost", "lease lost ↯"], ["failed", "failed ✕"], ["cancelled", "cancelled"]];
	return (
		<ul class="legend">
			{items.map(([k, word]) => <li key={k}><i class={`swatch tone-${lookOf(k).tone}`} /> {word}</li>)}
		</ul>
	);
}
