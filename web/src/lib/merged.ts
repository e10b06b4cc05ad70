/** Lines of many logs as one, by time: pages put together, each line once. Pure. */
import type { LogLine } from "./schema";

export const lineKey = (l: LogLine): string => `${l.job}/${l.attempt}/${l.offset}`;

/** What a page adds to what is known, in order of time; lines of one log never change places. */
export function mergeLines(have: LogLine[], page: LogLine[]): LogLine[] {
	const known = new Set(have.map(lineKey));
	const fresh = page.filter((l) => !known.has(lineKey(l)));
	if (!fresh.length) return have;
	const all = [...have, ...fresh];
	const at = new Map(all.map((l, i) => [l, [Date.parse(l.at ?? "") || 0, i] as const]));
	return all.sort((a, b) => {
		if (a.job === b.job && a.attempt === b.attempt) return a.offset - b.offset;
		const [x, y] = [at.get(a)!, at.get(b)!];
		return x[0] - y[0] || x[1] - y[1];
	});
}
