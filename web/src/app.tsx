/** Paths to pages. Each page is a function of the path's parts; the rest of its state is the query. */
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { session } from "./lib/api";
import { place } from "./lib/router";
import { Frame } from "./ui/frame";
import { Empty, Skeleton } from "./ui/bits";
import { Login } from "./pages/login";
import { Overview } from "./pages/overview";
import { Runs } from "./pages/runs";
import { RunPage } from "./pages/run";
import { JobPage } from "./pages/job";
import { Workers } from "./pages/workers";
import { DataList } from "./pages/data_list";
import { DataPage } from "./pages/data";
import { Checkpoints } from "./pages/checkpoints";
import { Compare } from "./pages/compare";
import { Submit } from "./pages/submit";
import { Notices } from "./pages/notices";
import { Settings } from "./pages/settings";

const PAGES: [RegExp, string, (...parts: string[]) => JSX.Element][] = [
	[/^\/$/, "Overview", () => <Overview />],
	[/^\/runs\/new$/, "New run", () => <Submit />],
	[/^\/runs\/([^/]+)(?:\/([a-z]+))?$/, "Run", (id, tab) => <RunPage key={id} id={id!} tab={tab || "timeline"} />],
	[/^\/runs$/, "Runs", () => <Runs />],
	[/^\/jobs\/([^/]+)$/, "Job", (id) => <JobPage key={id} id={id!} />],
	[/^\/workers$/, "Workers", () => <Workers />],
	[/^\/data$/, "Data", () => <DataList />],
	[/^\/data\/([^/]+)$/, "Samples", (digest) => <DataPage key={digest} digest={digest!} />],
	[/^\/checkpoints(?:\/([^/]+))?$/, "Checkpoints", (digest) => <Checkpoints digest={digest} />],
	[/^\/compare$/, "Compare", () => <Compare />],
	[/^\/notices$/, "Notices", () => <Notices />],
	[/^\/settings$/, "Settings", () => <Settings />],
];

function find(path: string): { title: string; page: JSX.Element } {
	for (const [re, title, make] of PAGES) {
		const m = re.exec(path);
		if (m) return { title, page: make(...m.slice(1).map((x) => (x ? decodeURIComponent(x) : ""))) };
	}
	return {
		title: "Not found",
		page: <Empty title="There is no page here"><p>The address may be old. <a href="/">Go to the overview</a>.</p></Empty>,
	};
}

export function App() {
	const path = place.value.path;
	const { title, page } = find(path);
	const login = path === "/login" || session.value === false;
	useEffect(() => {
		document.title = (login ? "Log in" : title) + " · Pawl";
	}, [title, login]);
	if (login) return <Login />;
	if (session.value === null) return <main class="waiting"><Skeleton lines={6} /></main>;
	return <Frame>{page}</Frame>;
}
