/** One door to the server. Every failure becomes an ApiError with a sentence a person can use. */
import { signal } from "@preact/signals";
import { clockSkew } from "./fmt";

export interface FieldError {
	pointer: string;
	detail: string;
}

export class ApiError extends Error {
	constructor(
		readonly status: number,
		readonly title: string,
		detail: string,
		readonly instance: string,
		readonly fields: FieldError[],
		readonly kind: string,
	) {
		super(detail || title);
	}
}

/** null: not asked yet; false: nobody is logged in. */
export interface Session {
	user: string;
	role: string;
	server_time?: string;
	version?: string;
}
export const session = signal<Session | null | false>(null);

/** When an answer last arrived, for the "data from" banner. */
export const lastAnswer = signal(Date.now());
export const reachable = signal(true);

const BASE = "/api/v1";

async function problem(r: Response): Promise<ApiError> {
	let body: Record<string, unknown> = {};
	try {
		body = (await r.json()) as Record<string, unknown>;
	} catch {
		/* a proxy answered in HTML */
	}
	const text = (k: string): string => (typeof body[k] === "string" ? (body[k] as string) : "");
	const fields = Array.isArray(body.errors) ? (body.errors as FieldError[]) : [];
	const title = text("title") || `The server answered ${r.status}`;
	const id = text("instance") || r.headers.get("X-Request-Id") || "";
	return new ApiError(r.status, title, text("detail"), id, fields, text("type"));
}

export interface CallOptions {
	method?: string;
	body?: unknown;
	signal?: AbortSignal;
	idempotent?: string;
	/** The revision of what was read: If-Match. */
	match?: string;
	/** The server may answer at once and go on with it: Prefer. */
	later?: boolean;
	raw?: boolean;
}

export async function call(path: string, o: CallOptions = {}): Promise<Response> {
	const headers: Record<string, string> = { Accept: o.raw ? "*/*" : "application/json" };
	if (o.body !== undefined) headers["Content-Type"] = "application/json";
	else if (o.method && o.method !== "GET") headers["Content-Type"] = "application/json";
	if (o.idempotent) headers["Idempotency-Key"] = o.idempotent;
	if (o.match) headers["If-Match"] = `"${o.match}"`;
	if (o.later) headers.Prefer = "respond-async";
	let r: Response;
	try {
		r = await fetch(BASE + path, {
			method: o.method ?? "GET",
			headers,
			body: o.body === undefined ? (o.method && o.method !== "GET" && o.method !== "DELETE" ? "{}" : undefined) : JSON.stringify(o.body),
			credentials: "same-origin",
			signal: o.signal,
		});
	} catch (e) {
		if ((e as Error).name === "AbortError") throw e;
		reachable.value = false;
		throw new ApiError(0, "No connection", "The server cannot be reached. The page keeps what it has and tries again.", "", [], "offline");
	}
	reachable.value = true;
	lastAnswer.value = Date.now();
	if (!r.ok) {
		const err = await problem(r);
		if (r.status === 401 && !path.startsWith("/session")) session.value = false;
		throw err;
	}
	return r;
}

export async function getJson<T>(path: string, abort?: AbortSignal): Promise<T> {
	const r = await call(path, { signal: abort });
	return (await r.json()) as T;
}

export async function send<T>(method: string, path: string, body?: unknown, more: Pick<CallOptions, "idempotent" | "match"> = {}): Promise<T> {
	const r = await call(path, { method, body, ...more });
	const text = await r.text();
	return (text ? JSON.parse(text) : {}) as T;
}

/** Random key for POSTs; crypto.randomUUID is missing on plain HTTP, getRandomValues is not. */
export function newKey(): string {
	const b = crypto.getRandomValues(new Uint8Array(16));
	return Array.from(b, (x) => x.toString(16).padStart(2, "0")).join("");
}

export async function loadSession(): Promise<void> {
	try {
		const s = await getJson<Session>("/session");
		if (s.server_time) clockSkew.value = Date.parse(s.server_time) - Date.now();
		session.value = s;
	} catch (e) {
		if (e instanceof ApiError && e.status === 0) session.value = session.peek();
		else session.value = false;
		if (session.peek() === null) setTimeout(loadSession, 3000);
	}
}

const RANK: Record<string, number> = { viewer: 1, worker: 0, operator: 2, admin: 3 };

/** May the person at the page do what needs `role`? The server decides; this only greys buttons. */
export function may(role: "viewer" | "operator" | "admin"): boolean {
	const s = session.value;
	return !!s && (RANK[s.role] ?? 0) >= (RANK[role] ?? 9);
}

export function problemText(e: unknown): string {
	return e instanceof Error ? e.message : String(e);
}
