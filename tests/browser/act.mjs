// What every suite of acts shares: a browser, a page that is logged in, checks, and the end.
import { inLanes, launch, Report, watched } from "./browser.mjs";

export async function act(suite, extra = []) {
	const report = new Report(suite);
	const browser = await launch(extra);
	const ok = (cond, what, more) => report.check(!!cond, what, more === undefined ? "" : String(more));

	async function open(mock, { width = 1280, role, path = "/", scheme = "light", patience = 90_000 } = {}) {
		if (role) mock.role = role;
		const context = await browser.newContext({ viewport: { width, height: 800 }, acceptDownloads: true, colorScheme: scheme });
		context.setDefaultTimeout(patience); // a busy machine
		const page = await watched(context, mock.url);
		await page.goto(mock.url + "/login?code=once");
		await page.waitForSelector(".top");
		if (path !== "/") {
			await page.goto(mock.url + path);
			await page.waitForSelector("h1");
		}
		return { context, page };
	}

	async function quiet(page, what) {
		const t = await page.trouble();
		ok(t.length === 0, `${what} leaves no error`, t.join(" | "));
	}

	/** Runs {name: function}, those whose name holds the first argument of the command line; ends the process. */
	async function run(tests, lanes) {
		const only = process.argv[2];
		for (const name of Object.keys(tests)) if (!only || name.includes(only)) report.start(name);
		await inLanes(Object.entries(tests).filter(([name]) => !only || name.includes(only)), ([name, test]) => report.within(name, async () => {
			const began = Date.now();
			try {
				await test();
			} catch (e) {
				ok(false, name, e.message.split("\n").slice(0, 3).join(" "));
			}
			if (process.env.PAWL_BROWSER_TIMES) console.log(`# ${((Date.now() - began) / 1000).toFixed(1)} s ${name}`);
		}), lanes);
		await browser.close();
		process.exit(report.end());
	}

	return { browser, ok, open, quiet, run };
}
