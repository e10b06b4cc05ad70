/** A long list of rows of one height: only those near the screen are in the page. */
import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";

interface Props {
	count: number;
	/** Height of a row, px. */
	row: number;
	/** The row to keep in sight when it changes; -1 for none. */
	at: number;
	draw: (i: number) => ComponentChildren;
	/** Called when the end comes near. */
	near?: () => void;
	class?: string;
	label: string;
}

const OVER = 8;

export function Virtual({ count, row, at, draw, near, class: cls, label }: Props) {
	const box = useRef<HTMLElement>(null);
	const [seen, set] = useState({ top: 0, high: 800 });
	const look = (): void => {
		const el = box.current;
		if (!el) return;
		// Whole rows: a scroll within one redraws nothing.
		const top = Math.floor(el.scrollTop / row) * row;
		set((old) => (old.top === top && old.high === el.clientHeight ? old : { top, high: el.clientHeight }));
	};
	useLayoutEffect(() => {
		const o = new ResizeObserver(look);
		if (box.current) o.observe(box.current);
		return () => o.disconnect();
	}, []);
	useEffect(() => {
		const el = box.current;
		if (!el || at < 0) return;
		const y = at * row;
		if (y < el.scrollTop) el.scrollTop = y;
		else if (y + row > el.scrollTop + el.clientHeight) el.scrollTop = y + row - el.clientHeight;
	}, [at]);
	const first = Math.max(0, Math.floor(seen.top / row) - OVER);
	const last = Math.min(count, Math.ceil((seen.top + seen.high) / row) + OVER);
	useEffect(() => {
		if (last >= count - OVER) near?.();
	}, [last, count]);
	// A row drawn once is the same node while its list is: scrolling draws the new rows alone.
	const drawn = useMemo(() => new Map<number, ComponentChildren>(), [draw]);
	const line = (i: number): ComponentChildren => {
		let v = drawn.get(i);
		if (!v) drawn.set(i, (v = <div key={i} class="v-row" style={{ top: `${i * row}px`, height: `${row}px` }}>{draw(i)}</div>));
		return v;
	};
	return (
		<nav ref={box} class={cls} aria-label={label} onScroll={look}>
			<div class="v-room" style={{ height: `${count * row}px` }}>
				{Array.from({ length: Math.max(0, last - first) }, (_, i) => line(first + i))}
			</div>
		</nav>
	);
}
