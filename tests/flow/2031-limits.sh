#!/bin/bash
# Pools, quotas, priorities, draining and invalidation by API and command line; a rebuild of an empty
# Redis brings all of it back.
. tests/flow/lib.sh
. tests/flow/worker.sh
start_redis
start_server
cli() { "$PAWL_BUILD/pawl" "$@" --server "$URL" --token-file "$DATA/tokens/admin"; }

spec='{"name":"w","seed":7,"iterations":0,"base_model":"/m","data":{"ift":[{"path":"/d/ift.jsonl"}]},"eft":{"mode":"given"},"sft":{"baseline":false},"pools":["sft=h100"],"max_running":1}'
post "$ADMIN" '/runs?dry_run=1' "${spec/sft=h100/stf=h100}"
is "$(js 'b["errors"][0]["pointer"]')" /pools "error of an unknown stage"
post "$ADMIN" /runs "$spec"
want 201 submit
run=$(js 'b["id"]') owner=$(js 'b["owner"]')
cli quota set "$owner" --runs 1 >/dev/null || fail "quota set"
post "$ADMIN" /runs "$spec"
want 429 "a run beyond the quota"
is "$(cli quota list --json | python3 -c 'import json,sys; q = json.load(sys.stdin)[0]; print(q["used_runs"], q["runs"])')" "1 1" quota
cli quota set "$owner" --runs x 2>/dev/null && fail "a quota of x was taken"

register() { post "$WORKER" /worker/register "{\"name\":\"$1\",\"pid\":1,\"host\":\"h\",\"engine\":\"cpu/1\",\"code\":\"c1\",\"threads\":2,\"memory_bytes\":1,\"labels\":{},\"price_per_hour\":2,\"stages\":[],\"pools\":$2}"; w=$(js 'b["worker"]'); }
register plain '[]'

# One job at a time, and the one with priority first.
cli job set "$run.0.import.1.0" --priority 9 >/dev/null || fail "job set"
claim || fail "nothing to claim"
is "$job" "$run.0.import.1.0" "first job"
claim 0 && fail "a second job although one may run"
api GET "/jobs/$run.0.import.0.0"
is "$(js 'b["wait_reason"]')" "the run may have 1 jobs running, and has"
cli run set "$run" --max-running 4 >/dev/null || fail "run set"
data=$(tar_artifact "$FLOW_DIR/ift.tar" dataset data.jsonl '{"a":1}
' '{"rows":1}')
put_blob "$FLOW_DIR/ift.tar" "$data"
complete "$(outputs "ift:dataset:$data:{\"rows\":1}")"
want 200 "first completion"
claim || fail "nothing to claim"
base=$(tar_artifact "$FLOW_DIR/base.tar" checkpoint config.json '{"base":1}')
put_blob "$FLOW_DIR/base.tar" "$base"
complete "$(outputs "model:checkpoint:$base:")"
want 200 "second completion"

# SFT wants an h100.
claim 0 && fail "a job of a pool went to a worker that is not in it"
api GET "/runs/$run/jobs?stage=sft"
is "$(js 'b["items"][0]["wait_reason"]')" 'none of 1 workers takes the stage "sft" in the pool "h100"'
register big '["h100"]'
cli run drain "$run" >/dev/null || fail "drain"
claim 0 && fail "a draining run began a job"
cli run resume "$run" >/dev/null || fail "resume"
cli worker drain "$w" >/dev/null || fail "worker drain"
claim 0 && fail "a draining worker got a job"
cli worker resume "$w" >/dev/null || fail "worker resume"
claim || fail "the worker of the pool got nothing"
is "$stage" sft
complete "$(outputs "model:checkpoint:$base:" "state:train_state:$base:")"
want 200 "third completion"
run_done() { api GET "/runs/$run"; [ "$(js 'b["state"]')" = "$1" ]; }
wait_for 20 run_done "done"

# The imported data were wrong: import and SFT again, the base model not.
cli job invalidate "$run.0.sft.9.0" 2>/dev/null && fail "an unknown job was invalidated"
cli job invalidate "$run.0.import.1.0" >/dev/null || fail "invalidate"
run_done active || fail "the run is not open again: $body"
claim || fail "the invalid job is not offered again"
is "$job" "$run.0.import.1.0"
new=$(tar_artifact "$FLOW_DIR/new.tar" dataset data.jsonl '{"a":2}
' '{"rows":1}')
put_blob "$FLOW_DIR/new.tar" "$new"
complete "$(outputs "ift:dataset:$new:{\"rows\":1}")"
want 200 "completion with the new data"

# An empty Redis: what is valid comes back, the model of the wrong data does not.
stop server
redis-cli -s "$REDIS_SOCK" flushall >/dev/null
"$PAWL_BUILD/pawl-server" rebuild --server-redis "unix:$REDIS_SOCK" --server-data-dir "$DATA" >"$FLOW_DIR/rebuilt" 2>"$FLOW_DIR/rebuild.log" || fail rebuild
start_server
state() { api GET "/jobs/$1"; js 'b["state"]'; }
is "$(state "$run.0.import.0.0")" "done" "base model after rebuild"
is "$(state "$run.0.import.1.0")" "done" "new data after rebuild"
api GET "/jobs/$run.0.import.1.0"
is "$(js 'b["outputs"][0]["digest"]')" "$new" "digest of the new data"
is "$(state "$run.0.sft.1.0")" ready "SFT after rebuild"
api GET "/runs/$run"
is "$(js 'b["max_running"]')" 4 "tuning after rebuild"
post "$ADMIN" /runs "$spec"
want 429 "the quota after rebuild"
register big '["h100"]'
claim || fail "SFT is not offered after the rebuild"
is "$stage" sft
complete "$(outputs "model:checkpoint:$base:" "state:train_state:$base:")"
want 200 "completion after rebuild"
wait_for 20 run_done "done"
