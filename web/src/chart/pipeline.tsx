/** The stage chain of a run, one line an iteration; each step links to its jobs. */
import { Glyph } from "../ui/bits";
import { jobsIn, stageShare } from "../lib/eta";
import { fmtCount, fmtDuration, fmtInt } from "../lib/fmt";
import { lookOf, stageWord, STAGES } from "../lib/states";
import type { StageInfo } from "../lib/types";

export function byIteration(stages: StageInfo[] | undefined): [number, StageInfo[]][] {
	const m = new Map<number, StageInfo[]>();
	for (const s of stages ?? []) {
		const list = m.get(s.iter) ?? [];
		list.push(s);
		m.set(s.iter, list);
	}
	const rank = (s: string): number => (STAGES.indexOf(s) + STAGES.length) % STAGES.length;
	for (const l of m.values()) l.sort((a, b) => rank(a.stage) - rank(b.stage));
	return [...m.entries()].sort((a, b) => a[0] - b[0]);
}

/** "4.2k tok/s", or nothing for stages that count no tokens. */
function speedOf(s: StageInfo): string {
	return s.tokens_per_s ? `${fmtCount(s.tokens_per_s)} tok/s` : "";
}

function stageLine(s: StageInfo): string {
	const n = jobsIn(s);
	if (s.state === "done") return [s.seconds ? fmtDuration(s.seconds) : `${fmtInt(n)} ${n === 1 ? "job" : "jobs"}`, speedOf(s)].filter(Boolean).join(" · ");
	const done = s.counts?.done ?? 0;
	if (n > 1) return `${done} / ${Math.max(n, s.planned ?? 0)} jobs${s.state === "running" ? ` · ${Math.floor(100 * stageShare(s))} %` : ""}`;
	if (s.total_units) return `${fmtInt(s.done_units ?? 0)} / ${fmtInt(s.total_units)} ${s.unit ?? ""}`;
	return n === 1 ? "1 job" : s.planned ? `≈ ${s.planned} ${s.planned === 1 ? "job" : "jobs"}` : "planned later";
}

/** The arrow keys walk the steps: along a line, and to the same place of the next. */
function walk(e: KeyboardEvent): void {
	const here = (e.target as Element).closest<HTMLElement>("a.step");
	const lines = [...(e.currentTarget as Element).querySelectorAll(".pipe-line")].map((l) => [...l.querySelectorAll<HTMLElement>("a.step")]);
	const y = lines.findIndex((l) => here && l.includes(here));
	const x = lines[y]?.indexOf(here!) ?? -1;
	const step: Record<string, [number, number]> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
	const by = step[e.key];
	if (!by || x < 0) return;
	const line = lines[y + by[1]];
	const to = line?.[by[1] ? Math.min(x, line.length - 1) : x + by[0]];
	if (!to) return;
	e.preventDefault();
	to.focus();
}

export function Pipeline({ stages, href }: { stages: StageInfo[] | undefined; href: (iter: number, stage: string) => string }) {
	const lines = byIteration(stages);
	if (!lines.length) return <p class="dim">The plan has not been made yet.</p>;
	return (
		<div class="pipe" onKeyDown={walk}>
			{lines.map(([iter, list]) => (
				<div class="pipe-line" key={iter}>
					<h3>{iter === 0 ? "Seed" : <><span class="dim">M{iter} → </span>M{iter + 1}</>}</h3>
					<ol>
						{list.map((s) => {
							const l = lookOf(s.state);
							const failed = s.counts?.failed ?? 0;
							return (
								<li key={s.stage}>
									<a class={`step tone-${l.tone}`} href={href(s.iter, s.stage)} title={`${stageWord(s.stage)}: ${l.word}`}>
										<span class="step-top"><Glyph shape={l.shape} /><b>{stageWord(s.stage)}</b><span class="sr">{l.word}</span></span>
										<span class="step-sub num">{stageLine(s)}</span>
										<span class="step-fill" aria-hidden="true"><i style={{ width: `${100 * stageShare(s)}%` }} /></span>
										{failed > 0 && <span class="step-bad">{failed} failed</span>}
									</a>
								</li>
							);
						})}
					</ol>
				</div>
			))}
		</div>
	);
}

/** The same chain as a thin strip, for lists. */
export function Strip({ stages }: { stages: StageInfo[] | undefined }) {
	const lines = byIteration(stages);
	return (
		<span class="strip" role="img" aria-label={lines.map(([i, l]) => `iteration ${i}: ${l.map((s) => `${s.stage} ${lookOf(s.state).word}`).join(", ")}`).join("; ")}>
			{lines.map(([iter, l]) => (
				<span key={iter} class="strip-iter">
					{l.map((s) => (
						<i key={s.stage} class={`tone-${lookOf(s.state).tone}`} title={`${iter ? `iteration ${iter} ` : ""}${stageWord(s.stage)}: ${lookOf(s.state).word}`}>
							<b style={{ width: `${100 * stageShare(s)}%` }} />
						</i>
					))}
				</span>
			))}
		</span>
	);
}
