/** Looking through a whole log: the server searches, the page keeps the places and walks them. */
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { getJson, problemText } from "../lib/api";
import { clean, type LogLine } from "../lib/log_text";
import { qs } from "../lib/router";

const HITS = 500;
const REST_MS = 300;

export interface Found {
	hits: LogLine[];
	/** More than were fetched. */
	more: boolean;
	at: number;
	busy: boolean;
	error: string;
	go: (at: number) => void;
}

interface Answer { items: LogLine[]; next_cursor?: string | null }

/** The newest hit comes first into sight, as the newest line does. */
export function useFind(base: string, text: string, see: (hit: LogLine) => void): Found {
	const [state, set] = useState<{ hits: LogLine[]; more: boolean; error: string }>({ hits: [], more: false, error: "" });
	const [at, setAt] = useState(-1);
	const [busy, setBusy] = useState(false);
	useEffect(() => {
		set({ hits: [], more: false, error: "" });
		setAt(-1);
		if (!text) return;
		const abort = new AbortController();
		const timer = setTimeout(() => {
			setBusy(true);
			getJson<Answer>(`${base}/search${qs({ q: text, limit: HITS })}`, abort.signal)
				.then((r) => set({ hits: r.items, more: !!r.next_cursor, error: "" }))
				.catch((e: unknown) => !abort.signal.aborted && set({ hits: [], more: false, error: problemText(e) }))
				.finally(() => !abort.signal.aborted && setBusy(false));
		}, REST_MS);
		return () => {
			abort.abort();
			clearTimeout(timer);
			setBusy(false);
		};
	}, [base, text]);
	const wanted = useRef<number | null>(null);
	/** Asked before the answer is there: then as soon as it is. */
	useEffect(() => {
		if (state.hits.length && wanted.current !== null) go(wanted.current);
	}, [state.hits]);
	const go = (to: number): void => {
		const n = state.hits.length;
		wanted.current = n ? null : to;
		if (!n) return;
		const next = ((to % n) + n) % n;
		setAt(next);
		see(state.hits[next]!);
	};
	return { ...state, at, busy, go };
}

export function marked(text: string, find: string): ComponentChildren {
	const at = find ? text.toLowerCase().indexOf(find.toLowerCase()) : -1;
	if (at < 0) return text;
	return <>{text.slice(0, at)}<mark>{text.slice(at, at + find.length)}</mark>{text.slice(at + find.length)}</>;
}

/** The lines alone, each leading to its place in the log. */
export function Hits({ found, mark }: { found: Found; mark: (text: string) => ComponentChildren }) {
	return (
		<ol class="hits" aria-label="Lines found">
			{found.hits.map((h, i) => (
				<li key={h.offset} aria-current={i === found.at ? "true" : undefined}>
					<button onClick={() => found.go(i)}>{mark(clean(h.text))}</button>
				</li>
			))}
		</ol>
	);
}

/** A file of what is on the page, without asking the server. */
export function saveText(name: string, text: string): void {
	const a = document.createElement("a");
	a.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
	a.download = name;
	a.click();
	setTimeout(() => URL.revokeObjectURL(a.href), 1000);
}
