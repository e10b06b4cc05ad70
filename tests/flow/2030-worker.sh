#!/bin/bash
# The worker protocol by curl: claim, beat, log, blobs, complete, stale tokens, reuse of results; then
# ranges of a download and the rows of a dataset made that way.
. tests/flow/lib.sh
. tests/flow/worker.sh
start_redis
start_server

spec='{"name":"w","seed":7,"iterations":1,"base_model":"/m","data":{"ift":[{"path":"/d/ift.jsonl"}],"eft":[{"path":"/d/eft.jsonl","format":"judge"}],"prompts":[{"path":"/d/p.jsonl"}]},"eft":{"mode":"given"},"sft":{"baseline":false},"prompts":{"generator":"file","count":4}}'
post "$ADMIN" /runs "$spec" -H 'Idempotency-Key: one'
want 201 submit
run=$(js 'b["id"]')
first=$body
[ -f "$DATA/store/docs/runs/$run/record.json" ] || fail "the run's record is not in the store"
post "$ADMIN" /runs "$spec" -H 'Idempotency-Key: one'
want 201 replay
is "$(js 'b["id"]')" "$run" "run of a replayed submit"
is "$(header Idempotency-Replayed)" true
post "$ADMIN" /runs '{"name":"other","base_model":"/m","data":{"ift":[{"path":"/d/x"}]}}' -H 'Idempotency-Key: one'
want 422 "same key, other body"
is "$(js 'b["type"]')" idempotency

post "$ADMIN" '/runs?dry_run=1' '{"name":3,"dpo":{"beta":-1},"nonsense":1}'
want 200 "dry run with errors"
for p in /name /dpo/beta /nonsense; do is "$(js "any(e['pointer'] == '$p' for e in b['errors'])")" true "error at $p"; done
is "$(js 'b["plan"]')" null plan
post "$ADMIN" '/runs?dry_run=1' "$spec"
want 200 "dry run"
[ "$(js 'b["plan"]["total_jobs"]')" -gt 3 ] || fail "plan is too small: $body"
post "$ADMIN" /runs '{"name":3}'
want 422 "submit with errors"
api GET /runs
is "$(js 'len(b["items"])')" 1 "runs after refused submits"

post "$WORKER" /worker/register '{"name":"Spot VM","pid":1,"host":"h","engine":"cpu/1","code":"c1","threads":2,"memory_bytes":1,"labels":{"a":"b"},"price_per_hour":1.5,"stages":[]}'
want 201 register
w=$(js 'b["worker"]')
is "$(js 'b["beat_ms"]')" 10000
post "$WORKER" /worker/claim '{"worker":"nobody-000000","wait_s":0}'
want 404
is "$(js 'b["type"]')" unknown-worker

claim || fail "nothing to claim"
is "$stage" import
is "$(js 'type(b["job"]["seed"]).__name__ + b["job"]["seed"]')" str7 "seed as text"
[ "$(js 'b["job"]["spec"]["dpo"]["beta"]')" = 0.1 ] || fail "spec lacks defaults"

# Beats, logs, tokens.
post "$WORKER" /worker/beat "{\"worker\":\"$w\",\"job\":\"$job\",\"token\":\"$token\",\"progress\":{\"done\":1,\"total\":2,\"unit\":\"file\"},\"metrics\":[{\"step\":1,\"loss\":0.5},{\"step\":2,\"loss\":0.25}]}"
want 200 beat
is "$(js 'b["action"]')" continue
post "$WORKER" /worker/beat "{\"worker\":\"$w\",\"job\":\"$job\",\"token\":\"1.0000000000000000\"}"
want 409 "beat with a wrong token"
is "$(js 'b["type"]')" stale
api GET "/metrics/series?job=$job&name=loss"
is "$(js 'b["points"]')" "[[1, 0.5], [2, 0.25]]" series
log() { work POST "/worker/log?job=$job&token=$token&attempt=$attempt&offset=$1" -H 'Content-Type: application/octet-stream' --data-binary "$2"; }
log 0 'hello '
want 200 log
log 6 'world'
log 6 'world'
want 200 "repeated log"
log 99 'x'
want 409 "gap in the log"
is "$(header X-Log-Size)" 11
api GET "/jobs/$job/attempts/1/log?offset=-5"
is "$body" world "log tail"
is "$(header X-Log-Size)/$(header X-Log-Offset)" 11/6

# Outputs must be in the store; the digest of an upload is checked.
base=$(tar_artifact "$FLOW_DIR/base.tar" checkpoint config.json '{"base":1}')
complete "$(outputs "model:checkpoint:$base:")"
want 422 "completion without bytes"
is "$(js 'b["type"]')" missing-blob
put_blob "$FLOW_DIR/base.tar" "${base%?}$( [ "${base: -1}" = 0 ] && echo 1 || echo 0)"
want 422 "upload under another digest"
put_blob "$FLOW_DIR/base.tar" "$base"
want 201 upload
put_blob "$FLOW_DIR/base.tar" "$base"
want 200 "upload again"
work GET "/worker/blobs/$base"
cmp "$FLOW_DIR/base.tar" "$FLOW_DIR/body" || fail "downloaded bytes differ"
# Volumes are what the archive itself names, not what a worker says of them.
read -r large volume size <<<"$(VOLUME=1 tar_artifact "$FLOW_DIR/large.tar" checkpoint config.json '{"large":1}')"
put_blob "$FLOW_DIR/large.tar" "$large"
want 201 "upload of what names a volume"
said() { outputs "model:checkpoint:$large:" | sed "s/\"size\":1/\"size\":1,\"volumes\":$1/"; }
truth="[{\"digest\":\"$volume\",\"size\":$size}]"
complete "$(said "$truth")"
want 422 "completion without the volume"
put_blob "$FLOW_DIR/large.tar.v001" "$volume"
want 201 "upload of the volume"
for lie in "[]" "[{\"digest\":\"$base\",\"size\":$size}]" "[{\"digest\":\"$volume\",\"size\":1}]" "$(echo "$truth" | sed 's/\(.*\)\]/\1,&/; s/,\[/,/')" '"all"'; do
	complete "$(said "$lie")"
	want 400 "completion that says $lie"
	case $(js 'b["detail"]') in *'"model": volumes'*) ;; *) fail "the field is not named: $body" ;; esac
	post "$WORKER" /worker/beat "{\"worker\":\"$w\",\"job\":\"$job\",\"token\":\"$token\",\"checkpoint\":{\"outputs\":{\"model\":{\"digest\":\"$large\",\"volumes\":$lie}}}}"
	want 422 "checkpoint that says $lie"
done
complete "$(outputs "model:checkpoint:$base:" | sed "s/\"size\":1/\"size\":1,\"volumes\":$truth/")"
want 400 "a volume of what has none"
post "$WORKER" /worker/beat "{\"worker\":\"$w\",\"job\":\"$job\",\"token\":\"$token\",\"checkpoint\":{\"outputs\":{\"model\":{\"digest\":\"$large\",\"volumes\":$truth}}}}"
want 200 "checkpoint that says the truth"
complete "$(outputs "model:checkpoint:$base:")"
want 200 complete
[ -n "$(ls "$DATA/store/docs/jobs/$run/")" ] || fail "no manifest"
complete "$(outputs "model:checkpoint:$base:")"
want 200 "completion repeated"
is "$(js 'b["again"]')" true
post "$WORKER" /worker/beat "{\"worker\":\"$w\",\"job\":\"$job\",\"token\":\"$token\"}"
want 409 "beat after completion"

# The rest of the run, whatever the plan asks for.
rows() { python3 -c 'import json
for i in range(4): print(json.dumps({"id": "p%d" % i, "prompt": "Say %d" % i, "score": i, "response": "x" * (i + 1)}, sort_keys=True))'; }
data=$(tar_artifact "$FLOW_DIR/data.tar" dataset data.jsonl "$(rows)
" '{"rows":4}')
put_blob "$FLOW_DIR/data.tar" "$data"
n=0
while claim 3; do
	n=$((n + 1))
	[ $n -lt 60 ] || fail "the run has no end"
	case $stage in sft | dpo)
		model=$(tar_artifact "$FLOW_DIR/m.tar" checkpoint config.json "{\"job\":\"$stage.$shard\"}")
		state=$(tar_artifact "$FLOW_DIR/s.tar" train_state state.json "{\"job\":\"$stage.$shard\"}")
		put_blob "$FLOW_DIR/m.tar" "$model"
		put_blob "$FLOW_DIR/s.tar" "$state"
		;;
	esac
	d="dataset:$data:{\"rows\":4}"
	case $stage in
	import) out=$(outputs "ift:$d" "eft:$d" "prompts:$d") ;;
	eft) out=$(outputs "eft:$d" "eval:$d") ;;
	sft) out=$(outputs "model:checkpoint:$model:" "state:train_state:$state:") ;;
	reference) out=$(outputs "reflogps:$d") ;;
	dpo) out=$(outputs "model:checkpoint:$model:" "state:train_state:$state:") ;;
	prompts) out=$(outputs "prompts:$d") ;;
	generate) out=$(outputs "responses:$d") ;;
	judge) out=$(outputs "judgements:$d") ;;
	pair) out=$(outputs "pairs:$d" "samples:$d") ;;
	eval) out=$(outputs "generations:$d" "rm:$d") ;;
	esac
	complete "$out" '{"h2h.opponent":"M1","h2h.win":6,"h2h.tie":2,"h2h.loss":2}'
	want 200 "completion of $job"
done
wait_for 10 sh -c "curl -s -H 'Authorization: Bearer $ADMIN' $URL/api/v1/runs/$run | grep -q '\"state\":\"done\"'"
api GET "/runs/$run"
is "$(js 'b["state"]')" "done" "run"
is "$(js 'b["models"][-1]["name"]')" M2 "last model"
is "$(js 'b["final_digest"] == b["models"][-1]["checkpoint"]')" true "final digest"
api GET "/compare?run=$run"
is "$(js 'round(b["pairs"][0]["rate"], 3)')" 0.7 "win rate"
[ "$(js 'b["pairs"][0]["low"] < 0.7 < b["pairs"][0]["high"]')" = true ] || fail "interval: $body"
api GET "/runs/$run/attempts"
is "$(js 'len(b["items"])')" $((n + 1)) attempts
api GET "/checkpoints?run=$run&limit=1"
is "$(js 'len(b["items"])')" 1 "checkpoints of a page of one"
is "$(header Link)" "</api/v1/checkpoints?run=$run&limit=1&cursor=1>; rel=\"next\"" "link to the next page"
api GET "/checkpoints?run=$run"
[ "$(js 'len([c for c in b["items"] if c["name"] == "M2"])')" -ge 1 ] || fail "no M2: $body"

# Rows with filters and a cursor; export; statistics.
api GET "/datasets?run=$run&stage=pair"
is "$(js 'len(b["items"])')" 2 datasets
api GET "/datasets/$data/rows?min_score=1&limit=2&sort=-score"
is "$(js '[r["id"] for r in b["items"]]')" '["p3", "p2"]' "first page"
api GET "/datasets/$data/rows?min_score=1&limit=2&sort=-score&cursor=$(js 'b["next_cursor"]')"
is "$(js '[r["id"] for r in b["items"]]')" '["p1"]' "second page"
is "$(js 'b["next_cursor"]')" null
api GET "/datasets/$data/rows?q=SAY%202"
is "$(js '[r["n"] for r in b["items"]]')" '[2]' "search"
api GET "/datasets/$data/rows/1"
is "$(js 'b["prompt"]')" "Say 1"
api GET "/datasets/$data/rows/4"
want 404
api GET "/datasets/$data/export?max_score=1"
is "$(printf %s "$body" | wc -l | tr -d ' ')" 1 "lines exported (last without line feed in \$body)"
api GET "/datasets/$data/stats"
is "$(js 'b["scores"]["mean"]')" 1.5 mean
api GET "/datasets/$base"
want 400 "a checkpoint is no dataset"

# Ranges.
size=$(stat -c %s "$FLOW_DIR/base.tar")
part() { api GET "/checkpoints/$base/content" -H "Range: $1" "${@:2}"; got=$(stat -c %s "$FLOW_DIR/body"); }
part bytes=0-99
want 206; is "$got $(header Content-Range)" "100 bytes 0-99/$size"
part "bytes=$((size - 10))-$((size + 90))"
want 206; is "$got $(header Content-Range)" "10 bytes $((size - 10))-$((size - 1))/$size"
cmp "$FLOW_DIR/body" <(tail -c 10 "$FLOW_DIR/base.tar") || fail "last bytes differ"
part bytes=-5
want 206; is "$got" 5
part "bytes=$size-"
want 416; is "$(header Content-Range)" "bytes */$size"
part bytes=0-1,4-5
want 200; is "$got" "$size"
etag=$(header ETag)
part bytes=0-9 -H "If-Range: $etag"
want 206
part bytes=0-9 -H 'If-Range: "other"'
want 200
api GET "/checkpoints/$base/content" -H "If-None-Match: $etag"
want 304
status=$(curl -sS -I -o "$FLOW_DIR/head" -w '%{http_code}' -H "Authorization: Bearer $ADMIN" "$URL/api/v1/checkpoints/$base/content")
want 200 HEAD
grep -qi "^content-length: $size" "$FLOW_DIR/head" || fail "HEAD without length"
head -c 100 "$FLOW_DIR/base.tar" >"$FLOW_DIR/resumed.tar"
curl -sS -C - -o "$FLOW_DIR/resumed.tar" -H "Authorization: Bearer $ADMIN" "$URL/api/v1/checkpoints/$base/content"
cmp "$FLOW_DIR/base.tar" "$FLOW_DIR/resumed.tar" || fail "curl -C - gives other bytes"
api GET "/checkpoints/$(printf '0%.0s' $(seq 64))/content"
want 404

# ETags of JSON; gzip.
api GET "/runs/$run"
etag=$(header ETag)
api GET "/runs/$run" -H "If-None-Match: $etag"
want 304 "unchanged run"
plain=$(curl -s -H "Authorization: Bearer $ADMIN" "$URL/api/v1/runs/$run" | sha256sum)
packed=$(curl -s --compressed -H "Authorization: Bearer $ADMIN" "$URL/api/v1/runs/$run" | sha256sum)
is "$packed" "$plain" "gzip answer"

# The same work again: only the imports run, the rest is settled by what is there.
post "$ADMIN" /runs "$spec" -H 'Idempotency-Key: two'
want 201
run2=$(js 'b["id"]')
n=0
while claim 3; do
	n=$((n + 1))
	d="dataset:$data:{\"rows\":4}"
	is "$stage" import "stage of a job that should have been reused ($job)"
	case $shard in
	0) out=$(outputs "model:checkpoint:$base:") ;;
	*) out=$(outputs "ift:$d" "eft:$d" "prompts:$d") ;;
	esac
	complete "$out"
	want 200 "completion of $job"
done
is $n 2 "jobs run by hand the second time"
wait_for 10 sh -c "curl -s -H 'Authorization: Bearer $ADMIN' $URL/api/v1/runs/$run2 | grep -q '\"state\":\"done\"'"

# Operators: cancel a run, drain a worker, fail a job.
post "$ADMIN" /runs "$spec" -H 'Idempotency-Key: three'
run3=$(js 'b["id"]')
claim || fail "nothing to claim"
post "$WORKER" /worker/fail "{\"worker\":\"$w\",\"job\":\"$job\",\"token\":\"$token\",\"kind\":\"preempted\",\"reason\":\"notice\"}"
want 200 preempted
api GET "/jobs/$job/attempts"
is "$(js 'b["items"][0]["end"] + ":" + b["items"][0]["reason"]')" preempted:notice
post "$ADMIN" "/runs/$run3/pause" '{}'
want 202; is "$(js 'b["state"]')" paused
claim 0 && fail "claimed a job of a paused run"
post "$ADMIN" "/runs/$run3/resume" '{}'
want 202
claim || fail "nothing after resume"
post "$ADMIN" "/runs/$run3/cancel" '{}'
want 202
post "$WORKER" /worker/beat "{\"worker\":\"$w\",\"job\":\"$job\",\"token\":\"$token\"}"
is "$(js 'b["action"]')" cancel
post "$WORKER" /worker/fail "{\"worker\":\"$w\",\"job\":\"$job\",\"token\":\"$token\",\"kind\":\"preempted\"}"
wait_for 10 sh -c "curl -s -H 'Authorization: Bearer $ADMIN' $URL/api/v1/runs/$run3 | grep -q '\"state\":\"cancelled\"'"
grep -c '"what"' "$DATA/store/docs/runs/$run3/decisions.jsonl" | grep -q 3 || fail "decisions are not all in the store"
post "$ADMIN" "/workers/$w/drain" '{}'
want 202
post "$WORKER" /worker/beat "{\"worker\":\"$w\"}"
is "$(js 'b["action"]')" drain
api GET /workers
is "$(js 'b["items"][0]["state"]')" draining

# rebuild: an empty Redis gets every run back; twice is once.
stop server
redis-cli -s "$REDIS_SOCK" flushall >/dev/null
rebuild() { "$PAWL_BUILD/pawl-server" rebuild --server-redis "unix:$REDIS_SOCK" --server-data-dir "$DATA" 2>>"$FLOW_DIR/rebuild.log"; }
is "$(rebuild | cut -d, -f1)" "rebuilt: 3 runs" "rebuild"
is "$(rebuild | cut -d, -f1-2)" "rebuilt: 0 runs, 0 jobs settled" "second rebuild"
start_server
api GET "/runs/$run"
is "$(js 'b["state"] + b["models"][-1]["name"]')" doneM2 "first run after rebuild"
is "$(js 'b["progress"]')" "$(printf %s "$first" >/dev/null; js 'b["progress"]')"
api GET "/runs/$run2"
is "$(js 'b["state"]')" "done" "second run after rebuild"
api GET "/runs/$run3"
is "$(js 'b["state"]')" cancelled "cancelled run after rebuild"
post "$ADMIN" /runs "$spec" -H 'Idempotency-Key: one'
is "$(js 'b["id"]')" "$run" "idempotency after rebuild"
api GET "/datasets/$data/stats"
want 200 "dataset after rebuild"
exit 0
