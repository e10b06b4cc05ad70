#!/bin/bash
# The login link works once; sessions, cross-site requests, tokens, and what a start refuses.
. tests/flow/lib.sh
start_redis
start_server
link=$(sed -n 's/^login: //p' "$FLOW_DIR/server.out")
code=${link##*code=}
json='Content-Type: application/json'

is "$(stat -c %a "$DATA/tokens/admin")" 600 "mode of the admin token"
is "$(stat -c %a "$DATA/tokens/worker")" 600 "mode of the worker token"

# Once and never again; the cookie is the browser's alone.
post "" /session "{\"code\":\"$code\"}"
want 201 "first use of the link"
cookie=$(header Set-Cookie)
for word in HttpOnly SameSite=Strict 'Path=/'; do case $cookie in *"$word"*) ;; *) fail "cookie lacks $word: $cookie" ;; esac; done
jar="Cookie: ${cookie%%;*}"
post "" /session "{\"code\":\"$code\"}"
want 401 "second use of the link"
call "" GET /session -H "$jar"
want 200 "session"
is "$(js 'b["role"]')" admin role

# With a cookie only our own pages may change anything.
call "" POST /login-link -H "$jar" -H "$json" -d '{}'
want 403 "cookie without Origin"
call "" POST /login-link -H "$jar" -H "$json" -d '{}' -H 'Origin: http://evil.example'
want 403 "foreign Origin"
call "" POST /login-link -H "$jar" -H "$json" -d '{}' -H 'Sec-Fetch-Site: cross-site' -H "Origin: $URL"
want 403 "cross-site"
call "" POST /login-link -H "$jar" -H "$json" -d '{}' -H "Origin: $URL"
want 201 "own Origin"
second=$(js 'b["url"]')
call "" POST /login-link -H "$jar" -H "$json" -d '{}' -H 'Sec-Fetch-Site: same-origin'
want 201 "same-origin"
post "" /session "{\"code\":\"${second##*code=}\"}"
want 201 "link made by a session"
call "" DELETE /session -H "$jar" -H "Origin: $URL"
want 204 logout
call "" GET /session -H "$jar"
want 401 "after logout"

# Tokens: the secret once, a session of it dies with it.
post "$ADMIN" /tokens '{"name":"ci","role":"viewer","expires_s":3600}'
want 201
secret=$(js 'b["secret"]') id=$(js 'b["id"]')
post "" /session "{\"token\":\"$secret\"}"
want 201 "session by token"
jar="Cookie: $(header Set-Cookie | cut -d';' -f1)"
call "" GET /runs -H "$jar"
want 200
api GET /tokens
case $body in *"${secret##*_}"*) fail "the list shows a secret" ;; esac
api DELETE "/tokens/$id"
want 204 revoke
call "$secret" GET /runs
want 401 "revoked token"
call "" GET /runs -H "$jar"
want 401 "session of a revoked token"
post "" /session "{\"token\":\"$WORKER\"}"
want 403 "a worker token opens no session"
call "${ADMIN%?}x" GET /runs
want 401 "token with another secret"
redis-cli -s "$REDIS_SOCK" --scan | while read -r k; do redis-cli -s "$REDIS_SOCK" dump "$k"; done >"$FLOW_DIR/dump.txt" 2>/dev/null
grep -qF "${ADMIN##*_}" "$FLOW_DIR/dump.txt" && fail "Redis holds a secret in the clear"

# Guessing is slowed down.
for _ in 1 2 3 4 5; do post "" /session '{"code":"0000"}'; done
post "" /session '{"code":"0000"}'
want 429 "sixth failure"

# The token files stay good over a restart, and over a Redis that lost everything.
stop server
is "$code" 0 "exit code after SIGTERM"
before=$ADMIN
start_server
is "$ADMIN" "$before" "admin token after a restart"
stop server
redis-cli -s "$REDIS_SOCK" flushall >/dev/null
start_server
api GET /session
want 200 "admin token after an empty Redis"
stop server

# What a start refuses, and how.
refuse() { # words expected, flags...
	local words=$1
	shift
	"$PAWL_BUILD/pawl-server" --server-redis "unix:$REDIS_SOCK" --server-data-dir "$FLOW_DIR/other" "$@" \
		>"$FLOW_DIR/refuse.log" 2>&1
	is $? 78 "exit code of $*"
	grep -q "$words" "$FLOW_DIR/refuse.log" || fail "$*: $(cat "$FLOW_DIR/refuse.log")"
}
refuse TLS --server-listen 127.0.0.1:8443s
refuse loopback --server-listen 0.0.0.0:0 --server-insecure-no-auth
refuse 'host:port' --server-listen nonsense
[ ! -e "$FLOW_DIR/other" ] || fail "a refused start left something behind"
exit 0
