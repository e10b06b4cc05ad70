/** Log bytes → lines to show; pure. */
export interface Chunk {
	/** Byte offsets of the text in the log, and the size the log had then. */
	start: number;
	end: number;
	size: number;
	text: string;
}

/** Appends what follows; drops from the front when the window is full, and starts over on a gap. */
export function merge(old: Chunk | null, next: Chunk, window: number): Chunk {
	if (!old || next.start > old.end || next.start < old.start) return next;
	if (next.start < old.end) return { ...old, size: Math.max(old.size, next.size) };
	let text = old.text + next.text;
	let start = old.start;
	if (text.length > window) {
		const cut = text.indexOf("\n", text.length - window) + 1 || text.length - window;
		start += new TextEncoder().encode(text.slice(0, cut)).length;
		text = text.slice(cut);
	}
	return { start, end: next.end, size: next.size, text };
}

/** Colour codes and other control characters are removed; \r keeps only the last state of a line. */
export function clean(text: string): string {
	return text
		.replace(/\u001b\[[0-9;?]*[ -/]*[@-~]|\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)/g, "")
		.replace(/[^\n]*\r(?!\n|$)/g, "")
		.replace(/[\u0000-\u0008\u000b-\u001f\u007f\u202a-\u202e\u2066-\u2069]/g, "");
}
