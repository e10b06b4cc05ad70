// Bundles src/ into dist/: index.html, assets/*-HASH.js and assets/*-HASH.css. Nothing here has a
// clock or a path in it, so the same sources give the same bytes.
import { build, context } from "esbuild";
import { readFileSync, rmSync, writeFileSync, mkdirSync, readdirSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const dist = join(here, "dist");
const watch = process.argv.includes("--watch");

const shared = {
	absWorkingDir: here,
	bundle: true,
	minify: !watch,
	metafile: true,
	format: "esm",
	target: ["es2022"],
	outdir: "dist/assets",
	entryNames: "[name]-[hash]",
	legalComments: "none",
	logLevel: "warning",
	loader: { ".svg": "dataurl" },
};

/** Calls of $h() are a tenth shorter than those of the automatic runtime, which tsc checks the types by. */
const app = {
	...shared,
	entryPoints: ["src/main.tsx"],
	jsx: "transform",
	jsxFactory: "$h",
	jsxFragment: "$Fragment",
	tsconfigRaw: {},
	inject: ["src/jsx.ts"],
};

function output(result, ext) {
	const file = Object.keys(result.metafile.outputs).find((f) => f.endsWith(ext));
	return "/assets/" + basename(file);
}

/** The page names its hashed assets; it is the only file that is not cached for ever. */
function page(main, style) {
	const icon = readFileSync(join(here, "src/icon.svg"), "utf8").trim();
	return readFileSync(join(here, "src/index.html"), "utf8")
		.replace("@MAIN@", main)
		.replace("@STYLE@", style)
		.replace("@ICON@", "data:image/svg+xml," + encodeURIComponent(icon));
}

async function once() {
	rmSync(dist, { recursive: true, force: true });
	mkdirSync(dist, { recursive: true });
	const worker = await build({ ...shared, entryPoints: ["src/live/shared.ts"], format: "iife" });
	const style = await build({ ...shared, entryPoints: ["src/style/app.css"] });
	const main = await build({
		...app,
		define: { __WORKER__: JSON.stringify(output(worker, ".js")) },
	});
	writeFileSync(join(dist, "index.html"), page(output(main, ".js"), output(style, ".css")));
}

function sizes() {
	let total = 0;
	for (const name of readdirSync(join(dist, "assets")).sort()) {
		const raw = readFileSync(join(dist, "assets", name));
		const gz = gzipSync(raw, { level: 9 }).length;
		total += gz;
		console.log(`${name.padEnd(24)} ${String(raw.length).padStart(7)} B  gzip ${gz} B`);
	}
	console.log(`total gzip ${total} B`);
}

await once();
sizes();
if (watch) {
	const ctx = await context({
		...app,
		write: false,
		define: { __WORKER__: '""' },
		plugins: [{ name: "again", setup: (b) => b.onEnd(() => once().catch(() => undefined)) }],
	});
	await ctx.watch();
	console.log("watching src/");
}
