// What every suite of acts shares: a browser, a page that is logged in, checks, and the end.
import { launch, Report, watched } from "./browser.mjs";

export async function act(suite, extra = []) {
	const report = new Report(suite);
	const browser = await launch(extra);
	const ok = (cond, what, more) => report.check(!!cond, what, more === undefined ? "" : String(more));

	async function open(mock, { width = 1280, role, path = "/", scheme = "light" } = {}) {
		if (role) mock.role = role;
		const context = await browser.newContext({ viewport: { width, height: 800 }, acceptDownloads: true, colorScheme: scheme });
		context.setDefaultTimeout(90_000); // a busy machine
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
	async function run(tests) {
		const only = process.argv[2];
		for (const [name, test] of Object.entries(tests)) {
			if (only && !name.includes(only)) continue;
			report.start(name);
			try {
				await test();
			} catch (e) {
				ok(false, name, e.message.split("\n").slice(0, 3).join(" "));
			}
		}
		await browser.close();
		process.exit(report.end());
	}

	return { browser, ok, open, quiet, run };
}
