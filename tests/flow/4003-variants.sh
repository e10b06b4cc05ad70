#!/bin/bash
# One run of every kind of iteration: self-play on the instruction data, self-reward with answers of the
# model before, an external reward, the perfect answers as instruction data, and more of that; judged
# early stopping, every model against every earlier one. Then the same run while its executor is killed
# again and again: the same bytes.
. tests/flow/lib.sh
. tests/flow/up.sh
need python3 pgrep
KILLS=${KILLS:-2}

"$PAWL_BUILD/pawl" demo world --data "$FLOW_DIR/demo" --tiny >/dev/null || fail "demo world"
cat >"$FLOW_DIR/judge.py" <<'PY'
import json, sys, zlib
for line in sys.stdin:
    row = json.loads(line)
    print(json.dumps({"score": zlib.crc32(row["response"].encode()) % 6}), flush=True)
PY
python3 - "$FLOW_DIR/demo/run.json" "$FLOW_DIR/judge.py" <<'PY' || fail "settings"
import json, sys
path = sys.argv[1]
spec = json.load(open(path))
command = ["python3", sys.argv[2]]
spec.pop("iterations", None)
spec["stages"] = ["sft", "spin", "self_reward", "external", "positive", "sft"]
spec["reuse"] = False
spec["sft"].update(max_steps=24, baseline=False)
spec["prompts"]["count"] = 16
spec["generate"].update(n=3, past="previous", past_n=2, shard_size=12, chunk=4)
spec["judge"] = {"kind": "command", "command": command}
spec["external"] = {"kind": "command", "command": command, "samples": 2}
spec["spin"] = {"max_rows": 12}
spec["pair"] = {"length_control": [0, 0.1]}
spec["dpo"].update(early_stop=True, reference="path", reference_model=spec["base_model"], epochs=1, shard_steps=1,
                   save_every_steps=1, batch=8)
spec["eval"]["matrix"] = True
spec["health"] = {"run": True, "rows": 8}
bench = path + ".bench.jsonl"
with open(bench, "w") as f:
    f.write('{"question":"Which is red?","choices":["a rose","the sky"],"answer":0}\n{"question":"2+2?","answer":"#### 4"}\n')
spec["data"]["bench"] = [bench]
json.dump(spec, open(path, "w"))
PY
field() { cli run show "$RUN" --json | python3 -c 'import json, sys; print(json.load(sys.stdin).get(sys.argv[1]) or "")' "$1"; }
ended() { case "$(field state)" in done | failed | cancelled) true ;; *) false ;; esac; }

up_start calm
run_file "$FLOW_DIR/demo/run.json"
want=$(field final_digest)
[ -n "$want" ] || fail "no final digest"
cli job list "$RUN" --json >"$FLOW_DIR/jobs.json" || fail "job list"
python3 - "$FLOW_DIR/jobs.json" <<'PY' || fail "what the run consists of"
import json, sys, collections
jobs = json.load(open(sys.argv[1]))
jobs = jobs.get("items", jobs) if isinstance(jobs, dict) else jobs
n = collections.Counter((j["iter"], j["stage"]) for j in jobs)
print(sorted(n.items()))
assert n[1, "judge"] == 0 and n[1, "pair"] == 1 and n[1, "dpo"] >= 1, "self-play asks no judge"
assert n[2, "judge"] == 6 and n[3, "judge"] == 4, "3 passes and 2 over two shards"
assert n[4, "sft"] == 1 and n[4, "dpo"] == 0 and n[5, "sft"] == 1 and n[5, "generate"] == 0
assert n[1, "versus"] >= 1, "early stopping asks after each shard"
assert all(n[t, "health"] == 1 and n[t, "bench"] == 1 for t in range(6)), "every model is examined"
assert n[5, "versus"] == 4, "M6 meets M1 to M4; M5 in its evaluation"
PY
stop calm

up_start chaos
RUN=$(cli run submit -f "$FLOW_DIR/demo/run.json" --quiet) || fail "submit"
done_jobs() { cli run show "$RUN" --json 2>/dev/null | python3 -c 'import json, sys
print(sum((x.get("counts") or {}).get("done", 0) for x in json.load(sys.stdin)["stages"]))' 2>/dev/null || echo 0; }
moved() { [ "$(done_jobs)" -gt "$1" ] || ended; }
killed=0
while [ $killed -lt "$KILLS" ] && ! ended; do
	agent=$(pgrep -P "$chaos_pid" -x pawl-worker | head -1)
	pid=$([ -n "$agent" ] && pgrep -P "$agent" -x pawl-worker | head -1)
	[ -n "$pid" ] && kill -9 "$pid" 2>/dev/null && killed=$((killed + 1))
	# The next blow falls on another job: three on one are its end.
	wait_for 120 moved "$(($(done_jobs) + 5))"
done
wait_for 600 ended
is "$(field state)" done "the run whose executor was killed $killed times"
is "$(field final_digest)" "$want" "its last model"
echo "killed $killed times, the same bytes"
