/** What the driver says of a worker's GPUs: as of its last beat, and the load over the job at hand. */
import { fmtPct } from "../lib/fmt";
import { gpuTone, gpuWords, gpusOfCurves } from "../lib/gpu";
import { useQuery } from "../lib/query";
import { seriesOf } from "../lib/wire";
import { eventJob } from "../live/client";
import type { Gpu, Worker } from "../lib/types";

const NEWEST = 60;
function Load({ points }: { points: [number, number][] }) {
	const path = points.slice(-NEWEST).map(([, v], i, all) => `${i ? "L" : "M"}${((i * 100) / Math.max(1, all.length - 1)).toFixed(1)} ${(15 - 14 * Math.max(0, Math.min(1, v))).toFixed(1)}`).join("");
	return <svg viewBox="0 0 100 16" preserveAspectRatio="none" role="img" aria-label={`GPU load, last ${points.length} values, now ${fmtPct(points.at(-1)?.[1] ?? 0, 0)}`}><path d={path} /></svg>;
}

function One({ gpu, several, points }: { gpu: Gpu; several: boolean; points: [number, number][] }) {
	return (
		<span class="gpu num" title={gpu.name}>
			<b>{several ? `${gpu.device}: ` : ""}{gpu.load === undefined ? "–" : fmtPct(gpu.load, 0)}</b> {points.length > 0 ? <Load points={points} /> : <span />}
			<span class={`small ${gpuTone(gpu)}`}>{gpuWords(gpu)}</span>
		</span>
	);
}

function WithJob({ worker, job }: { worker: Worker; job: string }) {
	const q = useQuery<unknown>(`/jobs/${encodeURIComponent(job)}/metrics?points=${NEWEST}`, { topics: ["run:" + job.split(".")[0]], on: (e) => e.type === "metric" && eventJob(e) === job, every: 15_000 });
	const points: Record<string, [number, number][]> = seriesOf(q.data, job)[0]?.points ?? {};
	return <List gpus={worker.gpus ?? gpusOfCurves(points)} load={points["gpu/load"] ?? []} waiting={q.data === undefined} />;
}

function List({ gpus, load, waiting }: { gpus: Gpu[]; load: [number, number][]; waiting: boolean }) {
	if (gpus.length === 0) return <span class="dim">{waiting ? "…" : "no GPU figures"}</span>;
	return <>{gpus.map((g, i) => <One key={g.device} gpu={g} several={gpus.length > 1} points={i === 0 ? load : []} />)}</>;
}

export function Gpus({ worker }: { worker: Worker }) {
	if (worker.state === "lost" || worker.state === "gone") return <span class="dim">–</span>;
	if (worker.job) return <WithJob worker={worker} job={worker.job} />;
	return worker.gpus?.length ? <List gpus={worker.gpus} load={[]} waiting={false} /> : <span class="dim">–</span>;
}
