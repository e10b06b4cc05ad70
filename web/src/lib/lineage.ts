/** Which model came of which, and of what data: models as nodes, step checkpoints folded between them. Pure. */
import type { Checkpoint, Dataset } from "./types";

const MODEL = /^(SFT|base|M\d+)$/i;

export interface ModelNode {
	id: string;
	c: Checkpoint;
	parents: string[];
	data: string[];
	/** Step checkpoints between it and its parents. */
	steps: number;
	/** How many models lead to it. */
	depth: number;
}

export interface DataNode {
	id: string;
	d: Dataset;
	/** The model whose answers it is made of, where that is one of ours. */
	from: string | null;
	/** Of the first model trained on it. */
	depth: number;
}

export interface Lineage {
	models: ModelNode[];
	data: DataNode[];
}

/** Follows inputs back over step checkpoints to models and datasets. */
function origin(c: Checkpoint, by: Map<string, Checkpoint>, sets: Map<string, Dataset>): Pick<ModelNode, "parents" | "data" | "steps"> {
	const out = { parents: [] as string[], data: [] as string[], steps: 0 };
	const seen = new Set([c.digest]);
	const walk = (digests: string[]): void => {
		for (const d of digests) {
			if (seen.has(d)) continue;
			seen.add(d);
			const up = by.get(d);
			if (sets.has(d)) out.data.push(d);
			else if (up && MODEL.test(up.name)) out.parents.push(d);
			else if (up) {
				if (up.kind === "checkpoint" || !up.kind) out.steps++;
				walk(up.inputs);
			}
		}
	};
	walk(c.inputs);
	return out;
}

export function lineage(checkpoints: Checkpoint[], datasets: Dataset[]): Lineage {
	const by = new Map(checkpoints.map((c) => [c.digest, c]));
	const sets = new Map(datasets.map((d) => [d.digest, d]));
	const models = checkpoints
		.filter((c, i) => MODEL.test(c.name) && checkpoints.findIndex((x) => x.digest === c.digest) === i)
		.sort((a, b) => a.iter - b.iter || (a.created_at ?? "").localeCompare(b.created_at ?? "") || a.name.localeCompare(b.name))
		.map((c): ModelNode => ({ id: c.digest, c, ...origin(c, by, sets), depth: 0 }));
	const node = new Map(models.map((m) => [m.id, m]));
	// A reference model is an input too: only the latest parent stands in the line.
	for (const m of models) m.parents = m.parents.filter((p) => !m.parents.some((q) => q !== p && node.get(q)?.parents.includes(p)));
	for (let round = 0; round < models.length; round++) for (const m of models) m.depth = Math.max(0, ...m.parents.map((p) => (node.get(p)?.depth ?? 0) + 1));
	const used = [...new Set(models.flatMap((m) => m.data))];
	const data = used.map((id): DataNode => {
		const users = models.filter((m) => m.data.includes(id));
		const d = sets.get(id)!;
		const first = users.reduce((a, b) => (b.depth < a.depth ? b : a));
		return { id, d, from: d.iter > 0 ? (first.parents[0] ?? null) : null, depth: first.depth };
	});
	return { models, data };
}

/** One sentence a model. */
export function told(m: ModelNode, all: Lineage): string {
	const names = (ids: string[]): string => ids.map((id) => all.models.find((x) => x.id === id)?.c.name ?? id.slice(0, 8)).join(" and ");
	const sets = m.data.map((id) => all.data.find((x) => x.id === id)!.d).map((d) => `${d.role} (${d.rows} rows${d.iter ? `, iteration ${d.iter}` : ""})`);
	return `${m.c.name}: ${m.parents.length ? `from ${names(m.parents)}` : "from the base model"}${sets.length ? `, trained on ${sets.join(" and ")}` : ""}${m.steps ? `, over ${m.steps} step ${m.steps === 1 ? "checkpoint" : "checkpoints"}` : ""}`;
}
