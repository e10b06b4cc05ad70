#!/bin/bash
# ProTeGi: from a judge prompt that says nothing of what makes a packing list good, a search finds one that
# orders held-out answers better by ten points and more, within its budget; three seeds, both bandits. The
# judge is a program that does what its prompt says and nothing else, the writer another that edits by rule,
# mostly for nothing or for the worse (tests/bench/protegi.sh has a trained model for a judge). Interrupted
# and killed the job ends with the same bytes; in a run its winner judges from there on.
. tests/flow/lib.sh
. tests/flow/up.sh
need python3
TOP=$(pwd) W=$TOP/$PAWL_BUILD/pawl-worker
cat >"$FLOW_DIR/settings.py" <<PY
import json, os, sys
judge = {"kind": "command", "command": ["python3", "-S", "$TOP/tests/flow/protegi_judge.py"], "chunk": 1000, "samples": 1, "min_valid": 1,
         "template": {"name": "packing", "pattern": "score", "min": 0, "max": 5, "integer": False,
                      "text": "Look at it.\nLonger is better.\n{prompt}\n<response>{response}</response>"}}
def search(bandit):
    return {"run": True, "rounds": 4, "beam": 2, "budget": 1500, "minibatch": 20, "paraphrases": 1, "bandit": bandit, "samples_per_eval": 20,
            "arms_per_step": 6, "max_children": 8, "writer": {"kind": "command", "command": ["python3", "-S", "$TOP/tests/flow/protegi_writer.py"]}}
PY

# job NAME SEED BANDIT: the stage by hand on that seed's world.
job() {
	[ -d "$FLOW_DIR/w$2" ] || "$PAWL_BUILD/pawl" demo world --data "$FLOW_DIR/w$2" --quick --seed "$2" >/dev/null || fail "world $2"
	PYTHONPATH=$FLOW_DIR python3 - "$FLOW_DIR" "$1" "$2" "$3" <<'PY'
import json, os, sys
from settings import judge, search
top, name, seed, bandit = sys.argv[1:]
for role, file in ("eft", "ranked"), ("eval", "eval"):
    os.makedirs(f"{top}/{name}/in/{role}")
    with open(f"{top}/{name}/in/{role}/data.jsonl", "w") as out:
        for i, line in enumerate(open(f"{top}/w{seed}/world/{file}.jsonl")):
            out.write(json.dumps({"id": f"{role}{i}", **json.loads(line)}) + "\n")
spec = {"judge": judge, "protegi": search(bandit), "eval": {"judge_samples": 1}}
json.dump({"id": "r1.0.protegi.0.0", "run": "r1", "stage": "protegi", "iter": 0, "shard": 0, "pass": 0, "seed": seed, "params": {},
           "inputs": [], "spec": spec}, open(f"{top}/{name}/job.json", "w"))
PY
}
by_hand() { "$W" stage "$FLOW_DIR/$1" >>"$FLOW_DIR/$1.log" 2>&1; }
digests() { (cd "$FLOW_DIR/$1/out" && sha256sum ./*.tar); }

for seed in 1 2 3; do
	bandit=ucb
	[ $seed = 3 ] && bandit=sr
	job "s$seed" $seed $bandit
	by_hand "s$seed" || fail "search of seed $seed"
	python3 - "$FLOW_DIR/s$seed/out" $bandit <<'PY' || fail "seed $seed"
import hashlib, json, sys
out = sys.argv[1]
rows = [json.loads(x) for x in open(out + "/candidates/data.jsonl")]
log = [json.loads(x) for x in open(out + "/trials/data.jsonl")]
start, best = rows[0], next(r for r in rows if r["state"] == "winner")
print("%s: held-out %.1f to %.1f, %d candidates, %d evaluations: %r" % (sys.argv[2], 100 * start["held_out"], 100 * best["held_out"],
      len(rows), sum(r["trials"] for r in rows), best["text"]))
assert best["held_out"] >= start["held_out"] + 0.10, "ten points"
assert sum(r["trials"] for r in rows) <= 1500, "within its budget"
assert all(r["why"] and not r["trials"] for r in rows if r["state"] == "refused"), "what drops a slot is not tried"
by = {r["id"]: r for r in rows}
for r in rows:
    assert r["state"] == "refused" or hashlib.sha256(r["text"].encode()).hexdigest() == r["sha256"]
    assert (r["parent"] is None) == (r["id"] == "c0") and (r["parent"] is None or by[r["parent"]]["round"] <= r["round"])
    tried = sum("c%d" % t["candidate"] == r["id"] for x in log if x["ask"] == "judge" for t in x["trials"])
    assert tried == r["trials"] and (r["score"] is None) == (tried == 0), "every trial is in the log"
    assert (r["held_out"] is not None) == (r["id"] in ("c0", best["id"])), "only start and winner meet what is held out"
worse = [r for r in rows if r["parent"] and r["score"] is not None and r["score"] < (by[r["parent"]]["score"] or 0)]
assert worse and best not in worse, "some edits do harm, and are dropped"
won = json.loads(open(out + "/template/data.jsonl").read())
assert won["template"]["text"] == best["text"] and won["sha256"] == best["sha256"] and won["template"]["version"] == 2
PY
done

cat "$FLOW_DIR"/s?/out/candidates/data.jsonl | grep -q '"state":"refused".*must contain' || fail "nothing was refused in three searches"

# Asked to stop as soon as it works, killed, and so on: the same bytes.
job rough 1 ucb
stops=0
for sig in TERM KILL TERM KILL none; do
	"$W" stage "$FLOW_DIR/rough" >>"$FLOW_DIR/rough.log" 2>&1 &
	pid=$!
	if [ $sig != none ]; then
		before=$(grep -c evaluations "$FLOW_DIR/rough.log")
		further() { [ "$(grep -c evaluations "$FLOW_DIR/rough.log")" -gt $((before + 3)) ] || ! kill -0 $pid 2>/dev/null; }
		wait_for 60 further
		kill -$sig $pid 2>/dev/null && stops=$((stops + 1))
	fi
	wait $pid 2>/dev/null
done
is "$(digests rough)" "$(digests s1)" "outputs of the job stopped $stops times"
[ $stops -ge 3 ] || fail "only $stops interruptions took place"

# In a run: planned after M1, and all that judges later uses what it found.
"$PAWL_BUILD/pawl" demo world --data "$FLOW_DIR/demo" --tiny >/dev/null || fail "demo world"
PYTHONPATH=$FLOW_DIR python3 - "$FLOW_DIR/demo" <<'PY' || fail "settings"
import json, sys
from settings import judge, search
spec = json.load(open(sys.argv[1] + "/run.json"))
spec.update(iterations=1, judge=judge, protegi=dict(search("ucb"), budget=700))
spec["sft"].update(max_steps=8, baseline=False)
spec["prompts"]["count"] = 16
spec["dpo"].update(epochs=1, batch=8)
spec["data"]["eft"].append({"path": sys.argv[1] + "/world/ranked.jsonl", "format": "ranked"})
json.dump(spec, open(sys.argv[1] + "/run.json", "w"))
PY
up_start run
RUN=$(cli run submit -f "$FLOW_DIR/demo/run.json" --quiet) || fail "submit"
# An untrained model answers gibberish: whether that makes pairs is no matter of this test.
paired() { cli job list "$RUN" --json >"$FLOW_DIR/jobs.json" && python3 - "$FLOW_DIR/jobs.json" <<'PY'
import json, sys
jobs = json.load(open(sys.argv[1]))
sys.exit(not any(j["stage"] == "pair" and j["state"] == "done" for j in (jobs["items"] if isinstance(jobs, dict) else jobs)))
PY
}
wait_for 600 paired
python3 - "$FLOW_DIR/jobs.json" <<'PY' || fail "which template judged"
import json, sys
jobs = json.load(open(sys.argv[1]))
jobs = jobs.get("items", jobs) if isinstance(jobs, dict) else jobs
found = [j for j in jobs if j["stage"] == "protegi"]
assert len(found) == 1 and {o["role"] for o in found[0]["outputs"]} == {"candidates", "trials", "template"}, found
want = found[0]["metrics"]["protegi.template"]
print("held-out %.2f to %.2f, template %.12s" % (found[0]["metrics"]["protegi.held_out_start"], found[0]["metrics"]["protegi.held_out"], want))
assert found[0]["metrics"]["protegi.held_out"] > found[0]["metrics"]["protegi.held_out_start"] and found[0]["metrics"]["protegi.winner"] != "c0"
used = [j["metrics"]["judge.by"]["sha256"] for j in jobs if j["stage"] == "judge"]
assert used and set(used) == {want}, used
m1 = next(j for j in jobs if j["stage"] == "eval" and j["iter"] == 0)
assert abs(m1["metrics"]["rm.pairwise_accuracy"] - found[0]["metrics"]["protegi.held_out"]) < 1e-9, "the evaluation measures the same judge"
PY
