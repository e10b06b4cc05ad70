/** Where a new run starts from: a preset, another run, or a specification as JSON. */
import { useState } from "preact/hooks";
import { problemText } from "../lib/api";
import { PRESETS } from "../lib/estimate";
import { textsOf, type FormInfo, type Texts } from "../lib/form";
import { useQuery } from "../lib/query";
import { go } from "../lib/router";
import type { Json, List, Run } from "../lib/types";

interface Props { form: FormInfo; from: string; json: string; put: (texts: Texts) => void; keep: Texts }

/** What a preset says nothing of stays as typed: the name, the model, the data. */
const OWN = /^\/(name|notes|base_model|data\/)/;

function JsonBox({ form, json, put }: Props) {
	const [text, setText] = useState<string | null>(null);
	const [error, setError] = useState("");
	const take = (): void => {
		try {
			const spec = JSON.parse(text ?? json) as Json;
			if (spec === null || typeof spec !== "object" || Array.isArray(spec)) throw new Error("expected an object of settings");
			put(textsOf(form, spec));
			setText(null);
			setError("");
		} catch (e) {
			setError(problemText(e));
		}
	};
	return (
		<details class="more">
			<summary>As JSON</summary>
			<div class="pad-x"><textarea class="json" rows={10} spellcheck={false} aria-label="The specification as JSON" value={text ?? json} onInput={(e) => setText(e.currentTarget.value)} />
			{error && <p class="field-error" role="alert">{error}</p>}
			<div class="row"><button type="button" class="btn small" disabled={text === null} onClick={take}>Take into the form</button>{text !== null && <button type="button" class="btn small" onClick={() => { setText(null); setError(""); }}>As it was</button>}<span class="dim small">Only what differs from the defaults. Settings the form does not know are left out.</span></div></div>
		</details>
	);
}

export function Start(p: Props) {
	const runs = useQuery<List<Run>>("/runs?limit=50", { every: 0 });
	const [about, setAbout] = useState("");
	const preset = (key: string): void => {
		const x = PRESETS.find((q) => q.key === key);
		if (!x) return;
		setAbout(x.about);
		p.put({ ...Object.fromEntries(Object.entries(p.keep).filter(([k]) => OWN.test(k))), ...textsOf(p.form, x.spec as Json) });
	};
	return (
		<section class="card form-section" id="s-start">
			<header class="card-head"><h2>Start from</h2></header>
			<div class="pad">
				<div class="row wrap tools">
					<div class="chips" role="group" aria-label="Preset">{PRESETS.map((x) => <button type="button" key={x.key} class="chip" aria-pressed={about === x.about} onClick={() => preset(x.key)}>{x.title}</button>)}</div>
					<label class="inline">a run <select value={p.from} onChange={(e) => go(`/runs/new${e.currentTarget.value ? `?from=${encodeURIComponent(e.currentTarget.value)}` : ""}`)}>
						<option value="">none</option>
						{(runs.data?.items ?? []).map((r) => <option key={r.id} value={r.id}>{r.name || r.id}</option>)}
					</select></label>
				</div>
				{about && <p class="dim">{about}</p>}
			</div>
			<JsonBox {...p} />
		</section>
	);
}
