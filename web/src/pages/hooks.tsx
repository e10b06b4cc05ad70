/** Webhooks: who is told of what, whether it arrived; the administrator's part of the settings. */
import { useState } from "preact/hooks";
import { Command, ErrorCard, Skeleton, Time } from "../ui/bits";
import { CopyAs } from "../ui/copy_as";
import { ask } from "../ui/dialog";
import { say } from "../ui/toast";
import { problemText, send } from "../lib/api";
import { cliOf } from "../lib/commands";
import { fmtDuration, plural } from "../lib/fmt";
import { useQuery } from "../lib/query";
import type { Delivery, Hook } from "../lib/schema";
import type { List } from "../lib/types";

type Kind = Hook["events"][number];

const KINDS: [Kind, string][] = [["run.done", "run done"], ["run.failed", "run failed"], ["run.cancelled", "run cancelled"], ["run.alarm", "judge not well"], ["job.failed", "job failed"], ["job.stuck", "job without progress"], ["worker.lost", "worker lost"], ["attention.disk", "disk nearly full"], ["attention.workers", "work waits, no worker"]];
const USUAL: Kind[] = ["run.done", "run.failed", "run.alarm", "job.failed"];
const path = (name: string): string => `/hooks/${encodeURIComponent(name)}`;

function NewHook({ done }: { done: () => void }) {
	const [name, setName] = useState("");
	const [url, setUrl] = useState("");
	const [events, setEvents] = useState<Kind[]>(USUAL);
	const [secret, setSecret] = useState("");
	const [error, setError] = useState("");
	const submit = async (e: Event): Promise<void> => {
		e.preventDefault();
		setError("");
		try {
			const h = await send<Hook>("PUT", path(name), { url, events });
			setSecret(h.secret ?? "");
			setName("");
			setUrl("");
			done();
		} catch (x) {
			setError(problemText(x));
		}
	};
	return (
		<>
			<form class="tools" onSubmit={submit}>
				<div class="row wrap">
					<label class="inline">name <input required value={name} maxLength={31} autocomplete="off" onInput={(e) => setName(e.currentTarget.value)} /></label>
					<label class="inline grow">address <input required type="url" class="grow" placeholder="https://example.org/pawl" value={url} maxLength={1023} onInput={(e) => setUrl(e.currentTarget.value)} /></label>
					<button class="btn primary" disabled={!events.length}>Add</button>
					<CopyAs cli form={() => ({ method: "PUT", path: path(name || "NAME"), body: { url, events }, cli: cliOf("hook", "set", name || "NAME", "--url", url, ...events.flatMap((k) => ["--event", k])) })} />
				</div>
				<fieldset class="row wrap kinds">
					<legend class="dim small">Tell it of</legend>
					{KINDS.map(([k, word]) => <label key={k} class="check"><input type="checkbox" checked={events.includes(k)} onChange={(e) => setEvents(e.currentTarget.checked ? [...events, k] : events.filter((x) => x !== k))} /> {word}</label>)}
				</fieldset>
			</form>
			{error && <p class="field-error" role="alert">{error}</p>}
			{secret && <div class="note"><p><b>Copy the secret now.</b> What is sent is signed with it; it is not shown again.</p><Command text={secret} what="secret" /></div>}
		</>
	);
}

function Deliveries({ name }: { name: string }) {
	const q = useQuery<List<Delivery>>(`${path(name)}/deliveries?limit=20`, { every: 10_000 });
	if (!q.data) return q.error !== undefined ? <ErrorCard error={q.error} retry={q.reload} /> : <Skeleton lines={2} />;
	if (!q.data.items.length) return <p class="dim">Nothing was sent in the last three days.</p>;
	return (
		<table class="kv">
			<tbody>{q.data.items.map((d, i) => <tr key={i}><th scope="row"><Time t={d.at} /></th><td>{d.kind} <span class={d.error ? "bad" : "dim"}>{d.error ?? `answered ${d.status}`}</span> <span class="dim num">{fmtDuration(d.ms / 1000)}{d.tries > 1 ? `, ${d.tries} tries` : ""}</span></td></tr>)}</tbody>
		</table>
	);
}

function One({ h, done }: { h: Hook; done: () => void }) {
	const [open, setOpen] = useState(false);
	const act = <T,>(what: Promise<T>, said: (r: T) => string): void => {
		what.then((r) => say(said(r)), (e: unknown) => say(problemText(e))).finally(done);
	};
	const remove = (): void =>
		ask({
			title: `Remove the webhook “${h.name}”?`, yes: "Remove", no: "Keep", danger: true, cli: true,
			form: () => ({ method: "DELETE", path: path(h.name), match: h.revision, cli: cliOf("hook", "delete", h.name) }),
			body: <p>{h.url} is told nothing more{h.waiting ? `; ${plural(h.waiting, "notice")} that wait for it are dropped` : ""}.</p>,
			act: async () => {
				await send("DELETE", path(h.name), undefined, { match: h.revision });
				done();
			},
		});
	return (
		<li class="hook">
			<div class="row wrap">
				<b>{h.name}</b> <code class="wrap-any">{h.url}</code>
				<span class="actions grow-right">
					<button class="btn small" onClick={() => act(send<{ delivered: boolean; error: string | null }>("POST", `${path(h.name)}/test`), (r) => (r.delivered ? "The test notice arrived" : `Not delivered: ${r.error}`))}>Send a test</button>
					{!h.file && <button class="btn small" onClick={() => act(send("PUT", path(h.name), { enabled: !h.enabled }, { match: h.revision }), () => (h.enabled ? "It is told nothing for now" : "It is told again"))}>{h.enabled ? "Pause" : "Resume"}</button>}
					{!h.file && <button class="btn small" onClick={remove}>Remove…</button>}
				</span>
			</div>
			<p class="dim small">{h.events.includes("*") ? "everything" : h.events.map((k) => KINDS.find(([x]) => x === k)?.[1] ?? k).join(", ")}{h.enabled ? "" : " · paused"}{h.waiting ? ` · ${h.waiting} waiting` : ""}{h.file ? " · from the server's file" : ""}</p>
			<details class="more" onToggle={(e) => setOpen(e.currentTarget.open)}><summary>What was sent</summary>{open && <Deliveries name={h.name} />}</details>
		</li>
	);
}

export function Hooks() {
	const q = useQuery<List<Hook>>("/hooks", { every: 0 });
	if (!q.data) return q.error !== undefined ? <ErrorCard error={q.error} retry={q.reload} /> : <Skeleton />;
	return (
		<>
			<NewHook done={q.reload} />
			{q.data.items.length ? <ul>{q.data.items.map((h) => <One key={h.name} h={h} done={q.reload} />)}</ul> : <p class="dim">Nobody is told yet. A webhook gets a signed POST when one of these things happens.</p>}
		</>
	);
}
