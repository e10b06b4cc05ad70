#!/bin/bash
# People review pairs: said, said anew, taken back, by several, under If-Match; agreement; export by API and
# command line; what they said is an input of the next pair job, fixed at its first claim; all of it outlives
# Redis.
. tests/flow/lib.sh
. tests/flow/worker.sh
start_redis
start_server
for name in ann bob; do
	post "$ADMIN" /tokens "{\"name\":\"$name\",\"role\":\"operator\"}"
	printf -v "${name^^}" %s "$(js 'b["secret"]')"
done
post "$ADMIN" /tokens '{"name":"vera","role":"viewer"}'; VERA=$(js 'b["secret"]')
put() { call "$1" PUT "/datasets/$2/rows/$3/review" -H 'Content-Type: application/json' -d "$4" "${@:5}"; }

spec='{"name":"w","seed":7,"iterations":2,"base_model":"/m","data":{"ift":[{"path":"/d/ift.jsonl"}],"eft":[{"path":"/d/eft.jsonl","format":"judge"}],"prompts":[{"path":"/d/p.jsonl"}]},"eft":{"mode":"given"},"sft":{"baseline":false},"prompts":{"generator":"file","count":4},"judge":{"samples":1,"min_valid":1},"pair":{"reviews":"both"}}'
post "$ADMIN" '/runs?dry_run=1' "${spec/both/perhaps}"
is "$(js 'b["errors"][0]["pointer"]')" /pair/reviews "a word that is none"
post "$ADMIN" /runs "$spec"
want 201 submit
run=$(js 'b["id"]')
post "$WORKER" /worker/register '{"name":"w","pid":1,"host":"h","engine":"cpu/1","code":"c1","threads":2,"memory_bytes":1}'
w=$(js 'b["worker"]')

python3 - "$FLOW_DIR" <<'PY'
import json, sys
def side(i, text, score): return {"index": i, "text": text, "tokens": [i + 5, 2], "score": score}
pairs = [{"id": f"p{i}", "prompt": f"Say {i}", "prompt_tokens": [1], "chosen": side(0, f"good {i}", 4.0),
          "rejected": side(1, f"bad {i}", 1.0), "margin": 3.0} for i in range(6)]
samples = [{"id": p["id"], "prompt": p["prompt"], "chosen": 0, "rejected": 1, "drop": None, "candidates": [
    {"index": k, "text": p[s]["text"], "n_tokens": 2, "finish": "stop", "mean": p[s]["score"], "judgements": []}
    for k, s in enumerate(("chosen", "rejected"))]} for p in pairs]
samples.insert(0, {"id": "t", "prompt": "Tie", "chosen": None, "rejected": None, "drop": "tie", "candidates": []})
for name, rows in (("pairs", pairs), ("samples", samples)):
    open(f"{sys.argv[1]}/{name}.jsonl", "w").write("".join(json.dumps(r, sort_keys=True) + "\n" for r in rows))
PY
put_rows() { # NAME N: digest in $NAME
	printf -v "$1" %s "$(tar_artifact "$FLOW_DIR/$1.tar" dataset data.jsonl "@$FLOW_DIR/$1.jsonl" "{\"rows\":$2}")"
	put_blob "$FLOW_DIR/$1.tar" "${!1}"
}
put_rows pairs 6
put_rows samples 7
for i in 0 1 2 3; do echo "{\"id\":\"p$i\",\"prompt\":\"Say $i\"}"; done >"$FLOW_DIR/rows.jsonl"
put_rows rows 4
model=$(tar_artifact "$FLOW_DIR/m.tar" checkpoint config.json '{}')
state=$(tar_artifact "$FLOW_DIR/s.tar" train_state state.json '{}')
put_blob "$FLOW_DIR/m.tar" "$model"
put_blob "$FLOW_DIR/s.tar" "$state"
finish() { # the claimed job
	local d="dataset:$rows:{\"rows\":4}" out
	case $stage in
	import) out=$(outputs "model:checkpoint:$model:" "ift:$d" "eft:$d" "prompts:$d") ;;
	eft) out=$(outputs "eft:$d" "eval:$d") ;;
	sft | dpo) out=$(outputs "model:checkpoint:$model:" "state:train_state:$state:") ;;
	reference) out=$(outputs "reflogps:$d") ;;
	prompts) out=$(outputs "prompts:$d") ;;
	generate) out=$(outputs "responses:$d") ;;
	judge) out=$(outputs "judgements:$d") ;;
	pair) out=$(outputs "pairs:dataset:$pairs:{\"rows\":6}" "samples:dataset:$samples:{\"rows\":7}") ;;
	eval) out=$(outputs "rm:$d") ;;
	esac
	complete "$out"
	want 200 "completion of $job"
}
drive() { # until JOB is claimed
	local n=0
	while [ $n -lt 60 ] && claim 5; do
		[ "$job" = "$1" ] && return 0
		finish
		n=$((n + 1))
	done
	fail "$1 was never handed out"
}
drive "$run.1.pair.0.0"
is "$(js '[i["role"] for i in b["job"]["inputs"]][-1]')" reviews "what people said is an input of the first pair job too"
is "$(js 'b["job"]["inputs"][-1]["meta"]["rows"]')" 0 "and empty"
finish

# Said in `samples`, seen in `pairs`; the tie holds nothing to review.
put "$ANN" "$samples" 1 '{"verdict":"agree","note":"<b onload=alert(1)>é"}'
want 201 "ann agrees"
is "$(js 'b["by"] + b["verdict"] + b["id"]')" annagreep0
put "$ANN" "$samples" 0 '{"verdict":"agree"}'
want 404 "a row without a pair"
is "$(js 'b["type"]')" no-pair
put "$ANN" "$samples" 99 '{"verdict":"agree"}'
want 404 "no such row"
put "$VERA" "$samples" 1 '{"verdict":"agree"}'
want 403 "a viewer"
put "$ANN" "$samples" 2 '{"verdict":"perhaps"}'
want 422 "no verdict"
put "$ANN" "$samples" 2 '{"verdict":"skip","extra":1}'
want 400 "an unknown member"
put "$ANN" "$samples" 2 "{\"verdict\":\"skip\",\"note\":\"$(printf 'x%.0s' {1..2001})\"}"
want 422 "a note too long"
call "$ANN" GET "/datasets/$pairs/rows/0/review"
want 200 "seen in the sibling"
is "$(js 'b["note"]')" '<b onload=alert(1)>é'
etag=$(header ETag)
call "$BOB" GET "/datasets/$pairs/rows/0/review"
want 404 "bob has said nothing"
put "$ANN" "$pairs" 0 '{"verdict":"disagree","blind":true}' -H "If-Match: $etag"
want 200 "said anew"
put "$ANN" "$pairs" 0 '{"verdict":"skip"}' -H "If-Match: $etag"
want 412 "by an old look"
call "$ANN" DELETE "/datasets/$pairs/rows/0/review" -H "If-Match: $etag"
want 412 "taken back by an old look"
put "$ANN" "$pairs" 0 '{"verdict":"agree"}'
put "$ANN" "$pairs" 1 '{"verdict":"disagree"}'
put "$ANN" "$pairs" 2 '{"verdict":"agree"}'
put "$ANN" "$pairs" 3 '{"verdict":"skip"}'
put "$ANN" "$pairs" 4 '{"verdict":"agree"}'
call "$ANN" DELETE "/datasets/$pairs/rows/4/review"
want 204 "taken back"
call "$ANN" DELETE "/datasets/$pairs/rows/4/review"
want 404 "taken back twice"
put "$BOB" "$samples" 2 '{"verdict":"disagree"}'
put "$BOB" "$samples" 3 '{"verdict":"disagree"}'
call "$VERA" GET "/datasets/$samples/reviews"
want 200 list
is "$(js 'sorted((i["n"], i["by"], i["verdict"]) for i in b["items"])')" '[[1, "ann", "agree"], [2, "ann", "disagree"], [2, "bob", "disagree"], [3, "ann", "agree"], [3, "bob", "disagree"], [4, "ann", "skip"]]' "what stands"
is "$(js '[b["summary"][k] for k in ("pairs", "reviewed", "split")]')" '[6, 3, 1]' summary
is "$(js '[(r["by"], r["reviewed"], r["skipped"], r["agreement"]["agree"]) for r in b["summary"]["reviewers"]]')" '[["ann", 3, 1, 2], ["bob", 2, 0, 0]]' reviewers
is "$(js '[(x["a"], x["b"], x["agreement"]["n"], x["agreement"]["agree"]) for x in b["summary"]["between"]]')" '[["ann", "bob", 2, 1]]' between
call "$VERA" GET "/datasets/$samples/reviews?by=bob&limit=1"
is "$(js '[len(b["items"]), b["next_cursor"]]')" '[1, "1"]' "a page of bob's"
call "$VERA" GET "/runs/$run/reviews"
is "$(js '[b["summary"]["pairs"], b["summary"]["reviewed"], len(b["iterations"]), b["iterations"][0]["iter"]]')" '[6, 3, 1, 1]' "of the run"
call "$VERA" GET "/runs/nothing/reviews"
want 404 "no run"
api GET "/audit?path=/review&limit=1000"
[ "$(js 'len([x for x in b["items"] if x["who"] == "ann" and x["status"] == 201])')" -ge 4 ] || fail "not audited: $body"

# Exports say the same, with the texts.
call "$VERA" GET "/datasets/$samples/reviews/export"
want 200 export
cp "$FLOW_DIR/body" "$FLOW_DIR/a.jsonl"
P="$PAWL_BUILD/pawl"
"$P" data reviews --run "$run" --server "$URL" --token-file "$DATA/tokens/admin" -o "$FLOW_DIR/b.jsonl" || fail "pawl data reviews"
python3 - "$FLOW_DIR" <<'PY' || fail "exports"
import json, sys
a, b = ([json.loads(l) for l in open(f"{sys.argv[1]}/{n}.jsonl")] for n in "ab")
assert a == b and len(a) == 6, (a, b)
one = next(r for r in a if r["by"] == "bob" and r["id"] == "p1")
assert (one["prompt"], one["chosen"], one["rejected"], one["margin"]) == ("Say 1", "good 1", "bad 1", 3.0), one
assert one["judge"] != one["human"]
PY
"$P" data reviews "${pairs:0:8}" --summary --server "$URL" --token-file "$DATA/tokens/admin" >"$FLOW_DIR/table" || fail "summary"
grep -q '^ann / bob *2' "$FLOW_DIR/table" && grep -q '^(most)' "$FLOW_DIR/table" || fail "table: $(cat "$FLOW_DIR/table")"

# The next pair job: agreed pairs pinned, others excluded, p2 is split; later words come too late for it.
reviews_of() { js '{i["role"]: i["digest"] for i in b["job"]["inputs"]}["reviews"]'; }
drive "$run.2.pair.0.0"
first=$(reviews_of)
is "$(js 'b["job"]["inputs"][-1]["meta"]')" '{"excluded": 1, "pinned": 1, "rows": 2}' "what was fixed"
work GET "/worker/blobs/$first"
tar xOf "$FLOW_DIR/body" data.jsonl >"$FLOW_DIR/fixed.jsonl"
python3 - "$FLOW_DIR/fixed.jsonl" <<'PY' || fail "rows of the input"
import json, sys
rows = [json.loads(l) for l in open(sys.argv[1])]
assert [(r["action"], r["iter"], r["pair"]["id"]) for r in rows] == [("pin", 1, "p0"), ("exclude", 1, "p1")], rows
assert rows[0]["pair"]["chosen"]["tokens"] == [5, 2]
PY
put "$ANN" "$pairs" 5 '{"verdict":"agree"}'
post "$WORKER" /worker/fail "{\"worker\":\"$w\",\"job\":\"$job\",\"token\":\"$token\",\"kind\":\"preempted\",\"reason\":\"gone\"}"
want 200 preempted
drive "$run.2.pair.0.0"
is "$(reviews_of)" "$first" "the second attempt's reviews"
finish
api GET "/jobs/$run.2.pair.0.0"
is "$(js '[i["digest"] for i in b["inputs"] if i["role"] == "reviews"]')" "[\"$first\"]" "the job's page"
post "$ADMIN" "/jobs/$run.2.pair.0.0/invalidate" '{}'
want 202 invalidate
drive "$run.2.pair.0.0"
second=$(reviews_of)
is "$(js 'b["job"]["inputs"][-1]["meta"]["pinned"]')" 2 "a fresh look after the job was declared invalid"
finish
while claim 1; do finish; done
wait_for 10 sh -c "curl -s -H 'Authorization: Bearer $ADMIN' $URL/api/v1/runs/$run | grep -q '\"state\":\"done\"'"

# Redis loses everything: the result made from the second look is still one, and every word stands.
call "$VERA" GET "/datasets/$samples/reviews"
before=$(js 'b')
stop server
redis-cli -s "$REDIS_SOCK" flushall >/dev/null
start_server
wait_for 10 sh -c "curl -s -H 'Authorization: Bearer $ADMIN' $URL/api/v1/runs/$run | grep -q '\"state\":\"done\"'"
grep -q result_outdated "$FLOW_DIR/server.log" && [ "$(grep -c result_outdated "$FLOW_DIR/server.log")" -gt 4 ] && fail "results were thrown away"
api GET "/jobs/$run.2.pair.0.0"
is "$(js 'b["state"]')" "done" "the pair job after a rebuild"
api GET "/datasets/$samples/reviews"
is "$(js 'b')" "$before" "reviews after a rebuild"
exit 0
