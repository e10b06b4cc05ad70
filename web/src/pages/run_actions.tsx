/** Pause, resume, cancel, retry, clone: each says beforehand what it will do. */
import { Copy } from "../ui/bits";
import { ask } from "../ui/dialog";
import { say } from "../ui/toast";
import { may, problemText, send } from "../lib/api";
import { cliOf, type FormRequest } from "../lib/commands";
import { plural, serverNow } from "../lib/fmt";
import { report } from "../lib/report";
import { runEnded } from "../lib/states";
import type { Run } from "../lib/types";

function count(run: Run, state: string): number {
	return (run.stages ?? []).reduce((n, s) => n + (s.counts?.[state] ?? 0), 0);
}

export function RunActions({ run, done }: { run: Run; done: () => void }) {
	const allowed = may("operator");
	const why = allowed ? undefined : "Needs the operator role";
	const path = `/runs/${encodeURIComponent(run.id)}`;
	const now = async (verb: string, said: string): Promise<void> => {
		await send("POST", `${path}/${verb}`);
		say(said);
		done();
	};
	const as = (verb: string) => ({ cli: true, form: (): FormRequest => ({ method: "POST", path: `${path}/${verb}`, cli: cliOf("run", verb, run.id) }) });
	const direct = (verb: string, said: string) => (): void => {
		now(verb, said).catch((e: unknown) => say(problemText(e)));
	};
	const running = count(run, "running");
	const open = running + count(run, "ready") + count(run, "blocked") + count(run, "delayed");
	const failed = count(run, "failed");
	const cancel = (): void =>
		ask({
			title: `Cancel “${run.name || run.id}”?`,
			body: (
				<>
					<p>{plural(open, "job")} will not run{running ? `, ${running} of them being worked on now` : ""}. What running jobs did since their last checkpoint is lost.</p>
					<p>Finished checkpoints and data stay and can be downloaded. A cancelled run cannot go on; a clone of it reuses every finished result.</p>
				</>
			),
			yes: "Cancel the run",
			no: "Keep it running",
			danger: true,
			...as("cancel"),
			act: () => now("cancel", "Cancelling the run"),
		});
	const pause = (): void =>
		ask({
			title: `Pause “${run.name || run.id}”?`,
			body: <p>{running ? `${plural(running, "running job")} will checkpoint and hand back; ` : ""}no new job starts until you resume. Nothing is lost.</p>,
			yes: "Pause",
			...as("pause"),
			act: () => now("pause", "Pausing the run"),
		});
	const retry = (): void =>
		ask({
			title: `Retry ${plural(failed, "failed job")}?`,
			body: <p>Their attempts start from zero and from their last checkpoint; the jobs that waited for them follow.</p>,
			yes: "Retry",
			...as("retry"),
			act: () => now("retry", "Retrying"),
		});
	return (
		<div class="actions">
			{failed > 0 && run.state !== "cancelled" && <button class="btn primary" disabled={!allowed} title={why} onClick={retry}>Retry failed…</button>}
			{(run.state === "paused" || run.state === "draining") && <button class="btn primary" disabled={!allowed} title={why} onClick={direct("resume", "The run goes on")}>Resume</button>}
			{run.state === "active" && <button class="btn" disabled={!allowed} title={why} onClick={pause}>Pause…</button>}
			<Copy class="big" text={() => report(run, serverNow(), `${location.origin}/runs/${run.id}`)} label="Report" what="a report in Markdown" />
			<a class="btn" href={`/runs/new?from=${encodeURIComponent(run.id)}`}>Clone</a>
			{!runEnded(run.state) && <button class="btn danger-quiet" disabled={!allowed} title={why} onClick={cancel}>Cancel…</button>}
		</div>
	);
}
