/** Human review of pairs: a line that counts, and the panel of one pair with its keys. */
import { useRef } from "preact/hooks";
import { Bar } from "../ui/bits";
import type { KeyMap } from "../ui/keys";
import { say } from "../ui/toast";
import { may, problemText, send, session } from "../lib/api";
import { useQuery } from "../lib/query";
import { agreementText, better, ofRow, type Reviews, type Verdict } from "../lib/review";
import { query, setQuery } from "../lib/router";
import { visible, type Row } from "../lib/sample";
import type { Review, ReviewSummary } from "../lib/schema";

export const MARKS: Record<Verdict, string> = { agree: "✓", disagree: "✗", skip: "–" };

export interface Reviewing {
	all: Reviews | undefined;
	blind: boolean;
	of: (n: number) => ReturnType<typeof ofRow>;
	put: (n: number, verdict: Verdict, note?: string) => void;
	undo: (n: number) => void;
}

/** null: nothing here to review. */
export function useReviews(digest: string, on: boolean): Reviewing | null {
	const path = `/datasets/${digest}`;
	const q = useQuery<Reviews>(on ? `${path}/reviews?limit=10000` : null);
	const done = useRef<[number, Review | undefined][]>([]);
	/** One request after the other: an undo must not overtake what it undoes. */
	const last = useRef(Promise.resolve());
	if (!on) return null;
	const me = session.value ? session.value.user : "";
	const tell = (n: number, r?: Partial<Review>): void => {
		last.current = last.current.then(() => send(r ? "PUT" : "DELETE", `${path}/rows/${n}/review`, r)).catch((e: unknown) => say(problemText(e))).then(q.reload);
	};
	const blind = query("blind") === "1";
	const of = (n: number) => ofRow(q.data, n, me);
	return {
		all: q.data, blind, of,
		put: (n, verdict, note = "") => {
			const { mine } = of(n);
			done.current.push([n, mine]);
			tell(n, { verdict, note, blind: mine ? mine.blind : blind });
		},
		undo: (n) => {
			const one = done.current.pop();
			if (!one && !of(n).mine) return;
			const [row, was] = one ?? [n];
			setQuery({ at: row });
			tell(row, was && { verdict: was.verdict, note: was.note, blind: was.blind });
		},
	};
}

/** Who agrees with the judge, and two with each other. */
export function Agreement({ s }: { s: ReviewSummary }) {
	const lines = [...(s.reviewers.length > 1 ? s.reviewers.map((r) => [r.by, r.agreement] as const) : []), ...s.between.map((b) => [`${b.a} and ${b.b}`, b.agreement] as const)];
	return (
		<>
			<span class="num">{s.reviewed} of {s.pairs} pairs reviewed</span>
			<span class="num" title="Most reviewers of a pair and the judge; κ: Cohen's kappa with its 95 % interval">{agreementText(s.agreement)}</span>
			{lines.length > 0 && <details><summary>Reviewers</summary><dl class="reviewers">{lines.map(([who, a]) => <div key={who}><dt>{visible(who)}</dt><dd class="num">{agreementText(a)}</dd></div>)}</dl></details>}
		</>
	);
}

export function ReviewLine({ digest, r }: { digest: string; r: Reviewing }) {
	const s = r.all?.summary;
	if (!s) return null;
	return (
		<section class="row wrap tools review-line" aria-label="Human review">
			<span class="review-bar"><Bar value={s.pairs ? s.reviewed / s.pairs : 0} label="Pairs reviewed" /></span>
			<Agreement s={s} />
			<span class="grow-right row">
				<button class="chip" aria-pressed={r.blind} title="Hide scores and who was chosen until you have said which is better (b)" onClick={() => setQuery({ blind: r.blind ? null : 1 })}>Blind</button>
				<a class="btn small" href={`/api/v1/datasets/${digest}/reviews/export`} download>Reviews as JSONL</a>
			</span>
		</section>
	);
}

/** Whether what the judge said of this row is to stay hidden. */
export function hides(r: Reviewing | null, row: Row): boolean {
	return !!r && r.blind && !!row.view.first && !r.of(row.n).mine;
}

const noteOf = (): HTMLInputElement | null => document.querySelector("[data-note]");

/** A verdict said goes to the next row. */
function verdicts(r: Reviewing, row: Row, step: (by: number) => void): [string, string, () => void, Verdict?][] {
	const put = (v: Verdict) => (): void => {
		r.put(row.n, v, noteOf()?.value);
		step(1);
	};
	const skip: [string, string, () => void, Verdict] = ["s", "Skip", put("skip"), "skip"];
	return hides(r, row) ? [["1", "1 is better", put(better(row.view, false))], ["2", "2 is better", put(better(row.view, true))], skip]
		: [["a", "Agree", put("agree"), "agree"], ["x", "Disagree", put("disagree"), "disagree"], skip];
}

export function reviewKeys(r: Reviewing | null, row: Row, step: (by: number) => void): KeyMap {
	if (!r) return {};
	const keys: KeyMap = { b: () => setQuery({ blind: r.blind ? null : 1 }) };
	if (!may("operator")) return keys;
	keys.u = () => r.undo(row.n);
	if (!row.view.first) return keys;
	for (const [k, , f] of verdicts(r, row, step)) keys[k] = f;
	return { ...keys, e: () => noteOf()?.focus() };
}

export function ReviewBox({ r, row, step }: { r: Reviewing; row: Row; step: (by: number) => void }) {
	const { mine, others } = r.of(row.n);
	const hidden = hides(r, row);
	if (!row.view.first) return null;
	return (
		<div class="review card" role="group" aria-label="Your verdict on this pair">
			{may("operator") && (
				<>
					{verdicts(r, row, step).map(([k, word, f, v]) => <button key={k} class="btn small" aria-pressed={v ? mine?.verdict === v : undefined} onClick={f}>{word} <kbd>{k}</kbd></button>)}
					<input key={row.n} data-note class="grow" type="text" maxLength={500} placeholder="Note (e)" aria-label="Note" defaultValue={mine?.note}
						onKeyDown={(e) => {
							if (e.key !== "Enter") return;
							e.currentTarget.blur();
							if (mine) r.put(row.n, mine.verdict, e.currentTarget.value);
						}} />
					<button class="btn small" onClick={() => r.undo(row.n)}>Undo <kbd>u</kbd></button>
				</>
			)}
			{!hidden && others.map((o) => <p key={o.by} class="dim">{MARKS[o.verdict]} <b>{visible(o.by)}</b> {o.verdict}s{o.note && <>: {visible(o.note)}</>}</p>)}
		</div>
	);
}
