/** Small pieces every page uses: state badge, time, copy button, empty, error, skeleton. */
import type { ComponentChildren, JSX } from "preact";
import { useState } from "preact/hooks";
import { ApiError } from "../lib/api";
import { fmtAge, fmtTime, ms, shortHash, tick } from "../lib/fmt";
import { lookOf, type Shape } from "../lib/states";
import { say } from "./toast";

type Kids = { children?: ComponentChildren };

const PATHS: Record<Shape, JSX.Element> = {
	check: <path d="M3 8.5 6.5 12 13 4.5" />,
	play: <path d="M5 3.2v9.6L12.6 8z" class="fill" />,
	ring: <circle cx="8" cy="8" r="4.6" />,
	glass: <path d="M4.5 2.5h7M4.5 13.5h7M5.2 2.8c0 4 5.6 6.4 5.6 10.4M10.8 2.8c0 4-5.6 6.4-5.6 10.4" />,
	cross: <path d="m4 4 8 8m0-8-8 8" />,
	slash: <><circle cx="8" cy="8" r="5.3" /><path d="m4.4 11.6 7.2-7.2" /></>,
	pause: <path d="M5.5 3.5v9M10.5 3.5v9" />,
	bolt: <path d="M9.3 1.8 4 9h3.6l-.9 5.2L12 7H8.4z" class="fill" />,
	clock: <><circle cx="8" cy="8" r="5.5" /><path d="M8 4.8V8l2.2 1.6" /></>,
	dash: <path d="M3.5 8h9" />,
	star: <path d="m8 2 1.8 3.9 4.2.5-3.1 2.9.8 4.2L8 11.4l-3.7 2.1.8-4.2L2 6.4l4.2-.5z" />,
	drain: <path d="M8 2.5v8m-3.5-3.3L8 10.7l3.5-3.5M3.5 13.5h9" />,
};

export function Glyph({ shape }: { shape: Shape }) {
	return (
		<svg class="glyph" viewBox="0 0 16 16" aria-hidden="true">
			{PATHS[shape]}
		</svg>
	);
}

export function StateTag({ state, quiet }: { state: string | null | undefined; quiet?: boolean }) {
	const l = lookOf(state);
	return (
		<span class={`state tone-${l.tone}${quiet ? " quiet" : ""}`}>
			<Glyph shape={l.shape} />
			{l.word}
		</span>
	);
}

/** Absolute time always; the age follows as a secondary line when asked. */
export function Time({ t, age }: { t: string | number | null | undefined; age?: boolean }) {
	const v = ms(t);
	if (v === null) return <span class="dim">–</span>;
	const iso = new Date(v).toISOString();
	return (
		<time dateTime={iso} title={fmtTime(v, true)} class="num">
			{fmtTime(v)}
			{age && <Age t={v} />}
		</time>
	);
}

export function Age({ t }: { t: string | number | null | undefined }) {
	void tick.value;
	return <span class="dim age"> {fmtAge(t)}</span>;
}

/** navigator.clipboard is missing on plain HTTP, so fall back to a selection and execCommand. */
export async function copyText(text: string): Promise<boolean> {
	try {
		if (navigator.clipboard) {
			await navigator.clipboard.writeText(text);
			return true;
		}
	} catch {
		/* refused: try the old way */
	}
	const host = document.querySelector("dialog[open]") ?? document.body;
	const area = document.createElement("textarea");
	area.value = text;
	area.className = "offscreen";
	host.append(area);
	area.select();
	const ok = document.execCommand("copy");
	area.remove();
	return ok;
}

export function Copy({ text, label, what, class: cls }: { text: string | (() => string); label?: string; what?: string; class?: string }) {
	const [done, setDone] = useState(false);
	const act = async (e: Event): Promise<void> => {
		e.preventDefault();
		e.stopPropagation();
		const button = e.currentTarget as HTMLElement;
		const ok = await copyText(typeof text === "function" ? text() : text);
		button.focus();
		say(ok ? `Copied ${what ?? "to the clipboard"}` : "The browser refused to copy");
		setDone(ok);
		setTimeout(() => setDone(false), 1500);
	};
	return (
		<button type="button" class={label ? `btn small ${cls ?? ""}` : `icon-btn copy ${cls ?? ""}`} onClick={act} aria-label={label ? undefined : `Copy ${what ?? ""}`} title={`Copy ${what ?? ""}`}>
			<svg class="glyph" viewBox="0 0 16 16" aria-hidden="true">
				{done ? <path d="M3 8.5 6.5 12 13 4.5" /> : <><rect x="5.5" y="5.5" width="8" height="8" rx="1.5" /><path d="M10.5 3.2V3a1 1 0 0 0-1-1H3.5a1 1 0 0 0-1 1v6a1 1 0 0 0 1 1h.2" /></>}
			</svg>
			{label}
		</button>
	);
}

export function Hash({ digest, n = 10 }: { digest: string | null | undefined; n?: number }) {
	if (!digest) return <span class="dim">–</span>;
	return (
		<span class="hash">
			<code title={digest}>{shortHash(digest, n)}</code>
			<Copy text={digest} what="digest" />
		</span>
	);
}

export function Empty({ title, children }: Kids & { title: string }) {
	return (
		<div class="empty">
			<h3>{title}</h3>
			{children}
		</div>
	);
}

export function ErrorCard({ error, retry }: { error: unknown; retry?: () => void }) {
	const e = error instanceof ApiError ? error : null;
	return (
		<div class="error-card" role="alert">
			<strong>{e ? e.title : "Something went wrong"}</strong>
			<p>{error instanceof Error ? error.message : String(error)}</p>
			<p class="row">
				{retry && <button class="btn small" onClick={retry}>Try again</button>}
				{e?.status === 404 && <a class="btn small" href="/">Overview</a>}
				{e?.instance && <span class="dim">Request <code>{e.instance}</code> <Copy text={e.instance} what="request id" /></span>}
			</p>
		</div>
	);
}

export function Skeleton({ lines = 4 }: { lines?: number }) {
	return (
		<div class="skeleton" aria-busy="true" aria-label="Loading">
			{Array.from({ length: lines }, (_, i) => <span key={i} class={`sk sk-${i % 4}`} />)}
		</div>
	);
}

export function Bar({ value, tone = "run", label }: { value: number; tone?: string; label?: string }) {
	const pct = Math.max(0, Math.min(100, 100 * (Number.isFinite(value) ? value : 0)));
	return (
		<span class={`bar tone-${tone}`} role="progressbar" aria-valuenow={Math.round(pct)} aria-valuemin={0} aria-valuemax={100} aria-label={label ?? "progress"}>
			<i style={{ width: `${pct}%` }} />
		</span>
	);
}

export function Card({ title, children, more, class: cls }: Kids & { title?: ComponentChildren; more?: ComponentChildren; class?: string }) {
	return (
		<section class={`card ${cls ?? ""}`}>
			{(title || more) && (
				<header class="card-head">
					<h2>{title}</h2>
					{more}
				</header>
			)}
			{children}
		</section>
	);
}

export function Fact({ name, children, title }: Kids & { name: ComponentChildren; title?: string }) {
	return (
		<div class="fact" title={title}>
			<dt>{name}</dt>
			<dd>{children}</dd>
		</div>
	);
}

/** A command to copy, in a box that scrolls by itself. */
export function Command({ text, what = "command" }: { text: string; what?: string }) {
	return (
		<div class="command">
			<pre tabIndex={0}><code>{text}</code></pre>
			<Copy text={text} what={what} />
		</div>
	);
}
