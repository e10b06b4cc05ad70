#!/bin/bash
# long
# A real trained model learns a shape from its own poems: 600 prompts, N = 4, two DPO iterations with
# a `command` judge. SEEDS are run one after the other; each must end with at least 95 % right-shaped
# quatrains at temperature 1 on prompts that nothing was trained on.
. tests/flow/lib.sh
. tests/flow/up.sh
need python3
test_data models/poem_zh_750K/config.json
test_data datasets/poetry_corpus_zh.json
unset PAWL_TEST_DATA # The programs read PAWL_* as settings.

python3 - "$TEST_DATA" "$FLOW_DIR" "$PWD/tests/flow/poem_judge.py" <<'PY' || fail "data"
import json, random, re, sys
data, out, judge = sys.argv[1:]
corpus = json.load(open(data + "/datasets/poetry_corpus_zh.json"))
ask = lambda topic: "主题：%s 体裁：五绝\n" % topic
lines = lambda text: [len(x) for x in re.split("[，。！？；、\n]", text) if x]
ift = [{"prompt": ask(p["title"]), "response": p["content"]} for p in corpus
       if lines(p["content"]) == [5] * 4][:200]
taken = {r["prompt"] for r in ift}
topics = sorted({p["title"] for p in corpus if 2 <= len(p["title"]) <= 4} )
topics = [t for t in topics if re.fullmatch("[\u4e00-\u9fff]+", t) and ask(t) not in taken]
random.Random(1).shuffle(topics)
test, pool = topics[:300], topics[300:1600]
assert len(pool) >= 1200, len(pool)
for name, rows in (("ift", ift), ("test", [{"prompt": ask(t)} for t in test]),
                   ("prompts", [{"prompt": ask(t)} for t in pool])):
    with open("%s/%s.jsonl" % (out, name), "w") as f:
        f.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
src = lambda name, fmt: [{"path": "%s/%s.jsonl" % (out, name), "format": fmt}]
program = ["python3", judge]
spec = {"name": "poem", "iterations": 2, "base_model": data + "/models/poem_zh_750K", "template": "plain",
        "data": {"ift": src("ift", "pairs"), "prompts": src("prompts", "prompts"),
                 "test": src("test", "prompts"), "lang": ""},
        # M1 is the model as it came, but for two steps that hardly move it.
        "sft": {"lr": 1e-6, "lr_min": 1e-6, "max_steps": 2, "baseline": False, "max_length": 128},
        "eft": {"mode": "given"},
        "prompts": {"generator": "file", "count": 600},
        "generate": {"n": 4, "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 64},
        "judge": {"kind": "command", "command": program, "samples": 1, "min_valid": 1},
        "dpo": {"lr": 2e-4, "lr_min": 2e-5, "beta": 0.1, "epochs": 4, "batch": 16, "nll_coef": 0.2,
                "max_length": 128},
        "eval": {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 64, "judge_samples": 1,
                 "scorer": {"command": program}}}
json.dump(spec, open(out + "/spec.json", "w"), ensure_ascii=False)
PY

up_start up
bad=0
for seed in ${SEEDS:-1 2}; do
	python3 -c 'import json, sys
s = json.load(open(sys.argv[1])); s["seed"] = int(sys.argv[2]); json.dump(s, open(sys.argv[3], "w"))' \
		"$FLOW_DIR/spec.json" "$seed" "$FLOW_DIR/run.json"
	run_file "$FLOW_DIR/run.json"
	for t in 0 1 2; do
		cli data export --run "$RUN" --stage eval --iter $t --role generations -o "$FLOW_DIR/eval.$t" ||
			fail "export of evaluation $t"
	done
	for t in 1 2; do cli data export --run "$RUN" --stage pair --iter $t --role pairs -o "$FLOW_DIR/pairs.$t" ||
		fail "export of pairs $t"; done
	python3 - "$FLOW_DIR" "$seed" <<'PY' || bad=1
import json, sys
out, seed = sys.argv[1:]
rows = lambda name: [json.loads(line) for line in open("%s/%s" % (out, name))]
share = []
for t in range(3):
    truth = [r["sampled"]["truth"]["correct"] for r in rows("eval.%d" % t)]
    share.append(sum(truth) / len(truth))
pairs = [len(rows("pairs.%d" % t)) for t in (1, 2)]
print("seed %s: right shape at temperature 1, %d prompts: M1 %.1f %%, M2 %.1f %%, M3 %.1f %%; pairs %d, %d of 600"
      % (seed, len(truth), *[100 * x for x in share], *pairs))
sys.exit(0 if share[2] >= 0.95 and share[2] > share[0] and len(truth) >= 200 else 1)
PY
done
stop up
is $bad 0 "seeds below 95 %"
