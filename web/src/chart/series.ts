/** Pure work on series: joining by x, smoothing, thinning. Tested without a browser. */
export interface Line {
	label: string;
	points: [number, number][];
}

/** Exponential moving average with bias correction, so the first values are not pulled to zero. */
export function smooth(points: [number, number][], weight: number): [number, number][] {
	if (weight <= 0) return points;
	let acc = 0;
	let norm = 0;
	return points.map(([x, y]) => {
		acc = weight * acc + (1 - weight) * y;
		norm = weight * norm + (1 - weight);
		return [x, acc / norm];
	});
}

/** Keeps the lowest and highest point of every bucket: spikes survive thinning. */
export function thin(points: [number, number][], buckets: number): [number, number][] {
	if (points.length <= 2 * buckets) return points;
	const out: [number, number][] = [];
	const size = points.length / buckets;
	for (let b = 0; b < buckets; b++) {
		const part = points.slice(Math.floor(b * size), Math.floor((b + 1) * size));
		let lo = part[0]!;
		let hi = part[0]!;
		for (const p of part) {
			if (p[1] < lo[1]) lo = p;
			if (p[1] > hi[1]) hi = p;
		}
		if (lo === hi) out.push(lo);
		else out.push(...(lo[0] < hi[0] ? [lo, hi] : [hi, lo]));
	}
	return out;
}

/** One x axis for all lines, null where a line has no value there. */
export function join(lines: Line[]): [number[], ...(number | null)[][]] {
	const xs = [...new Set(lines.flatMap((l) => l.points.map((p) => p[0])))].sort((a, b) => a - b);
	const at = new Map(xs.map((x, i) => [x, i]));
	const cols = lines.map((l) => {
		const col: (number | null)[] = new Array<number | null>(xs.length).fill(null);
		for (const [x, y] of l.points) col[at.get(x)!] = y;
		return col;
	});
	return [xs, ...cols];
}

/** The least and the greatest y between two x, the points next outside included: lines cross the edge. */
export function extent(lines: Line[], from: number, to: number): [number, number] {
	let lo = Infinity;
	let hi = -Infinity;
	for (const { points } of lines)
		for (let i = 0; i < points.length; i++) {
			if ((points[i + 1]?.[0] ?? Infinity) < from || (points[i - 1]?.[0] ?? -Infinity) > to) continue;
			lo = Math.min(lo, points[i]![1]);
			hi = Math.max(hi, points[i]![1]);
		}
	return [lo, hi];
}

/** The point whose x is nearest; points rise by x. */
export function nearest(points: [number, number][], x: number): [number, number] | undefined {
	let a = 0;
	let b = points.length - 1;
	while (b - a > 1) {
		const mid = (a + b) >> 1;
		if (points[mid]![0] <= x) a = mid;
		else b = mid;
	}
	const [p, q] = [points[a], points[b]];
	return p && q && x - p[0] > q[0] - x ? q : p;
}

export function summary(l: Line): string {
	if (!l.points.length) return `${l.label}: no values yet`;
	const ys = l.points.map((p) => p[1]);
	const f = (n: number): string => String(Number(n.toPrecision(4)));
	return `${l.label}: ${l.points.length} values, last ${f(ys[ys.length - 1]!)}, least ${f(Math.min(...ys))}, most ${f(Math.max(...ys))}`;
}
