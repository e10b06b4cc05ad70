#!/bin/bash
# A person's whole way in a browser on the real stack: one-time link, the form, a run watched live to
# its end, samples, comparison, download of the checkpoint whose digest is checked.
. tests/flow/lib.sh
need redis-server node python3
[ -d tests/browser/node_modules/playwright-core ] || skip "tests/browser has no node_modules (npm ci)"
node -e 'import("./tests/browser/browser.mjs").then(b => process.exit(b.chromiumPath() ? 0 : 1))' ||
	skip "no Chromium (apt-get install chromium-headless-shell)"
PAWL=$(realpath "$PAWL_BUILD/pawl")
curl_index() { curl -fsS "$URL/" | grep -q '/assets/main-'; }

"$PAWL" demo world "$FLOW_DIR/world" 1600 600 40 120 40 >/dev/null || fail "no world"
python3 - "$FLOW_DIR/world" "$PAWL" >"$FLOW_DIR/spec.json" <<'PY'
import json, sys
world, pawl = sys.argv[1:]
def files(name, form): return [{"path": f"{world}/{name}.jsonl", "format": form}]
print(json.dumps({
    "name": "by hand, in a browser", "iterations": 1, "base_model": f"{world}/base", "template": "chatml",
    "data": {"ift": files("ift", "pairs"), "eft": files("eft", "judge"), "eval": files("eval", "ranked"),
             "prompts": files("prompts", "auto"), "test": files("test", "auto")},
    "sft": {"lr": 2e-3, "lr_min": 2e-4, "batch": 16, "epochs": 1000, "max_steps": 400, "max_length": 256,
            "save_every_steps": 100},
    "eft": {"mode": "given"},
    "prompts": {"generator": "file", "count": 60, "rouge_max": 1.0},
    "generate": {"n": 4, "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 48, "shard_size": 20, "chunk": 10},
    "judge": {"kind": "command", "command": [pawl, "demo", "score"]},
    "dpo": {"lr": 1e-4, "lr_min": 1e-5, "batch": 8, "shard_steps": 3, "save_every_steps": 2, "max_length": 256},
    "eval": {"max_new_tokens": 48, "judge_samples": 1, "scorer": {"command": [pawl, "demo", "score"]},
             "head_to_head": {"judge": "command", "command": [pawl, "demo", "compare"]}},
}))
PY

start up "$PAWL" up --data "$FLOW_DIR/stack" --listen "127.0.0.1:$(free_port)" --workers 1 --json
wait_for 30 grep -q '"login"' "$FLOW_DIR/up.out"
body=$(cat "$FLOW_DIR/up.out")
URL=$(js 'b["url"]')
curl_index || skip "the server has no web pages in it (make web)"
node tests/browser/real.mjs --url "$URL" --login "$(js 'b["login"]')" --spec "$FLOW_DIR/spec.json" \
	--out "$FLOW_DIR/shots" --timeout 600 || fail "the browser's way ended with code $?"
stop up
is "$code" 0 "exit code of pawl up"
