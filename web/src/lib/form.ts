/**
 * The submit form's data: fields as the server describes them, what the person typed as text, and
 * the specification that follows from both. Pure.
 */
import type { Json } from "./types";

export interface FieldInfo {
	pointer: string;
	type: string;
	default?: Json;
	min?: number;
	max?: number;
	choices?: (string | number)[];
	required?: boolean;
	help?: string;
}

export interface FormInfo {
	defaults: { [k: string]: Json };
	fields: FieldInfo[];
	sections?: { name: string; title: string }[];
}

/** pointer → text as typed; only fields that were touched. */
export type Texts = Record<string, string>;

export function parts(pointer: string): string[] {
	return pointer.split("/").slice(1).map((p) => p.replaceAll("~1", "/").replaceAll("~0", "~"));
}

export function getAt(x: Json | undefined, pointer: string): Json | undefined {
	let v: Json | undefined = x;
	for (const k of parts(pointer)) {
		if (v === null || typeof v !== "object" || Array.isArray(v)) return undefined;
		v = v[k];
	}
	return v;
}

function setAt(x: { [k: string]: Json }, pointer: string, value: Json): void {
	const path = parts(pointer);
	let o = x;
	for (const k of path.slice(0, -1)) {
		const next = o[k];
		if (next === null || typeof next !== "object" || Array.isArray(next)) o[k] = {};
		o = o[k] as { [k: string]: Json };
	}
	o[path[path.length - 1]!] = value;
}

export function textOf(v: Json | undefined): string {
	if (v === undefined || v === null) return "";
	if (typeof v === "string") return v;
	if (typeof v === "object") return JSON.stringify(v);
	if (typeof v === "number" && v !== 0 && Math.abs(v) < 1e-3) return v.toExponential();
	return String(v);
}

/** Text → value, or a sentence when it cannot be one. */
export function parse(f: FieldInfo, text: string): { value: Json } | { error: string } {
	const t = text.trim();
	if (f.type === "bool") return { value: t === "true" };
	if (f.type === "int" || f.type === "number") {
		const n = Number(t);
		if (t === "" || !Number.isFinite(n)) return { error: "expected a number" };
		if (f.type === "int" && !Number.isInteger(n)) return { error: "expected a whole number" };
		if (f.min !== undefined && f.min !== null && n < f.min) return { error: `at least ${f.min}` };
		if (f.max !== undefined && f.max !== null && n > f.max) return { error: `at most ${f.max}` };
		return { value: n };
	}
	if (f.type === "object" && !/^[[{"]/.test(t)) return { value: t };
	if (f.type === "list" || f.type === "files" || f.type === "object") {
		if (t === "") return { value: [] };
		try {
			const v = JSON.parse(t) as Json;
			if (f.type !== "object" && !Array.isArray(v)) return { error: "expected a JSON list" };
			return { value: v };
		} catch {
			return { error: f.type === "list" ? 'expected a JSON list, like ["a", "b"]' : "expected JSON" };
		}
	}
	return { value: text };
}

export function changed(f: FieldInfo, texts: Texts): boolean {
	const t = texts[f.pointer];
	if (t === undefined) return false;
	if (f.type === "int" || f.type === "number") return t.trim() === "" || Number(t) !== f.default;
	return t !== textOf(f.default);
}

/** What is sent: only what differs from the defaults, so the server's defaults stay the server's. */
export function build(form: FormInfo, texts: Texts): { spec: { [k: string]: Json }; errors: { pointer: string; detail: string }[] } {
	const spec: { [k: string]: Json } = {};
	const errors: { pointer: string; detail: string }[] = [];
	for (const f of form.fields) {
		if (!changed(f, texts)) continue;
		const r = parse(f, texts[f.pointer]!);
		if ("error" in r) errors.push({ pointer: f.pointer, detail: r.error });
		else setAt(spec, f.pointer, r.value);
	}
	return { spec, errors };
}

/** A finished specification → texts of the fields that differ from the defaults. */
export function textsOf(form: FormInfo, spec: Json): Texts {
	const out: Texts = {};
	for (const f of form.fields) {
		const v = getAt(spec, f.pointer);
		if (v !== undefined && textOf(v) !== textOf(f.default)) out[f.pointer] = textOf(v);
	}
	return out;
}

/** The field an error belongs to: itself, or the nearest field above it. */
export function fieldFor(form: FormInfo, pointer: string): string {
	let p = pointer;
	while (p) {
		if (form.fields.some((f) => f.pointer === p)) return p;
		p = p.slice(0, p.lastIndexOf("/"));
	}
	return pointer;
}

const LABELS: Record<string, string> = {
	lr: "Learning rate", lr_min: "Lowest learning rate", n: "Answers per prompt", top_p: "Top-p", top_k: "Top-k", stop_repeats: "End circles after, times", eps: "Epsilon", beta: "Beta",
	ift: "Instruction data (IFT)", eft: "Judge data (EFT)", eval: "Held-out ranked data", prompts: "Prompt pool", test: "Test prompts", ift_max: "Instruction examples, at most",
	lang: "Language", eft_eval_share: "Held-out share of judge data", nll_coef: "NLL weight", sft_replay: "SFT replay", rouge_max: "ROUGE limit", clip_norm: "Gradient clip norm", batch: "Batch size",
	max_new_tokens: "Longest answer, tokens", max_length: "Longest sequence, tokens", weights: "Weights when generating", train: "Products when training", micro_tokens: "Tokens of one training pass", ranks: "Processes of one job", parallel: "What they share in training", reuse: "Reuse results", lease_ms: "Lease, ms", beta1: "Adam β₁", beta2: "Adam β₂",
	lora_r: "LoRA rank", lora_alpha: "LoRA alpha", lora_targets: "LoRA layers", lora_dropout: "LoRA dropout", lora_rslora: "rsLoRA scale",
};

export function label(pointer: string): string {
	const p = parts(pointer);
	const known = LABELS[p[p.length - 1]!];
	if (known && p.length <= 2) return known;
	const own = p.length > 1 ? p.slice(1) : p;
	const text = own.join(" ").replaceAll("_", " ");
	return text.charAt(0).toUpperCase() + text.slice(1);
}

const EVERYDAY = new Set([
	"/name", "/seed", "/iterations", "/notes", "/base_model", "/template",
	"/data/ift", "/data/eft", "/data/eval", "/data/prompts", "/data/test",
	"/sft/lr", "/sft/epochs", "/sft/batch", "/sft/max_length", "/sft/lora_r", "/eft/mode",
	"/prompts/generator", "/prompts/count", "/generate/n", "/generate/temperature", "/generate/max_new_tokens",
	"/judge/kind", "/judge/command", "/judge/template", "/judge/samples", "/judge/max_new_tokens", "/pair/length_control",
	"/dpo/loss", "/dpo/beta", "/dpo/lr", "/dpo/epochs", "/dpo/batch", "/dpo/shard_steps", "/dpo/lora_r",
	"/eval/scorer", "/eval/scorer/command", "/eval/judge_samples", "/eval/max_new_tokens", "/eval/head_to_head/judge",
]);

export function everyday(f: FieldInfo): boolean {
	return !!f.required || EVERYDAY.has(f.pointer);
}

const TITLES: Record<string, string> = {
	"": "Run", data: "Data", sft: "Supervised fine-tuning", eft: "Judge training data", prompts: "New prompts", generate: "Candidates",
	judge: "Judging", pair: "Preference pairs", dpo: "DPO", eval: "Evaluation",
};

/** Settings of the whole run that are the queue's business, not the method's. */
const QUEUE = new Set(["/lease_ms", "/class", "/weight", "/reuse"]);

export interface Section { name: string; title: string; fields: FieldInfo[] }

export function sections(form: FormInfo): Section[] {
	const out: Section[] = [];
	for (const f of form.fields) {
		const p = parts(f.pointer);
		const name = p.length > 1 ? p[0]! : QUEUE.has(f.pointer) && form.sections?.some((x) => x.name === "queue") ? "queue" : "";
		let s = out.find((x) => x.name === name);
		if (!s) {
			const given = form.sections?.find((x) => x.name === name)?.title;
			s = { name, title: given || TITLES[name] || label("/" + name), fields: [] };
			out.push(s);
		}
		s.fields.push(f);
	}
	return out.sort((a, b) => (a.name === "" ? -1 : b.name === "" ? 1 : 0));
}
