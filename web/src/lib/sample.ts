/**
 * One shape for every kind of row the browser shows: a prompt, and cards of text with what is known
 * of each. Pure; text from models stays text.
 */
export interface Judgement {
	pass: number;
	score: number | null;
	reason: string;
	text: string;
}

export interface CardView {
	name: string;
	text: string;
	score: number | null;
	mark: "chosen" | "rejected" | null;
	tokens: number | null;
	finish: string;
	note: string;
	judgements: Judgement[];
}

export interface SampleView {
	id: string;
	prompt: string;
	cards: CardView[];
	margin: number | null;
	drop: string | null;
	/** Of a pair: which answer people are shown first when they are not to know. */
	first: "chosen" | "rejected" | null;
}

type Obj = Record<string, unknown>;
const obj = (x: unknown): Obj => (x && typeof x === "object" && !Array.isArray(x) ? (x as Obj) : {});
const list = (x: unknown): Obj[] => (Array.isArray(x) ? x.map(obj) : []);
const str = (x: unknown): string => (typeof x === "string" ? x : x === null || x === undefined ? "" : JSON.stringify(x));
const num = (x: unknown): number | null => (typeof x === "number" && Number.isFinite(x) ? x : null);

/** Control and direction characters made visible: they can hide or reorder what a model wrote. */
export function visible(text: string): string {
	return text
		.replace(/[\u0000-\u0008\u000b-\u001f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0)))
		.replace(/[\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, "\ufffd");
}

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
export function letter(i: number): string {
	return LETTERS[i] ?? String(i + 1);
}

function card(name: string, o: Obj): CardView {
	return {
		name,
		text: str(o.text),
		score: num(o.mean) ?? num(o.score),
		mark: null,
		tokens: num(o.n_tokens) ?? (Array.isArray(o.tokens) ? o.tokens.length : null),
		finish: str(o.finish),
		note: "",
		judgements: list(o.judgements).map((j) => ({ pass: num(j.pass) ?? 0, score: num(j.score), reason: str(j.reason), text: str(j.text) })),
	};
}

function ofCandidates(row: Obj): CardView[] {
	return list(row.candidates).map((c, i) => {
		const index = num(c.index) ?? i;
		const v = card(letter(index), c);
		if (row.chosen === index) v.mark = "chosen";
		else if (row.rejected === index) v.mark = "rejected";
		return v;
	});
}

function ofPair(row: Obj): CardView[] {
	return (["chosen", "rejected"] as const).map((k) => {
		const o = obj(row[k]);
		const v = card(letter(num(o.index) ?? (k === "chosen" ? 0 : 1)), typeof row[k] === "string" ? { text: row[k] } : o);
		v.mark = k;
		return v;
	});
}

function ofGenerations(row: Obj): CardView[] {
	return ["greedy", "sampled"].filter((k) => row[k]).map((k) => {
		const o = obj(row[k]);
		const v = card(k, o);
		const truth = obj(o.truth);
		v.score = num(truth.score);
		if (typeof truth.correct === "boolean") v.note = truth.correct ? "correct" : "wrong";
		return v;
	});
}

function ofReplies(row: Obj): CardView[] {
	return list(row.replies).map((r, i) => {
		const v = card(letter(i), r);
		v.note = num(r.rank) === null ? "" : `rank ${num(r.rank)! + 1}`;
		v.judgements = (Array.isArray(r.scores) ? r.scores : []).map((s, pass) => ({ pass, score: num(s), reason: num(s) === null ? "missing" : "", text: "" }));
		return v;
	});
}

function ofItems(row: Obj): CardView[] {
	return list(row.items).map((it, i) => {
		const v = card(letter(num(it.index) ?? i), { ...it, text: "" });
		v.judgements = [{ pass: num(row.pass) ?? 0, score: num(it.score), reason: str(it.reason), text: str(it.text) }];
		return v;
	});
}

export function viewOf(raw: unknown): SampleView {
	const row = obj(raw);
	let cards: CardView[] = [];
	if (row.candidates) cards = ofCandidates(row);
	else if (row.chosen && row.rejected) cards = ofPair(row);
	else if (row.greedy || row.sampled) cards = ofGenerations(row);
	else if (row.replies) cards = ofReplies(row);
	else if (row.items) cards = ofItems(row);
	else if (row.response !== undefined) cards = [card("response", { text: row.response, score: row.score })];
	const scored = (m: string): number | null => cards.find((c) => c.mark === m)?.score ?? null;
	const a = scored("chosen");
	const b = scored("rejected");
	return {
		id: str(row.id),
		prompt: str(row.prompt),
		cards,
		margin: num(row.margin) ?? (a !== null && b !== null ? a - b : null),
		drop: typeof row.drop === "string" ? row.drop : null,
		first: row.pair_first === "chosen" || row.pair_first === "rejected" ? row.pair_first : null,
	};
}

/** A short line for the list: scores best first. */
export function scoresLine(v: SampleView): string {
	const s = v.cards.map((c) => c.score).filter((x): x is number => x !== null).sort((x, y) => y - x);
	return s.map((x) => Number(x.toFixed(2))).join(" · ");
}

export interface Row { n: number; row: unknown; view: SampleView }

/** Rows come bare, or wrapped with their number. */
export function rowOf(item: unknown, fallback: number): Row {
	const o = obj(item);
	const n = num(o.n) ?? num(o.row_index) ?? num(o._n) ?? fallback;
	const row = o.row && typeof o.row === "object" ? o.row : item;
	return { n, row, view: viewOf(row) };
}
