#!/bin/bash
# long
# Real Open Assistant trees as instruction and judge data, through `pawl up` to M3, with a real model of
# 260 thousand parameters. The paper's judge prompt alone is longer than its context of 512 tokens: the
# eft stage counts that and yields no rows, M1 learns from the instructions, and a command scores the
# candidates, that pairs exist. 120 SFT steps teach the model to end an answer; unfinished ones make no
# pairs. Prints the counters; the model need not get better.
. tests/flow/lib.sh
. tests/flow/up.sh
need python3
test_data models/stories260K/config.json
test_data datasets/oasst_trees/en_100_tree.jsonl
test_data datasets/self_instruct_seed_tasks.jsonl
unset PAWL_TEST_DATA

cat >"$FLOW_DIR/judge.py" <<'PY'
import json, sys
for line in sys.stdin: # More different words, more points.
    print(json.dumps({"score": min(5, len(set(json.loads(line)["response"].split())) // 4)}))
PY
python3 - "$TEST_DATA" "$FLOW_DIR" <<'PY' || fail "settings"
import json, sys
data, out = sys.argv[1:]
trees = [{"path": data + "/datasets/oasst_trees/en_100_tree.jsonl", "format": "oasst"}]
tasks = [{"path": data + "/datasets/self_instruct_seed_tasks.jsonl", "format": "prompts"}]
json.dump({"name": "oasst", "iterations": 2, "base_model": data + "/models/stories260K", "template": "plain",
    "data": {"ift": trees, "eft": trees, "prompts": tasks},
    "sft": {"lr": 2e-3, "lr_min": 2e-4, "epochs": 1000, "max_steps": 120, "batch": 8, "max_length": 512},
    "eft": {"mode": "build", "max_new_tokens": 32},
    "prompts": {"generator": "file", "count": 40},
    "generate": {"n": 4, "temperature": 1.0, "max_new_tokens": 400},
    "judge": {"kind": "command", "command": ["python3", out + "/judge.py"], "samples": 1, "min_valid": 1},
    "dpo": {"lr": 1e-5, "lr_min": 1e-6, "batch": 8, "max_length": 512},
    "eval": {"max_new_tokens": 16, "judge_samples": 1}}, open(out + "/run.json", "w"))
PY

up_start up
run_file "$FLOW_DIR/run.json"
is "$(cli run show "$RUN" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["state"])')" done "the run"
for job in 0.import.1.0 0.eft.0.0 1.pair.0.0 2.pair.0.0; do
	cli job show "$RUN.$job" --json >"$FLOW_DIR/job" || fail "job $job"
	python3 - "$job" "$FLOW_DIR/job" <<'PY' || fail "counters of $job"
import json, sys
found = {}
def look(v): # Counters stand beside each other under names with their stage's.
    if isinstance(v, dict):
        for k, x in v.items():
            if k.split(".")[0] in ("import", "eft", "pair") and "." in k: found[k] = x
            if k in ("left_out", "order", "reasons"): found[k] = x
            look(x)
    elif isinstance(v, list):
        for x in v: look(x)
look(json.load(open(sys.argv[2])))
print(sys.argv[1] + ":", json.dumps(found, sort_keys=True))
sys.exit(not found)
PY
done
stop up
