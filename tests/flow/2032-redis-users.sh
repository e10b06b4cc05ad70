#!/bin/bash
# The server as the least user of deploy/redis-users.conf: a run goes through, and what is not granted is
# refused.
. tests/flow/lib.sh
. tests/flow/worker.sh
need redis-server redis-cli
sed 's/CHANGE-ME/secret/' deploy/redis-users.conf >"$FLOW_DIR/users.conf"
redis_port=$(free_port)
start redis redis-server "$FLOW_DIR/users.conf" --port "$redis_port" --bind 127.0.0.1 --dir "$FLOW_DIR" --appendonly yes --appendfsync always \
	--save '' --maxmemory-policy noeviction --loglevel warning
as_pawl() { redis-cli -p "$redis_port" --user pawl --pass secret --no-auth-warning "$@"; }
wait_for 20 as_pawl ping
REDIS_URL="redis://pawl:secret@127.0.0.1:$redis_port"
start_server
post "$ADMIN" /runs '{"name":"w","iterations":0,"base_model":"/m","data":{"ift":[{"path":"/d/ift.jsonl"}]},"eft":{"mode":"given"},"sft":{"baseline":false}}'
want 201 submit
run=$(js 'b["id"]')
post "$WORKER" /worker/register '{"name":"w","pid":1,"host":"h","engine":"cpu/1","code":"c1","threads":2,"memory_bytes":1,"labels":{},"price_per_hour":0,"stages":[]}'
w=$(js 'b["worker"]')
base=$(tar_artifact "$FLOW_DIR/base.tar" checkpoint config.json '{"base":1}')
put_blob "$FLOW_DIR/base.tar" "$base"
n=0
while claim 1; do
	case $job in *.import.1.0) o="ift:dataset:$base:{\"rows\":1}" ;; *) o="model:checkpoint:$base:" ;; esac
	post "$WORKER" /worker/beat "{\"worker\":\"$w\",\"job\":\"$job\",\"token\":\"$token\",\"progress\":{\"done\":1,\"total\":2,\"unit\":\"file\"},\"metrics\":[{\"step\":1,\"loss\":0.5}]}"
	want 200 beat
	complete "$(outputs "$o" "state:train_state:$base:")"
	want 200 "completion of $job"
	n=$((n + 1))
done
is "$n" 3 "jobs done"
run_done() { api GET "/runs/$run"; [ "$(js 'b["state"]')" = "done" ]; }
wait_for 20 run_done
post "$ADMIN" "/runs/$run/retry" '{}'
want 202 retry
for c in "flushall" "config set save 1" "keys x" "set other 1" "acl list" "shutdown nosave"; do
	case $(as_pawl $c 2>&1) in NOPERM*) ;; *) fail "$c was allowed: $(as_pawl $c)" ;; esac
done
grep -q secret "$FLOW_DIR/server.log" && fail "the password stands in the log"
exit 0
