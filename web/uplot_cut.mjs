// What we never use of uPlot is left out of the bundle: calendar axes, bars, steps and splines, about
// a sixth of it. Every cut names the text it replaces; when an upgrade changed it, the build says so.
import { readFileSync } from "node:fs";

const CUTS = [
	["	(paths.stepped = stepped);\n	(paths.bars    = bars);\n	(paths.spline  = monotoneCubic);\n", ""],
	["	uPlot.join = join;\n", ""],
	["	uPlot.fmtDate = fmtDate;\n	uPlot.tzDate  = tzDate;\n", ""],
	["const [ timeIncrsMs, _timeAxisStampsMs, timeAxisSplitsMs ] = genTimeStuffs(1);\nconst [ timeIncrsS,  _timeAxisStampsS,  timeAxisSplitsS  ] = genTimeStuffs(1e-3);\n", ""],
	["(isTime ? (ms == 1 ? timeIncrsMs : timeIncrsS) : numIncrs)", "numIncrs"],
	["isTime && sc.distr == 1 ? _timeAxisSplits : ", ""],
	["timeAxisVals(_tzDate, timeAxisStamps(av, _fmtDate)) :", "av :"],
	["timeAxisVal(_tzDate, av) :", "av :"],
	["av || _timeAxisVals", "av"],
	["isTime ? (isStr(sv) ? timeSeriesVal(_tzDate, timeSeriesStamp(sv, _fmtDate)) : sv || _timeSeriesVal) : ", ""],
	["	const _fmtDate = (opts.fmtDate || fmtDate);\n", ""],
	["	const _timeAxisSplits = (ms == 1 ? timeAxisSplitsMs(_tzDate) : timeAxisSplitsS(_tzDate));\n	const _timeAxisVals   = timeAxisVals(_tzDate, timeAxisStamps((ms == 1 ? _timeAxisStampsMs : _timeAxisStampsS), _fmtDate));\n	const _timeSeriesVal  = timeSeriesVal(_tzDate, timeSeriesStamp(_timeSeriesStamp, _fmtDate));\n", ""],
];

export const uplotCut = {
	name: "uplot-cut",
	setup(build) {
		build.onLoad({ filter: /uPlot\.esm\.js$/ }, ({ path }) => {
			let text = readFileSync(path, "utf8");
			for (const [from, to] of CUTS) {
				if (text.split(from).length !== 2) throw new Error(`uplot_cut.mjs: uPlot no longer has exactly one of: ${from.trim().slice(0, 70)}`);
				text = text.replace(from, () => to);
			}
			return { contents: text, loader: "js" };
		});
	},
};
