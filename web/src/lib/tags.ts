/** Tags as a person writes them, and what the server takes of them. Pure. */
const TAGS_MOST = 16;
const TAG_CHARS = 40;

export function tagsOf(text: string): string[] {
	return [...new Set(text.split(",").map((t) => t.trim()).filter(Boolean))];
}

/** Null when the server would take it, else a sentence. */
export function wrongTags(tags: string[]): string | null {
	if (tags.length > TAGS_MOST) return `at most ${TAGS_MOST} tags`;
	const long = tags.find((t) => t.length > TAG_CHARS);
	return long ? `“${long.slice(0, 20)}…” is longer than ${TAG_CHARS} characters` : null;
}
