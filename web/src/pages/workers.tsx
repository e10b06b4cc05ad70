/** The fleet: who is here, what each does, how long since it was heard; drain. */
import { useState } from "preact/hooks";
import { Age, Command, Empty, ErrorCard, Skeleton, StateTag } from "../ui/bits";
import { CopyAs } from "../ui/copy_as";
import { ask } from "../ui/dialog";
import { say } from "../ui/toast";
import { may, problemText, send, session } from "../lib/api";
import { cliOf } from "../lib/commands";
import { fmtBytes, fmtDuration, fmtInt, fmtMoney, fmtTime, ms, serverNow } from "../lib/fmt";
import { useQuery } from "../lib/query";
import { splitJob } from "../lib/wire";
import { jobName } from "./run_jobs";
import { Gpus } from "./worker_gpus";
import type { List, Worker } from "../lib/types";

function labels(w: Worker): string {
	const l = w.labels;
	if (!l) return "";
	if (typeof l === "string") return l;
	if (Array.isArray(l)) return l.join(", ");
	return Object.entries(l).map(([k, v]) => `${k}=${v}`).join(", ");
}

/** A token that a worker may be started with, made on the spot. */
function JoinToken() {
	const [secret, setSecret] = useState("");
	if (!may("admin")) return null;
	if (secret) return <div class="note"><p><b>Copy it now.</b> It is shown once; put it into <code>worker.token</code>. Settings revoke it.</p><Command text={secret} what="token" /></div>;
	const body = { name: "worker", role: "worker", expires_s: 0 };
	const make = (): void => {
		send<{ token?: string; secret?: string }>("POST", "/tokens", body).then((r) => setSecret(r.token ?? r.secret ?? ""), (e: unknown) => say(problemText(e)));
	};
	return <p class="row wrap"><button class="btn small" onClick={make}>Make a worker token</button><CopyAs cli form={() => ({ method: "POST", path: "/tokens", body, cli: cliOf("token", "create", "worker", "--role", "worker") })} /></p>;
}

const sky = (): string => `# sky jobs launch -n worker worker.yaml   (once for each worker)
resources: {accelerators: H100:1, use_spot: true}
file_mounts: {~/worker.token: ./worker.token}
run: pawl-worker --server ${location.origin} --token-file ~/worker.token`;

function Join() {
	return (
		<>
			<p>A worker needs this address and the worker token (<code>tokens/worker</code> in the server's data folder). It may vanish at any second: the job goes to the next worker.</p>
			<Command text={`pawl-worker --server ${location.origin} --token-file worker.token`} />
			<Command text={`docker run --gpus all -v $PWD/worker.token:/run/token:ro pawl-worker --server ${location.origin} --token-file /run/token`} />
			<Command text={sky()} what="SkyPilot task" />
			<JoinToken />
			<p class="dim">With <code>--price-per-hour</code> runs know what they cost, and what preemption cost them.</p>
		</>
	);
}

export function Workers() {
	const q = useQuery<List<Worker>>("/workers", { topics: ["workers"], on: (e) => e.type === "worker", every: 10_000 });
	const list = q.data?.items ?? [];
	const n = (s: string): number => list.filter((w) => w.state === s).length;
	const rest = (w: Worker, verb: "drain" | "cordon"): void => {
		const job = w.job ? <code>{w.job}</code> : null;
		const form = { method: "POST" as const, path: `/workers/${encodeURIComponent(w.id)}/${verb}`, cli: cliOf("worker", verb, w.id) };
		ask({
			title: `${verb === "drain" ? "Drain" : "Cordon"} ${w.name}?`,
			body: verb === "drain"
				? <p>{job ? <>It saves what it has done of {job}, hands that back to the queue</> : "It has no job"} and leaves. No attempt is burnt; to have it back, start it again.</p>
				: <p>{job ? <>It finishes {job}, then</> : "It"} gets no job until somebody lets it take jobs again.</p>,
			yes: verb === "drain" ? "Drain" : "Cordon",
			cli: true,
			form: () => form,
			act: async () => {
				await send("POST", form.path);
				say(`${w.name} is ${verb === "drain" ? "draining" : "cordoned"}`);
				q.reload();
			},
		});
	};
	const again = (w: Worker): void => {
		send("POST", `/workers/${encodeURIComponent(w.id)}/resume`).then(() => { say(`${w.name} takes jobs again`); q.reload(); }, (e: unknown) => say(problemText(e)));
	};
	const s = session.value;
	const old = (w: Worker): boolean => !!s && !!s.version && !!w.code && w.code !== s.version;
	const price = list.reduce((t, w) => t + (w.state === "lost" || w.state === "gone" ? 0 : (w.price_per_hour ?? 0)), 0);
	const locked = may("operator") ? undefined : "Needs the operator role";
	return (
		<>
			<div class="page-head"><h1>Workers</h1></div>
			{q.error !== undefined && !q.data && <ErrorCard error={q.error} retry={q.reload} />}
			{q.loading ? <Skeleton /> : list.length === 0 ? q.data && <Empty title="No worker has registered yet"><Join /></Empty> : (
				<>
					<div class="tiles">
						<div class="tile"><span>Busy</span><b class="num">{n("busy")}<small> / {n("busy") + n("idle") + n("draining") + n("cordoned")}</small></b></div>
						<div class="tile"><span>Draining</span><b class="num">{n("draining")}</b></div>
						{n("cordoned") > 0 && <div class="tile"><span>Cordoned</span><b class="num">{n("cordoned")}</b></div>}
						<div class="tile"><span>Preemptions</span><b class="num">{fmtInt(list.reduce((t, w) => t + (w.preemptions ?? 0), 0))}</b></div>
						{price > 0 && <div class="tile"><span>Price an hour</span><b class="num">{fmtMoney(price)}</b></div>}
						{n("unhealthy") > 0 && <div class="tile"><span>Unhealthy</span><b class="num bad">{n("unhealthy")}</b></div>}
						<div class="tile"><span>Lost</span><b class={`num ${n("lost") ? "bad" : ""}`}>{n("lost")}</b></div>
					</div>
					<div class="card table-scroll" tabIndex={0} role="region" aria-label="Workers">
						<table class="cards fleet">
							<thead><tr><th>Worker</th><th>State</th><th>Job</th><th>Engine</th><th>GPU</th><th class="r">Done</th><th class="r">Preempted</th><th>Last heard</th><th>Up</th><th><span class="sr">Actions</span></th></tr></thead>
							<tbody>
								{list.map((w) => (
									<tr key={w.id} data-row>
										<td data-label="Worker"><b tabIndex={-1}>{w.name || w.id}</b><br /><span class="dim small">{[w.host, labels(w)].filter(Boolean).join(" · ")}</span></td>
										<td data-label="State"><StateTag state={w.state} />{w.unhealthy && <><br /><span class="small bad">{w.unhealthy}</span></>}</td>
										<td data-label="Job" class="nowrap">{w.job ? <a href={`/jobs/${encodeURIComponent(w.job)}`}>{jobName(splitJob(w.job))}</a> : <span class="dim">–</span>}</td>
										<td data-label="Engine"><span class="num">{w.engine ?? "–"}</span><br /><span class="dim small num">{[w.threads ? `${w.threads} threads` : "", w.memory_bytes ? fmtBytes(w.memory_bytes) : "", w.price_per_hour ? `${fmtMoney(w.price_per_hour)} an hour` : ""].filter(Boolean).join(" · ")} <span class={old(w) ? "warn" : ""} title={old(w) ? `The server is ${s && s.version}` : undefined}>{old(w) ? "▲ " : ""}{w.code}</span></span></td>
										<td data-label="GPU"><Gpus key={w.job} worker={w} /></td>
										<td data-label="Done" class="r num">{fmtInt(w.jobs_done ?? 0)}</td>
										<td data-label="Preempted" class="r num">{fmtInt(w.preemptions ?? 0)}</td>
										<td data-label="Last heard" class="num nowrap"><Age t={w.last_beat_at} /></td>
										<td data-label="Up" class="num nowrap" title={fmtTime(w.started_at, true)}>{fmtDuration((serverNow() - (ms(w.started_at) ?? serverNow())) / 1000)}</td>
										<td class="r"><span class="row wrap acts">
											{(w.state === "busy" || w.state === "idle") && <button class="btn small" disabled={!!locked} title={locked} onClick={() => rest(w, "cordon")}>Cordon…</button>}
											{(w.state === "draining" || w.state === "cordoned") && <button class="btn small" disabled={!!locked} title={locked} onClick={() => again(w)}>Take jobs</button>}
											{(w.state === "busy" || w.state === "idle" || w.state === "cordoned") && <button class="btn small" disabled={!!locked} title={locked} onClick={() => rest(w, "drain")}>Drain…</button>}
										</span></td>
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
