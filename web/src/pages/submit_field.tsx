/** One setting: its control, default, help and error. Lists of files get rows, the rest of JSON a text. */
import { label, textOf, type FieldInfo } from "../lib/form";
import type { Json } from "../lib/types";

interface Props {
	f: FieldInfo;
	text: string | undefined;
	error?: string;
	set: (text: string | null) => void;
}

interface Source { path: string; format?: string }

function sourcesOf(text: string): Source[] {
	try {
		const v = JSON.parse(text || "[]") as Json;
		return Array.isArray(v) ? v.map((x) => (typeof x === "string" ? { path: x } : (x as unknown as Source))) : [];
	} catch {
		return [];
	}
}

/** Files: a path and a format each. An empty last row waits for the next one. */
function Sources({ id, text, set, name, formats }: { id: string; text: string; set: (t: string | null) => void; name: string; formats: string[] }) {
	const list = sourcesOf(text);
	const put = (next: Source[]): void => {
		const kept = next.filter((s, i) => s.path || i < next.length - 1);
		set(kept.length ? JSON.stringify(kept) : null);
	};
	const rows = [...list, { path: "", format: "auto" }];
	return (
		<div class="sources">
			{rows.map((s, i) => (
				<div class="row tight" key={i}>
					<input id={i === 0 ? id : undefined} class="grow" aria-label={`${name}, file ${i + 1}`} placeholder={i === 0 ? "/path/to/file.jsonl" : "another file"} value={s.path} spellcheck={false} onChange={(e) => put(rows.map((x, k) => (k === i ? { ...x, path: e.currentTarget.value } : x)))} />
					<select aria-label={`Format of file ${i + 1}`} value={s.format ?? "auto"} onChange={(e) => put(rows.map((x, k) => (k === i ? { ...x, format: e.currentTarget.value } : x)))}>{formats.map((x) => <option key={x}>{x}</option>)}</select>
					{i < list.length && <button type="button" class="icon-btn" aria-label={`Remove file ${i + 1}`} onClick={() => put(list.filter((_, k) => k !== i))}>✕</button>}
				</div>
			))}
		</div>
	);
}

function Control({ f, id, value, set, invalid, described }: { f: FieldInfo; id: string; value: string; set: (t: string | null) => void; invalid: boolean; described: string }) {
	const common = { id, "aria-invalid": invalid, "aria-describedby": described };
	if (f.type === "files") return <Sources id={id} text={value} set={set} name={label(f.pointer)} formats={(f.choices ?? ["auto"]).map(String)} />;
	if (f.choices?.length)
		return <select {...common} value={value} onChange={(e) => set(e.currentTarget.value)}>{!f.choices.map(String).includes(value) && <option value={value}>{value || "choose"}</option>}{f.choices.map((c) => <option key={String(c)} value={String(c)}>{c}</option>)}</select>;
	if (f.type === "bool")
		return <label class="switch"><input {...common} type="checkbox" checked={value === "true"} onChange={(e) => set(String(e.currentTarget.checked))} /><span>{value === "true" ? "on" : "off"}</span></label>;
	if (f.type === "int" || f.type === "number")
		return <input {...common} type="text" inputMode="decimal" class="num" value={value} spellcheck={false} onInput={(e) => set(e.currentTarget.value)} />;
	if (f.type === "list" || f.type === "object")
		return <textarea {...common} rows={2} spellcheck={false} placeholder={f.type === "list" ? '["program", "argument"]' : ""} value={value === "[]" || value === "{}" ? "" : value} onInput={(e) => set(e.currentTarget.value || null)} />;
	if (f.pointer === "/notes") return <textarea {...common} rows={2} value={value} onInput={(e) => set(e.currentTarget.value)} />;
	return <input {...common} type="text" value={value} spellcheck={false} placeholder={f.pointer === "/base_model" ? "/path/to/model" : ""} onInput={(e) => set(e.currentTarget.value)} />;
}

function bounds(f: FieldInfo): string {
	const lo = f.min !== undefined && f.min !== null;
	const hi = f.max !== undefined && f.max !== null && f.max < 1e5;
	if (f.choices?.length || (f.type !== "int" && f.type !== "number")) return "";
	return lo && hi ? `${f.min} to ${f.max}` : lo && f.min !== 0 ? `at least ${f.min}` : hi ? `at most ${f.max}` : "";
}

export function Field({ f, text, error, set }: Props) {
	const id = "f" + f.pointer.replaceAll("/", "-");
	const def = textOf(f.default);
	const value = text ?? def;
	const differs = text !== undefined && text !== def;
	const wide = f.type === "files" || f.pointer === "/notes" || f.pointer === "/base_model";
	return (
		<div class={`field ${wide ? "wide-field" : ""} ${differs ? "changed" : ""} ${error ? "wrong" : ""}`}>
			<label for={id}>
				{label(f.pointer)}
				{f.required && <span class="req" title="required"> *</span>}
				{differs && !f.required && <button type="button" class="link-btn reset" onClick={(e) => { e.preventDefault(); set(null); }} title={`Back to ${def || "empty"}`}>{!def || def === "[]" ? "clear" : def.length > 18 ? "default" : `default ${def}`}</button>}
			</label>
			<Control f={f} id={id} value={value} set={set} invalid={!!error} described={`${id}-h`} />
			<p id={`${id}-h`} class={error ? "field-error" : "help"}>{error ?? [f.help, bounds(f)].filter(Boolean).join(" · ")}</p>
		</div>
	);
}
