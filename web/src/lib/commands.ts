/** What a form would do, as commands for a shell: the CLI's where it has one, and curl. Pure. */
export interface FormRequest {
	method: string;
	/** Under /api/v1. */
	path: string;
	body?: unknown;
	/** The revision it was read with. */
	match?: string;
	/** Makes a repeated POST one. */
	key?: string;
	/** The same with `pawl`. */
	cli?: string;
}

/** One word of a POSIX shell, whatever is in it. */
export function quoted(text: string): string {
	return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

export function curlOf(f: FormRequest, origin: string): string {
	const words = ["curl"];
	if (f.method !== "GET" && (f.method !== "POST" || f.body === undefined)) words.push("-X", f.method);
	words.push("-H", '"Authorization: Bearer $(cat token)"');
	if (f.body !== undefined) words.push("-H", '"Content-Type: application/json"');
	if (f.match) words.push("-H", `'If-Match: "${f.match}"'`);
	if (f.key) words.push("-H", quoted(`Idempotency-Key: ${f.key}`));
	if (f.body !== undefined) words.push("-d", quoted(JSON.stringify(f.body)));
	return [...words, quoted(`${origin}/api/v1${f.path}`)].join(" ");
}

/** `pawl` and its words; what is undefined is left out. */
export function cliOf(...words: (string | undefined)[]): string {
	return ["pawl", ...words.filter((w): w is string => w !== undefined)].map(quoted).join(" ");
}

/** A run of this specification. */
export function submitCli(json: string): string {
	return `pawl run submit -f - <<'JSON'\n${json}\nJSON`;
}
