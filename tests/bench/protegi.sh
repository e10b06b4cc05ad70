#!/bin/bash
# ProTeGi with a trained judge: the demo world's M1 (3000 steps of SFT) judges packing lists; its template is
# made bad on purpose, and the search must win ten points of held-out pairwise accuracy back within its budget.
# The demo's model (a million parameters) can write no criticism, so the writer is the rule-based program of
# tests/flow/protegi_writer.py, which knows nothing of the judge and proposes mostly what is useless or harmful.
# usage: tests/bench/protegi.sh [SEED...]   (default 1 2 3; about four minutes of one core each, most of it SFT)
# PROTEGI_DIR keeps the work, and jobs that are done there are not done again; PROTEGI_BANDIT is ucb, sr or all.
set -eu
TOP=$(pwd) B=$(cd "${PAWL_BUILD:-build}" && pwd)
DIR=${PROTEGI_DIR:-$(mktemp -d "${TMPDIR:-/tmp}/pawl-protegi-XXXXXX")}
BANDIT=${PROTEGI_BANDIT:-ucb}
[ $# -gt 0 ] || set -- 1 2 3

# job DIR NAME STAGE SHARD PARAMS [ROLE=JOB:OUTPUT]...
job() {
	local d=$1/$2 top=$1 stage=$3 shard=$4 params=$5 a role from
	[ -e "$d/out/result.json" ] && return
	shift 5
	rm -rf "$d" && mkdir -p "$d/in"
	for a in "$@"; do
		role=${a%%=*} from=${a#*=}
		ln -s "$top/${from%%:*}/out/${from#*:}" "$d/in/$role"
	done
	printf '{"id":"r1.0.%s.%s.0","run":"r1","stage":"%s","iter":0,"shard":%s,"pass":0,"seed":"%s","params":%s,"inputs":[],"spec":%s}' \
		"$stage" "$shard" "$stage" "$shard" "$seed" "$params" "$(cat "$top/spec.json")" >"$d/job.json"
	"$B/pawl-worker" stage "$d" >"$d/log" 2>&1 || { tail -3 "$d/log"; exit 1; }
}

fails=0
for seed in "$@"; do
	D=$DIR/$seed
	mkdir -p "$D"
	[ -d "$D/world" ] || "$B/pawl" demo world --data "$D" --quick --seed "$seed" >/dev/null
	python3 - "$D" "$TOP" "$BANDIT" <<'PY'
import json, sys
d, top, bandit = sys.argv[1:]
spec = json.load(open(d + "/run.json"))
spec["data"]["eft"].append({"path": d + "/world/ranked.jsonl", "format": "ranked"})
spec["sft"]["save_every_steps"] = 0
json.dump(spec, open(d + "/spec.json", "w"))
PY
	job "$D" base import 0 '{"what":"model"}'
	job "$D" data import 1 '{"what":"data"}'
	job "$D" eft eft 0 '{"build":false}' eft=data:eft eval=data:eval
	job "$D" sft sft 1 '{"variant":"m1","name":"M1"}' base=base:model ift=data:ift eft=eft:eft
	python3 - "$D" "$TOP" "$BANDIT" <<'PY'
import json, sys
d, top, bandit = sys.argv[1:]
spec = json.load(open(d + "/spec.json"))
spec["judge"]["template"]["text"] = "Look at it.\n{prompt}\n<response>{response}</response>\nWhat is the score?"
spec["judge"]["samples"] = spec["eval"]["judge_samples"] = 1
spec["protegi"] = {"rounds": 4, "beam": 3, "budget": 1200, "minibatch": 16, "paraphrases": 1, "bandit": bandit, "ucb_c": 0.5, "arms_per_step": 6,
                   "samples_per_eval": 8, "test_rows": 0, "writer": {"kind": "command", "command": ["python3", "-S", top + "/tests/flow/protegi_writer.py"]}}
json.dump(spec, open(d + "/spec.json", "w"))
PY
	job "$D" "protegi-$BANDIT" protegi 0 '{}' model=sft:model eft=data:eft eval=eft:eval
	python3 - "$D/protegi-$BANDIT/out" "$seed" "$BANDIT" <<'PY' || fails=$((fails + 1))
import json, sys
out, seed, bandit = sys.argv[1:]
rows = [json.loads(x) for x in open(out + "/candidates/data.jsonl")]
m = json.load(open(out + "/result.json"))["metrics"]
best = next(r for r in rows if r["state"] == "winner")
a, b = 100 * rows[0]["held_out"], 100 * best["held_out"]
print("seed %s, %s: held-out %.1f %% to %.1f %% (%+.1f points, %d pairs), %d candidates, %d refused, %d evaluations, %.0f s: %r" % (
      seed, bandit, a, b, b - a, best["held_out_pairs"], len(rows), m["protegi.refused"], m["protegi.evaluations"], m["seconds"], best["text"]), flush=True)
sys.exit(b < a + 10 or m["protegi.evaluations"] > 1200)
PY
done
[ $fails = 0 ] || { echo "$fails of $# seeds won less than ten points"; exit 1; }
