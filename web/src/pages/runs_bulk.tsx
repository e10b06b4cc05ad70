/** Decisions for the runs that are picked; what each would do is said before it is sent. */
import type { ComponentChildren } from "preact";
import { decide } from "../ui/bulk";
import type { Picks } from "../ui/pick";
import { runEnded } from "../lib/states";
import { tagsOf } from "../lib/tags";
import type { Run } from "../lib/types";

const failedIn = (r: Run): number => (r.stages ?? []).reduce((n, s) => n + (s.counts?.failed ?? 0), 0);

interface Action { verb: string; action: string; fits: (r: Run) => boolean; why: string; text: string; danger?: boolean; ask?: () => { body: ComponentChildren; more: () => Record<string, unknown> } }

/** The words are read when the dialog is confirmed. */
function tagging(): { body: ComponentChildren; more: () => Record<string, unknown> } {
	const words = { add: "", remove: "" };
	const field = (k: "add" | "remove", label: string) => <label>{label} <input class="grow" placeholder="paper, judge-v2" onInput={(e) => { words[k] = e.currentTarget.value; }} /></label>;
	return {
		body: <>{field("add", "Tags to put on, with commas between")}{field("remove", "Tags to take off")}</>,
		more: () => ({ ...(words.remove.trim() ? { remove: tagsOf(words.remove) } : {}), ...(words.add.trim() || !words.remove.trim() ? { add: tagsOf(words.add) } : {}) }),
	};
}

const ACTIONS: Action[] = [
	{ verb: "Pause", action: "pause", fits: (r) => r.state === "active", why: "only active runs are paused", text: "Running jobs checkpoint and hand back; no new job starts until the runs are resumed. Nothing is lost." },
	{ verb: "Resume", action: "resume", fits: (r) => r.state === "paused" || r.state === "draining", why: "only paused runs are resumed", text: "Their jobs go on where they stood." },
	{ verb: "Retry", action: "retry", fits: (r) => failedIn(r) > 0 && r.state !== "cancelled", why: "they have no failed job", text: "Every failed job of these runs starts again from its last checkpoint, with its attempts counted from zero." },
	{ verb: "Tag", action: "tag", fits: () => true, why: "", text: "", ask: tagging },
	{ verb: "Cancel", action: "cancel", fits: (r) => !runEnded(r.state), why: "they have ended", danger: true, text: "Their open jobs will not run, and what running jobs did since their last checkpoint is lost. Finished checkpoints and data stay. A cancelled run cannot go on." },
];

/** `all`: not the picked ones but every run that fits the filter, as many as the server counted. */
export function RunBulk({ picks, runs, all, done }: { picks: Picks; runs: Run[]; all: { filter: Record<string, unknown>; matched: number } | null; done: () => void }) {
	const mine = runs.filter((r) => picks.has(r.id));
	return (
		<>
			{ACTIONS.map((a) => {
				const fit = mine.filter(a.fits);
				const target = all ?? { ids: fit.map((r) => r.id) };
				const go = (): void => decide({ ...a, noun: "run", path: "/runs/bulk", target, left: all ? 0 : mine.length - fit.length, leftWhy: a.why, done, body: <p>{a.text}</p>, ...a.ask?.() });
				const none = !all && !fit.length;
				return <button key={a.verb} class={`btn small ${a.danger ? "danger-quiet" : ""}`} disabled={none} title={none ? a.why : undefined} onClick={go}>{a.verb}…</button>;
			})}
		</>
	);
}
