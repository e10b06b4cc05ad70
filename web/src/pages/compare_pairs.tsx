/** Head to head: the combined verdict with its interval, each order by itself, length beside it. */
import { fmtInt, fmtPct } from "../lib/fmt";
import { duelsOf, type Order } from "../lib/duels";
import { useQuery } from "../lib/query";
import type { Dataset, List, ModelInfo } from "../lib/types";
import { grown, wilson } from "../lib/winrate";

export interface PairFigure { a: string; b: string; win: number; tie: number; loss: number; n: number; low?: number; high?: number; run?: string }

function Bars({ o, label }: { o: Order; label: string }) {
	const n = Math.max(1, o.n);
	const [lo, hi] = wilson(o.win + o.tie / 2, n);
	return (
		<div class="wtl" role="img" aria-label={`${label}: wins ${o.win}, ties ${o.tie}, loses ${o.loss} of ${o.n}`}>
			<i class="win" style={{ flexGrow: o.win }} /><i class="tie" style={{ flexGrow: o.tie }} /><i class="loss" style={{ flexGrow: o.loss }} />
			<span class="whisker" style={{ left: `${100 * lo}%`, width: `${100 * (hi - lo)}%` }} />
		</div>
	);
}

const MOST = 1000;

/** Both orders come from the rows of the comparison itself. */
function Orders({ set }: { set: Dataset }) {
	const q = useQuery<List<unknown>>(`/datasets/${set.digest}/rows?limit=${MOST}`, { every: 0 });
	const d = q.data && duelsOf(q.data.items);
	if (!d) return null;
	const line = (word: string, o: Order) => {
		const [lo, hi] = wilson(o.win + o.tie / 2, o.n);
		return <tr><th scope="row">{word}</th><td class="num r">{fmtPct((o.win + o.tie / 2) / Math.max(1, o.n), 0)}</td><td class="num dim r">[{fmtPct(lo, 0)}, {fmtPct(hi, 0)}]</td><td class="num dim r">{o.win} · {o.tie} · {o.loss}</td></tr>;
	};
	return (
		<table class="orders">
			<tbody>
				{line("shown first", d.first)}
				{line("shown second", d.second)}
				<tr><th scope="row">orders agree</th><td class={`num r ${d.both && d.same / d.both < 0.7 ? "warn" : ""}`}>{fmtPct(d.both ? d.same / d.both : null, 0)}</td><td class="num dim r" colSpan={2}>of {fmtInt(d.both)} readable in both{set.rows > MOST ? `, first ${fmtInt(MOST)} rows` : ""}</td></tr>
			</tbody>
		</table>
	);
}

/** The win rate that would be at equal length, where the evaluation could tell. */
function Controlled({ m, against }: { m: ModelInfo | undefined; against: string }) {
	const rate = m?.metrics?.["h2h.lc_rate"];
	const why = m?.metrics?.["h2h.lc_refused"];
	if (m?.metrics?.["h2h.opponent"] !== undefined && !against.startsWith(String(m.metrics["h2h.opponent"]))) return null;
	if (typeof rate === "number") return <p class="small num" title="A logistic model of the verdict with the difference of lengths taken out">{fmtPct(rate)} <span class="dim">at equal length</span></p>;
	return typeof why === "string" && why ? <p class="dim small">No rate at equal length: {why}</p> : null;
}

export function HeadToHead({ pairs, models, run }: { pairs: PairFigure[]; models: ModelInfo[]; run: string }) {
	const q = useQuery<List<Dataset>>(`/datasets?run=${encodeURIComponent(run)}&stage=eval&limit=200`, { every: 0 });
	const setOf = (p: PairFigure): Dataset | undefined => {
		const m = models.find((x) => x.name === p.a);
		return q.data?.items.find((d) => d.role === "h2h" && d.iter === m?.iter);
	};
	return (
		<ul class="h2h">
			{pairs.map((p) => {
				const n = p.n || p.win + p.tie + p.loss;
				const rate = n ? (p.win + p.tie / 2) / n : 0;
				const [lo, hi] = p.low !== undefined && p.high !== undefined ? [p.low, p.high] : wilson(p.win + p.tie / 2, n);
				const grew = grown(models, p.a, p.b);
				const set = setOf(p);
				return (
					<li key={p.a + p.b}>
						<div class="h2h-head"><b>{p.a}</b> against <b>{p.b}</b><span class="num grow-right">{fmtPct(rate)} <span class="dim">[{fmtPct(lo, 0)}, {fmtPct(hi, 0)}] · n = {fmtInt(n)}</span></span></div>
						<Bars o={{ win: p.win, tie: p.tie, loss: p.loss, n }} label={p.a} />
						<div class="dim small num h2h-foot"><span>win {fmtInt(p.win)}</span><span>tie {fmtInt(p.tie)}</span><span>loss {fmtInt(p.loss)}</span>{grew !== null && <span class={rate > 0.5 && grew > 0.15 ? "warn" : ""}>{rate > 0.5 && grew > 0.15 ? "▲ " : ""}length {grew >= 0 ? "+" : "−"}{fmtPct(Math.abs(grew), 0)}</span>}</div>
						<Controlled m={models.find((x) => x.name === p.a)} against={p.b} />
						{set && <Orders set={set} />}
					</li>
				);
			})}
		</ul>
	);
}
