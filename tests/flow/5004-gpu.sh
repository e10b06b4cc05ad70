#!/bin/bash
# What the driver says of a worker's GPUs is seen by the operator; a worker whose GPU fell off the bus gives its
# job back, says why and takes no other, and the run goes on elsewhere. The driver's library is a stand-in.
. tests/flow/lib.sh
need cc
start_redis
start_server
P=$PAWL_BUILD/pawl
cc -D_GNU_SOURCE -fPIC -shared -o "$FLOW_DIR/libnvidia-ml.so.1" tests/nvml/fake.c || fail "no library"
nvml() { printf '%s\n' "$@" >"$FLOW_DIR/nvml.next" && mv "$FLOW_DIR/nvml.next" "$FLOW_DIR/nvml"; }
nvml 'devices 1' '0 load 97' '0 total 81920' '0 used 3072' '0 temp 61' '0 power 512500' '0 ecc 0'
"$P" demo world --data "$FLOW_DIR" --tiny >/dev/null || fail "no world"
worker() { # NAME settings...
	start "$1" "$PAWL_BUILD/pawl-worker" --server "$URL" --token-file "$DATA/tokens/worker" --worker-work-dir "$FLOW_DIR/work-$1" --worker-name "$1" "${@:2}"
}
export NVML_FAKE=$FLOW_DIR/nvml
LD_LIBRARY_PATH=$FLOW_DIR worker gpu --worker-nvml libnvidia-ml.so.1
first() { api GET /workers && [ "$(js "$1")" = "$2" ]; }
wait_for 20 first 'b["items"][0]["gpus"][0]["load"]' 0.97
is "$(js 'b["items"][0]["gpus"]')" '[{"device": 0, "ecc_errors": 0.0, "load": 0.97, "memory_load": 0.0, "memory_mib": 3072.0, "memory_total_mib": 81920.0, "name": "Fake GPU 0", "power": 512.5, "temperature": 61.0}]' "the GPU"
is "$(js 'b["items"][0]["unhealthy"]')" null "unhealthy"

small_run gpu
sed -i 's/"iterations":1/"iterations":0/' "$FLOW_DIR/run.json"
post "$ADMIN" /runs "$(cat "$FLOW_DIR/run.json")"
want 201 submit
run=$(js 'b["id"]')
wait_for 30 first 'b["items"][0]["state"]' busy
nvml 'devices 1' '0 xid 79' '0 error 15'
wait_for 30 first 'b["items"][0]["state"]' unhealthy
is "$(js 'b["items"][0]["gpus"][0].get("load")')" null "what a lost GPU tells"
js 'b["items"][0]["unhealthy"]' | grep -q '^GPU 0: ' || fail "why: $body"
wait_for 40 first 'b["items"][0]["job"]' null
done_before=$(js 'b["items"][0]["jobs_done"]')
api GET "/runs/$run/attempts"
for attempt in $(js '" ".join(str(a["end"]) for a in b["items"])'); do
	case $attempt in completed | preempted) ;; *) fail "an attempt ended as $attempt: $body" ;; esac
done

worker other
over() { api GET "/runs/$run" && [ "$(js 'b["state"]')" = done ]; }
wait_for 100 over
api GET /workers
is "$(js 'b["items"][0]["jobs_done"]')" "$done_before" "jobs done after the error"
is "$(js 'b["items"][0]["state"]')" unhealthy state
is "$(js 'b["items"][1]["gpus"]')" null "GPUs of a worker without"

# The server does not give it one either, whatever it asks; and what a beat says is checked.
w=$(js 'b["items"][0]["id"]')
post "$ADMIN" /runs "$(sed 's/"name":"gpu"/"name":"again","seed":9/' "$FLOW_DIR/run.json")"
want 201 "second run"
stop other
post "$WORKER" /worker/claim "{\"worker\":\"$w\",\"wait_s\":0}"
want 204 "a job for a worker that said it can do none"
for bad in '"gpus":3' '"gpus":[{}]' '"gpus":[{"device":0,"load":"much"}]' '"gpus":[{"device":0,"fan":3}]' '"gpus":[],"unhealthy":7' "\"unhealthy\":\"$(printf 'x%.0s' {1..400})\""; do
	post "$WORKER" /worker/beat "{\"worker\":\"$w\",$bad}"
	want 400 "a beat with ${bad:0:40}"
done
stop gpu
post "$WORKER" /worker/beat "{\"worker\":\"$w\",\"gpus\":[]}"
want 200 "a beat of a worker that is well again"
post "$WORKER" /worker/claim "{\"worker\":\"$w\",\"wait_s\":0}"
want 200 "a job for it"
