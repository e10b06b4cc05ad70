/**
 * Confirmation. It lives outside the patched page, names the thing and the consequence, gives the
 * focus to the safe button, and only the named button sends anything.
 */
import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import { problemText } from "../lib/api";
import type { FormRequest } from "../lib/commands";
import { CopyAs } from "./copy_as";

export interface Question {
	title: string;
	body: ComponentChildren;
	/** Without these the dialog only tells. */
	yes?: string;
	/** What it gives back is asked, or told, next. */
	act?: () => Promise<Question | void>;
	no?: string;
	danger?: boolean;
	/** To be typed first: of what does not come back. */
	typed?: string;
	/** What the button sends, to be copied instead. */
	form?: () => FormRequest;
	/** It has a pawl command too. */
	cli?: boolean;
}

const question = signal<Question | null>(null);

export function ask(q: Question): void {
	question.value = q;
}

export function Dialogs() {
	const q = question.value;
	const ref = useRef<HTMLDialogElement>(null);
	const [busy, setBusy] = useState(false);
	const [error, setError] = useState("");
	const [typed, setTyped] = useState("");
	useEffect(() => {
		if (!q) return;
		const back = document.activeElement as HTMLElement | null;
		setError("");
		setBusy(false);
		setTyped("");
		ref.current?.showModal();
		ref.current?.querySelector<HTMLElement>("[data-safe]")?.focus();
		return () => back?.focus?.();
	}, [q]);
	if (!q) return null;
	const close = (): void => {
		ref.current?.close();
		question.value = null;
	};
	const yes = async (): Promise<void> => {
		setBusy(true);
		setError("");
		try {
			const next = await q.act?.();
			close();
			if (next) question.value = next;
		} catch (e) {
			setError(problemText(e));
			setBusy(false);
		}
	};
	return (
		<dialog ref={ref} class="dialog" aria-labelledby="dialog-title" onCancel={(e) => { e.preventDefault(); close(); }}>
			<h2 id="dialog-title">{q.title}</h2>
			<div class="dialog-body">{q.body}{q.typed && <label>Type <b>{q.typed}</b> to go on <input autocomplete="off" spellcheck={false} value={typed} onInput={(e) => setTyped(e.currentTarget.value)} /></label>}</div>
			{error && <p class="field-error" role="alert">{error}</p>}
			<div class="row end wrap">
				{q.form && <CopyAs form={q.form} cli={q.cli} />}
				<button type="button" class="btn" data-safe onClick={close}>{q.no ?? "Go back"}</button>
				{q.yes && <button type="button" class={`btn ${q.danger ? "danger" : "primary"}`} disabled={busy || (!!q.typed && typed.trim() !== q.typed)} onClick={yes}>{busy ? "Sending…" : q.yes}</button>}
			</div>
		</dialog>
	);
}
