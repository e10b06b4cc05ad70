#!/bin/bash
# People with passwords, the audit log, If-Match, Idempotency-Key for every POST, one decision for many
# jobs, and the limit on requests a second.
. tests/flow/lib.sh
start_redis
start_server --server-rate-limit 40
calm() { sleep 1; } # The bucket of 80 is full again after two seconds; waiting is its meaning.
json='Content-Type: application/json'
put() { call "$1" PUT "$2" -H "$json" -d "$3" "${@:4}"; }

# A user logs in by password; wrong ones say nothing of who exists.
put "$ADMIN" /users/ada '{"role":"operator","password":"correct horse"}'
want 201 "new user"
put "$ADMIN" /users/ada '{"role":"viewer"}'
want 428 "a change without If-Match"
put "$ADMIN" /users/ada '{"role":"nobody"}' -H 'If-Match: *'
want 422 "unknown role"
put "$ADMIN" /users/ada '{"password":"short"}' -H 'If-Match: *'
want 400 "short password"
put "$ADMIN" '/users/Ada%20L' '{"role":"viewer","password":"correct horse"}'
want 422 "a name with a space"
post "" /session '{"user":"ada","password":"wrong horse"}'
want 401 "wrong password"
first=$(js 'b["detail"]')
post "" /session '{"user":"bob","password":"wrong horse"}'
want 401 "unknown user"
is "$(js 'b["detail"]')" "$first" "answer for an unknown user"
post "" /session '{"user":"ada"}'
want 400 "no password"
post "" /session '{"user":"ada","password":"correct horse"}'
want 201 login
is "$(js 'b["role"]')" operator
jar="Cookie: $(header Set-Cookie | cut -d';' -f1)"
call "" GET /runs -H "$jar"
want 200
call "" GET /users -H "$jar"
want 403 "an operator among the users"
grep -rqF 'correct horse' "$DATA" "$FLOW_DIR"/server.log && fail "a password lies around"
grep -q '"hash":"\$y\$' "$DATA"/store/docs/users/ada.json || fail "no yescrypt hash"

# A lost Redis locks nobody out; a change ends the sessions.
redis-cli -s "$REDIS_SOCK" --scan --pattern '*user*' | xargs -r redis-cli -s "$REDIS_SOCK" del >/dev/null
call "" GET /runs -H "$jar"
want 200 "session when Redis forgot the user"
api GET /users/ada
tag=$(header ETag)
put "$ADMIN" /users/ada '{"role":"viewer"}' -H 'If-Match: "00000000000000000000000000000000"'
want 412 "If-Match of something else"
put "$ADMIN" /users/ada '{"role":"viewer"}' -H "If-Match: $tag"
want 200 "If-Match"
put "$ADMIN" /users/ada '{"role":"admin"}' -H "If-Match: $tag"
want 412 "the same If-Match again"
call "" GET /runs -H "$jar"
want 401 "session from before the change"
post "" /session '{"user":"ada","password":"correct horse"}'
want 201 "login after the change"
is "$(js 'b["role"]')" viewer
jar="Cookie: $(header Set-Cookie | cut -d';' -f1)"
api GET /users
is "$(js '[u["name"] for u in b["items"]]')" '["ada"]' users
api DELETE /users/ada -H 'If-Match: *'
want 204 delete
call "" GET /runs -H "$jar"
want 401 "session of a deleted user"
post "" /session '{"user":"ada","password":"correct horse"}'
want 401 "login of a deleted user"

# Guessing one name is slowed down, whatever address asks.
for _ in 1 2 3; do post "" /session '{"user":"eve","password":"0123456789"}'; done
post "" /session '{"user":"eve","password":"0123456789"}'
want 429 "sixth failure"
[ "$(header Retry-After)" -gt 30 ] || fail "Retry-After $(header Retry-After)"
calm

# The same POST twice is once; another body under the key is refused.
spec='{"name":"u","base_model":"/m","data":{"ift":[{"path":"/d/ift.jsonl"}],"prompts":[{"path":"/d/p"}]},"eft":{"mode":"given"},"sft":{"baseline":false},"prompts":{"generator":"file"}}'
post "$ADMIN" /runs "$spec"
want 201 submit
run=$(js 'b["id"]')
post "$ADMIN" /jobs/bulk "{\"action\":\"priority\",\"priority\":3,\"filter\":{\"run\":\"$run\",\"stage\":\"import\"}}" -H 'Idempotency-Key: k1'
want 200 bulk
n=$(js 'b["matched"]')
[ "$n" -ge 2 ] && [ "$(js 'b["done"]')" = "$n" ] || fail "bulk: $body"
first=$body
post "$ADMIN" /jobs/bulk "{\"action\":\"priority\",\"priority\":3,\"filter\":{\"run\":\"$run\",\"stage\":\"import\"}}" -H 'Idempotency-Key: k1'
is "$body" "$first" "answer of the repeated request"
is "$(header Idempotency-Replayed)" true
post "$ADMIN" /jobs/bulk '{"action":"retry","ids":[]}' -H 'Idempotency-Key: k1'
want 422 "same key, other body"
api GET "/runs/$run/jobs?stage=import"
is "$(js 'set(j["priority"] for j in b["items"]) == {3}')" true priorities
is "$(wc -l <"$DATA/store/docs/runs/$run/decisions.jsonl")" "$n" "decisions, once each"

# One that cannot be done hinders no other.
post "$ADMIN" /jobs/bulk "{\"action\":\"cancel\",\"ids\":[\"$run.0.import.0.0\",\"$run.9.sft.9.9\",\"nonsense\"]}"
want 200 "bulk with strangers"
is "$(js '[b["done"], b["failed"], len(b["failures"])]')" "[1, 2, 2]" "bulk with strangers"
post "$ADMIN" /jobs/bulk "{\"action\":\"cancel\",\"filter\":{\"run\":\"$run\"},\"dry_run\":true}"
is "$(js '[b["dry_run"], b["done"]]')" "[true, 0]" "dry run"
post "$ADMIN" /jobs/bulk '{"action":"explode","ids":[]}'
want 400 "unknown action"
post "$ADMIN" /jobs/bulk "{\"action\":\"priority\",\"ids\":[\"$run.0.import.1.0\"]}"
want 400 "priority without a number"
post "$ADMIN" /runs/bulk "{\"action\":\"pause\",\"ids\":[\"$run\"]}"
is "$(js 'b["done"]')" 1 "bulk pause"
calm

# The audit log: what was done and refused, by whom, newest first, page by page, no secrets.
api GET '/audit?limit=5'
want 200 audit
is "$(js 'b["items"][0]["path"] + " " + str(b["items"][0]["status"])')" "/api/v1/runs/bulk 200" "newest entry"
is "$(js 'b["items"][0]["who"]')" admin
cursor=$(js 'b["next_cursor"]')
ids=$(js '[i["request"] for i in b["items"]]')
all=$(api GET '/audit?limit=1000'; js '[i["request"] for i in b["items"]]')
while [ "$cursor" != null ]; do
	api GET "/audit?limit=5&cursor=$cursor"
	cursor=$(js 'b["next_cursor"]')
	ids="$ids+$(js '[i["request"] for i in b["items"]]')"
done
is "$(echo "$ids" | sed 's/\]+\[\]*/, /g; s/, *$/]/; s/, , /, /g; s/]*$/]/')" "$all" "pages together"
api GET '/audit?who=eve'
is "$(js 'set(i["status"] for i in b["items"]) == {401}')" true "failed logins of eve"
api GET '/audit?path=/users/ada&limit=1'
is "$(js 'b["items"][0]["method"]')" DELETE
api GET '/audit?cursor=x'
want 400 "a cursor that is none"
grep -rqE 'correct horse|"secret"|0123456789' "$DATA/store/docs/audit" && fail "the audit log holds a secret"

# The same by the command line; the password is never an argument.
cli() { "$PAWL_BUILD/pawl" "$@" --server "$URL" --token-file "$DATA/tokens/admin"; }
echo 'battery staple' | cli user set bea --role viewer --password-file - >/dev/null || fail "user set"
post "" /session '{"user":"bea","password":"battery staple"}'
[ "$status" = 201 ] || [ "$status" = 429 ] || want 201 "login of a user made by the command line"
is "$(cli user list --json | python3 -c 'import json,sys; print([u["name"] for u in json.load(sys.stdin)])')" "['bea']" "pawl user list"
cli user delete bea >/dev/null || fail "user delete"
cli audit --limit 3 | grep -q 'DELETE.*/users/bea' || fail "pawl audit"
calm

# Too many a second: 429 with Retry-After, and well again soon. Workers and health are not held up.
many=$(printf 'session,%.0s' $(seq 400))
codes=$(curl -s -w '\n%{http_code}\n' -H "Authorization: Bearer $ADMIN" "$URL/api/v1/{${many%,}}" | grep -E '^[0-9]{3}$' | sort | uniq -c)
case $codes in *429*) ;; *) fail "nobody was held up: $codes" ;; esac
api GET /health
want 200 health
post "$WORKER" /worker/beat '{"worker":"nobody"}'
[ "$status" != 429 ] || fail "a beat was held up"
again() { api GET /session; [ "$status" = 200 ]; }
wait_for 5 again
exit 0
