#!/bin/bash
# `make bench-server`: event streams, long polls, downloads and page views at once on one box; what one
# more than the cap is told; and a JSON list beside a bare CivetWeb's "hello". See tests/bench/SERVER.md.
# Smaller: STREAMS, POLLERS, DOWNLOADS, MB_S (of each download), SECONDS_, ROUNDS.
. tests/flow/lib.sh
. tests/flow/worker.sh
STREAMS=${STREAMS:-200} POLLERS=${POLLERS:-50} DOWNLOADS=${DOWNLOADS:-16} MB_S=${MB_S:-8} SECONDS_=${SECONDS_:-15} ROUNDS=${ROUNDS:-3}
B=$PAWL_BUILD/bench/server
start_redis
start_server --server-threads $((STREAMS * 2 + POLLERS + DOWNLOADS + 32)) --server-max-sse "$STREAMS" --server-rate-limit 0
export BENCH_ADMIN=$ADMIN BENCH_WORKER=$WORKER
for i in 1 2 3 4 5 6 7 8 9 10; do
	post "$ADMIN" /runs "{\"name\":\"r$i\",\"base_model\":\"/m\",\"data\":{\"ift\":[{\"path\":\"/d/ift.jsonl\"}],\"prompts\":[{\"path\":\"/d/p\"}]},\"prompts\":{\"generator\":\"file\"}}"
	want 201 submit
done
run=$(js 'b["id"]')
post "$WORKER" /worker/register '{"name":"bench","pid":1,"host":"h","engine":"cpu/1","code":"c1","threads":2,"memory_bytes":1,"labels":{},"price_per_hour":0,"stages":[]}'
w=$(js 'b["worker"]')
head -c 33554432 /dev/urandom >"$FLOW_DIR/big"
digest=$(tar_artifact "$FLOW_DIR/big.tar" checkpoint model.safetensors "@$FLOW_DIR/big")
put_blob "$FLOW_DIR/big.tar" "$digest"
rm -f "$FLOW_DIR/answers"

echo "== $STREAMS streams, $POLLERS long polls, $DOWNLOADS downloads of $MB_S MB/s, views, $SECONDS_ s"
"$B" load "$PORT" "$ADMIN_PORT" "$run" "$digest" "$w" "$SECONDS_" "$STREAMS" "$POLLERS" "$DOWNLOADS" "$MB_S" || fail load
ps -o rss=,nlwp= -p "$server_pid" | awk '{printf "server: %.0f MB resident, %d threads\n", $1 / 1024, $2}'
idle() { [ "$(curl -s "http://127.0.0.1:$ADMIN_PORT/metrics" | sed -n 's/^pawl_event_streams //p')" = 0 ]; }
wait_for 40 idle
echo "== over the cap"
"$B" cap "$PORT" "$STREAMS" || fail cap
wait_for 40 idle

echo "== requests a second, 16 connections, $ROUNDS rounds in turn"
hello_port=$(free_port)
start hello "$B" hello "$hello_port" 600
wait_for 10 curl -s -o /dev/null "http://127.0.0.1:$hello_port/"
for i in $(seq "$ROUNDS"); do
	for what in "hello $hello_port /" "runs $PORT /api/v1/runs" "workers $PORT /api/v1/workers"; do
		set -- $what
		echo "$1 $("$B" rps "$2" "$3" 16 2)"
	done
done | tee "$FLOW_DIR/rps"
python3 - "$FLOW_DIR/rps" <<'PY'
import statistics, sys
rows = {}
for line in open(sys.argv[1]):
    name, rps, errors = line.split()
    rows.setdefault(name, []).append(float(rps))
mid = {k: statistics.median(v) for k, v in rows.items()}
for k, v in mid.items():
    print(f"{k:8} {v:8.0f} requests/s  {v / mid['hello']:6.1%} of hello")
PY
