/** A run as a page of Markdown, to paste where people talk of it. Pure. */
import { fmtDuration, fmtInt, fmtMoney, fmtNum, fmtPct, fmtTime, ms } from "./fmt";
import { lookOf } from "./states";
import type { Run } from "./types";

const cell = (text: string): string => text.replaceAll("|", "\\|").replaceAll("\n", " ");

/** Figures that every model has or may have, in the order people ask for them. */
const FIGURES: [string, string, (v: number) => string][] = [
	["truth.greedy_accuracy", "answers right", fmtPct], ["rm.pairwise_accuracy", "pairs judged right", fmtPct], ["length.greedy", "tokens", (v) => fmtNum(v, 3)],
];

function models(run: Run): string[] {
	const list = (run.models ?? []).filter((m) => m.metrics && Object.keys(m.metrics).length);
	const rows = FIGURES.filter(([k]) => list.some((m) => typeof m.metrics?.[k] === "number"));
	if (!list.length || !rows.length) return [];
	return ["", `| model | ${rows.map(([, word]) => word).join(" | ")} |`, `|---|${rows.map(() => "---:").join("|")}|`,
		...list.map((m) => `| ${cell(m.name)} | ${rows.map(([k, , f]) => (typeof m.metrics?.[k] === "number" ? f(m.metrics[k] as number) : "–")).join(" | ")} |`)];
}

export function report(run: Run, now: number, address: string): string {
	const start = ms(run.created_at);
	const worked = (run.useful_s ?? 0) + (run.lost_s ?? 0);
	const paid = (run.useful_cost ?? 0) + (run.lost_cost ?? 0);
	return [
		`## ${run.name || run.id}: ${lookOf(run.state).word}`,
		"",
		`- run ${run.id}, ${address}`,
		`- ${fmtInt(run.progress?.jobs_done ?? 0)} of ${fmtInt(run.progress?.jobs_total ?? 0)} jobs done`,
		...(start === null ? [] : [`- submitted ${fmtTime(start, true)}, ${fmtDuration(((ms(run.ended_at) ?? now) - start) / 1000)} ${run.ended_at ? "to its end" : "until now"}`]),
		...(worked > 0 ? [`- ${fmtDuration(worked)} of work, ${fmtPct((run.useful_s ?? 0) / worked)} of it useful`] : []),
		...(paid > 0 ? [`- ${fmtMoney(paid)}, ${fmtMoney(run.lost_cost ?? 0)} of it lost to preemption`] : []),
		...(run.final_digest ? [`- final checkpoint \`${run.final_digest}\``] : []),
		...(run.notes ? ["", ...run.notes.split("\n").map((l) => `> ${l}`)] : []),
		...models(run),
		"",
	].join("\n");
}
