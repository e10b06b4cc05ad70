/** What people say of preference pairs, as the panel needs it; pure. */
import type { CardView, SampleView } from "./sample";
import type { Agreement, Review, ReviewSummary } from "./schema";
import { fmtPct } from "./fmt";

export type Verdict = Review["verdict"];
export interface Reviews { items: Review[]; summary: ReviewSummary }

/** What one person said of a row, and what the others did. */
export function ofRow(all: Reviews | undefined, n: number, me: string): { mine: Review | undefined; others: Review[] } {
	const here = (all?.items ?? []).filter((r) => r.n === n);
	return { mine: here.find((r) => r.by === me), others: here.filter((r) => r.by !== me) };
}

/** The two answers of a pair in the order that says nothing, with nothing of the judge left. */
export function blind(v: SampleView): CardView[] {
	const pair = [v.first, v.first === "chosen" ? "rejected" : "chosen"];
	return pair.flatMap((m) => v.cards.filter((c) => c.mark === m)).map((c, i) => ({ ...c, name: String(i + 1), mark: null, score: null, judgements: [] }));
}

/** That the first (or the second) of them is better, said of the judge. */
export function better(v: SampleView, second: boolean): Verdict {
	return (v.first === "chosen") === second ? "disagree" : "agree";
}

export function agreementText(a: Agreement): string {
	const k = (x: number | null): string => (x === null ? "–" : x.toFixed(2).replace("-", "−"));
	return a.n ? `${a.agree} of ${a.n} agree, ${fmtPct(a.share, 0)} · κ ${k(a.kappa)}${a.kappa === null ? "" : ` (${k(a.kappa_low)} to ${k(a.kappa_high)})`}` : "";
}
