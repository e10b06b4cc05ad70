/** Submit a run: a form made from the server's own table of settings, with a live dry run beside it. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Copy, ErrorCard, Skeleton } from "../ui/bits";
import { say } from "../ui/toast";
import { ApiError, may, newKey, problemText, send, type FieldError } from "../lib/api";
import { curlOf, submitCli } from "../lib/commands";
import { build, changed, everyday, fieldFor, label, sections, textsOf, type FormInfo, type Section, type Texts } from "../lib/form";
import { useQuery } from "../lib/query";
import { go, query } from "../lib/router";
import type { Json, Run } from "../lib/types";
import { Field } from "./submit_field";
import { PlanRail, type Plan } from "./submit_plan";
import { Start } from "./submit_start";

const DRAFT = "pawl.draft";

function loadDraft(key: string): Texts | null {
	try {
		return JSON.parse(sessionStorage.getItem(key) ?? "null") as Texts | null;
	} catch {
		return null;
	}
}

function saveDraft(key: string, t: Texts | null): void {
	try {
		if (t) sessionStorage.setItem(key, JSON.stringify(t));
		else sessionStorage.removeItem(key);
	} catch {
		/* private mode: no draft */
	}
}

/** A dry run after each rest in typing; the newest answer wins. */
function useDry(spec: Json, ready: boolean): { plan: Plan | null; errors: FieldError[]; trouble: string; busy: boolean } {
	const [state, set] = useState<{ plan: Plan | null; errors: FieldError[]; trouble: string }>({ plan: null, errors: [], trouble: "" });
	const [busy, setBusy] = useState(false);
	const text = JSON.stringify(spec);
	useEffect(() => {
		if (!ready) return;
		let dead = false;
		const timer = setTimeout(async () => {
			setBusy(true);
			try {
				const r = await send<{ plan?: Plan; errors?: FieldError[] }>("POST", "/runs?dry_run=1", JSON.parse(text));
				if (!dead) set({ plan: r.plan ?? null, errors: r.errors ?? [], trouble: "" });
			} catch (e) {
				if (dead) return;
				if (e instanceof ApiError && e.fields.length) set((s) => ({ ...s, errors: e.fields, trouble: "" }));
				else set((s) => ({ ...s, errors: [], trouble: problemText(e) }));
			}
			if (!dead) setBusy(false);
		}, 500);
		return () => {
			dead = true;
			clearTimeout(timer);
		};
	}, [text, ready]);
	return { ...state, busy };
}

interface Shown { form: FormInfo; texts: Texts; errors: Map<string, string>; touched: Set<string>; set: (pointer: string, text: string | null) => void; all: boolean }

function SectionCard({ s, form }: { s: Section; form: Shown }) {
	const first = s.fields.filter(everyday);
	const rest = s.fields.filter((f) => !everyday(f));
	const n = s.fields.filter((f) => changed(f, form.texts)).length;
	const inside = rest.some((f) => changed(f, form.texts) || form.errors.has(f.pointer));
	const draw = (f: (typeof rest)[number]) => (
		<Field key={f.pointer} f={f} text={form.texts[f.pointer]} error={form.all || form.touched.has(f.pointer) || !f.required ? form.errors.get(f.pointer) : undefined} set={(t) => form.set(f.pointer, t)} />
	);
	return (
		<section class="card form-section" id={`s-${s.name || "run"}`}>
			<header class="card-head"><h2>{s.title}</h2>{n > 0 && <span class="dim small">{n} changed</span>}</header>
			{first.length > 0 && <div class="fields">{first.map(draw)}</div>}
			{rest.length > 0 && (
				<details class="more" open={inside || first.length === 0}>
					<summary>{first.length ? rest.length === 1 ? "1 more setting" : `${rest.length} more settings` : "Settings"}</summary>
					<div class="fields">{rest.map(draw)}</div>
				</details>
			)}
		</section>
	);
}

function commands(spec: Json): { json: string; cli: string; curl: string } {
	const json = JSON.stringify(spec, null, 2);
	return { json, cli: submitCli(json), curl: curlOf({ method: "POST", path: "/runs", body: spec, key: newKey() }, location.origin) };
}

function Loaded({ form, start, draftKey, from }: { form: FormInfo; start: Texts; draftKey: string; from: string }) {
	const [texts, setTexts] = useState<Texts>(() => loadDraft(draftKey) ?? start);
	const [touched, setTouched] = useState<Set<string>>(new Set());
	const [all, setAll] = useState(Object.keys(start).length > 0);
	const [refused, setRefused] = useState<FieldError[]>([]);
	const [trouble, setTrouble] = useState("");
	const [sending, setSending] = useState(false);
	const key = useRef({ body: "", key: "" });
	const list = useMemo(() => sections(form), [form]);
	const { spec, errors: own } = useMemo(() => build(form, texts), [form, texts]);
	const dry = useDry(spec, own.length === 0);
	const errors = useMemo(() => {
		const m = new Map<string, string>();
		for (const e of [...own, ...refused, ...dry.errors]) {
			const p = fieldFor(form, e.pointer);
			if (!m.has(p)) m.set(p, p === e.pointer ? e.detail : `${e.pointer.slice(p.length + 1)}: ${e.detail}`);
		}
		return m;
	}, [own, refused, dry.errors, form]);
	const set = (pointer: string, text: string | null): void => {
		setTexts((old) => {
			const next = { ...old };
			if (text === null) delete next[pointer];
			else next[pointer] = text;
			saveDraft(draftKey, next);
			return next;
		});
		setTouched((old) => new Set(old).add(pointer));
		setRefused([]);
	};
	const focus = (pointer: string) => (e: Event): void => {
		e.preventDefault();
		const el = document.getElementById("f" + pointer.replaceAll("/", "-"));
		el?.closest("details")?.setAttribute("open", "");
		el?.focus();
		el?.scrollIntoView({ block: "center" });
	};
	const submit = async (e: Event): Promise<void> => {
		e.preventDefault();
		setAll(true);
		setTrouble("");
		const body = JSON.stringify(spec);
		if (own.length || sending) return;
		// The same body keeps its key, so a double click or a retry after a lost answer is one run.
		if (key.current.body !== body) key.current = { body, key: newKey() };
		setSending(true);
		try {
			const run = await send<Run>("POST", "/runs", spec, { idempotent: key.current.key });
			saveDraft(draftKey, null);
			say("The run was submitted");
			go(`/runs/${run.id}`);
		} catch (x) {
			if (x instanceof ApiError && x.fields.length) setRefused(x.fields);
			else setTrouble(problemText(x));
			setSending(false);
		}
	};
	const c = commands(spec);
	const shown: Shown = { form, texts, errors, touched, set, all };
	const visible = [...errors].filter(([p]) => all || touched.has(p) || !form.fields.find((f) => f.pointer === p)?.required);
	return (
		<form class="submit" onSubmit={submit} noValidate>
			<div class="submit-main"><Start form={form} from={from} json={c.json} keep={texts} put={(t) => { setTexts(t); saveDraft(draftKey, t); setTouched(new Set(Object.keys(t))); setRefused([]); }} />{list.map((s) => <SectionCard key={s.name} s={s} form={shown} />)}</div>
			<aside class="submit-rail" aria-label="Plan">
				<nav class="rail-nav" aria-label="Sections">{list.map((s) => <a key={s.name} href={`#s-${s.name || "run"}`} onClick={(e) => { e.preventDefault(); document.getElementById(`s-${s.name || "run"}`)?.scrollIntoView({ behavior: "smooth" }); }}>{s.title}</a>)}</nav>
				<PlanRail plan={dry.plan} busy={dry.busy} stale={errors.size > 0} from={from} />
				{visible.length > 0 && (
					<div class="error-card" role="alert">
						<strong>{visible.length === 1 ? "One field needs a look" : `${visible.length} fields need a look`}</strong>
						<ul>{visible.map(([p, d]) => <li key={p}><a href={"#f" + p.replaceAll("/", "-")} onClick={focus(p)}>{label(p)}</a>: {d}</li>)}</ul>
					</div>
				)}
				{(trouble || dry.trouble) && <p class="field-error" role="alert">{trouble || dry.trouble}</p>}
				<button class="btn primary wide" disabled={sending || !may("operator")} title={may("operator") ? undefined : "Needs the operator role"}>{sending ? "Submitting…" : "Submit run"}</button>
				<div class="row wrap copy-row"><Copy text={c.cli} label="CLI" what="as a pawl command" /><Copy text={c.curl} label="curl" what="as a curl command" /><Copy text={c.json} label="JSON" what="as JSON" />
					{Object.keys(texts).length > 0 && <button type="button" class="btn small" onClick={() => { setTexts({}); saveDraft(draftKey, null); setAll(false); }}>Reset</button>}</div>
			</aside>
		</form>
	);
}

export function Submit() {
	const from = query("from");
	const form = useQuery<FormInfo>("/config/defaults", { every: 0 });
	const base = useQuery<Run>(from ? `/runs/${encodeURIComponent(from)}` : null, { every: 0 });
	const error = form.error ?? base.error;
	const ready = form.data && (!from || base.data);
	return (
		<>
			<nav class="crumbs" aria-label="Breadcrumb"><a href="/runs">Runs</a><span aria-hidden="true">/</span><span>new</span></nav>
			<div class="page-head"><h1>{from ? `Clone ${base.data?.name || from}` : "New run"}</h1></div>
			{error !== undefined && !ready ? <ErrorCard error={error} retry={form.reload} /> : !ready ? <Skeleton lines={10} /> : (
				<Loaded key={from} from={from} form={form.data!} draftKey={`${DRAFT}.${from || query("base")}`} start={from ? textsOf(form.data!, (base.data!.spec ?? {}) as Json) : query("base") ? { "/base_model": query("base") } : {}} />
			)}
		</>
	);
}
