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

# Headers that keep a page to itself.
curl -s -o /dev/null -D "$FLOW_DIR/headers" "$URL/runs"
for word in "default-src 'none'" "script-src 'self'" "frame-ancestors 'none'" "base-uri 'none'" "require-trusted-types-for 'script'" "trusted-types pawl"; do
	case $(header Content-Security-Policy) in *"$word"*) ;; *) fail "the page's policy lacks $word" ;; esac
done
is "$(header X-Content-Type-Options)" nosniff
is "$(header Cross-Origin-Opener-Policy)" same-origin
is "$(header Referrer-Policy)" same-origin
api GET /runs
case $(header Content-Security-Policy) in *"default-src 'none'"*) ;; *) fail "JSON has no policy" ;; esac
[ -z "$(header Access-Control-Allow-Origin)" ] || fail "other origins are let in"

# Behind TLS the cookie is bound to the host; behind a proxy the client is who it was.
stop server
start_server --server-public-url https://pawl.example --server-trusted-proxies 127.0.0.1
post "" /session "{\"token\":\"$ADMIN\"}" -H 'X-Forwarded-For: 6.6.6.6, 192.0.2.7'
want 201
cookie=$(header Set-Cookie)
for word in __Host-pawl_sid= Secure HttpOnly SameSite=Strict Path=/; do case $cookie in *"$word"*) ;; *) fail "cookie lacks $word: $cookie" ;; esac; done
call "" GET /session -H "Cookie: ${cookie%%;*}"
want 200 "session by the bound cookie"
call "" GET /session -H "Cookie: pawl_sid=$(echo "$cookie" | sed 's/^[^=]*=//; s/;.*//')"
want 401 "the same under the plain name"
api GET '/audit?limit=1'
is "$(js 'b["items"][0]["from"]')" 192.0.2.7 "address of the login"
for _ in 1 2 3 4 5; do post "" /session '{"code":"0"}' -H 'X-Forwarded-For: 192.0.2.9'; done
post "" /session '{"code":"0"}' -H 'X-Forwarded-For: 192.0.2.9'
want 429 "a guesser behind the proxy"
post "" /session "{\"token\":\"$ADMIN\"}" -H 'X-Forwarded-For: 192.0.2.7'
want 201 "a neighbour of the guesser"
exit 0
