/** What the driver says of a GPU, in words. A figure it does not tell is absent. */
import { fmtBytes, fmtInt } from "./fmt";
import type { Gpu } from "./types";

const HOT_C = 85;
const MIB = 1048576;

export function gpuWords(g: Gpu): string {
	const words: (string | false | undefined)[] = [
		g.memory_mib !== undefined && fmtBytes(g.memory_mib * MIB) + (g.memory_total_mib ? ` of ${fmtBytes(g.memory_total_mib * MIB)}` : ""),
		g.temperature !== undefined && `${g.temperature.toFixed(0)} °C`,
		g.power !== undefined && `${g.power.toFixed(0)} W`,
		!!g.ecc_errors && `${fmtInt(g.ecc_errors)} memory errors`,
		!!g.xid && `XID ${g.xid}`,
	];
	return words.filter(Boolean).join(" · ");
}

export const gpuTone = (g: Gpu): string => (g.xid || g.ecc_errors ? "bad" : (g.temperature ?? 0) >= HOT_C ? "warn" : "dim");

/** Of a worker whose beats say nothing of GPUs: what its job's curves hold. */
export function gpusOfCurves(points: Record<string, [number, number][]>): Gpu[] {
	const last = (k: string): number | undefined => points["gpu/" + k]?.at(-1)?.[1];
	if (last("load") === undefined) return [];
	return [{ device: 0, load: last("load"), memory_mib: last("memory_mib"), temperature: last("temperature"), power: last("power"), ecc_errors: last("ecc_errors"), xid: last("xid") }];
}
