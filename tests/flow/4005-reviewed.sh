#!/bin/bash
# What people say of pairs, with real workers: a run that is done, reviewed, and its pair job declared
# invalid: the pair they disagree with is gone, the one they agree with is kept as it was, training has
# been done again with that; and once more without a new word: the same bytes.
. tests/flow/lib.sh
start_redis
start_server
P=$PAWL_BUILD/pawl
"$P" demo world --data "$FLOW_DIR" --tiny >/dev/null || fail "no world"
cli() { "$P" "$@" --server "$URL" --token-file "$DATA/tokens/admin"; }
start worker "$PAWL_BUILD/pawl-worker" --server "$URL" --token-file "$DATA/tokens/worker" --worker-work-dir "$FLOW_DIR/work"

small_run reviewed
sed -i 's/"iterations":1,/"iterations":1,"pair":{"reviews":"both"},"reuse":false,/' "$FLOW_DIR/run.json"
run=$(cli run submit -f "$FLOW_DIR/run.json" --wait --quiet 2>"$FLOW_DIR/submit.log" | head -1)
[ -n "$run" ] || fail "no run: $(cat "$FLOW_DIR/submit.log")"
job=$run.1.pair.0.0
pairs_of() { # digest of the pairs, and their lines to $FLOW_DIR/$1
	api GET "/jobs/$job"
	pairs=$(js '[o["digest"] for o in b["outputs"] if o["role"] == "pairs"][0]')
	cli data export "$pairs" -o "$FLOW_DIR/$1" || fail "export"
}
figures() { api GET "/jobs/$job"; js '[b["metrics"].get("pair." + k) for k in ("excluded", "pinned", "carried", "kept")]'; }
again() { # GENERATION: the pair job and all that follows, once more
	local g=$1
	cli job invalidate "$job" >/dev/null || fail "invalidate"
	over() { api GET "/runs/$run" && [ "$(js 'b["state"]')" = "done" ] && api GET "/jobs/$job" && [ "$(js '[b["generation"], b["state"]]')" = "[$g, \"done\"]" ]; }
	wait_for 120 over
}
pairs_of first
n=$(wc -l <"$FLOW_DIR/first")
[ "$n" -ge 2 ] || fail "only $n pairs"
is "$(figures)" "[0, 0, 0, $n]" "nothing said yet"
api GET "/runs/$run"
before=$(js 'b["final_digest"]')

put() { api PUT "/datasets/$pairs/rows/$1/review" -H 'Content-Type: application/json' -d "{\"verdict\":\"$2\"}"; want 201 "$2"; }
put 0 agree
put 1 disagree
again 1
pairs_of second
is "$(figures)" "[1, 1, 0, $((n - 1))]" "figures"
second=$pairs
python3 - "$FLOW_DIR" <<'PY' || fail "pairs after the review"
import json, sys
a, b = ([json.loads(l) for l in open(f"{sys.argv[1]}/{n}")] for n in ("first", "second"))
assert len(b) == len(a) - 1 and a[1] not in b
assert b[0].pop("pinned") is True and b[0] == a[0], (a[0], b[0])
assert b[1:] == a[2:]
PY
api GET "/runs/$run"
[ "$(js 'b["final_digest"]')" != "$before" ] || fail "the model was not trained again"
after=$(js 'b["final_digest"]')
again 2
pairs_of third
is "$pairs" "$second" "pairs of the same words"
api GET "/runs/$run"
is "$(js 'b["final_digest"]')" "$after" "the model of the same words"
api GET "/datasets/$pairs/reviews"
is "$(js '[(i["n"], i["verdict"]) for i in b["items"]]')" '[[0, "agree"]]' "what was said of a pair holds for it where it was made again"
api GET "/runs/$run/reviews"
is "$(js '[b["summary"]["reviewed"], b["summary"]["agreement"]["agree"]]')" '[2, 1]' "what they excluded does not make them agree more"
exit 0
