/** Every number and time on the page goes through here, so tables, tooltips and axes agree. */
import { signal } from "@preact/signals";
import { zone } from "./prefs";

/** Milliseconds the server's clock is ahead of ours; ages are measured on the server's clock. */
export const clockSkew = signal(0);

/** A one-second tick for ages; stands still while the page is hidden. */
export const tick = signal(Date.now());
setInterval(() => {
	if (typeof document === "undefined" || !document.hidden) tick.value = Date.now();
}, 1000);

export function serverNow(): number {
	return tick.value + clockSkew.value;
}

/** RFC 3339 text or epoch milliseconds → milliseconds, or null. */
export function ms(t: string | number | null | undefined): number | null {
	if (t === null || t === undefined || t === "" || t === 0) return null;
	const v = typeof t === "number" ? t : Date.parse(t);
	return Number.isFinite(v) ? v : null;
}

const two = (n: number): string => (n < 10 ? "0" + n : String(n));

interface Parts { y: number; mo: number; d: number; h: number; mi: number; s: number; label: string }

function parts(t: number): Parts {
	const d = new Date(t);
	if (zone.value === "utc")
		return { y: d.getUTCFullYear(), mo: d.getUTCMonth() + 1, d: d.getUTCDate(), h: d.getUTCHours(), mi: d.getUTCMinutes(), s: d.getUTCSeconds(), label: "UTC" };
	const off = -d.getTimezoneOffset();
	const label = off === 0 ? "UTC" : `UTC${off > 0 ? "+" : "−"}${two(Math.floor(Math.abs(off) / 60))}:${two(Math.abs(off) % 60)}`;
	return { y: d.getFullYear(), mo: d.getMonth() + 1, d: d.getDate(), h: d.getHours(), mi: d.getMinutes(), s: d.getSeconds(), label };
}

/** 2026-11-21 14:03:11; the zone follows with `withZone`. */
export function fmtTime(t: string | number | null | undefined, withZone = false): string {
	const v = ms(t);
	if (v === null) return "–";
	const p = parts(v);
	return `${p.y}-${two(p.mo)}-${two(p.d)} ${two(p.h)}:${two(p.mi)}:${two(p.s)}${withZone ? " " + p.label : ""}`;
}

export function fmtClock(t: string | number | null | undefined, seconds = true): string {
	const v = ms(t);
	if (v === null) return "–";
	const p = parts(v);
	return `${two(p.h)}:${two(p.mi)}${seconds ? ":" + two(p.s) : ""}`;
}

export function zoneLabel(): string {
	return parts(Date.now()).label;
}

/** 4 s · 3 m 20 s · 2 h 05 m · 3 d 4 h */
export function fmtDuration(seconds: number | null | undefined): string {
	if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
	const s = Math.max(0, seconds);
	if (s < 1) return `${Math.round(s * 1000)} ms`;
	if (s < 10) return `${s.toFixed(1)} s`;
	if (s < 60) return `${Math.round(s)} s`;
	const m = Math.floor(s / 60);
	if (m < 60) return `${m} m ${two(Math.floor(s % 60))} s`;
	const h = Math.floor(m / 60);
	if (h < 48) return `${h} h ${two(m % 60)} m`;
	return `${Math.floor(h / 24)} d ${h % 24} h`;
}

export function fmtAge(t: string | number | null | undefined): string {
	const v = ms(t);
	if (v === null) return "–";
	const s = (serverNow() - v) / 1000;
	return s < 1.5 ? "now" : fmtDuration(Math.floor(s)) + " ago";
}

export function fmtBytes(n: number | null | undefined): string {
	if (n === null || n === undefined || !Number.isFinite(n)) return "–";
	const units = ["B", "KB", "MB", "GB", "TB"];
	let v = n;
	let u = 0;
	while (v >= 1000 && u < units.length - 1) {
		v /= 1000;
		u++;
	}
	return `${u === 0 ? v : v < 10 ? v.toFixed(2) : v < 100 ? v.toFixed(1) : Math.round(v)} ${units[u]}`;
}

/** Integers with thin spaces between thousands. */
export function fmtInt(n: number | null | undefined): string {
	if (n === null || n === undefined || !Number.isFinite(n)) return "–";
	return String(Math.round(n)).replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f");
}

/** A measured figure with about four significant digits. */
export function fmtNum(n: number | null | undefined, digits = 4): string {
	if (n === null || n === undefined || !Number.isFinite(n)) return "–";
	if (n === 0) return "0";
	if (n < 0) return "−" + fmtNum(-n, digits);
	const a = n;
	if (a >= 1e6 || a < 1e-3) return n.toExponential(2).replace("e", " e").replace("+", "");
	if (Number.isInteger(n)) return fmtInt(n);
	return n.toFixed(Math.max(0, Math.min(4, digits - 1 - Math.floor(Math.log10(a)))));
}

/** 940 · 4.2 k · 1.3 M: where the order of magnitude is what matters. */
export function fmtCount(n: number): string {
	const unit = n >= 999_500 ? ["M", 1e6] as const : n >= 999.5 ? ["k", 1e3] as const : ["", 1] as const;
	const v = n / unit[1];
	return v.toFixed(unit[0] && v < 99.95 ? 1 : 0) + (unit[0] && " " + unit[0]);
}

export function fmtPct(x: number | null | undefined, digits = 1): string {
	if (x === null || x === undefined || !Number.isFinite(x)) return "–";
	return (100 * x).toFixed(digits) + " %";
}

export function shortHash(digest: string | null | undefined, n = 10): string {
	return digest ? digest.slice(0, n) : "–";
}

/** Money in the unit of the workers’ prices; small sums keep their digits. */
export function fmtMoney(v: number): string {
	return "$" + (v >= 100 ? fmtInt(v) : v >= 0.1 || v === 0 ? v.toFixed(2) : v.toPrecision(2));
}

export function plural(n: number, one: string, many = one + "s"): string {
	return `${fmtInt(n)} ${n === 1 ? one : many}`;
}
