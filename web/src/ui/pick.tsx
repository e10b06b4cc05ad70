/**
 * Rows picked for one action on many: a box a row, Shift for a stretch, `x` and `X` for the focused row,
 * Esc to let go. What is picked and no longer listed is not acted on.
 */
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { fmtInt } from "../lib/fmt";
import { stretch } from "../lib/bulk";
import { useKeys } from "./keys";

export interface Picks {
	ids: string[];
	has: (id: string) => boolean;
	toggle: (id: string, far: boolean) => void;
	set: (ids: string[]) => void;
}

function focusedRow(): string | undefined {
	return (document.activeElement?.closest("[data-row]") as HTMLElement | null)?.dataset.row;
}

/** `order`: the ids as they stand on the page. */
export function usePicks(order: string[], on: boolean): Picks {
	const [picked, set] = useState<ReadonlySet<string>>(new Set());
	const anchor = useRef("");
	const ids = order.filter((id) => picked.has(id));
	const toggle = (id: string, far: boolean): void => {
		const next = new Set(ids);
		const put = !next.has(id);
		for (const x of far ? stretch(order, anchor.current, id) : [id]) if (put) next.add(x);
		else next.delete(x);
		anchor.current = id;
		set(next);
	};
	const key = (far: boolean) => (): void => {
		const id = focusedRow();
		if (on && id) toggle(id, far);
	};
	useKeys({ x: key(false), X: key(true), ...(ids.length ? { Escape: () => set(new Set()) } : {}) });
	return { ids, has: (id) => picked.has(id), toggle, set: (list) => set(new Set(list)) };
}

export function PickCell({ picks, id, name }: { picks: Picks; id: string; name: string }) {
	const far = useRef(false);
	return (
		<td class="pick">
			<input type="checkbox" aria-label={`Select ${name}`} checked={picks.has(id)} onClick={(e) => { far.current = e.shiftKey; }} onChange={() => picks.toggle(id, far.current)} />
		</td>
	);
}

export function PickHead({ picks, shown, noun }: { picks: Picks; shown: string[]; noun: string }) {
	const box = useRef<HTMLInputElement>(null);
	const n = shown.filter(picks.has).length;
	useEffect(() => {
		if (box.current) box.current.indeterminate = n > 0 && n < shown.length;
	});
	return <th class="pick"><input ref={box} type="checkbox" aria-label={`Select every ${noun} shown`} checked={n > 0 && n === shown.length} onChange={() => picks.set(n === shown.length ? [] : shown)} /></th>;
}

/** What is picked and what can be done with it; `all` takes everything that fits the filter, which `whole` is the number of. */
export function PickBar({ picks, noun, matching, all, whole, children }: { picks: Picks; noun: string; matching: number | null; all: () => void; whole?: number | null; children: ComponentChildren }) {
	const n = whole ?? picks.ids.length;
	if (!n) return null;
	const left = whole === undefined || whole === null;
	return (
		<div class="pick-bar" role="region" aria-label={`Selected ${noun}s`}>
			<b class="num" role="status">{left ? "" : "all "}{fmtInt(n)} {n === 1 ? noun : noun + "s"} {left ? "selected" : "that fit the filter"}</b>
			{left && (matching === null || n < matching) && <button class="link-btn" onClick={all}>select all {matching === null ? "" : fmtInt(matching) + " "}that fit the filter</button>}
			<span class="actions">{children}<button class="btn small" onClick={() => picks.set([])}>Clear</button></span>
		</div>
	);
}
