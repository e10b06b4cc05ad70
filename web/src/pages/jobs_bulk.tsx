/** Decisions for the jobs that are picked: cancel, retry, redo, put before or after others. */
import type { ComponentChildren } from "preact";
import { decide } from "../ui/bulk";
import type { Picks } from "../ui/pick";
import { jobEnded } from "../lib/states";
import type { Job } from "../lib/types";

const PRIORITY_MOST = 9;

interface Action { verb: string; action: string; fits: (j: Job) => boolean; why: string; body: ComponentChildren; danger?: boolean; more?: () => Record<string, unknown> }

/** The number is read when the dialog is confirmed. */
function priority(): Action {
	let n = 5;
	return {
		verb: "Move", action: "priority", fits: (j) => !jobEnded(j.state), why: "they have ended", more: () => ({ priority: n }),
		body: (
			<label class="inline">Priority, {PRIORITY_MOST} before and −{PRIORITY_MOST} after the other jobs of their run and stage
				<input type="number" class="short num" min={-PRIORITY_MOST} max={PRIORITY_MOST} value={n} onInput={(e) => { n = Math.max(-PRIORITY_MOST, Math.min(PRIORITY_MOST, Math.round(Number(e.currentTarget.value) || 0))); }} />
			</label>
		),
	};
}

const ACTIONS: (() => Action)[] = [
	() => ({ verb: "Retry", action: "retry", fits: (j) => j.state === "failed" || j.state === "cancelled", why: "they have not failed", body: <p>They start again from their last checkpoints, with their attempts counted from zero. Jobs that waited for them follow.</p> }),
	priority,
	() => ({ verb: "Redo", action: "invalidate", fits: (j) => j.state === "done", why: "they are not done", danger: true, body: <p>Their results are declared invalid, and so are those of every job made from them: all of it runs again. The old artifacts stay in the store.</p> }),
	() => ({ verb: "Cancel", action: "cancel", fits: (j) => !jobEnded(j.state), why: "they have ended", danger: true, body: <p>These jobs, and every job that needs a result of theirs, will not run. What they did since their last checkpoint is lost.</p> }),
];

export function JobBulk({ picks, jobs, done }: { picks: Picks; jobs: Job[]; done: () => void }) {
	const mine = jobs.filter((j) => picks.has(j.id));
	return (
		<>
			{ACTIONS.map((make) => {
				const a = make();
				const fit = mine.filter(a.fits);
				const go = (): void => decide({ ...a, noun: "job", path: "/jobs/bulk", target: { ids: fit.map((j) => j.id) }, left: mine.length - fit.length, leftWhy: a.why, done });
				return <button key={a.verb} class={`btn small ${a.danger ? "danger-quiet" : ""}`} disabled={!fit.length} title={fit.length ? undefined : a.why} onClick={go}>{a.verb}…</button>;
			})}
		</>
	);
}
