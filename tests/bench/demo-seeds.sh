#!/bin/bash
# The demo with five seeds: worlds, base models and runs that share nothing. Prints a table and says
# whether every seed keeps the promises: M3's true score at least 0.6 above M1's, M2 in between, M3
# above the people it learned from, and a judge no more than two points worse than M1's.
# usage: tests/bench/demo-seeds.sh [SEED...]
set -u
cd "$(dirname "$0")/../.." || exit 1
PAWL=${BUILD:-build}/pawl
[ $# -gt 0 ] || set -- 1 2 3 4 5
out=$(mktemp -d "${TMPDIR:-/tmp}/pawl-seeds-XXXXXX")
trap 'rm -rf "$out"' EXIT
for seed in "$@"; do
	"$PAWL" demo --json --seed "$seed" --data "$out/$seed" >"$out/$seed.json" 2>"$out/$seed.log" ||
		{ tail -5 "$out/$seed.log"; echo "seed $seed failed"; exit 1; }
	tail -1 "$out/$seed.json" >"$out/$seed.last"
	rm -rf "${out:?}/$seed"
done
python3 - "$out" "$@" <<'PY'
import json, sys
out, seeds = sys.argv[1], sys.argv[2:]
print("| seed | human | SFT | M1 | M2 | M3 | fully right M1 / M2 / M3 % | judge pairwise M1 / M2 / M3 % "
      "| length M1 / M2 / M3 | pairs | seconds | promises |")
print("|---|---|---|---|---|---|---|---|---|---|---|---|")
bad = 0
for seed in seeds:
    r = json.load(open(f"{out}/{seed}.last"))
    m = {x["name"]: x for x in r["models"]}
    score = [m[n]["true_score"] for n in ("SFT", "M1", "M2", "M3")]
    judge = [m[n]["pairwise_accuracy"] for n in ("M1", "M2", "M3")]
    right = [m[n]["true_accuracy_sampled"] for n in ("M1", "M2", "M3")]
    length = [m[n]["mean_length"] for n in ("M1", "M2", "M3")]
    kept = " + ".join(str(int(p["metrics"]["pair.kept"])) for p in r["pairs"])
    broken = [why for why, holds in (
        ("M3 - M1 < 0.6", score[3] - score[1] >= 0.6),
        ("M2 not between", score[1] < score[2] < score[3]),
        ("M3 below people", score[3] > r["human_score"]),
        ("judge fell", judge[2] >= judge[0] - 0.02)) if not holds]
    bad += bool(broken)
    print(f"| {seed} | {r['human_score']:.2f} | " + " | ".join(f"{s:.2f}" for s in score) + " | "
          + " / ".join(f"{100 * x:.0f}" for x in right) + " | "
          + " / ".join(f"{100 * x:.1f}" for x in judge) + " | "
          + " / ".join(f"{x:.1f}" for x in length)
          + f" | {kept} | {r['seconds']:.0f} | {', '.join(broken) or 'kept'} |")
print(f"{len(seeds) - bad} of {len(seeds)} seeds keep every promise")
sys.exit(1 if bad else 0)
PY
