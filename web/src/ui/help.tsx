/** The keyboard help, opened by `?`. */
import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { shortcuts } from "../lib/prefs";

export const helpOpen = signal(false);

const KEYS: [string, string][] = [
	["/", "Search this page, or everything"],
	["j  k", "Next, previous row"],
	["Enter", "Open the focused row"],
	["x  X", "Select the focused run or job; up to it"],
	["n", "New run"],
	["p", "Pause and resume updates"],
	["t", "Change the theme"],
	["f  n  N", "Follow the log; next, previous match (job page)"],
	["← → ↑ ↓", "Walk the stages, and the bars of the timeline; + − zoom, < > move, 0 fits"],
	["d  r  c", "Word diff, raw row, copy the link (sample page)"],
	["1 – 9", "Focus a candidate (sample page)"],
	["a  x  s", "Agree with the judge about the pair, disagree, skip; 1 2 when blind"],
	["u  e  b", "Undo, note, blind review"],
	["?", "This help"],
	["Esc", "Close, or leave a field"],
];

export function Help() {
	const ref = useRef<HTMLDialogElement>(null);
	const open = helpOpen.value;
	useEffect(() => {
		if (open) ref.current?.showModal();
	}, [open]);
	if (!open) return null;
	const close = (): void => {
		ref.current?.close();
		helpOpen.value = false;
	};
	return (
		<dialog ref={ref} class="dialog" aria-labelledby="help-title" onCancel={(e) => { e.preventDefault(); close(); }}>
			<h2 id="help-title">Keyboard</h2>
			<dl class="keys">
				{KEYS.map(([k, what]) => <div key={k}><dt>{k.split("  ").map((x) => <kbd key={x}>{x}</kbd>)}</dt><dd>{what}</dd></div>)}
			</dl>
			<label class="check">
				<input type="checkbox" checked={shortcuts.value === "on"} onChange={(e) => { shortcuts.value = e.currentTarget.checked ? "on" : "off"; }} />
				Single-key shortcuts
			</label>
			<div class="row end"><button class="btn" onClick={close}>Close</button></div>
		</dialog>
	);
}
