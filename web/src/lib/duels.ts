/** Head to head in both orders: what each order says, and how often they agree. Pure. */
export interface Order { win: number; tie: number; loss: number; n: number }

export interface Duels {
	/** Our answer shown first, then second; ours wins where the judge names its letter. */
	first: Order;
	second: Order;
	/** Prompts judged readably in both orders, and those with the same verdict in both. */
	both: number;
	same: number;
}

function count(verdicts: unknown[], ours: string): Order {
	const o = { win: 0, tie: 0, loss: 0, n: 0 };
	for (const v of verdicts) {
		if (v !== "a" && v !== "b" && v !== "tie") continue;
		o.n++;
		if (v === "tie") o.tie++;
		else if (v === ours) o.win++;
		else o.loss++;
	}
	return o;
}

const FLIPPED: Record<string, string> = { a: "b", b: "a", tie: "tie" };

export function duelsOf(rows: unknown[]): Duels | null {
	const list = rows.map((r) => (((r as { row?: unknown }).row ?? r) ?? {}) as { forward?: unknown; backward?: unknown });
	if (!list.some((r) => r.forward !== undefined)) return null;
	const readable = list.filter((r) => FLIPPED[String(r.forward)] && FLIPPED[String(r.backward)]);
	return {
		first: count(list.map((r) => r.forward), "a"),
		second: count(list.map((r) => r.backward), "b"),
		both: readable.length,
		same: readable.filter((r) => FLIPPED[String(r.forward)] === r.backward).length,
	};
}

/** One prompt: the verdict of both orders together, and whether they differ. */
export interface Duel { id: string; verdict: string; flipped: boolean }

export function duelList(rows: unknown[]): Duel[] {
	return rows.flatMap((r) => {
		const o = (((r as { row?: unknown }).row ?? r) ?? {}) as { id?: unknown; verdict?: unknown; forward?: unknown; backward?: unknown };
		if (typeof o.id !== "string") return [];
		const back = FLIPPED[String(o.backward)];
		return [{ id: o.id, verdict: typeof o.verdict === "string" ? o.verdict : "", flipped: back !== undefined && FLIPPED[String(o.forward)] !== undefined && back !== o.forward }];
	});
}
