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

"$PAWL" demo world --data "$FLOW_DIR/demo" --quick >/dev/null || fail "no world"
python3 - "$FLOW_DIR/demo/run.json" "$PAWL" >"$FLOW_DIR/spec.json" <<'PY'
import json, sys
spec = json.load(open(sys.argv[1]))
spec["name"] = "by hand, in a browser"
spec["iterations"] = 1
spec["sft"].update(max_steps=400)
spec["prompts"].update(count=60)
spec["generate"].update(shard_size=20, chunk=10)
spec["judge"] = {"kind": "command", "command": [sys.argv[2], "demo", "score"]}
spec["dpo"].update(batch=8, epochs=1, shard_steps=3, save_every_steps=2)
spec["eval"].update(judge_samples=1)
print(json.dumps(spec))
PY

start up "$PAWL" up --data "$FLOW_DIR/stack" --listen "127.0.0.1:$(free_port)" --workers 1 --json
wait_for 30 grep -q '"login"' "$FLOW_DIR/up.out"
body=$(cat "$FLOW_DIR/up.out")
URL=$(js 'b["url"]')
curl_index || skip "the server has no web pages in it (make web)"
PAWL_JOURNAL="$FLOW_DIR/answers.browser" node tests/browser/real.mjs --url "$URL" --login "$(js 'b["login"]')" --spec "$FLOW_DIR/spec.json" \
	--out "$FLOW_DIR/shots" --timeout 600 || fail "the browser's way ended with code $?"
stop up
is "$code" 0 "exit code of pawl up"
