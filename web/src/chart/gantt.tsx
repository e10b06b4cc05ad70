/** The timeline drawing: one bar an attempt, ends marked by shape, folded idle, zoom by dragging. */
import { useMemo, useState } from "preact/hooks";
import { serverNow, tick, zoneLabel } from "../lib/fmt";
import { queryNum, setQuery } from "../lib/router";
import type { Attempt } from "../lib/wire";
import { useWidth } from "../ui/width";
import { lanes, layout, type Bar, type Grouping } from "./gantt_layout";
import { Axis, BarShape, barWords, EndMark, HEAD, Key, SaveMarks, type View } from "./gantt_parts";

const ROW = 22;
const ZOOM_LEAST = 1000;

/** The arrow keys walk the bars: left and right along the whole, up and down by rows. */
function walk(room: HTMLElement, key: string): boolean {
	const bars = [...room.querySelectorAll<HTMLElement>("[data-bar]")];
	const at = bars.indexOf(document.activeElement as HTMLElement);
	if (at < 0) return false;
	const rowOf = (i: number): string | undefined => bars[i]?.closest<HTMLElement>("[data-lane]")?.dataset.lane;
	const step = key === "ArrowRight" || key === "ArrowDown" ? 1 : key === "ArrowLeft" || key === "ArrowUp" ? -1 : 0;
	let to = at + step;
	if (key === "ArrowDown" || key === "ArrowUp") while (bars[to] && rowOf(to) === rowOf(at)) to += step;
	if (!step || !bars[to]) return !!step;
	bars[to]!.focus();
	return true;
}

interface GanttProps { attempts: Attempt[]; by: Grouping; fold: boolean; live: boolean }

/** The zoom is a stretch of true time, kept in the address. */
export function Gantt({ attempts, by, fold, live }: GanttProps) {
	const [ref, width] = useWidth(240, 800);
	const now = live ? (void tick.value, serverNow()) : Math.max(0, ...attempts.map((a) => a.end ?? a.start));
	const l = useMemo(() => layout(attempts, by, now, fold), [attempts, by, fold, now]);
	const from = queryNum("from");
	const to = queryNum("to");
	const zoom: View | null = from !== null && to !== null && to > from ? { a: l.posOf(from), b: Math.max(l.posOf(to), l.posOf(from) + 1) } : null;
	const setZoom = (v: View | null): void => setQuery(v ? { from: Math.round(l.timeAt(v.a)), to: Math.round(l.timeAt(v.b)) } : { from: null, to: null });
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
		const half = Math.max(ZOOM_LEAST / 2, ((view.b - view.a) / 2) * k);
		const v = { a: Math.max(0, mid - half), b: Math.min(l.length, mid + half) };
		setZoom(v.a <= 0 && v.b >= l.length ? null : v);
	};
	const pan = (k: number): void => {
		const by = (view.b - view.a) * k;
		const shift = Math.max(-view.a, Math.min(l.length - view.b, by));
		if (zoom) setZoom({ a: view.a + shift, b: view.b + shift });
	};
	const keys: Record<string, () => void> = { "+": () => midZoom(0.5), "=": () => midZoom(0.5), "-": () => midZoom(2), "0": () => setZoom(null), "<": () => pan(-0.3), ">": () => pan(0.3) };
	const onKey = (e: KeyboardEvent): void => {
		if (e.ctrlKey || e.metaKey || e.altKey) return;
		const act = keys[e.key];
		if (act) act();
		else if (!ref.current || !walk(ref.current, e.key)) return;
		e.preventDefault();
		e.stopPropagation();
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
				<span class="dim grow-right">Times in {zoneLabel()}. Drag to zoom; arrow keys, + and − work too.</span>
			</div>
			<div ref={ref} class="gantt-room" onKeyDown={onKey} onPointerDown={down} onPointerMove={move} onPointerUp={up} onPointerLeave={up}>
				<svg width={width} height={height} role="group" aria-label="Timeline of attempts. The Jobs tab holds the same facts as a table.">
					<defs>
						<pattern id="glost" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="2" height="5" class="gstripe" /></pattern>
						<clipPath id="gclip"><rect x={gutter} y={0} width={width - gutter} height={height} /></clipPath>
					</defs>
					<g clip-path="url(#gclip)"><Axis l={l} view={view} px={px} height={height} /></g>
					{placed.map(({ r, head, at, h, tall, ln }, n) => (
						<g key={r.key} data-lane={n}>
							{head && <text class="ggroup" x={0} y={at - 6}>{r.group}</text>}
							<line class="growline" x1={0} x2={width} y1={at + h + tall} y2={at + h + tall} />
							{gutter ? <text class="glabel" x={0} y={at + Math.min(tall / 2, 14) + 4}>{r.label.slice(0, 20)}</text> : <text class="glabel" x={0} y={at + 12}>{r.label}</text>}
							<g clip-path="url(#gclip)">
								{r.bars.map((b, i) => {
									const lh = (tall - 6) / ln.n;
									return <BarShape key={`${b.a.job}/${b.a.n}/${b.a.start}`} b={b} y={at + h + 3 + ln.lane[i]! * lh} h={Math.max(2, lh - 1.5)} px={px} hover={setHover} first={n === 0 && i === 0} />;
								})}
								{r.bars.map((b, i) => {
									const lh = (tall - 6) / ln.n;
									const p = { b, y: at + h + 3 + ln.lane[i]! * lh, h: Math.max(2, lh - 1.5), px };
									return <g key={`${b.a.job}/${b.a.n}/${b.a.start}`}><SaveMarks {...p} /><EndMark {...p} /></g>;
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
