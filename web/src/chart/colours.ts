/** Eight series tones that hold apart in both themes and for the common colour blindnesses; classes of charts.css. */
export const SERIES = ["c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8"];

export function tone(i: number): string {
	return SERIES[i % SERIES.length]!;
}
