#!/bin/bash
# A real failover: the master is killed, its sentinel makes the replica master, the server finds it and
# goes on with the runs it had.
. tests/flow/lib.sh
need redis-server redis-cli
master_port=$(free_port) replica_port=$(free_port) sentinel_port=$(free_port)
common() { echo "--bind 127.0.0.1 --appendonly yes --appendfsync always --maxmemory-policy noeviction --loglevel warning"; }
mkdir "$FLOW_DIR/a" "$FLOW_DIR/b" "$FLOW_DIR/s"
start master redis-server --port "$master_port" --dir "$FLOW_DIR/a" --save '' $(common)
start replica redis-server --port "$replica_port" --dir "$FLOW_DIR/b" --save '' $(common) --replicaof 127.0.0.1 "$master_port"
synced() { redis-cli -p "$replica_port" info replication | grep -q 'master_link_status:up'; }
wait_for 30 synced
cat >"$FLOW_DIR/s/sentinel.conf" <<X
port $sentinel_port
bind 127.0.0.1
dir $FLOW_DIR/s
sentinel monitor pawl 127.0.0.1 $master_port 1
sentinel down-after-milliseconds pawl 1000
sentinel failover-timeout pawl 5000
X
start sentinel redis-server "$FLOW_DIR/s/sentinel.conf" --sentinel
knows() { redis-cli -p "$sentinel_port" sentinel replicas pawl | grep -q "$replica_port"; }
wait_for 30 knows

REDIS_URL="sentinel://127.0.0.1:1,127.0.0.1:$sentinel_port/pawl"
start_server
spec='{"name":"w","iterations":0,"base_model":"/m","data":{"ift":[{"path":"/d/ift.jsonl"}]},"eft":{"mode":"given"}}'
post "$ADMIN" /runs "$spec"
want 201 submit
run=$(js 'b["id"]')
is "$(redis-cli -p "$master_port" wait 1 5000)" 1 "replicas that have it"
stop master KILL
at=$SECONDS
again() { post "$ADMIN" /runs "$spec"; [ "$status" = 201 ]; }
wait_for 60 again
echo "accepted again after $((SECONDS - at)) s"
api GET "/runs/$run"
want 200 "the run from before the failover"
is "$(redis-cli -p "$replica_port" role | head -1)" master "role of the replica"
