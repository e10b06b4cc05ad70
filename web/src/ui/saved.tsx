/** Filters with a name, kept by the server for the person at the page: choose one, save what the address says, drop one. */
import { useState } from "preact/hooks";
import { problemText } from "../lib/api";
import { dropFilter, filterOf, filterPath, saveFilter, type Page } from "../lib/filters";
import { useQuery } from "../lib/query";
import { place } from "../lib/router";
import type { Filter } from "../lib/schema";
import type { List } from "../lib/types";
import { CopyAs } from "./copy_as";
import { say } from "./toast";

const NAME_MOST = 64;

function SaveForm({ page, now, done }: { page: Page; now: string; done: () => void }) {
	const [name, setName] = useState("");
	const [error, setError] = useState("");
	const submit = (e: Event): void => {
		e.preventDefault();
		const n = name.trim();
		if (!n) return;
		saveFilter(page, n, now).then(() => { setName(""); setError(""); say(`Saved “${n}”`); done(); }, (x: unknown) => setError(problemText(x)));
	};
	return (
		<form class="saved-form" onSubmit={submit}>
			<label>Save this filter as <input value={name} maxLength={NAME_MOST} required onInput={(e) => setName(e.currentTarget.value)} /></label>
			{error && <p class="field-error" role="alert">{error}</p>}
			<span class="row"><button class="btn small primary">Save</button><CopyAs form={() => ({ method: "PUT", path: filterPath(name || "NAME"), body: { page, query: now } })} /></span>
		</form>
	);
}

export function SavedFilters({ page }: { page: Page }) {
	const q = useQuery<List<Filter>>(`/filters?page=${page}`, { every: 0 });
	const now = filterOf(place.value.query);
	const list = q.data?.items ?? [];
	const on = list.find((f) => f.query === now);
	const drop = (f: Filter): void => {
		dropFilter(f).then(() => say(`“${f.name}” is no longer saved`), (e: unknown) => say(problemText(e))).finally(q.reload);
	};
	return (
		<details class="menu saved">
			<summary class="btn small" aria-label={on ? `Saved filters, now ${on.name}` : "Saved filters"}>{on ? on.name : "Saved filters"} <span aria-hidden="true">▾</span></summary>
			<div class="menu-box">
				{q.error !== undefined && !q.data ? <p class="field-error">{problemText(q.error)}</p> : list.length ? (
					<ul class="saved-list">{list.map((f) => (
						<li key={f.name}><a href={`${place.value.path}?${f.query}`} aria-current={f === on ? "true" : undefined} onClick={(e) => e.currentTarget.closest("details")?.removeAttribute("open")}>{f.name}</a><button class="icon-btn" aria-label={`Delete the saved filter ${f.name}`} title="Delete" onClick={() => drop(f)}>✕</button></li>
					))}</ul>
				) : <p class="dim small">{now ? "None saved yet." : "None saved yet. Set a filter, then give it a name here."}</p>}
				{now !== "" && !on && <SaveForm page={page} now={now} done={q.reload} />}
			</div>
		</details>
	);
}
