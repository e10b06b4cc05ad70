/** Decisions for the runs that are picked; what each would do is said before it is sent. */
import { decide } from "../ui/bulk";
import type { Picks } from "../ui/pick";
import { runEnded } from "../lib/states";
import type { Run } from "../lib/types";

const failedIn = (r: Run): number => (r.stages ?? []).reduce((n, s) => n + (s.counts?.failed ?? 0), 0);

const ACTIONS: { verb: string; action: string; fits: (r: Run) => boolean; why: string; text: string; danger?: boolean }[] = [
	{ verb: "Pause", action: "pause", fits: (r) => r.state === "active", why: "only active runs are paused", text: "Running jobs checkpoint and hand back; no new job starts until the runs are resumed. Nothing is lost." },
	{ verb: "Resume", action: "resume", fits: (r) => r.state === "paused" || r.state === "draining", why: "only paused runs are resumed", text: "Their jobs go on where they stood." },
	{ verb: "Retry", action: "retry", fits: (r) => failedIn(r) > 0 && r.state !== "cancelled", why: "they have no failed job", text: "Every failed job of these runs starts again from its last checkpoint, with its attempts counted from zero." },
	{ verb: "Cancel", action: "cancel", fits: (r) => !runEnded(r.state), why: "they have ended", danger: true, text: "Their open jobs will not run, and what running jobs did since their last checkpoint is lost. Finished checkpoints and data stay. A cancelled run cannot go on." },
];

export function RunBulk({ picks, runs, done }: { picks: Picks; runs: Run[]; done: () => void }) {
	const mine = runs.filter((r) => picks.has(r.id));
	return (
		<>
			{ACTIONS.map((a) => {
				const fit = mine.filter(a.fits);
				const go = (): void => decide({ ...a, noun: "run", path: "/runs/bulk", ids: fit.map((r) => r.id), left: mine.length - fit.length, leftWhy: a.why, done, body: <p>{a.text}</p> });
				return <button key={a.verb} class={`btn small ${a.danger ? "danger-quiet" : ""}`} disabled={!fit.length} title={fit.length ? undefined : a.why} onClick={go}>{a.verb}…</button>;
			})}
		</>
	);
}
