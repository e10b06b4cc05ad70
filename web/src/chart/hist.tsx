/** Histogram whose bars are filters. SVG-free: real buttons, so keyboard and readers work. */
import { useRef } from "preact/hooks";
import { fmtInt } from "../lib/fmt";

export interface Bin {
	lo: number;
	hi: number;
	label: string;
	n: number;
}

/** Server histograms: counts, pairs [value, n], or objects {score|lo|value, n|count}. */
export function binsOf(x: unknown): Bin[] {
	if (Array.isArray(x)) {
		return x.map((e, i) => {
			if (typeof e === "number") return { lo: i, hi: i, label: String(i), n: e };
			if (Array.isArray(e)) return { lo: Number(e[0]), hi: Number(e[0]), label: trim(Number(e[0])), n: Number(e[1]) };
			const o = e as Record<string, number>;
			const lo = Number(o.lo ?? o.score ?? o.value ?? o.x ?? i);
			const hi = Number(o.hi ?? lo);
			return { lo, hi, label: trim(lo), n: Number(o.n ?? o.count ?? 0) };
		});
	}
	if (x && typeof x === "object")
		return Object.entries(x as Record<string, number>)
			.map(([k, n]) => ({ lo: Number(k), hi: Number(k), label: trim(Number(k)), n: Number(n) }))
			.filter((b) => Number.isFinite(b.lo))
			.sort((a, b) => a.lo - b.lo);
	return [];
}

function trim(n: number): string {
	return String(Number(n.toFixed(2)));
}

export function Histogram({ bins, from, to, pick, name }: { bins: Bin[]; from: number | null; to: number | null; pick: (lo: number | null, hi: number | null) => void; name: string }) {
	const most = Math.max(1, ...bins.map((b) => b.n));
	const inside = (b: Bin): boolean => (from === null || b.hi >= from - 1e-9) && (to === null || b.lo <= to + 1e-9);
	const filtered = from !== null || to !== null;
	const click = (b: Bin, e: MouseEvent): void => {
		if (e.shiftKey && filtered) pick(Math.min(from ?? b.lo, b.lo), Math.max(to ?? b.hi, b.hi));
		else if (filtered && from === b.lo && to === b.hi) pick(null, null);
		else pick(b.lo, b.hi);
	};
	const began = useRef<Bin | null>(null);
	const over = (b: Bin, e: PointerEvent): void => {
		const a = began.current;
		if (e.buttons === 1 && a && a !== b) pick(Math.min(a.lo, b.lo), Math.max(a.hi, b.hi));
	};
	const every = Math.ceil(bins.length / 11);
	return (
		<div class="hist" role="group" aria-label={name}>
			{bins.map((b, i) => (
				<button
					key={b.lo}
					class={`hist-col ${inside(b) ? "" : "off"}`}
					aria-pressed={filtered && inside(b)}
					aria-label={`${b.label}: ${b.n}`}
					title={`${b.label}: ${fmtInt(b.n)}. Click or drag to filter, Shift+click to widen`}
					onPointerDown={(e) => { began.current = b; e.currentTarget.releasePointerCapture?.(e.pointerId); }}
					onPointerEnter={(e) => over(b, e)}
					onClick={(e) => click(b, e)}
				>
					<span class="hist-room"><i style={{ height: `${(100 * b.n) / most}%` }} class={b.n ? "" : "none"} /></span>
					<span class="hist-label num">{i % every === 0 ? b.label : "\u00a0"}</span>
				</button>
			))}
		</div>
	);
}
