/** Saved filters of the person at the page: a name for what an address filters by. */
import { send } from "./api";
import type { Filter } from "./schema";

/** A filter of one page means nothing on another. */
export type Page = "runs" | "jobs" | "data";

/** What an address says beside its filter: where one stands, not what one looks for. */
const PLACE = new Set(["cursor", "at", "view", "blind", "prompt", "from", "to", "attempt", "find", "all"]);

/** The filter in an address, in one order, so that equal ones are equal texts. */
export function filterOf(query: URLSearchParams): string {
	return new URLSearchParams([...query].filter(([k, v]) => v !== "" && !PLACE.has(k)).sort(([a], [b]) => (a < b ? -1 : 1))).toString();
}

export const filterPath = (name: string): string => `/filters/${encodeURIComponent(name)}`;

export async function saveFilter(page: Page, name: string, query: string): Promise<void> {
	await send<Filter>("PUT", filterPath(name), { page, query });
}

export async function dropFilter(f: Filter): Promise<void> {
	await send("DELETE", filterPath(f.name));
}
