#!/bin/bash
# Judges that are ill: one that follows the position, one that loves length, one stuck on 4, one that
# talks gibberish. Each is found by the job `health`, which pauses the run and says why; a fair judge is
# not blamed.
. tests/flow/lib.sh
. tests/flow/up.sh
need python3

"$PAWL_BUILD/pawl" demo world --data "$FLOW_DIR/demo" --tiny >/dev/null || fail "demo world"
cat >"$FLOW_DIR/judge.py" <<'PY'
import json, sys, zlib
mode = sys.argv[1]
score = lambda text: zlib.crc32(" ".join(sorted(set(text.split()))).encode()) % 6 # repeating changes nothing
for line in sys.stdin:
    row = json.loads(line)
    if "a" in row:
        a, b = score(row["a"]), score(row["b"])
        out = {"winner": "a" if mode == "first" or a > b else "b" if b > a else "tie"}
    elif mode == "gibberish":
        out = {"text": "wibble"}
    else:
        text = row["response"]
        out = {"score": 4 if mode == "stuck" else min(5, len(text) // 12) if mode == "length" else score(text)}
    print(json.dumps(out), flush=True)
PY
spec() { # spec MODE
	python3 - "$FLOW_DIR/demo/run.json" "$FLOW_DIR/judge.py" "$1" >"$FLOW_DIR/$1.json" <<'PY'
import json, sys
spec = json.load(open(sys.argv[1]))
command = ["python3", sys.argv[2], sys.argv[3]]
spec["iterations"] = 1
spec["prompts"]["count"] = 16
spec["dpo"].update(epochs=1, batch=8)
spec["sft"].update(max_steps=24, baseline=False)
spec["judge"] = {"kind": "command", "command": command}
spec["eval"]["head_to_head"] = {"judge": "command", "command": command}
spec["health"] = {"run": True, "pause": True, "length_max": 0.7}
print(json.dumps(spec))
PY
}
show() { cli run show "$RUN" --json; }
state() { show | python3 -c 'import json, sys; print(json.load(sys.stdin)["state"])'; }
settled() { case "$(state)" in paused | done | failed) true ;; *) false ;; esac; }

up_start well
for mode in fair first length stuck gibberish; do
	spec $mode
	RUN=$(cli run submit -f "$FLOW_DIR/$mode.json" --quiet) || fail "submit $mode"
	wait_for 120 settled
	why=$(show | python3 -c 'import json, sys; print((json.load(sys.stdin).get("alarm") or {}).get("why", ""))')
	echo "$mode: $(state): $why"
	case $mode in
	fair) is "$(state)" done "the fair judge's run"; is "$why" "" "its alarm"; continue ;;
	first) want="the answer shown first wins" ;;
	length) want="longer answers score higher" ;;
	stuck) want="100 % of the scores are 4" ;;
	gibberish) want="100 % of the judgements cannot be read" ;;
	esac
	is "$(state)" paused "the run of the judge \"$mode\""
	case $why in *"$want"*) ;; *) fail "$mode: the reason is \"$why\", expected \"$want\"" ;; esac
	cli run resume "$RUN" --quiet || fail "resume"
	cli run cancel "$RUN" --quiet || fail "cancel"
done
