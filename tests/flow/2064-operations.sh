#!/bin/bash
# What takes longer than a request: 202 with a Location, how far it is, ended by its asker, carried on by the
# next server after a kill; asked for twice with one key it is one.
. tests/flow/lib.sh
start_redis
start_server
spec='{"name":"ops","base_model":"/m","data":{"ift":[{"path":"/d/ift.jsonl"}],"prompts":[{"path":"/d/p"}]},"eft":{"mode":"given"},"sft":{"baseline":false},"prompts":{"generator":"file"}}'
post "$ADMIN" /runs "$spec"
want 201 submit
run=$(js 'b["id"]')
post "$ADMIN" /tokens '{"name":"v","role":"viewer"}'
VIEWER=$(js 'b["secret"]')
async='Prefer: respond-async'
# bulk N PRIORITY: a body that decides N times about one job.
bulk() { python3 -c 'import json, sys
print(json.dumps({"action": "priority", "priority": int(sys.argv[3]), "ids": [sys.argv[1] + ".0.import.0.0"] * int(sys.argv[2]) + ["nonsense"]}))' "$run" "$1" "$2"; }
state_is() { api GET "$where" && [ "$(js 'b["state"]')" = "$1" ]; }
begun() { api GET "$where" && [ "$(js 'b["state"] == "running" and b["done"] > 0')" = true ]; }
place() { where=$(header Location); where=${where#/api/v1}; }

post "$ADMIN" /jobs/bulk "$(bulk 20 3)" -H "$async" -H 'Idempotency-Key: once'
want 202 "bulk as an operation"
place
first=$where
is "$(js '[b["kind"], b["total"], b["by"]]')" '["bulk.jobs", 21, "admin"]' "what was taken"
post "$ADMIN" /jobs/bulk "$(bulk 20 3)" -H "$async" -H 'Idempotency-Key: once'
want 202 "the same again"
place
is "$where" "$first" "Location of the same again"
wait_for 30 state_is done
is "$(js '[b["result"]["done"], b["result"]["failed"], b["result"]["matched"], b["done"], b["error"]]')" "[20, 1, 21, 21, null]" "its end"
api GET "/jobs/$run.0.import.0.0"
is "$(js 'b["priority"]')" 3 "what it did"
api GET /operations
is "$(js 'len(b["items"])')" 1 "operations"
post "$ADMIN" "$first/cancel" '{}'
want 409 "cancel of one that has ended"
call "$VIEWER" GET /operations
want 403 "operations for a viewer"
api GET /operations/none
want 404 "no such operation"

post "$ADMIN" /jobs/bulk "$(bulk 2500 1)"
want 413 "too many for one request"
bulk 9000 1 >"$FLOW_DIR/many"
post "$ADMIN" /jobs/bulk "@$FLOW_DIR/many" -H "$async"
want 202 "but not for an operation"
place
wait_for 60 begun
post "$ADMIN" "$where/cancel" '{}'
want 202 cancel
wait_for 60 state_is cancelled
[ "$(js 'b["done"] < 9001 and b["result"]["done"] > 0')" = true ] || fail "cancelled: $body"

# The server dies in the middle; the next one goes on, and does not begin again.
begun_or_done() { begun || [ "$(js 'b["state"]')" = done ]; }
for prio in 2 4 5 6 7; do # On a busy machine it may be over before anybody looks: then once more.
	post "$ADMIN" /jobs/bulk "$(bulk 1500 $prio)" -H "$async"
	want 202 "one to be cut short"
	place
	wait_for 60 begun_or_done
	kill -9 "$server_pid"
	wait "$server_pid" 2>/dev/null
	start_server
	api GET "$where"
	[ "$(js 'b["state"]')" = done ] || break
done
is "$(js 'b["state"]')" running "of a server that died"
redis-cli -s "$REDIS_SOCK" --scan --pattern '{pawl}:turn:*' | grep -v -e notices -e courier | xargs -r redis-cli -s "$REDIS_SOCK" del >/dev/null # Or wait a minute for its turn to end.
wait_for 60 state_is done
is "$(js '[b["result"]["done"] + b["result"]["failed"], b["result"]["failed"]]')" "[1501, 1]" "its end"
lines=$(grep -c "\"priority\":$prio" "$DATA/store/docs/runs/$run/decisions.jsonl")
[ "$lines" -ge 1500 ] && [ "$lines" -lt 2400 ] || fail "$lines decisions of 1500"
echo "$lines decisions of 1500, cut short once"

post "$ADMIN" /store/garbage '{}' -H "$async"
want 202 "garbage as an operation"
place
wait_for 30 state_is done
is "$(js 'b["result"]["dry_run"]')" false "garbage"
post "$ADMIN" /store/rebuild '{}'
want 202 rebuild
place
wait_for 30 state_is done
is "$(js 'b["result"]["missing"]')" 0 "rebuild"
"$PAWL_BUILD/pawl" op list --server "$URL" --token-file "$DATA/tokens/admin" | grep -q 'bulk.jobs.*cancelled' || fail "op list"
api GET '/audit?limit=3'
is "$(js 'b["items"][0]["path"]')" "/api/v1/store/rebuild" "audit"
exit 0
