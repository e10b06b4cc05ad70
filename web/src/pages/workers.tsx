/** The fleet: who is here, what each does, how long since it was heard; drain. */
import { Age, Command, Empty, ErrorCard, Skeleton, StateTag, Time } from "../ui/bits";
import { ask } from "../ui/dialog";
import { say } from "../ui/toast";
import { may, send } from "../lib/api";
import { fmtBytes, fmtInt } from "../lib/fmt";
import { useQuery } from "../lib/query";
import { splitJob } from "../lib/wire";
import { jobName } from "./run_jobs";
import type { List, Worker } from "../lib/types";

function labels(w: Worker): string {
	const l = w.labels;
	if (!l) return "";
	if (typeof l === "string") return l;
	if (Array.isArray(l)) return l.join(", ");
	return Object.entries(l).map(([k, v]) => `${k}=${v}`).join(", ");
}

function Join() {
	return (
		<>
			<p>A worker needs this address and the worker token (<code>tokens/worker</code> in the server's data folder). It may vanish at any second: the job goes to the next worker.</p>
			<Command text={`pawl-worker --server ${location.origin} --token-file worker.token`} />
		</>
	);
}

export function Workers() {
	const q = useQuery<List<Worker>>("/workers", { topics: ["workers"], on: (e) => e.type === "worker", every: 10_000 });
	const list = q.data?.items ?? [];
	const n = (s: string): number => list.filter((w) => w.state === s).length;
	const drain = (w: Worker): void =>
		ask({
			title: `Drain ${w.name}?`,
			body: <p>It finishes {w.job ? <>the job it has (<code>{w.job}</code>)</> : "nothing, as it has no job"}, then takes no more. Nothing is lost. To use the machine again, start its worker anew.</p>,
			yes: "Drain",
			act: async () => {
				await send("POST", `/workers/${encodeURIComponent(w.id)}/drain`);
				say(`${w.name} is draining`);
				q.reload();
			},
		});
	return (
		<>
			<div class="page-head"><h1>Workers</h1></div>
			{q.error !== undefined && !q.data && <ErrorCard error={q.error} retry={q.reload} />}
			{q.loading ? <Skeleton /> : list.length === 0 ? q.data && <Empty title="No worker has registered yet"><Join /></Empty> : (
				<>
					<div class="tiles">
						<div class="tile"><span>Busy</span><b class="num">{n("busy")}</b></div>
						<div class="tile"><span>Idle</span><b class="num">{n("idle")}</b></div>
						<div class="tile"><span>Draining</span><b class="num">{n("draining")}</b></div>
						<div class="tile"><span>Lost</span><b class={`num ${n("lost") ? "bad" : ""}`}>{n("lost")}</b></div>
					</div>
					<div class="card">
						<table class="cards">
							<thead><tr><th>Worker</th><th>State</th><th>Job</th><th>Engine</th><th class="r">Done</th><th class="r">Preempted</th><th>Last heard</th><th>Since</th><th><span class="sr">Actions</span></th></tr></thead>
							<tbody>
								{list.map((w) => (
									<tr key={w.id} data-row>
										<td data-label="Worker"><b tabIndex={-1}>{w.name || w.id}</b><br /><span class="dim small">{[w.host, labels(w)].filter(Boolean).join(" · ")}</span></td>
										<td data-label="State"><StateTag state={w.state} /></td>
										<td data-label="Job">{w.job ? <a href={`/jobs/${encodeURIComponent(w.job)}`}>{jobName(splitJob(w.job))}</a> : <span class="dim">–</span>}</td>
										<td data-label="Engine"><span class="num">{w.engine ?? "–"}</span><br /><span class="dim small num">{[w.threads ? `${w.threads} threads` : "", w.memory_bytes ? fmtBytes(w.memory_bytes) : "", w.code ?? ""].filter(Boolean).join(" · ")}</span></td>
										<td data-label="Done" class="r num">{fmtInt(w.jobs_done ?? 0)}</td>
										<td data-label="Preempted" class="r num">{fmtInt(w.preemptions ?? 0)}</td>
										<td data-label="Last heard" class="num"><Age t={w.last_beat_at} /></td>
										<td data-label="Since"><Time t={w.started_at} /></td>
										<td class="r">{(w.state === "busy" || w.state === "idle") && <button class="btn small" disabled={!may("operator")} title={may("operator") ? undefined : "Needs the operator role"} onClick={() => drain(w)}>Drain…</button>}</td>
									</tr>
								))}
							</tbody>
						</table>
					</div>
					<details class="more"><summary>Add a worker</summary><Join /></details>
				</>
			)}
		</>
	);
}
