/** One polite live region: what changed, said once. Also shown for a moment at the bottom. */
import { signal } from "@preact/signals";

const message = signal<{ text: string; n: number }>({ text: "", n: 0 });
let timer: ReturnType<typeof setTimeout> | undefined;

export function say(text: string): void {
	message.value = { text, n: message.peek().n + 1 };
	clearTimeout(timer);
	timer = setTimeout(() => {
		message.value = { text: "", n: message.peek().n };
	}, 4000);
}

export function Toast() {
	const m = message.value;
	return (
		<div class={`toast ${m.text ? "on" : ""}`} role="status" aria-live="polite">
			{m.text}
		</div>
	);
}
