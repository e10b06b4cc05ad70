/** What the timeline is drawn of: bars, marks, the axis and its key. */
import { fmtClock, fmtDuration, fmtTime, serverNow } from "../lib/fmt";
import { lookOf } from "../lib/states";
import { jobWords, type Attempt } from "../lib/wire";
import { tickStep, type Bar, type Layout } from "./gantt_layout";

export const HEAD = 36;
const BAR_LEAST = 3;

export interface View { a: number; b: number }
export type Scale = (x: number) => number;

export function barWords(a: Attempt): string {
	const end = a.end ? fmtTime(a.end) : "running";
	const how = a.how ? lookOf(a.how).word : "running";
	const dur = fmtDuration(((a.end ?? serverNow()) - a.start) / 1000);
	const lost = a.lost ? `, ${fmtDuration(a.lost / 1000)} of it lost` : "";
	const marks = markWords(a);
	return `${jobWords(a.job)}, attempt ${a.n}, ${how}\n${fmtTime(a.start)} → ${end}, ${dur}${lost}${marks ? ", " + marks : ""}\n${a.worker}${a.reason ? "\n" + a.reason : ""}`;
}

interface Placed { b: Bar; y: number; h: number; px: Scale }

/** One attempt. Tab stops at the first bar only; the arrow keys go on from there. */
export function BarShape({ b, y, h, px, hover, first }: Placed & { hover: (b: Bar | null) => void; first: boolean }) {
	const x = px(b.x0);
	const w = Math.max(BAR_LEAST, px(b.x1) - x);
	const tone = lookOf(b.a.how ?? "running").tone;
	const lost = b.lost === null ? null : Math.max(x, Math.min(px(b.lost), x + w));
	return (
		<a href={`/jobs/${encodeURIComponent(b.a.job)}?attempt=${b.a.n}`} tabIndex={first ? 0 : -1} data-bar aria-label={barWords(b.a)} onMouseEnter={() => hover(b)} onMouseLeave={() => hover(null)} onFocus={() => hover(b)} onBlur={() => hover(null)}>
			<rect class={`gbar tone-${tone} ${b.running ? "live" : ""}`} x={x} y={y} width={w} height={h} rx={Math.min(3, h / 3)} />
			{lost !== null && x + w - lost > 2 && <rect class="glost" x={lost} y={y} width={x + w - lost} height={h} />}
		</a>
	);
}

/** Where an attempt was cut off: a disc with a bolt, a cross where it failed; drawn over all bars. */
export function EndMark({ b, y, h, px }: Placed) {
	const how = b.a.how;
	if (how !== "preempted" && how !== "lease_lost" && how !== "failed") return null;
	const x = Math.max(px(b.x1), px(b.x0) + BAR_LEAST);
	return (
		<g class={`gend tone-${lookOf(how).tone}`} transform={`translate(${x} ${y + h / 2})`} pointer-events="none">
			<circle r={6.5} />
			{how === "failed" ? <path class="gcross" d="m-2.4-2.4 4.8 4.8m0-4.8-4.8 4.8" /> : <path class="gbolt" d="M.9-4.6-2.8.7h2.2l-.6 3.9L2.8-.8H.5z" />}
		</g>
	);
}

/** Of each kind of mark how many, for the card and the label. */
function markWords(a: Attempt): string {
	const words: [string, string, string][] = [["checkpoint", "checkpoint", "checkpoints"], ["notice", "notice of its machine", "notices of its machine"], ["stuck", "time without progress", "times without progress"]];
	return words.flatMap(([kind, one, many]) => {
		const n = a.marks.filter((m) => m.kind === kind).length;
		return n ? [`${n} ${n === 1 ? one : many}`] : [];
	}).join(", ");
}

/** Checkpoints: a small arrow into a tray, within the bar; where it was threatened, a flag on its upper edge. */
export function SaveMarks({ b, y, h, px }: Placed) {
	return <>{b.warned.map((s) => <path key={"w" + s} class="gwarn" d={`M${px(s)} ${y - 2}l4-4h-8z`} pointer-events="none" />)}{h >= 8 && b.saves.map((s) => <path key={s} class="gsave" transform={`translate(${Math.min(px(s), px(b.x1) - 6)} ${y + h / 2})`} d="M0-4v5m-2.6-2.4L0 1.4l2.6-2.8M-3.4 4h6.8" pointer-events="none" />)}</>;
}

export function Axis({ l, view, px, height }: { l: Layout; view: View; px: Scale; height: number }) {
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

export function Key() {
	const items: [string, string][] = [["completed", "completed"], ["running", "running"], ["preempted", "preempted ↯"], ["lease_lost", "lease lost ↯"], ["failed", "failed ✕"], ["cancelled", "cancelled"]];
	return (
		<ul class="legend">
			{items.map(([k, word]) => <li key={k}><i class={`swatch tone-${lookOf(k).tone}`} /> {word}</li>)}
			<li><svg class="gkey" viewBox="-5 -6 10 12" aria-hidden="true"><path class="gsave" d="M0-4v5m-2.6-2.4L0 1.4l2.6-2.8M-3.4 4h6.8" /></svg> checkpoint</li>
			<li><svg class="gkey" viewBox="0 0 12 12" aria-hidden="true"><rect class="gbar tone-warn" width="12" height="12" /><rect class="glost" width="12" height="12" /></svg> work lost</li>
			<li><svg class="gkey" viewBox="-5 -5 10 10" aria-hidden="true"><path class="gwarn" d="M0 3l4-5h-8z" /></svg> notice, or no progress</li>
		</ul>
	);
}
