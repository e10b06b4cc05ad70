/** What the runs of one owner may use together, and use; an administrator sets it. */
import { useState } from "preact/hooks";
import { ErrorCard, Skeleton } from "../ui/bits";
import { CopyAs } from "../ui/copy_as";
import { say } from "../ui/toast";
import { may, problemText, send } from "../lib/api";
import { cliOf } from "../lib/commands";
import { fmtInt, fmtNum } from "../lib/fmt";
import { useQuery } from "../lib/query";
import type { Quota } from "../lib/schema";
import type { List } from "../lib/types";

const LIMITS: [keyof Pick<Quota, "runs" | "running" | "gpu_hours">, string][] = [["runs", "open runs"], ["running", "jobs at a time"], ["gpu_hours", "GPU-hours a day"]];
type Limits = Record<(typeof LIMITS)[number][0], string>;

const NONE: Limits = { runs: "", running: "", gpu_hours: "" };
const path = (owner: string): string => `/quotas/${encodeURIComponent(owner)}`;

function bodyOf(l: Limits): Pick<Quota, "runs" | "running" | "gpu_hours"> {
	return { runs: Number(l.runs) || 0, running: Number(l.running) || 0, gpu_hours: Number(l.gpu_hours) || 0 };
}

function cli(owner: string, q: ReturnType<typeof bodyOf>): string {
	const flag = (name: string, v: number): string[] => (v ? [name, String(v)] : []);
	return cliOf("quota", "set", owner || "OWNER", ...flag("--runs", q.runs), ...flag("--running", q.running), ...flag("--gpu-hours", q.gpu_hours));
}

function Change({ list, done }: { list: Quota[]; done: () => void }) {
	const [owner, setOwner] = useState("");
	const [limits, set] = useState<Limits>(NONE);
	const [error, setError] = useState("");
	const there = list.find((q) => q.owner === owner);
	const submit = (e: Event): void => {
		e.preventDefault();
		setError("");
		send("PUT", path(owner), bodyOf(limits), { match: there?.revision }).then(() => { say(`The limits of ${owner} are set`); set(NONE); setOwner(""); done(); }, (x: unknown) => setError(problemText(x)));
	};
	return (
		<>
			<form class="row wrap tools" onSubmit={submit}>
				<label class="inline">owner <input required value={owner} maxLength={63} onInput={(e) => setOwner(e.currentTarget.value)} /></label>
				{LIMITS.map(([k, word]) => <label key={k} class="inline">{word} <input type="number" min={0} step={k === "gpu_hours" ? "any" : 1} class="short num" placeholder={there ? String(there[k] || "") : ""} value={limits[k]} onInput={(e) => set({ ...limits, [k]: e.currentTarget.value })} /></label>)}
				<button class="btn primary">Set</button>
				<CopyAs cli form={() => ({ method: "PUT", path: path(owner || "OWNER"), body: bodyOf(limits), match: there?.revision, cli: cli(owner, bodyOf(limits)) })} />
			</form>
			{error && <p class="field-error" role="alert">{error}</p>}
		</>
	);
}

function Of({ used, most }: { used: number | undefined; most: number }) {
	return <span class={most > 0 && (used ?? 0) >= most ? "warn" : ""}>{fmtNum(used ?? 0)}<span class="dim"> of {most ? fmtInt(most) : "any"}</span></span>;
}

export function Quotas() {
	const q = useQuery<List<Quota>>("/quotas", { every: 0 });
	if (!q.data) return q.error !== undefined ? <ErrorCard error={q.error} retry={q.reload} /> : <Skeleton lines={2} />;
	return (
		<>
			{may("admin") && <Change list={q.data.items} done={q.reload} />}
			{q.data.items.length ? (
				<table class="cards">
					<thead><tr><th>Owner</th>{LIMITS.map(([k, word]) => <th key={k} class="r">{word}</th>)}</tr></thead>
					<tbody>{q.data.items.map((x) => (
						<tr key={x.owner} data-row>
							<td data-label="Owner"><b>{x.owner}</b></td>
							<td data-label="Open runs" class="r num"><Of used={x.used_runs} most={x.runs} /></td>
							<td data-label="Jobs" class="r num"><Of used={x.used_running} most={x.running} /></td>
							<td data-label="GPU-hours" class="r num"><Of used={x.used_gpu_hours} most={x.gpu_hours} /></td>
						</tr>
					))}</tbody>
				</table>
			) : <p class="dim">Nobody is limited: every owner's runs share the workers by class and weight.</p>}
		</>
	);
}
