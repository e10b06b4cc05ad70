/** What people wrote about a run: a star, tags, notes. Changed only as it was read: the server compares revisions. */
import { useState } from "preact/hooks";
import { Glyph } from "../ui/bits";
import { CopyAs } from "../ui/copy_as";
import { say } from "../ui/toast";
import { ApiError, may, problemText, send } from "../lib/api";
import { cliOf } from "../lib/commands";
import { tagsOf, wrongTags } from "../lib/tags";
import type { Run } from "../lib/types";

const NOTES_BYTES = 4096;

async function write(run: Run, change: { notes?: string; tags?: string[]; starred?: boolean }, match = run.revision): Promise<void> {
	await send<Run>("PATCH", `/runs/${encodeURIComponent(run.id)}`, change, { match });
}

export function Star({ run, done }: { run: Run; done: () => void }) {
	if (!may("operator")) return run.starred ? <span class="star on" title="starred"><Glyph shape="star" /></span> : null;
	const flip = (): void => {
		write(run, { starred: !run.starred }).catch((e: unknown) => say(problemText(e))).finally(done);
	};
	return <button class={`icon-btn star ${run.starred ? "on" : ""}`} aria-pressed={run.starred} aria-label={`Star ${run.name || run.id}`} title={run.starred ? "Starred; press to unstar" : "Star"} onClick={flip}><Glyph shape="star" /></button>;
}

export function Tags({ tags }: { tags: string[] | undefined }) {
	if (!tags?.length) return null;
	return <span class="tags">{tags.map((t) => <a key={t} class="tag" href={`/runs?tag=${encodeURIComponent(t)}`}>{t}</a>)}</span>;
}

function Editor({ run, close }: { run: Run; close: (changed: boolean) => void }) {
	const [notes, setNotes] = useState(run.notes);
	const [tags, setTags] = useState((run.tags ?? []).join(", "));
	const [read, setRead] = useState(run.revision); // of what stands in the fields, while the run goes on
	const [error, setError] = useState("");
	const submit = async (e: Event): Promise<void> => {
		e.preventDefault();
		const list = tagsOf(tags);
		const wrong = wrongTags(list);
		if (wrong) return setError(wrong);
		try {
			await write(run, { notes, tags: list }, read);
			close(true);
		} catch (x) {
			setRead(run.revision);
			setError(x instanceof ApiError && x.status === 412 ? "The run changed meanwhile. What you wrote is still here: look at the run, then save again." : problemText(x));
		}
	};
	return (
		<form class="card pad notes-form" onSubmit={submit}>
			<label>Notes <textarea rows={4} maxLength={NOTES_BYTES} value={notes} onInput={(e) => setNotes(e.currentTarget.value)} /></label>
			<label>Tags, with commas between <input value={tags} onInput={(e) => setTags(e.currentTarget.value)} /></label>
			{error && <p class="field-error" role="alert">{error}</p>}
			<div class="row end wrap"><CopyAs cli form={() => ({ method: "PATCH", path: `/runs/${encodeURIComponent(run.id)}`, body: { notes, tags: tagsOf(tags) }, match: read, cli: [cliOf("run", "note", run.id, notes), ...(tags ? [cliOf("run", "tag", run.id, ...tagsOf(tags).flatMap((t) => ["--add", t]))] : [])].join("\n") })} /><button type="button" class="btn" onClick={() => close(false)}>Go back</button><button class="btn primary">Save</button></div>
		</form>
	);
}

export function Notes({ run, done }: { run: Run; done: () => void }) {
	const [open, setOpen] = useState(false);
	const close = (changed: boolean): void => {
		setOpen(false);
		if (changed) done();
	};
	if (open) return <Editor run={run} close={close} />;
	const any = !!run.notes || !!run.tags?.length;
	if (!any && !may("operator")) return null;
	return (
		<div class="notes">
			{run.notes && <p class="notes-text">{run.notes}</p>}
			<Tags tags={run.tags} />
			{may("operator") && <button class="link-btn" onClick={() => setOpen(true)}>{any ? "Edit notes and tags" : "Add notes or tags"}</button>}
		</div>
	);
}
