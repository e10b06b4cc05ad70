/** Length against score, one dot a candidate; clicking a dot opens its row. */
import { useMemo } from "preact/hooks";
import { fmtInt } from "../lib/fmt";
import { ticks } from "./scale";

export interface Dot {
	x: number;
	y: number;
	key: string;
	mark?: "chosen" | "rejected" | null;
}

const W = 600;
const H = 190;
const PAD = { l: 30, r: 8, t: 8, b: 22 };

/** Spearman's rank correlation, ties by mean rank. */
export function spearman(dots: { x: number; y: number }[]): number | null {
	if (dots.length < 3) return null;
	const ranks = (v: number[]): number[] => {
		const order = v.map((_, i) => i).sort((a, b) => v[a]! - v[b]!);
		const out = new Array<number>(v.length);
		for (let i = 0; i < order.length; ) {
			let j = i;
			while (j + 1 < order.length && v[order[j + 1]!] === v[order[i]!]) j++;
			for (let k = i; k <= j; k++) out[order[k]!] = (i + j) / 2;
			i = j + 1;
		}
		return out;
	};
	const a = ranks(dots.map((d) => d.x));
	const b = ranks(dots.map((d) => d.y));
	const mean = (dots.length - 1) / 2;
	let num = 0;
	let da = 0;
	let db = 0;
	for (let i = 0; i < a.length; i++) {
		num += (a[i]! - mean) * (b[i]! - mean);
		da += (a[i]! - mean) ** 2;
		db += (b[i]! - mean) ** 2;
	}
	return da && db ? num / Math.sqrt(da * db) : null;
}

/** More dots than this say no more, and make the page slow. */
const DOTS_MOST = 1000;

/** `total`: how many there are, when these are a sample of them. */
export function Scatter({ dots: all, xName, yName, open, total }: { dots: Dot[]; xName: string; yName: string; open: (key: string) => void; total?: number }) {
	const of = Math.max(all.length, total ?? 0);
	const dots = useMemo(() => {
		const every = Math.ceil(all.length / DOTS_MOST);
		return every > 1 ? all.filter((_, i) => i % every === 0) : all;
	}, [all]);
	const s = useMemo(() => {
		const xs = dots.map((d) => d.x);
		const ys = dots.map((d) => d.y);
		const x1 = Math.max(1, ...xs);
		const y0 = Math.min(0, ...ys);
		const y1 = Math.max(1, ...ys);
		const px = (x: number): number => PAD.l + ((W - PAD.l - PAD.r) * x) / x1;
		const py = (y: number): number => H - PAD.b - ((H - PAD.t - PAD.b) * (y - y0)) / (y1 - y0 || 1);
		return { x1, y0, y1, px, py };
	}, [dots]);
	const rho = useMemo(() => spearman(all), [all]);
	const rank = rho === null ? "–" : (rho < 0 ? "−" : "") + Math.abs(rho).toFixed(2);
	return (
		<figure class="chart">
			<figcaption>
				<span class="chart-title">{yName} by {xName}</span>
				<span class="dim num">ρ {rank} · {dots.length < of ? `${fmtInt(dots.length)} of ${fmtInt(of)}` : fmtInt(of)} shown</span>
			</figcaption>
			<svg class="scatter" viewBox={`0 0 ${W} ${H}`} role="img" aria-label={`${dots.length} candidates; rank correlation of ${xName} and ${yName} is ${rho === null ? "unknown" : rho.toFixed(2)}`}>
				<line class="axis" x1={PAD.l} x2={W - PAD.r} y1={H - PAD.b} y2={H - PAD.b} />
				{ticks(s.y0, s.y1, 5).map((y) => (
					<g key={y}>
						<line class="gridline" x1={PAD.l} x2={W - PAD.r} y1={s.py(y)} y2={s.py(y)} />
						<text x={PAD.l - 6} y={s.py(y) + 3.5} text-anchor="end">{Number(y.toFixed(2))}</text>
					</g>
				))}
				{ticks(0, s.x1, 6, 1).map((x) => <text key={x} x={s.px(x)} y={H - 7} text-anchor={s.px(x) > W - 24 ? "end" : "middle"}>{x}</text>)}
				{dots.map((d, i) => (
					<circle key={i} class={`dot ${d.mark ?? ""} ${d.key ? "" : "faint"}`} cx={s.px(d.x)} cy={s.py(d.y)} r={d.mark ? 3.4 : 2.6} onClick={() => d.key && open(d.key)}>
						<title>{`${xName} ${d.x}, ${yName} ${Number(d.y.toFixed(2))}${d.mark ? ", " + d.mark : ""}`}</title>
					</circle>
				))}
			</svg>
		</figure>
	);
}
