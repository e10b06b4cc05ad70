/** The width an element has, followed as it changes; what is drawn to measure needs it. */
import { useEffect, useRef, useState } from "preact/hooks";

export function useWidth<T extends HTMLElement = HTMLDivElement>(least: number, first = 0): [{ current: T | null }, number] {
	const ref = useRef<T>(null);
	const [w, setW] = useState(first);
	useEffect(() => {
		const el = ref.current;
		if (!el) return;
		const o = new ResizeObserver(() => setW(Math.max(least, el.clientWidth)));
		o.observe(el);
		return () => o.disconnect();
	}, []);
	return [ref, w];
}
