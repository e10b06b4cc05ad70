/** Checkpoints of every run, and one in detail: lineage, figures, how to take it away; what will go. */
import { useState } from "preact/hooks";
import { Card, Command, Empty, ErrorCard, Fact, Hash, Skeleton, Time } from "../ui/bits";
import { ask } from "../ui/dialog";
import { say } from "../ui/toast";
import { may, send } from "../lib/api";
import { cliOf } from "../lib/commands";
import { archivesOf } from "../lib/archives";
import { fmtBytes, fmtNum, plural } from "../lib/fmt";
import { useQuery } from "../lib/query";
import { hrefWith, qs, query, setQuery } from "../lib/router";
import { stageWord } from "../lib/states";
import type { Adapter, Checkpoint, List, Run } from "../lib/types";
import { CheckpointTable, curlFor, isModel, RunLineage } from "./checkpoint_table";

function adapterWords(a: Adapter): string {
	return `rank ${fmtNum(a.r)}, alpha ${fmtNum(a.alpha)}, beside ${a.targets}`;
}

function contentsOf(c: Checkpoint): string {
	if (!isModel(c))
		return c.meta?.lora
			? "The tar unpacks to the adapter as PEFT writes one (adapter_model.safetensors, adapter_config.json), and the optimizer's state beside it."
			: "The tar unpacks to the optimizer's state: what training goes on from, not a model.";
	return "The tar unpacks to a Hugging Face model directory that transformers, vLLM and llama.cpp load." + (c.meta?.lora ? " The adapter is merged into its weights." : "");
}

/** The server refuses while somebody needs it, and says who. */
function GiveUp({ c, done }: { c: Checkpoint; done: () => void }) {
	if (c.given_up) return null;
	const why = may("admin") ? undefined : "Needs the admin role";
	const path = `/checkpoints/${c.digest}`;
	const go = (): void =>
		ask({
			title: `Delete ${c.name || "this checkpoint"} of ${c.run}?`, yes: "Delete", no: "Keep it", danger: true, typed: c.name || c.digest.slice(0, 10),
			body: <p>{fmtBytes(c.size_bytes)} are put aside within a day and are gone for good three days after that. What was made from it, its figures and its place in the lineage stay.</p>,
			cli: true, form: () => ({ method: "DELETE", path, cli: cliOf("ckpt", "rm", c.digest) }),
			act: async () => {
				await send("DELETE", path);
				say("Given up");
				done();
			},
		});
	return <button class="btn danger-quiet" disabled={!!why} title={why} onClick={go}>Delete…</button>;
}

function Detail({ digest }: { digest: string }) {
	const q = useQuery<Checkpoint>(`/checkpoints/${digest}`, { every: 0 });
	const c = q.data;
	if (!c) return q.error !== undefined ? <ErrorCard error={q.error} retry={q.reload} /> : <Skeleton lines={6} />;
	const figures = Object.entries(c.metrics ?? {}).filter((e): e is [string, number] => typeof e[1] === "number");
	const files = archivesOf(c, `${c.run}-${c.name}`);
	const plain = archivesOf(c, c.name || "model");
	const folder = plain[0]!.file.slice(0, -4);
	return (
		<>
			<nav class="crumbs" aria-label="Breadcrumb"><a href="/checkpoints">Checkpoints</a><span aria-hidden="true">/</span><a href={`/checkpoints?run=${c.run}`}>{c.run}</a></nav>
			<div class="page-head"><h1>{c.name || "Checkpoint"}</h1><div class="actions">{isModel(c) && <a class="btn" href={`/runs/new?base=${encodeURIComponent(`/models/${folder}`)}`} title="A new run that starts from it: unpack it where the workers can read it, and name that folder">Use as base…</a>}<GiveUp c={c} done={q.reload} />{files.length === 1 && <a class="btn primary" href={files[0]!.href} download={files[0]!.file}>Download {fmtBytes(c.size_bytes)}</a>}</div></div>
			{c.given_up && <p class="note warn">It was given up: the collector puts it aside within a day and drops it three days after that. Take it away while it is there.</p>}
			<dl class="facts">
				<Fact name="sha256"><Hash digest={c.digest} n={16} /></Fact>
				<Fact name="Made by"><a href={`/jobs/${encodeURIComponent(c.job)}`}>{stageWord(c.stage)}, {c.iter ? `iteration ${c.iter}` : "seed"}</a></Fact>
				<Fact name="Written"><Time t={c.created_at} age /></Fact>
				<Fact name="Kind">{isModel(c) ? "model" : "training state"}</Fact>
				{c.meta?.lora && <Fact name="Adapter">LoRA, {adapterWords(c.meta.lora)}</Fact>}
			</dl>
			<Card title="Take it away" class="pad-body">
				<p>{contentsOf(c)}</p>
				{files.length > 1 && <p>It comes in {files.length} files, {fmtBytes(c.size_bytes)} in all: {files.map((f) => <><a href={f.href} download={f.file}>{f.file}</a> </>)}</p>}
				<Command text={curlFor({ ...c, name: folder })} />
				<Command text={`${plain.map((f) => `sha256sum ${f.file}   # ${f.digest}`).join("\n")}\nmkdir ${folder}${plain.map((f) => ` && tar xf ${f.file} -C ${folder}`).join("")}`} />
			</Card>
			<div class="two">
				<Card title="Made from">
					{(c.inputs ?? []).length ? <ul class="plain-list pad">{(c.inputs ?? []).map((d) => <li key={d}><Hash digest={d} n={16} /></li>)}</ul> : <p class="dim pad">Nothing of ours: it was imported.</p>}
				</Card>
				<Card title="Figures">
					<table class="kv"><tbody>{figures.map(([k, v]) => <tr key={k}><th scope="row">{k}</th><td class="num">{fmtNum(v)}</td></tr>)}</tbody></table>
					{!figures.length && <p class="dim pad">None recorded.</p>}
				</Card>
			</div>
		</>
	);
}

export function Checkpoints({ digest }: { digest?: string }) {
	const wanted = digest || query("digest");
	if (wanted) return <Detail key={wanted} digest={wanted} />;
	return <CheckpointList />;
}

interface Sum { blobs: number; bytes: number }
interface Garbage { all: Sum; kept: Sum; young: Sum; marked: Sum; trashed: Sum; dropped: Sum; items: { digest: string; size: number; state: string; since_ms: number }[] }

const WHY: Record<string, string> = { marked: "nothing names it; goes when a second look a day later says so too", trashed: "goes to the trash, where it stays three days and comes back when asked for" };

/** What a collection of the store would let go, and why; only an administrator lets it go. */
function Retention() {
	const [open, setOpen] = useState(false);
	const q = useQuery<Garbage>(open && may("operator") ? "/store/garbage" : null, { every: 0 });
	const g = q.data;
	const gone = g ? g.trashed.blobs + g.dropped.blobs : 0;
	const collect = (): void =>
		ask({
			title: `Let go of ${plural(gone, "archive")}?`, yes: "Let go", no: "Keep all", danger: true, cli: true, form: () => ({ method: "POST", path: "/store/garbage", cli: cliOf("ckpt", "gc") }),
			body: <p>{fmtBytes((g?.trashed.bytes ?? 0) + (g?.dropped.bytes ?? 0))} that no run, manifest or job names. What goes to the trash comes back by itself if asked for within three days; what was there longer is gone for good.</p>,
			act: async () => {
				await send("POST", "/store/garbage");
				say("The store was cleaned");
				q.reload();
			},
		});
	const sums: [string, Sum | undefined, string][] = [["kept", g?.kept, "named by a run, a manifest or a job"], ["young", g?.young, "less than a day old"], ["waiting", g?.marked, "for a second look"], ["to the trash", g?.trashed, ""], ["gone for good", g?.dropped, ""]];
	return (
		<details class="more" onToggle={(e) => setOpen(e.currentTarget.open)}>
			<summary>What will be deleted next, and why</summary>
			{!may("operator") ? <p class="dim">Needs the operator role.</p> : !g ? q.error !== undefined ? <ErrorCard error={q.error} retry={q.reload} /> : <Skeleton lines={3} /> : (
				<Card title="Retention" more={<button class="btn small danger-quiet" disabled={!gone || !may("admin")} title={may("admin") ? undefined : "Needs the admin role"} onClick={collect}>Let go…</button>}>
					<dl class="health">{sums.map(([word, s, why]) => <div key={word} title={why}><dt>{word}</dt><dd class="num">{fmtBytes(s?.bytes)}<span class="dim small"> · {s?.blobs}</span></dd></div>)}</dl>
					{g.items.length ? <table class="kv"><tbody>{g.items.slice(0, 50).map((x) => <tr key={x.digest}><th scope="row"><Hash digest={x.digest} /></th><td><span class="num">{fmtBytes(x.size)}</span> <span class="dim">{WHY[x.state] ?? x.state}, since <Time t={x.since_ms} /></span></td></tr>)}</tbody></table>
						: <p class="dim pad">Nothing: everything in the store is named by a run, a manifest or a job. A checkpoint goes only when all that named it is gone.</p>}
				</Card>
			)}
		</details>
	);
}

function CheckpointList() {
	const run = query("run");
	const cursor = query("cursor");
	const runs = useQuery<List<Run>>("/runs?limit=50", { topics: ["runs"], on: (e) => e.type === "run" });
	const q = useQuery<List<Checkpoint>>("/checkpoints" + qs({ run, cursor, limit: 100 }), { topics: ["jobs"], on: (e) => e.type === "job" });
	const models = query("steps") !== "1";
	const items = (q.data?.items ?? []).filter((c) => !models || (c.kind ?? "checkpoint") === "checkpoint").sort((a, b) => (b.created_at ?? "").localeCompare(a.created_at ?? ""));
	return (
		<>
			<div class="page-head"><h1>Checkpoints</h1></div>
			<div class="row wrap tools">
				<label class="inline">Run <select value={run} onChange={(e) => setQuery({ run: e.currentTarget.value, cursor: null })}>
					<option value="">every run</option>
					{(runs.data?.items ?? []).map((r) => <option key={r.id} value={r.id}>{r.name || r.id}</option>)}
				</select></label>
				<label class="check"><input type="checkbox" checked={!models} onChange={(e) => setQuery({ steps: e.currentTarget.checked ? "1" : null })} /> Training state too</label>
			</div>
			{q.error !== undefined && !q.data && <ErrorCard error={q.error} retry={q.reload} />}
			{q.loading ? <Skeleton lines={6} /> : q.data && !items.length ? <Empty title="No checkpoint yet"><p>The first one comes out of the SFT stage; each iteration adds one. They can be downloaded from here and loaded by any Hugging Face tool.</p></Empty> : q.data && (
				<div class={q.previous ? "fading" : ""}>
					{run && <RunLineage run={run} items={q.data.items} />}
					<CheckpointTable items={items} showRun={!run} />
				</div>
			)}
			<Retention />
			<div class="row end">
				{cursor && <a class="btn small" href={hrefWith({ cursor: null })}>Newest</a>}
				{q.data?.next_cursor && <a class="btn small" href={hrefWith({ cursor: q.data.next_cursor })}>More</a>}
			</div>
		</>
	);
}
