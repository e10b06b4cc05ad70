/** One sample: the prompt, its candidates side by side, every judgement raw beside its score. */
import { useState } from "preact/hooks";
import { Copy, copyText } from "../ui/bits";
import { useKeys } from "../ui/keys";
import { say } from "../ui/toast";
import { wordDiff } from "../lib/diff";
import { fmtInt, fmtNum } from "../lib/fmt";
import { blind } from "../lib/review";
import { query, setQuery } from "../lib/router";
import { visible, type CardView, type Judgement, type Row } from "../lib/sample";
import { hides, ReviewBox, reviewKeys, type Reviewing } from "./review";

const REASONS: Record<string, string> = {
	no_match: "no score found",
	out_of_range: "score out of range",
	ambiguous: "several scores",
	truncated: "cut off",
	empty: "empty",
	too_long: "too long",
};

const DROPS: Record<string, string> = {
	tie: "No pair: the best and the worst have the same mean.",
	unjudged: "No pair: too few judgements could be read.",
	duplicate: "No pair: the answers are the same.",
	unfinished: "No pair: answers did not end.",
	empty: "No pair: an answer is empty.",
	too_long: "No pair: an answer is too long.",
	too_few: "No pair: fewer than two answers are usable.",
};

/** So much of one text is laid out at once: a megabyte without a space takes a browser minutes. */
export const DRAWN = 20_000;

/** Marks what was searched for; the text stays text. What is very long is begun, and goes on when asked. */
export function Text({ text: given }: { text: string }) {
	const [most, setMost] = useState(DRAWN);
	const more = given.length - most;
	return <><Marked text={more > 0 ? given.slice(0, most) : given} />{more > 0 && <button class="link-btn" onClick={() => setMost(most + 5 * DRAWN)}>… {fmtInt(more)} more characters</button>}</>;
}

function Marked({ text: given }: { text: string }) {
	const find = query("q");
	const text = visible(given);
	if (!find) return <>{text}</>;
	const out = [];
	const low = text.toLowerCase();
	let from = 0;
	for (let at = low.indexOf(find.toLowerCase()); at >= 0 && out.length < 200; at = low.indexOf(find.toLowerCase(), from)) {
		out.push(text.slice(from, at), <mark key={at}>{text.slice(at, at + find.length)}</mark>);
		from = at + find.length;
	}
	out.push(text.slice(from));
	return <>{out}</>;
}

function Verdict({ j }: { j: Judgement }) {
	const [open, setOpen] = useState(false);
	const missing = j.score === null;
	return (
		<li class={missing ? "missing" : ""}>
			<button class="verdict" aria-expanded={open} onClick={() => setOpen(!open)} disabled={!j.text}>
				<span class="dim">judge {j.pass + 1}</span>
				<b class="num">{missing ? "missing" : fmtNum(j.score)}</b>
				{missing && <span class="warn">{REASONS[j.reason] ?? j.reason}</span>}
				<span class="verdict-peek dim">{open ? "" : visible(j.text.replace(/\s+/g, " ").slice(0, 90))}</span>
			</button>
			{open && <pre class="raw"><Text text={j.text} /></pre>}
		</li>
	);
}

function Candidate({ c, i }: { c: CardView; i: number }) {
	return (
		<article class={`cand ${c.mark ?? ""}`} tabIndex={-1} data-cand={i} aria-label={`${c.name}${c.mark ? ", " + c.mark : ""}`}>
			<header>
				<b class="cand-name">{c.name}</b>
				{c.mark && <span class={`mark ${c.mark}`}>{c.mark === "chosen" ? "★ chosen" : "✗ rejected"}</span>}
				{c.note && <span class="mark">{c.note}</span>}
				{c.score !== null && <span class="score num">{fmtNum(c.score, 3)}</span>}
				<span class="dim num cand-len">{c.tokens !== null ? `${fmtInt(c.tokens)} tokens` : ""}{c.finish === "length" ? " · cut off" : ""}</span>
				{c.text && <Copy text={c.text} what={`answer ${c.name}`} />}
			</header>
			{c.text && <div class="model-text"><Text text={c.text} /></div>}
			{!c.text && !c.judgements.length && <div class="model-text dim">(empty)</div>}
			{c.judgements.length > 0 && <ol class="verdicts">{c.judgements.map((j) => <Verdict key={j.pass} j={j} />)}</ol>}
		</article>
	);
}

function Diff({ a, b }: { a: CardView; b: CardView }) {
	const cut = a.text.length > DRAWN || b.text.length > DRAWN;
	const some = (c: CardView): string => visible(c.text.slice(0, DRAWN));
	return (
		<article class="cand wide-cand">
			<header><b>{a.name} → {b.name}</b><span class="dim">words only in {a.name} are struck, words only in {b.name} are underlined{cut ? `; of the first ${fmtInt(DRAWN)} characters` : ""}</span></header>
			<div class="model-text">{wordDiff(some(a), some(b)).map((w, i) => (w.kind === "del" ? <del key={i}>{w.text}</del> : w.kind === "add" ? <ins key={i}>{w.text}</ins> : <span key={i}>{w.text}</span>))}</div>
		</article>
	);
}

export function Sample({ row, step, rv }: { row: Row; step: (by: number) => void; rv: Reviewing | null }) {
	const hidden = hides(rv, row);
	const v = hidden ? { ...row.view, cards: blind(row.view), margin: null } : row.view;
	const mode = hidden ? "" : query("view", "cards");
	const a = v.cards.find((c) => c.mark === "rejected");
	const b = v.cards.find((c) => c.mark === "chosen");
	const toggle = (m: string): void => setQuery({ view: mode === m ? null : m });
	const focus = (i: number) => (): void => document.querySelector<HTMLElement>(`[data-cand="${i}"]`)?.focus();
	useKeys({
		d: () => a && b && toggle("diff"),
		r: () => hidden || toggle("raw"),
		c: () => void copyText(location.href).then((ok) => say(ok ? "Copied the link to this row" : "The browser refused to copy")),
		...Object.fromEntries(Array.from({ length: 9 }, (_, i) => [String(i + 1), focus(i)])),
		...reviewKeys(rv, row, step),
	});
	return (
		<section class="sample" aria-label={`Row ${row.n}`}>
			<div class="row wrap tools">
				<b class="num">Row {row.n}</b>
				{v.id && <code class="dim clip">{visible(v.id)}</code>}
				{v.margin !== null && <span class="num">margin {fmtNum(v.margin, 3)}</span>}
				<span class="grow-right row">
					{a && b && <button class="chip" aria-pressed={mode === "diff"} onClick={() => toggle("diff")}>Diff</button>}
					{!hidden && <button class="chip" aria-pressed={mode === "raw"} onClick={() => toggle("raw")}>Raw</button>}
					<Copy text={() => location.href} label="Link" what="the link to this row" />
					<button class="btn small" onClick={() => step(-1)} aria-label="Previous row">↑</button>
					<button class="btn small" onClick={() => step(1)} aria-label="Next row">↓</button>
				</span>
			</div>
			{rv && <ReviewBox r={rv} row={row} step={step} />}
			{mode === "raw" ? <pre class="raw card pad"><Text text={JSON.stringify(row.row, null, 2)} /></pre> : (
				<>
					{v.prompt && <article class="card prompt"><header><h2>Prompt</h2><Copy text={v.prompt} what="prompt" /></header><div class="model-text"><Text text={v.prompt} /></div></article>}
					{v.drop && <p class="note warn">{DROPS[v.drop] ?? `No pair: ${v.drop}.`}</p>}
					<div class="cands">
						{mode === "diff" && a && b ? <Diff a={a} b={b} /> : v.cards.map((c, i) => <Candidate key={i} c={c} i={i} />)}
					</div>
					{!v.prompt && !v.cards.length && <pre class="raw card pad"><Text text={JSON.stringify(row.row, null, 2)} /></pre>}
				</>
			)}
		</section>
	);
}
