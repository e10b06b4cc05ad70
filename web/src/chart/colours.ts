/** Canvas cannot read light-dark(); a probe element resolves each token to a real colour. */
let probe: HTMLElement | null = null;

export function colour(token: string): string {
	if (!probe) {
		probe = document.createElement("span");
		probe.className = "offscreen";
		document.body.append(probe);
	}
	probe.style.color = `var(--${token})`;
	return getComputedStyle(probe).color;
}

/** Eight series tones that hold apart in both themes and for the common colour blindnesses. */
export const SERIES = ["c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8"];

export function withAlpha(rgb: string, alpha: number): string {
	const m = rgb.match(/[\d.]+/g);
	return m ? `rgba(${m[0]}, ${m[1]}, ${m[2]}, ${alpha})` : rgb;
}
