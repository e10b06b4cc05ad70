# The server goes away and comes back; a run is paused, resumed and cancelled; a worker is drained; an
# executor runs out of attempts. The executor computes on while the server is away, and what a paused
# job had done is not done again.
. tests/flow/lib.sh
need python3 curl
TOP=$(pwd)
W=$TOP/$PAWL_BUILD/pawl-worker
start_redis
start_server --server-lease-ms 4000 --server-beat-ms 400
"$PAWL_BUILD/pawl" demo world --data "$FLOW_DIR" --tiny >/dev/null || fail "no world"
spec() { # STEPS
	cat >"$FLOW_DIR/spec.json" <<X
{"name":"away","seed":5,"iterations":1,"template":"chatml","base_model":"$FLOW_DIR/world/base","reuse":false,
"data":{"ift":[{"path":"$FLOW_DIR/world/ift.jsonl","format":"pairs"}],"prompts":[{"path":"$FLOW_DIR/world/prompts.jsonl","format":"auto"}]},
"sft":{"lr":2e-3,"batch":16,"epochs":1000,"max_steps":$1,"max_length":256,"save_every_steps":10,"baseline":false},
"prompts":{"generator":"file","count":20,"rouge_max":1.0},"generate":{"n":2,"max_new_tokens":16}}
X
}
submit() { api POST /runs -H 'Content-Type: application/json' -d @"$FLOW_DIR/spec.json"; want 201 "submit"; run=$(js 'b["id"]'); }
start_worker() { start one "$W" --server "$URL" --token-file "$DATA/tokens/worker" --work-dir "$FLOW_DIR/work" --name one --threads 1; }
job() { api GET "/jobs/$run.0.sft.1.0"; [ "$status" = 200 ] || body='{"state":"away","progress":null,"losses":-1,"failures":-1,"preemptions":-1}'; }
state_is() { job; [ "$(js 'b["state"]')" = "$1" ]; }
steps() { js '(b["progress"] or {}).get("done", 0)'; }
steps_reach() { job; [ "$(steps)" -ge "$1" ]; }
run_is() { api GET "/runs/$run"; [ "$status" = 200 ] && [ "$(js 'b["state"]')" = "$1" ]; }
published() { [ "$(grep -c checkpoint_published "$FLOW_DIR/one.log")" -ge "$1" ]; }

spec 100000
submit
start_worker
wait_for 60 steps_reach 5
executor=$(pgrep -P "$one_pid") || fail "no executor"

# Away for longer than the lease: fenced, computing, nothing lost.
kill -9 "$server_pid"; wait "$server_pid" 2>/dev/null
before=$(grep -c 'stage metric' "$FLOW_DIR/work/jobs/$run.0.sft.1.0/log")
sleep 6
[ "$(grep -c 'stage metric' "$FLOW_DIR/work/jobs/$run.0.sft.1.0/log")" -gt "$before" ] || fail "the executor stood still"
n=$(grep -c checkpoint_published "$FLOW_DIR/one.log")
start_server --server-lease-ms 4000 --server-beat-ms 400
wait_for 30 published $((n + 1))
is "$(pgrep -P "$one_pid")" "$executor" "executor after the outage"
job
is "$(js 'b["losses"]')" 0 "leases lost in the outage"
is "$(js 'b["state"]')" running "state after the outage"

# Paused: handed back with a checkpoint; resumed: goes on from there.
api POST "/runs/$run/pause"; [ "$status" -lt 300 ] || fail "pause: $status $body"
wait_for 30 state_is ready
done_steps=$(steps)
[ -z "$(pgrep -P "$one_pid")" ] || fail "the executor goes on in a paused run"
is "$(js 'b["preemptions"]')" 1 "preemptions"
is "$(js 'b["failures"]')" 0 "attempts burnt by a pause"
api POST "/runs/$run/resume"; [ "$status" -lt 300 ] || fail "resume: $status $body"
wait_for 30 state_is running
wait_for 30 grep -q 'stage resumed' "$FLOW_DIR/work/jobs/$run.0.sft.1.0/log"
at=$(sed -n 's/.*stage resumed step=\([0-9]*\).*/\1/p' "$FLOW_DIR/work/jobs/$run.0.sft.1.0/log" | tail -1)
[ "$at" -ge $((done_steps - 20)) ] && [ "$at" -gt 0 ] || fail "resumed at step $at after $done_steps"

# Cancelled: quickly, without waiting for the grace to end.
api POST "/runs/$run/cancel"; [ "$status" -lt 300 ] || fail "cancel: $status $body"
t0=$SECONDS
wait_for 20 run_is cancelled
[ $((SECONDS - t0)) -lt 15 ] || fail "cancel took $((SECONDS - t0)) s"
gone() { [ -z "$(pgrep -P "$one_pid")" ] && [ -z "$(ls "$FLOW_DIR/work/jobs")" ]; }
wait_for 15 gone

# Drained: the job goes back, the worker leaves.
submit
wait_for 60 steps_reach 3
api GET /workers
id=$(js '[w["id"] for w in (b["items"] if isinstance(b, dict) else b) if w["state"] == "busy"][0]')
api POST "/workers/$id/drain"; [ "$status" -lt 300 ] || fail "drain: $status $body"
wait_for 30 state_is ready
left() { ! kill -0 "$one_pid" 2>/dev/null; }
wait_for 20 left
job
is "$(js 'b["failures"]')" 0 "attempts burnt by a drain"
api POST "/runs/$run/cancel"

# An executor that dies at once, again and again: the reason is on the job, which ends up parked.
spec 100000
submit
start_worker
wait_for 60 state_is running
crashes=0
while ! state_is failed && [ $crashes -lt 40 ]; do
	for x in $(pgrep -P "$one_pid"); do kill -SEGV "$x" 2>/dev/null && crashes=$((crashes + 1)); done
	sleep 0.3
done
wait_for 60 state_is failed
js 'b["error"]' | grep -q 'signal 11' || fail "the reason does not name the signal: $(js 'b["error"]')"
echo "$crashes crashes, $(js 'b["failures"]') attempts"
stop one TERM
is "$code" 0 "exit code"

# The cloud takes the machine: a mock of the metadata service says so.
api POST "/runs/$run/cancel"
spec 100000
submit
MOCK=$(free_port)
cat >"$FLOW_DIR/mock.py" <<'X'
import http.server, os, sys
class H(http.server.BaseHTTPRequestHandler):
    def answer(self, code, text):
        self.send_response(code); self.send_header("Content-Length", str(len(text))); self.end_headers(); self.wfile.write(text.encode())
    def do_PUT(self):
        self.answer(200, "secret")
    def do_GET(self):
        ok = self.headers.get("X-aws-ec2-metadata-token") == "secret"
        taken = os.path.exists(sys.argv[2])
        self.answer(*((401, "") if not ok else (200, '{"action":"terminate","time":"2026-11-21T08:22:00Z"}') if taken else (404, "")))
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), H).serve_forever()
X
start mock python3 "$FLOW_DIR/mock.py" "$MOCK" "$FLOW_DIR/taken"
start one "$W" --server "$URL" --token-file "$DATA/tokens/worker" --work-dir "$FLOW_DIR/work" --name one --threads 1 \
	--worker-cloud aws --worker-cloud-url "http://127.0.0.1:$MOCK"
wait_for 60 steps_reach 5
touch "$FLOW_DIR/taken"
wait_for 30 left
wait_for 10 state_is ready
is "$(js 'b["failures"]')" 0 "attempts burnt by a spot notice"
[ "$(steps)" -gt 0 ] || fail "the notice cost all steps"
