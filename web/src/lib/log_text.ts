/** A window of a log's bytes → lines to show; pure. Offsets are bytes of the whole log, always. */
export interface Chunk {
	start: number;
	/** What the log held when this was read. */
	size: number;
	bytes: Uint8Array;
}

export interface LogLine { offset: number; text: string }

export function endOf(c: Chunk): number {
	return c.start + c.bytes.length;
}

function both(a: Uint8Array, b: Uint8Array): Uint8Array {
	const out = new Uint8Array(a.length + b.length);
	out.set(a);
	out.set(b, a.length);
	return out;
}

/** What follows is put behind; a full window lets go of its front. A gap starts over. */
export function append(old: Chunk | null, next: Chunk, window: number): Chunk {
	if (!old || next.start > endOf(old) || next.start < old.start) return next;
	const fresh = next.bytes.subarray(Math.min(next.bytes.length, endOf(old) - next.start));
	const bytes = fresh.length ? both(old.bytes, fresh) : old.bytes;
	const cut = bytes.length > window ? bytes.length - Math.floor(window * 0.75) : 0;
	return { start: old.start + cut, size: Math.max(old.size, next.size), bytes: cut ? bytes.slice(cut) : bytes };
}

/** What came before is put in front; a full window lets go of its end. */
export function prepend(old: Chunk, before: Chunk, window: number): Chunk {
	if (endOf(before) < old.start || before.start > old.start) return old;
	const bytes = both(before.bytes.subarray(0, old.start - before.start), old.bytes);
	return { start: before.start, size: old.size, bytes: bytes.length > window ? bytes.slice(0, window) : bytes };
}

const NEWLINE = 10;
const LINE_MAX = 20_000;

/** Whole lines, each with where it begins; the piece of a line a window begins with is left out. */
export function linesOf(c: Chunk): LogLine[] {
	const out: LogLine[] = [];
	const decoder = new TextDecoder();
	const { bytes } = c;
	let from = c.start === 0 ? 0 : bytes.indexOf(NEWLINE) + 1;
	if (c.start > 0 && from === 0 && bytes.length < c.size) from = bytes.length > LINE_MAX ? 0 : bytes.length;
	while (from < bytes.length) {
		let to = bytes.indexOf(NEWLINE, from);
		if (to < 0) to = bytes.length;
		const shown = decoder.decode(bytes.subarray(from, Math.min(to, from + LINE_MAX)));
		out.push({ offset: c.start + from, text: clean(shown) + (to - from > LINE_MAX ? ` … ${to - from - LINE_MAX} bytes more` : "") });
		from = to + 1;
	}
	return out;
}

/** Colour codes and other control characters are removed; \r keeps only the last state of a line. */
export function clean(text: string): string {
	return text
		.replace(/\u001b\[[0-9;?]*[ -/]*[@-~]|\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)/g, "")
		.replace(/[^\n]*\r(?!\n|$)/g, "")
		.replace(/[\u0000-\u0008\u000b-\u001f\u007f\u202a-\u202e\u2066-\u2069]/g, "");
}

export type Level = "" | "warn" | "bad";

export function level(line: string): Level {
	if (/\b(error|fatal|panic|failed)\b/i.test(line)) return "bad";
	return /\bwarn(ing)?\b/i.test(line) ? "warn" : "";
}
