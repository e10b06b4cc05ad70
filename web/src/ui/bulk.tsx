/** Asks before a decision for many and hands it to the server, which goes on by itself; the page shows how far it is. */
import type { ComponentChildren } from "preact";
import { fmtInt, plural } from "../lib/fmt";
import { begin } from "../lib/operations";
import { ask } from "./dialog";
import { say } from "./toast";

export interface Decision {
	/** Imperative, as on the button: "Cancel". */
	verb: string;
	noun: string;
	action: string;
	path: string;
	/** Those it can be made for, or all that fit a filter, as the server finds them. */
	target: { ids: string[] } | { filter: Record<string, unknown>; matched: number };
	/** Picked, and it cannot be made for them. */
	left: number;
	leftWhy: string;
	body: ComponentChildren;
	danger?: boolean;
	more?: () => Record<string, unknown>;
	done: () => void;
}

export function decide(d: Decision): void {
	const all = "filter" in d.target;
	const n = "ids" in d.target ? d.target.ids.length : d.target.matched;
	const what = plural(n, d.noun);
	if (!n) return say(`Nothing to ${d.verb.toLowerCase()}: ${d.leftWhy}`);
	ask({
		title: `${d.verb} ${what}?`,
		body: <>{d.body}{all && <p class="dim">These are all that fit the filter, also those not on this page. The server leaves alone those it cannot do it for, and says which.</p>}{d.left > 0 && <p class="dim">{plural(d.left, d.noun)} more {d.left === 1 ? "is" : "are"} selected and left alone: {d.leftWhy}.</p>}</>,
		yes: `${d.verb} ${fmtInt(n)}`,
		no: "Go back",
		danger: d.danger,
		form: () => ({ method: "POST", path: d.path, body: request(d) }),
		act: async () => {
			await begin(d.path, request(d), `${d.verb} ${what}`, d.done);
			d.done();
		},
	});
}

function request(d: Decision): Record<string, unknown> {
	const which = "ids" in d.target ? { ids: d.target.ids } : { filter: d.target.filter };
	return { action: d.action, ...d.more?.(), ...which };
}
