/** One decision for many rows: which of them it can be made for, in pieces the server takes, with what came of it. */
import { send } from "./api";

export interface Outcome {
	done: number;
	failed: number;
	failures: { id: string; detail: string }[];
}

/** Small enough that each piece is answered within a second or two, so that progress is seen. */
const PIECE = 100;

/** The ids from one to the other as they stand, both included; only the second when the first is not there. */
export function stretch(order: string[], from: string, to: string): string[] {
	const [a, b] = [order.indexOf(from), order.indexOf(to)];
	return a < 0 || b < 0 ? [to] : order.slice(Math.min(a, b), Math.max(a, b) + 1);
}

export function pieces<T>(list: T[], size = PIECE): T[][] {
	return Array.from({ length: Math.ceil(list.length / size) }, (_, i) => list.slice(i * size, (i + 1) * size));
}

export async function sendBulk(path: string, body: Record<string, unknown>, ids: string[], told: (n: number) => void): Promise<Outcome> {
	const sum: Outcome = { done: 0, failed: 0, failures: [] };
	for (const part of pieces(ids)) {
		const r = await send<Outcome>("POST", path, { ...body, ids: part });
		sum.done += r.done;
		sum.failed += r.failed;
		sum.failures.push(...r.failures);
		told(sum.done + sum.failed);
	}
	return sum;
}
