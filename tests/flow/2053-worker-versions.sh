#!/bin/bash
# A worker of the protocol's version before is served like one of today's; older and newer ones are refused
# with the reason, and the refused worker says it and ends.
. tests/flow/lib.sh
. tests/flow/worker.sh
start_redis
start_server
post "$ADMIN" /runs '{"name":"v","iterations":0,"base_model":"/m","data":{"ift":[{"path":"/d/x.jsonl"}]}}'
want 201 submit
base=$(tar_artifact "$FLOW_DIR/base.tar" checkpoint config.json '{"base":1}')
put_blob "$FLOW_DIR/base.tar" "$base"
for version in '' '"protocol":1,' '"protocol":2,'; do
	post "$WORKER" /worker/register "{$version\"name\":\"w\",\"engine\":\"cpu/1\",\"code\":\"c1\"}"
	want 201 "register with ${version:-no version}"
	w=$(js 'b["worker"]')
	claim 0 || fail "nothing for a worker with ${version:-no version}"
	post "$WORKER" /worker/beat "{\"worker\":\"$w\",\"job\":\"$job\",\"token\":\"$token\"}"
	want 200 "beat with ${version:-no version}"
	api GET /workers
	is "$(js 'b["items"][-1]["gpus"], b["items"][-1]["unhealthy"]')" "(None, None)" "what a worker without GPUs says of them"
	post "$WORKER" /worker/fail "{\"worker\":\"$w\",\"job\":\"$job\",\"token\":\"$token\",\"kind\":\"preempted\"}"
	want 200 "fail with ${version:-no version}"
done
for version in 0 3 -1; do
	post "$WORKER" /worker/register "{\"protocol\":$version,\"name\":\"w\"}"
	want 422 "register with version $version"
	is "$(js 'b["type"]')" protocol
	js 'b["detail"]' | grep -q "version $version of the worker protocol, this server 1 and 2" || fail "the reason: $body"
done
