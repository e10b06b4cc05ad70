// Starts the headless Chromium of the distribution and watches its pages for trouble.
import { AsyncLocalStorage } from "node:async_hooks";
import { appendFileSync, existsSync } from "node:fs";
import { chromium } from "playwright-core";

const PATHS = [process.env.PAWL_CHROMIUM, "/usr/lib/chromium/chromium-headless-shell", "/usr/bin/chromium-headless-shell", "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

export function chromiumPath() {
	return PATHS.find((p) => p && existsSync(p)) ?? null;
}

export async function launch(extra = []) {
	return chromium.launch({ executablePath: chromiumPath(), timeout: 300_000, args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--force-color-profile=srgb", ...extra] });
}

/**
 * What the page is answered, as tests/flow/openapi.py reads it (PAWL_JOURNAL names the file): one record of each
 * method, target and status. Streams have no end, so their bodies are left out.
 */
const noted = new Set();
async function note(r) {
	const url = new URL(r.url());
	const method = r.request().method();
	const key = `${method} ${url.pathname}${url.search} ${r.status()}`;
	if (!url.pathname.startsWith("/api/") || noted.has(key)) return;
	noted.add(key);
	const type = (r.headers()["content-type"] ?? "-").split(";")[0];
	const body = type.endsWith("json") || type === "-" ? await r.body().catch(() => null) : null;
	appendFileSync(process.env.PAWL_JOURNAL, Buffer.concat([Buffer.from(`${key} ${type} ${body ? body.length : -1}\n`), body ?? Buffer.alloc(0), Buffer.from("\n")]));
}

/** A page whose console errors, exceptions, CSP violations and foreign requests end up in `trouble`. */
export async function watched(context, base) {
	const page = await context.newPage();
	const trouble = [];
	page.on("console", (m) => {
		if (m.type() !== "error" && m.type() !== "warning") return;
		const text = m.text();
		// A refused resource is the page's own business (401 before login, a server we stopped).
		if (/Failed to load resource|net::ERR_/.test(text)) return;
		trouble.push(`console: ${text}`);
	});
	if (process.env.PAWL_JOURNAL) page.on("response", (r) => void note(r));
	page.on("pageerror", (e) => trouble.push(`exception: ${e.message}\n${e.stack?.split("\n")[1] ?? ""}`));
	page.on("request", (r) => {
		if (!r.url().startsWith(base) && !r.url().startsWith("data:") && !r.url().startsWith("blob:")) trouble.push(`foreign request: ${r.url()}`);
	});
	await page.addInitScript(() => {
		window.__csp = [];
		document.addEventListener("securitypolicyviolation", (e) => window.__csp.push(`${e.violatedDirective}: ${e.blockedURI} ${e.sourceFile ?? ""}:${e.lineNumber}`));
	});
	page.trouble = async () => [...trouble.splice(0), ...(await page.evaluate(() => window.__csp.splice(0))).map((v) => "csp " + v)];
	return page;
}

/** How many tests go on side by side in one browser. */
const LANES = Number(process.env.PAWL_BROWSER_LANES ?? 2);

/** Takes the items one after the other, several at a time. */
export async function inLanes(items, work, lanes = LANES) {
	const queue = [...items];
	await Promise.all(Array.from({ length: lanes }, async (_, lane) => {
		while (queue.length) await work(queue.shift(), lane);
	}));
}

/** Collects checks under a name; every name is one `ok` or `not ok` line of `make check`. */
export class Report {
	passed = 0;
	scope = new AsyncLocalStorage();
	groups = new Map();
	constructor(suite) {
		this.suite = suite;
	}
	start(name) {
		this.now = name;
		if (!this.groups.has(name)) this.groups.set(name, []);
	}
	/** Checks made in `f`, and in what it awaits, belong to the name. */
	within(name, f) {
		if (!this.groups.has(name)) this.groups.set(name, []);
		return this.scope.run(name, f);
	}
	check(ok, what, more = "", group = this.scope.getStore() ?? this.now) {
		if (ok) this.passed++;
		else this.groups.get(group).push(what + (more ? ": " + more : ""));
		return !!ok;
	}
	/** Prints the lines; returns the exit code. */
	end() {
		let failed = 0;
		for (const [name, wrong] of this.groups) {
			for (const w of wrong) console.log(`# ${w}`);
			console.log(`${wrong.length ? "not ok" : "ok"} ${this.suite} ${name}`);
			failed += wrong.length;
		}
		console.log(`# ${this.suite}: ${this.passed} checks passed, ${failed} failed`);
		return failed ? 1 : 0;
	}
}

/** Widths of what sticks out to the right, for a useful message. */
export function overflow(page) {
	return page.evaluate(() => {
		const room = document.documentElement.clientWidth;
		if (document.documentElement.scrollWidth <= room) return "";
		const out = [];
		for (const el of document.querySelectorAll("body *")) {
			const r = el.getBoundingClientRect();
			if (r.right > room + 1 && r.width > 0) out.push(`${el.tagName.toLowerCase()}.${String(el.className?.baseVal ?? el.className).split(" ").join(".")} to ${Math.round(r.right)}`);
		}
		return out.slice(0, 4).join("; ") || "scrollWidth " + document.documentElement.scrollWidth;
	});
}
