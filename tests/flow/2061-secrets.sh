#!/bin/bash
# Secrets stay where they belong: not in logs at their most talkative, not in command lines, not in the
# environment of our programs, not in Redis, not in the store, not in addresses.
. tests/flow/lib.sh
start_redis
PAWL_LOG_LEVEL=debug start_server
link=$(sed -n 's/^login: //p' "$FLOW_DIR/server.out")
code=${link##*code=}
post "" /session "{\"code\":\"$code\"}"
want 201
sid=$(header Set-Cookie | sed 's/^[^=]*=//; s/;.*//')
call "" GET /session -H "Cookie: pawl_sid=$sid"
want 200
post "$ADMIN" /tokens '{"name":"t","role":"viewer"}'
viewer=$(js 'b["secret"]')
call "$ADMIN" PUT /users/ada -H 'Content-Type: application/json' -d '{"role":"viewer","password":"hunter2hunter2"}'
want 201
post "" /session '{"user":"ada","password":"hunter2hunter2"}'
want 201
ada=$(header Set-Cookie | sed 's/^[^=]*=//; s/;.*//')
post "" /session '{"user":"ada","password":"hunter3hunter3"}'
want 401
call "" GET "/login?code=$code" # The page of the link itself: its query must not be logged.
start worker env PAWL_LOG_LEVEL=debug "$PAWL_BUILD/pawl-worker" --server "$URL" --token-file "$DATA/tokens/worker" --work-dir "$FLOW_DIR/work"
here() { api GET /workers; [ "$(js 'len(b["items"])')" = 1 ]; }
wait_for 20 here
"$PAWL_BUILD/pawl" run list --server "$URL" --token-file "$DATA/tokens/admin" >"$FLOW_DIR/cli.log" 2>&1 || fail "pawl run list"

secrets="${ADMIN##*_} ${WORKER##*_} ${viewer##*_} $code $sid $ada hunter2hunter2 hunter3hunter3"
is "$(echo $secrets | wc -w)" 8 "secrets known"
redis-cli -s "$REDIS_SOCK" --scan | while read -r k; do redis-cli -s "$REDIS_SOCK" dump "$k"; done >"$FLOW_DIR/redis.dump" 2>/dev/null
for s in $secrets; do
	for f in server.log worker.log cli.log redis.log redis.dump; do grep -qF "$s" "$FLOW_DIR/$f" && fail "$f holds ${s:0:6}…"; done
	grep -rqF "$s" "$DATA/store" && fail "the store holds ${s:0:6}…"
	for pid in $server_pid $worker_pid $(pgrep -P "$worker_pid"); do
		tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qF "$s" && fail "the command line of $pid holds ${s:0:6}…"
		tr '\0' ' ' <"/proc/$pid/environ" | grep -qF "$s" && fail "the environment of $pid holds ${s:0:6}…"
	done
done
grep -q 'path=/api/v1/session' "$FLOW_DIR/server.log" || fail "the log tells nothing: debug was not on"
stop worker
exit 0
