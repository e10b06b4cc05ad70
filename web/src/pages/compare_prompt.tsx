/** The same test prompt answered by each model of a run, side by side. */
import { useMemo } from "preact/hooks";
import { Card, Skeleton } from "../ui/bits";
import { useKeys } from "../ui/keys";
import { wordDiff } from "../lib/diff";
import { duelList, type Duel } from "../lib/duels";
import { fmtInt } from "../lib/fmt";
import { useQuery } from "../lib/query";
import { DRAWN, Text } from "./sample";
import { query, queryNum, setQuery } from "../lib/router";
import { viewOf, visible, type SampleView } from "../lib/sample";
import type { Dataset, List, ModelInfo } from "../lib/types";

interface Column { name: string; rows: SampleView[] }

/** What the judge said of a model's answer against the model before, by prompt. */
type Verdicts = Map<string, Duel>;

function useVerdicts(d: Dataset | undefined): Verdicts {
	const q = useQuery<List<unknown>>(d ? `/datasets/${d.digest}/rows?limit=1000` : null, { every: 0 });
	return useMemo(() => new Map(duelList(q.data?.items ?? []).map((x) => [x.id, x])), [q.data]);
}

const WORDS: Record<string, [string, string]> = { win: ["▲ wins", "chosen"], loss: ["▼ loses", "rejected"], tie: ["= ties", ""] };

function Verdict({ v, before }: { v: Duel | undefined; before: string }) {
	const [word, cls] = WORDS[v?.verdict ?? ""] ?? ["", ""];
	if (!v || !word) return null;
	return <span class={`mark ${cls}`} title={v.flipped ? "The judge said otherwise when the answers changed places" : "The same in both orders"}>{word} against {before}{v.flipped ? " ⇄" : ""}</span>;
}

/** eval jobs: iteration 0 shard 0 is SFT, shard 1 is M1; iteration t is M(t+1). */
function modelOf(d: Dataset): string {
	const shard = Number(d.job.split(".")[3] ?? 0);
	if (d.iter > 0) return `M${d.iter + 1}`;
	return shard === 0 ? "SFT" : "M1";
}

function useColumn(d: Dataset | undefined): Column | null {
	const q = useQuery<List<unknown>>(d ? `/datasets/${d.digest}/rows?limit=200` : null, { every: 0 });
	return useMemo(() => {
		if (!d || !q.data) return null;
		return { name: modelOf(d), rows: q.data.items.map((x) => viewOf((x as { row?: unknown }).row ?? x)) };
	}, [d?.digest, q.data]);
}

const good = (v: SampleView | undefined): boolean | null => {
	const note = v?.cards[0]?.note;
	return note === "correct" ? true : note === "wrong" ? false : null;
};

export function SamePrompt({ run, models }: { run: string; models: ModelInfo[] }) {
	const q = useQuery<List<Dataset>>(`/datasets?run=${encodeURIComponent(run)}&stage=eval&limit=100`, { every: 0 });
	const sets = (q.data?.items ?? []).filter((d) => d.role === "generations").sort((a, b) => a.iter - b.iter || a.job.localeCompare(b.job)).slice(-4);
	const all = [useColumn(sets[0]), useColumn(sets[1]), useColumn(sets[2]), useColumn(sets[3])];
	const duels = (q.data?.items ?? []).filter((d) => d.role === "h2h");
	const beaten = (i: number): Dataset | undefined => duels.find((d) => d.job === sets[i]?.job);
	const verdicts = [useVerdicts(beaten(0)), useVerdicts(beaten(1)), useVerdicts(beaten(2)), useVerdicts(beaten(3))];
	const cols = all.flatMap((c, i) => (c ? [{ ...c, duels: verdicts[i]! }] : []));
	const told = cols.at(-1)?.duels;
	const only = query("only");
	const first = cols[0];
	const last = cols[cols.length - 1];
	const ids = useMemo(() => {
		if (!last) return [];
		return last.rows.filter((r) => {
			const a = good(first?.rows.find((x) => x.id === r.id));
			const b = good(r);
			if (only === "worse") return a === true && b === false;
			if (only === "better") return a === false && b === true;
			if (only === "lost") return told?.get(r.id)?.verdict === "loss";
			if (only === "flipped") return !!told?.get(r.id)?.flipped;
			return true;
		}).map((r) => r.id);
	}, [cols.map((c) => c.name + c.rows.length).join(), told?.size, only]);
	const at = Math.max(0, Math.min(ids.length - 1, queryNum("prompt") ?? 0));
	const move = (by: number): void => {
		if (cols.length) setQuery({ prompt: Math.max(0, Math.min(ids.length - 1, at + by)) });
	};
	useKeys({ j: () => move(1), k: () => move(-1) });
	if (q.loading) return <Skeleton />;
	if (!last || !first || models.length < 1) return null;
	const id = ids[at];
	const diff = query("words") === "1";
	const prompt = last.rows.find((r) => r.id === id)?.prompt ?? "";
	const base = first.rows.find((r) => r.id === id)?.cards[0]?.text ?? "";
	return (
		<Card title="Same prompt, each model" more={<span class="dim num">{ids.length ? `${at + 1} of ${ids.length}` : "none"}</span>} class="pad-body">
			<div class="row wrap tools">
				<div class="chips" role="group" aria-label="Which prompts">
					{[["", "all"], ["better", `${last.name} better than ${first.name}`], ["worse", `${last.name} worse`], ...(told?.size ? [["lost", `${last.name} loses head to head`], ["flipped", "orders disagree"]] : [])].map(([k, w]) => <button key={k} class="chip" aria-pressed={only === k} onClick={() => setQuery({ only: k!, prompt: null })}>{w}</button>)}
				</div>
				<button class="chip" aria-pressed={diff} onClick={() => setQuery({ words: diff ? null : "1" })}>Word diff</button>
				<span class="grow-right row"><button class="btn small" onClick={() => move(-1)} aria-label="Previous prompt">↑</button><button class="btn small" onClick={() => move(1)} aria-label="Next prompt">↓</button></span>
			</div>
			{id === undefined ? <p class="dim">No prompt fits.</p> : (
				<>
					<div class="model-text prompt-line">{visible(prompt)}</div>
					<div class="cands many">
						{cols.map((c, i) => {
							const card = c.rows.find((r) => r.id === id)?.cards[0];
							return (
								<article key={c.name} class={`cand ${card?.note === "correct" ? "chosen" : card?.note === "wrong" ? "rejected" : ""}`}>
									<header><b class="cand-name">{c.name}</b>{card?.note && <span class={`mark ${card.note === "correct" ? "chosen" : "rejected"}`}>{card.note === "correct" ? "✓ correct" : "✗ wrong"}</span>}<Verdict v={id === undefined ? undefined : c.duels.get(id)} before={cols[i - 1]?.name ?? ""} /><span class="dim num cand-len">{card?.tokens ? `${fmtInt(card.tokens)} tokens` : ""}</span></header>
									<div class="model-text">{!card ? <span class="dim">no answer</span> : diff && c !== first ? wordDiff(visible(base.slice(0, DRAWN)), visible(card.text.slice(0, DRAWN))).map((w, i) => (w.kind === "del" ? <del key={i}>{w.text}</del> : w.kind === "add" ? <ins key={i}>{w.text}</ins> : <span key={i}>{w.text}</span>)) : <Text text={card.text} />}</div>
								</article>
							);
						})}
					</div>
				</>
			)}
		</Card>
	);
}
