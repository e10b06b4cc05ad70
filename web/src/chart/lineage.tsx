/** The models of a run and the data between them: left to right where there is room, else top to bottom. */
import type { JSX } from "preact";
import { fmtCount, fmtPct, shortHash } from "../lib/fmt";
import { told, type DataNode, type Lineage, type ModelNode } from "../lib/lineage";
import { useWidth } from "../ui/width";

const W = 132;
const H = 46;
const GAP = 26;
const GAP_MOST = 56;
const LANE = H + 14;

interface Place { x: number; y: number }

/** Data and models take turns: column 2k holds what models of depth k are trained on, 2k + 1 those models. */
function places(l: Lineage, across: boolean, gap = GAP): { at: Map<string, Place>; w: number; h: number } {
	const first = l.data.some((d) => d.depth === 0) ? 0 : 1;
	const fill = new Map<number, number>();
	const at = new Map<string, Place>();
	const put = (id: string, column: number, least: number): void => {
		const lane = Math.max(fill.get(column) ?? 0, least);
		fill.set(column, lane + 1);
		const step = column - first;
		at.set(id, across ? { x: step * (W + gap), y: lane * LANE } : { x: lane * (W + 20), y: step * (H + GAP) });
	};
	const leads = (m: ModelNode): number => Number(!l.models.some((x) => x.parents.includes(m.id)));
	for (const m of [...l.models].sort((a, b) => a.depth - b.depth || leads(a) - leads(b))) put(m.id, 2 * m.depth + 1, 0);
	// The line from model to model runs above the data, but for the first, which has none.
	for (const d of l.data) put(d.id, 2 * d.depth, d.depth > 0 ? 1 : 0);
	const all = [...at.values()];
	return { at, w: Math.max(0, ...all.map((p) => p.x + W)), h: Math.max(0, ...all.map((p) => p.y + H)) };
}

function Edge({ from, to, across, soft }: { from?: Place; to?: Place; across: boolean; soft?: boolean }) {
	if (!from || !to) return null;
	const [a, b] = across ? [{ x: from.x + W, y: from.y + H / 2 }, { x: to.x - 5, y: to.y + H / 2 }] : [{ x: from.x + W / 2, y: from.y + H }, { x: to.x + W / 2, y: to.y - 5 }];
	const mid = across ? `${(a.x + b.x) / 2} ${a.y} ${(a.x + b.x) / 2} ${b.y}` : `${a.x} ${(a.y + b.y) / 2} ${b.x} ${(a.y + b.y) / 2}`;
	return <path class={`lin-edge ${soft ? "soft" : ""}`} d={`M${a.x} ${a.y}C${mid} ${b.x} ${b.y}`} marker-end="url(#lin-arrow)" />;
}

function Box({ href, cls, name, sub, label, p }: { href: string; cls: string; name: string; sub: string; label: string; p: Place }): JSX.Element {
	return (
		<a href={href} class={cls}>
			<title>{label}</title>
			<rect x={p.x} y={p.y} width={W} height={H} rx={cls === "lin-data" ? H / 2 : 6} />
			<text class="lin-name" x={p.x + W / 2} y={p.y + 19} text-anchor="middle">{name}</text>
			<text x={p.x + W / 2} y={p.y + 35} text-anchor="middle">{sub}</text>
		</a>
	);
}

function headline(m: ModelNode): string {
	const v = m.c.metrics?.["truth.greedy_accuracy"];
	return typeof v === "number" ? `${fmtPct(v, 0)} right` : shortHash(m.c.digest, 8);
}

const dataLabel = (d: DataNode): string => `${d.d.role}, ${d.d.rows} rows${d.d.iter ? `, iteration ${d.d.iter}` : ""}`;

export function LineageGraph({ l }: { l: Lineage }) {
	const [ref, width] = useWidth(200);
	if (l.models.length < 2) return null;
	const wide = places(l, true);
	const across = wide.w + 4 <= width;
	const columns = Math.round((wide.w + GAP) / (W + GAP));
	const { at, w, h } = across ? places(l, true, Math.min(GAP_MOST, (width - 4 - columns * W) / Math.max(1, columns - 1))) : places(l, false);
	return (
		<figure class="lineage card pad">
			<figcaption class="chart-title">How the models came about</figcaption>
			<div ref={ref} class="lin-room">
				{width > 0 && (
					<svg width={w + 4} height={h + 4} viewBox={`-2 -2 ${w + 4} ${h + 4}`} role="group" aria-label="Lineage of the models; the list below says the same">
						<defs><marker id="lin-arrow" viewBox="0 0 6 6" refX="5" refY="3" markerWidth="6" markerHeight="6" orient="auto"><path d="M0 0 6 3 0 6z" class="lin-tip" /></marker></defs>
						{l.models.flatMap((m) => [...m.parents.map((p) => <Edge key={p + m.id} from={at.get(p)} to={at.get(m.id)} across={across} />), ...m.data.map((d) => <Edge key={d + m.id} from={at.get(d)} to={at.get(m.id)} across={across} soft />)])}
						{l.data.map((d) => d.from && <Edge key={d.id} from={at.get(d.from)} to={at.get(d.id)} across={across} soft />)}
						{l.models.map((m) => <Box key={m.id} href={`/checkpoints/${m.id}`} cls="lin-model" name={m.c.name} sub={headline(m)} label={`${m.c.name} ${headline(m)}. ${told(m, l)}`} p={at.get(m.id)!} />)}
						{l.data.map((d) => <Box key={d.id} href={`/data/${d.id}`} cls="lin-data" name={d.d.role} sub={`${fmtCount(d.d.rows)} rows`} label={dataLabel(d)} p={at.get(d.id)!} />)}
					</svg>
				)}
			</div>
			<details class="more"><summary>As a list</summary><ul class="plain-list">{l.models.map((m) => <li key={m.id}>{told(m, l)}</li>)}</ul></details>
		</figure>
	);
}
