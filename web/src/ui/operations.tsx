/** How far the server is with what was begun here: a card each in the corner, over every page, until it is closed. */
import { useEffect } from "preact/hooks";
import { Bar } from "./bits";
import { say } from "./toast";
import { problemText } from "../lib/api";
import { standing } from "../lib/bulk";
import { fmtInt } from "../lib/fmt";
import { dismiss, startOperations, stop, watched, type Watched } from "../lib/operations";

const SHOWN = 20;

function Refused({ failures, failed }: { failures: { id: string; detail: string }[]; failed: number }) {
	return (
		<details class="more">
			<summary>What was refused, and why</summary>
			<ul class="plain-list">
				{failures.slice(0, SHOWN).map((f) => <li key={f.id}><a href={`/${f.id.includes(".") ? "jobs" : "runs"}/${encodeURIComponent(f.id)}`}>{f.id}</a>: {f.detail}</li>)}
			</ul>
			{failed > SHOWN && <p class="dim small">and {fmtInt(failed - SHOWN)} more</p>}
		</details>
	);
}

function One({ w }: { w: Watched }) {
	const s = w.op && standing(w.op);
	const open = !s || s.open;
	const bad = w.op?.state === "failed";
	return (
		<section class="op card" aria-label={w.title}>
			<div class="row"><b class="grow">{w.title}</b>
				{open ? <button class="btn small" onClick={() => { stop(w.id).catch((e: unknown) => say(problemText(e))); }}>Stop</button> : <button class="btn small" onClick={() => dismiss(w.id)}>Close</button>}
			</div>
			<Bar value={s?.of ? s.steps / s.of : open ? 0 : 1} tone={bad ? "bad" : open ? "run" : s?.failed ? "warn" : "ok"} label={`${w.title}: done`} />
			<p class="row num small" role={open ? undefined : "status"}><span class={bad ? "bad" : "dim"}>{w.error || (s ? s.text : "…")}</span>{s && s.failed > 0 && <span class="warn">{fmtInt(s.failed)} refused</span>}</p>
			{!open && s && s.failures.length > 0 && <Refused failures={s.failures} failed={s.failed} />}
		</section>
	);
}

export function Operations() {
	useEffect(startOperations, []);
	if (!watched.value.length) return null;
	return <aside class="ops" aria-label="Operations">{watched.value.map((w) => <One key={w.id} w={w} />)}</aside>;
}
