# A whole tiny run through Redis, server and workers: once undisturbed, once while executor, agent,
# server and Redis are killed with -9 again and again. Every job is done once, with the same bytes.
. tests/flow/lib.sh
need python3 curl
TOP=$(pwd)
W=$TOP/$PAWL_BUILD/pawl-worker
start_redis
start_server --server-lease-ms 4000 --server-beat-ms 500
"$PAWL_BUILD/pawl" demo world --data "$FLOW_DIR" --tiny >/dev/null || fail "no world"
cat >"$FLOW_DIR/spec.json" <<X
{"name":"flow","seed":3,"iterations":1,"template":"chatml","base_model":"$FLOW_DIR/world/base","reuse":false,
"data":{"ift":[{"path":"$FLOW_DIR/world/ift.jsonl","format":"pairs"}],"eft":[{"path":"$FLOW_DIR/world/eft.jsonl","format":"judge"}],
 "eval":[{"path":"$FLOW_DIR/world/eval.jsonl","format":"ranked"}],"prompts":[{"path":"$FLOW_DIR/world/prompts.jsonl","format":"auto"}],
 "test":[{"path":"$FLOW_DIR/world/test.jsonl","format":"auto"}],"ift_max":10000},
"sft":{"lr":2e-3,"lr_min":2e-4,"batch":16,"epochs":40,"max_steps":160,"warmup_steps":4,"max_length":256,"save_every_steps":5,"baseline":false},
"eft":{"mode":"given"},"prompts":{"generator":"file","count":20,"rouge_max":1.0},
"generate":{"n":3,"temperature":1.0,"top_p":1.0,"max_new_tokens":32,"chunk":4,"shard_size":10},
"judge":{"template":{"name":"packing-5","text":"Check the packing list against the request.\nRequest: {prompt}\n<response>{response}</response>\nSay yes or no for each thing, name any extra, then give the score.","pattern":"score","min":0,"max":5,"integer":true},"samples":2,"min_valid":1,"max_new_tokens":64,"chunk":4,"max_retries":1},
"dpo":{"lora_r":4,"lora_alpha":8,"lora_targets":"q_proj,v_proj,down_proj","lr":1e-3,"lr_min":1e-4,"batch":2,"epochs":3,"shard_steps":8,"save_every_steps":2,"nll_coef":0.2,"sft_replay":0.5,"max_length":256},
"eval":{"max_new_tokens":32,"temperature":1.0,"top_p":1.0,"judge_samples":2,"scorer":{"command":["$TOP/$PAWL_BUILD/pawl","demo","score"]}}}
X

start_worker() { # NAME [flags]
	local n=$1
	shift
	start "$n" "$W" --server "$URL" --token-file "$DATA/tokens/worker" --work-dir "$FLOW_DIR/work-$n" --name "$n" --threads 1 --worker-volume-bytes 60000 "$@"
}
submit() { api POST /runs -H 'Content-Type: application/json' -d @"$FLOW_DIR/spec.json" -H "Idempotency-Key: $1"; want 201 "submit"; run=$(js 'b["id"]'); }
run_state() { api GET "/runs/$run" >/dev/null 2>&1; [ "$status" = 200 ] && js 'b["state"]' || echo away; }
finished() { case $(run_state) in done | failed | cancelled) return 0 ;; *) return 1 ;; esac; }
# Every output of every job, without the run's name.
outputs() {
	api GET "/runs/$run/jobs?limit=500"
	want 200 "jobs"
	js '"\n".join(sorted("%s %s %s" % (j["id"].split(".", 1)[1], o["role"], o["digest"]) for j in b["items"] for o in (j["outputs"] or [])))'
}

start_worker one
submit first
t0=$SECONDS
wait_for 240 finished
is "$(run_state)" "done" "state of the undisturbed run"
echo "undisturbed: $((SECONDS - t0)) s"
outputs >"$FLOW_DIR/first.txt"
[ "$(wc -l <"$FLOW_DIR/first.txt")" -ge 15 ] || fail "only $(wc -l <"$FLOW_DIR/first.txt") outputs"
# What is larger than a volume is several, and comes through the server whole.
big=$(js '[o["digest"] for j in b["items"] for o in (j["outputs"] or []) if o.get("volumes") and o["kind"] == "checkpoint"][-1]')
"$PAWL_BUILD/pawl" --server "$URL" --token-file "$DATA/tokens/admin" ckpt get "$big" -o "$FLOW_DIR/big.tar" --unpack "$FLOW_DIR/big" >/dev/null || fail "download of volumes"
[ -s "$FLOW_DIR/big.tar.v002" ] && [ -s "$FLOW_DIR/big/model.safetensors.index.json" ] || fail "volumes are missing"
[ "$(find "$FLOW_DIR/big" -name 'model-0*.safetensors' -size +8k | wc -l)" -ge 2 ] || fail "a large model is one file"
"$W" model info --model "$FLOW_DIR/big" >/dev/null || fail "files of weights that are no model"
# An adapter is trained over several jobs: the state goes from one to the next.
[ "$(grep -c '^1\.dpo\..* state ' "$FLOW_DIR/first.txt")" -ge 2 ] || fail "preferences were one job only"

# The worker without access to the store's files goes through the server, in pieces. Two of them, killed often.
mkdir -p "$FLOW_DIR/elsewhere"
start_worker two --worker-store "file://$FLOW_DIR/elsewhere/none" --worker-piece-bytes 20000
submit second
t0=$SECONDS
kills=0 round=0
declare -A seen
while ! finished && [ $round -lt 60 ]; do
	round=$((round + 1))
	sleep 0.4
	case $((round % 8)) in
	1 | 5)
		# Executors, once they have published something: a crash that repeats without progress is
		# poison by design.
		for n in one two; do
			v=${n}_pid
			[ "$(grep -c checkpoint_published "$FLOW_DIR/$n.log")" -gt "${seen[$n]:-0}" ] || continue
			seen[$n]=$(grep -c checkpoint_published "$FLOW_DIR/$n.log")
			for x in $(pgrep -P "${!v}" 2>/dev/null); do kill -9 "$x" 2>/dev/null && kills=$((kills + 1)); done
		done ;;
	2) kill -9 "$one_pid" 2>/dev/null; wait "$one_pid" 2>/dev/null; kills=$((kills + 1)); seen[one]=0; start_worker one ;;
	4) stop two TERM; is "$code" 0 "exit code after SIGTERM"; seen[two]=0; start_worker two --worker-store "file://$FLOW_DIR/elsewhere/none" --worker-piece-bytes 20000 ;;
	6) kill -9 "$server_pid"; wait "$server_pid" 2>/dev/null; kills=$((kills + 1)); start_server --server-lease-ms 4000 --server-beat-ms 500 ;;
	7) kill -9 "$redis_pid"; wait "$redis_pid" 2>/dev/null; kills=$((kills + 1)); start_redis ;;
	esac
	[ $kills -ge 24 ] && break
done
wait_for 240 finished
is "$(run_state)" "done" "state of the killed run"
echo "killed $kills times: $((SECONDS - t0)) s"
outputs >"$FLOW_DIR/second.txt"
diff "$FLOW_DIR/first.txt" "$FLOW_DIR/second.txt" || fail "other bytes after kills"
api GET "/runs/$run/jobs?limit=500"
echo "losses and preemptions: $(js 'sum(j["losses"] for j in b["items"]), sum(j["preemptions"] for j in b["items"])')"
# The log of a job arrived, and its attempts say how they ended.
job=$(js '[j["id"] for j in b["items"] if j["stage"] == "sft"][0]')
api GET "/jobs/$job/attempts"
want 200 "attempts"
n=$(js 'b["items"][-1]["n"] if "items" in b else b[-1]["n"]')
api GET "/jobs/$job/attempts/$n/log"
want 200 "log"
case $body in *metric*) ;; *) fail "the log of $job has no metrics in it" ;; esac
api GET "/jobs/$job/metrics"
want 200 "metrics"
# Weights that came through the server are mapped in the archives they came in.
ls "$FLOW_DIR"/work-two/cache/*/model-0*.safetensors.at "$FLOW_DIR"/work-two/cache/*/.archive* >/dev/null 2>&1 || fail "fetched weights were unpacked"
! ls "$FLOW_DIR"/work-two/cache/*/model*.safetensors >/dev/null 2>&1 || fail "fetched weights were unpacked as well"
# Cleaning up after itself.
stop one TERM
is "$code" 0 "exit code of an idle worker"
[ -z "$(ls "$FLOW_DIR/work-one/jobs")" ] || fail "job folders left behind"
