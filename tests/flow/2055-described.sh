#!/bin/bash
# A real worker and the command line talk to the server through a recorder: what they are answered is
# what server/openapi.json says (flow_end looks), over a whole run and nearly every operation.
. tests/flow/lib.sh
start_redis
start_server
P=$PAWL_BUILD/pawl
"$P" demo world --data "$FLOW_DIR" --tiny >/dev/null || fail "no world"
start recorder python3 tests/flow/recorder.py 0 "$PORT" "$FLOW_DIR/answers.recorded"
wait_for 10 grep -q '[0-9]' "$FLOW_DIR/recorder.out"
via=http://127.0.0.1:$(head -1 "$FLOW_DIR/recorder.out")
cli() { "$P" "$@" --server "$via" --token-file "$DATA/tokens/admin"; }
start worker "$PAWL_BUILD/pawl-worker" --server "$via" --token-file "$DATA/tokens/worker" --worker-work-dir "$FLOW_DIR/work"

small_run described
cli run submit -f "$FLOW_DIR/run.json" --dry-run >/dev/null 2>&1 || fail "dry run"
run=$(cli run submit -f "$FLOW_DIR/run.json" --wait --quiet 2>"$FLOW_DIR/submit.log" | head -1)
[ -n "$run" ] || fail "no run: $(cat "$FLOW_DIR/submit.log")"
for what in "run list" "run show $run" "job list $run" "worker list" "token list" "quota list" "data ls --run $run" "ckpt ls --run $run" "eval compare $run"; do
	cli $what --json >/dev/null || fail "$what"
done

# What neither asks for.
URL=$via
for path in /health /openapi.json /session "/runs?state=done&q=descr" "/runs/$run" "/runs/$run/stages" "/runs/$run/jobs?limit=3" \
	"/runs/$run/attempts" "/runs/$run/metrics" "/runs/$run/events" "/runs/$run/events?metrics=1&limit=2" "/jobs/$run.0.sft.0.0" "/jobs/$run.0.sft.0.0/attempts" "/jobs/$run.0.sft.0.0/metrics?points=3" \
	"/jobs/$run.0.sft.0.0/attempts/1/log" "/metrics/series?job=$run.0.sft.0.0&name=loss" /config/defaults "/compare?run=$run" /store/garbage "/datasets?run=$run"; do
	api GET "$path"
	want 200 "$path"
done
for digest in $(js '" ".join(d["digest"] for d in b["items"][-6:])'); do
	for path in "" /stats /export '/rows?limit=3' /rows/0; do api GET "/datasets/$digest$path"; done
done
api GET "/checkpoints?run=$run"
digest=$(js 'b["items"][-1]["digest"]')
api GET "/checkpoints/$digest"
want 200 checkpoint
call "$ADMIN" HEAD "/checkpoints/$digest/content" --head
want 200 "HEAD of a download"
api GET "/store/garbage?keep_last=1"
want 200 "garbage with a policy"
[ "$(js 'b["given_up"]["blobs"]')" -ge 3 ] || fail "a run that is over gives nothing up: $body"
blobs=$(js 'b["given_up"]["blobs"]')
gone=$("$P" ckpt gc --dry-run --keep-last 1 --json --server "$via" --token-file "$DATA/tokens/admin" | python3 -c 'import json, sys; print(json.load(sys.stdin)["given_up"]["blobs"])')
is "$gone" "$blobs" "given up, by the command line"
[ ! -d "$DATA/store/docs/given-up" ] || fail "a dry run wrote down what is given up"
cli ckpt gc --keep-last 1 >/dev/null 2>&1 && fail "a policy for one look"
api POST /store/garbage
want 200 garbage
api POST "/runs/$run/cancel"
want 409 "cancel of a finished run"
api POST "/jobs/$run.0.sft.0.0/invalidate"
want 202 invalidate
# It has taken the job and hands it back: a worker that leaves while a claim is on its way to it through the
# recorder, which hides that from the server, would keep it for a whole lease.
taken() { api GET "/jobs/$run.0.sft.0.0" && [ "$(js 'b["state"]')" != ready ]; }
wait_for 30 taken
stop worker

# Configured, it is written down: models and states, no rows.
"$P" run cancel "$run" --server "$via" --token-file "$DATA/tokens/admin" >/dev/null 2>&1
over() { api GET "/runs/$run" && [ "$(js 'b["state"]')" = cancelled ]; }
URL=http://127.0.0.1:$PORT
wait_for 20 over
stop server
start_server --server-keep-last 1
api POST /store/garbage
want 200 "garbage as configured"
python3 - "$DATA/store/docs/given-up/$run.json" <<'PY' || fail "what is given up"
import json, sys
kinds = [v["kind"] for v in json.load(open(sys.argv[1]))["digests"].values()]
assert "checkpoint" in kinds and "train_state" in kinds and "dataset" not in kinds, kinds
PY

# And what a person gives up: not while somebody needs it.
cli() { "$P" "$@" --server "$URL" --token-file "$DATA/tokens/admin"; }
api GET "/checkpoints?run=$run"
digest=$(js '[c["digest"] for c in b["items"] if c["kind"] == "checkpoint"][-1]')
sed "s,/world/base,/$digest,; s,\"described\",\"next\"," "$FLOW_DIR/run.json" >"$FLOW_DIR/next.json"
next=$(cli run submit -f "$FLOW_DIR/next.json" --quiet)
[ -n "$next" ] || fail "no next run"
api DELETE "/checkpoints/$digest"
want 409 "of a checkpoint that is needed"
grep -q "run $next names it" <<<"$body" || fail "who needs it: $body"
cli run cancel "$next" >/dev/null || fail "cancel"
cli ckpt rm "$digest" >/dev/null || fail "ckpt rm"
api DELETE "/checkpoints/$digest"
want 202 "once more"
api GET "/checkpoints/$digest"
is "$(js 'b["given_up"]')" true "given up"
api POST /store/garbage
want 200 "garbage"
grep -q "\"asked\":{[^}]*$digest" "$DATA/store/docs/given-up/$run.json" || fail "what was asked for is not kept"
api DELETE "/checkpoints/$(printf '0%.0s' $(seq 64))"
want 404 "of none"
exit 0
