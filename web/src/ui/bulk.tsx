/** Asks before a decision for many, sends it in pieces with its progress, and says what was refused and why. */
import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { sendBulk } from "../lib/bulk";
import { fmtInt, plural } from "../lib/fmt";
import { ask, type Question } from "./dialog";
import { say } from "./toast";

export interface Decision {
	/** Imperative, as on the button: "Cancel". */
	verb: string;
	noun: string;
	action: string;
	path: string;
	/** Those it can be made for, and how many more were picked. */
	ids: string[];
	left: number;
	leftWhy: string;
	body: ComponentChildren;
	danger?: boolean;
	more?: () => Record<string, unknown>;
	done: () => void;
}

const sent = signal(0);
const SHOWN = 8;

function Sent({ of }: { of: number }) {
	return sent.value > 0 && sent.value < of ? <p class="dim num" role="status">{fmtInt(sent.value)} of {fmtInt(of)}</p> : null;
}

function refused(d: Decision, failed: number, failures: { id: string; detail: string }[]): Question {
	return {
		title: `${plural(failed, d.noun)} refused`,
		body: <><ul class="plain-list">{failures.slice(0, SHOWN).map((f) => <li key={f.id}><code>{f.id}</code> {f.detail}</li>)}</ul>{failed > SHOWN && <p class="dim">and {fmtInt(failed - SHOWN)} more</p>}</>,
		no: "Close",
	};
}

export function decide(d: Decision): void {
	const n = d.ids.length;
	sent.value = 0;
	if (!n) return say(`Nothing to ${d.verb.toLowerCase()}: ${d.leftWhy}`);
	ask({
		title: `${d.verb} ${plural(n, d.noun)}?`,
		body: <>{d.body}{d.left > 0 && <p class="dim">{plural(d.left, d.noun)} more {d.left === 1 ? "is" : "are"} selected and left alone: {d.leftWhy}.</p>}<Sent of={n} /></>,
		yes: `${d.verb} ${fmtInt(n)}`,
		no: "Go back",
		danger: d.danger,
		act: async () => {
			const r = await sendBulk(d.path, { action: d.action, ...d.more?.() }, d.ids, (k) => { sent.value = k; });
			say(`${d.verb}: ${plural(r.done, d.noun)}${r.failed ? `, ${fmtInt(r.failed)} refused` : ""}`);
			d.done();
			return r.failed ? refused(d, r.failed, r.failures) : undefined;
		},
	});
}
