/** A filter that lives in the address. */
import { useEffect, useRef, useState } from "preact/hooks";
import { query, setQuery } from "../lib/router";

/** Typing in a filter changes the address after a short rest, not on every key. */
export function Field({ name, label, wide }: { name: string; label: string; wide?: boolean }) {
	const now = query(name);
	const [text, setText] = useState(now);
	const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
	useEffect(() => setText(now), [now]);
	const put = (v: string): void => {
		setText(v);
		clearTimeout(timer.current);
		timer.current = setTimeout(() => setQuery({ [name]: v, at: null }), 300);
	};
	return (
		<label class={`inline ${wide ? "grow" : ""}`}>
			<span class={wide ? "sr" : ""}>{label}</span>
			{wide ? <input type="search" data-search placeholder={label} class="grow" value={text} onInput={(e) => put(e.currentTarget.value)} />
				: <input type="text" inputMode="decimal" class="short num" value={text} onInput={(e) => put(e.currentTarget.value)} />}
		</label>
	);
}
