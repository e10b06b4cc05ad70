#!/bin/bash
# The demo in its short form: a world of its own, a worker killed on the way, one JSON object at the
# end of stdout with every promised figure, and M2 truly better than M1.
. tests/flow/lib.sh
need redis-server python3 pgrep

start demo "$PAWL_BUILD/pawl" demo --quick --json --data "$FLOW_DIR/data"
wait "$demo_pid"
is "$?" 0 "exit code of pawl demo"
python3 - "$FLOW_DIR/demo.out" <<'PY' || fail "the last line of stdout"
import json, math, re, sys
r = json.loads(open(sys.argv[1]).read().rstrip("\n").split("\n")[-1])
figures = ("true_score true_accuracy_greedy true_accuracy_sampled pairwise_accuracy five_best exact_match "
           "spearman kendall mean_length").split()
models = {m["name"]: m for m in r["models"]}
bad = [f"{n}.{f} is {m.get(f)!r}" for n, m in models.items() for f in figures
       if not isinstance(m.get(f), (int, float)) or not math.isfinite(m[f])]
for n in ("M1", "M2"):
    if n not in models:
        bad.append(f"no model {n}")
if not re.fullmatch(r"(sha256:)?[0-9a-f]{64}", str(r.get("final_digest"))):
    bad.append(f"final_digest is {r.get('final_digest')!r}")
if not isinstance(r.get("seconds"), (int, float)) or r["seconds"] <= 0:
    bad.append(f"seconds is {r.get('seconds')!r}")
if not bad:
    one, two = models["M1"]["true_score"], models["M2"]["true_score"]
    print(f"true score {one:.3f} -> {two:.3f} in {r['seconds']:.0f} s")
    if not two > one:
        bad.append(f"M2's true score {two} is not above M1's {one}")
print("\n".join(bad))
sys.exit(bool(bad))
PY
for stage in generate dpo; do
	grep -q "killing the worker.*\\.$stage\\." "$FLOW_DIR/demo.log" || fail "it names no kill during $stage"
done
! pgrep -f -- "$FLOW_DIR/data" >/dev/null || fail "processes are left: $(pgrep -af -- "$FLOW_DIR/data")"
