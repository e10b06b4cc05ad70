/** The line of figures under a run's name: progress, end with its range, work kept and lost, cost.
 * What changes together is one text: the second of two would move when the first gets wider. */
import { Bar, Fact } from "../ui/bits";
import { eta, whenText } from "../lib/eta";
import { fmtClock, fmtDuration, fmtInt, fmtMoney, fmtPct, fmtTime, ms, serverNow, shortHash, tick } from "../lib/fmt";
import { useQuery } from "../lib/query";
import { lookOf, runEnded } from "../lib/states";
import type { List, Run, Worker } from "../lib/types";
import type { Attempt } from "../lib/wire";
import { share } from "./overview";

function Ends({ run, attempts, alive }: { run: Run; attempts: Attempt[]; alive: number | undefined }) {
	const now = serverNow();
	const e = eta(run, now, attempts, alive);
	if (e.at === null || e.seconds === null) {
		const s = e.stage;
		return <><span>{e.why || "–"}</span>{s && <span class="dim num">{`${s.name}: ${fmtDuration(s.span.low)} to ${fmtDuration(s.span.high)} left`}</span>}</>;
	}
	const wide = e.span && e.span.high - e.span.low > 0.05 * e.seconds + 5;
	const clock = (t: number): string => whenText(now + t * 1000, e.seconds!);
	return (
		<>
			<span class="num">{clock(e.seconds)}</span>
			<span class="dim num" title="From the slow and the quick tenth of five-minute rates, gaps of preemption included">{`${fmtDuration(e.seconds)} left${wide ? `, ${clock(e.span!.low)} to ${clock(e.span!.high)}` : ""}`}</span>
		</>
	);
}

/** Time workers gave: kept in results and checkpoints, lost with its attempt, still in hand. */
export function split(run: Run, attempts: Attempt[], now: number): { kept: number; lost: number; hand: number } {
	const hand = attempts.filter((a) => a.end === null).reduce((t, a) => t + Math.max(0, now - a.start) / 1000, 0);
	if (run.useful_s !== undefined || run.lost_s !== undefined) return { kept: run.useful_s ?? 0, lost: run.lost_s ?? 0, hand };
	const ended = attempts.filter((a) => a.end !== null);
	const took = (a: Attempt): number => (a.end! - a.start) / 1000;
	return {
		kept: ended.reduce((t, a) => t + (a.useful !== null ? a.useful / 1000 : a.how === "completed" ? took(a) : 0), 0),
		lost: ended.reduce((t, a) => t + (a.lost !== null ? a.lost / 1000 : a.how === "completed" ? 0 : took(a)), 0),
		hand,
	};
}

function Effort({ run, attempts }: { run: Run; attempts: Attempt[] }) {
	const e = split(run, attempts, serverNow());
	const all = e.kept + e.lost + e.hand;
	const settled = e.kept + e.lost;
	const money = (run.useful_cost ?? 0) + (run.lost_cost ?? 0);
	const cut = attempts.filter((a) => a.how === "preempted" || a.how === "lease_lost").length;
	if (!all) return null;
	const words = `${fmtDuration(e.kept)} kept, ${fmtDuration(e.lost)} lost, ${fmtDuration(e.hand)} in hand`;
	const cut1 = (100 * e.kept) / all;
	const cut2 = (100 * settled) / all;
	return (
		<>
			<Fact name="Worker time" title={words}>
				<span class="num">{fmtDuration(all)} <span class="split" role="img" aria-label={words} style={{ background: `linear-gradient(90deg, var(--ok-fill) ${cut1}%, var(--warn-fill) ${cut1}% ${cut2}%, var(--run-fill) ${cut2}%)` }} /></span>
				{settled > 0 && <span class="dim num">{`${fmtPct(e.kept / settled, e.kept / settled > 0.98 ? 1 : 0)} useful`}</span>}
			</Fact>
			{money > 0 && <Fact name="Cost so far" title="Ended attempts at the price their worker was registered with"><span class="num">{fmtMoney(money)}</span><span class={`num ${run.lost_cost ? "warn" : "dim"}`}>{`${fmtMoney(run.lost_cost ?? 0)} lost`}</span></Fact>}
			<Fact name="Cut short" title={`${cut} attempts ended by preemption or a lost lease; ${fmtDuration(e.lost)} of work was lost with them`}><span class="num">{fmtInt(cut)}</span>{cut > 0 && <span class="dim num">{`${fmtDuration(e.lost)} lost`}</span>}</Fact>
		</>
	);
}

export function RunFacts({ run, attempts }: { run: Run; attempts: Attempt[] }) {
	void tick.value;
	const ended = runEnded(run.state);
	const workers = useQuery<List<Worker>>(ended ? null : "/workers", { topics: ["workers"], on: (e) => e.type === "worker" });
	const alive = workers.data?.items.filter((w) => w.state === "busy" || w.state === "idle" || w.state === "draining").length;
	const start = ms(run.created_at);
	const end = ms(run.ended_at) ?? serverNow();
	return (
		<dl class="facts even">
			<Fact name="Progress">
				<span class="num">{`${fmtInt(run.progress?.jobs_done ?? 0)} / ${fmtInt(run.progress?.jobs_total ?? 0)} jobs`}</span>
				<Bar value={share(run)} tone={lookOf(run.state).tone} label="jobs done" />
			</Fact>
			<Fact name={ended ? "Took" : "Running for"}><span class="num">{start === null ? "–" : fmtDuration((end - start) / 1000)}</span>{start !== null && <span class="dim num">{`since ${ended ? fmtTime(start).slice(0, 16) : fmtClock(start, false)}`}</span>}</Fact>
			{!ended && <Fact name="Ends"><Ends run={run} attempts={attempts} alive={alive} /></Fact>}
			<Effort run={run} attempts={attempts} />
			{run.final_digest && <Fact name="Final checkpoint"><a href={`/checkpoints/${run.final_digest}`}><code>{shortHash(run.final_digest)}</code></a></Fact>}
		</dl>
	);
}
