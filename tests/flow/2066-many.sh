#!/bin/bash
# Many runs at once, by a filter; filters under a name, of one person each; quotas changed by who has read
# them; what a job waits for; the log of a whole run as a file.
. tests/flow/lib.sh
start_redis
start_server
submit() { # NAME
	post "$ADMIN" /runs "{\"name\":\"$1\",\"base_model\":\"/m\",\"data\":{\"ift\":[{\"path\":\"/d/ift.jsonl\"}],\"prompts\":[{\"path\":\"/d/p\"}]},\"eft\":{\"mode\":\"given\"},\"sft\":{\"baseline\":false},\"prompts\":{\"generator\":\"file\"}}"
	want 201 submit
	run=$(js 'b["id"]')
}
for name in a1 a2 a3 b1; do submit "$name"; done
post "$ADMIN" /tokens '{"name":"v","role":"viewer"}'
VIEWER=$(js 'b["secret"]')

# --- by a filter
post "$ADMIN" /runs/bulk '{"action":"pause","filter":{"q":"a","state":"active"},"dry_run":true}'
want 200 "dry run"
is "$(js '[b["matched"], b["done"], b["dry_run"]]')" "[3, 0, true]" "a dry run counts"
post "$ADMIN" /runs/bulk '{"action":"pause","filter":{"q":"a","state":"active"}}' -H 'Idempotency-Key: p1'
want 200 pause
is "$(js '[b["matched"], b["done"], b["failed"]]')" "[3, 3, 0]" "paused"
post "$ADMIN" /runs/bulk '{"action":"pause","filter":{"q":"a","state":"active"}}' -H 'Idempotency-Key: p1'
is "$(js 'b["matched"]') $(header Idempotency-Replayed)" "3 true" "the same again"
post "$ADMIN" /runs/bulk '{"action":"tag","filter":{"state":"paused"},"add":["nightly","x"]}'
is "$(js 'b["done"]')" 3 "tagged"
post "$ADMIN" /runs/bulk '{"action":"tag","filter":{"tag":"nightly"},"remove":["x"]}' -H 'Prefer: respond-async'
want 202 "tags as an operation"
where=$(header Location)
where=${where#/api/v1}
ended() { api GET "$where" && [ "$(js 'b["state"]')" = done ]; }
wait_for 30 ended
is "$(js '[b["result"]["done"], b["result"]["failed"], b["kind"]]')" '[3, 0, "bulk.runs"]' "its end"
api GET '/runs?tag=nightly'
is "$(js '[r["tags"] for r in b["items"]]')" '[["nightly"], ["nightly"], ["nightly"]]' "tags"
post "$ADMIN" /runs/bulk '{"action":"resume","filter":{"state":"paused,draining"}}'
is "$(js 'b["done"]')" 3 "resumed"
post "$ADMIN" /runs/bulk '{"action":"cancel","filter":{}}'
is "$(js 'b["done"]')" 4 "all of them"
for bad in '{"action":"tag","ids":[]}' '{"action":"pause"}' '{"action":"pause","filter":{"colour":"red"}}' '{"action":"pause","ids":[],"filter":{}}' \
	'{"action":"tag","ids":[],"add":["a,b"]}' '{"action":"pause","ids":[],"add":["a"]}' '{"action":"fly","ids":[]}'; do
	post "$ADMIN" /runs/bulk "$bad"
	want 400 "$bad"
done
post "$VIEWER" /runs/bulk '{"action":"cancel","filter":{}}'
want 403 "of a viewer"
api GET '/audit?path=/runs/bulk&limit=100'
is "$(js 'sum(1 for i in b["items"] if i["status"] == 200)')" 6 "audit"
is "$(js '[i.get("note") for i in b["items"] if i["status"] == 200][::-1][:3]')" '["dry run: pause, 3 runs", "pause, 3 runs", null]' "what was decided"

# --- filters under a name
put() { call "$1" PUT "$2" -H 'Content-Type: application/json' -d "$3" "${@:4}"; }
put "$VIEWER" '/filters/failed%20ones' '{"page":"runs","query":"state=failed&tag=nightly"}'
want 201 "a filter"
put "$VIEWER" '/filters/failed%20ones' '{"page":"runs","query":"state=failed"}'
want 200 "the same name"
put "$VIEWER" /filters/a '{"page":"workers","query":""}'
want 201 "another"
call "$VIEWER" GET /filters
is "$(js '[(f["name"], f["page"], f["query"]) for f in b["items"]]')" '[["a", "workers", ""], ["failed ones", "runs", "state=failed"]]' "filters"
call "$VIEWER" GET '/filters?page=runs'
is "$(js 'len(b["items"])')" 1 "of a page"
api GET /filters
is "$(js 'len(b["items"])')" 0 "of somebody else"
put "$VIEWER" /filters/b '{"page":"runs"}'
want 400 "without a query"
put "$VIEWER" /filters/b "{\"page\":\"runs\",\"query\":\"$(printf 'x%.0s' $(seq 2001))\"}"
want 400 "too long"
put "$VIEWER" "/filters/$(printf 'x%.0s' $(seq 61))" '{"page":"runs","query":""}'
want 400 "a long name"
python3 - "$URL/api/v1/filters/n" "$VIEWER" <<'PY' || fail "as many as there may be"
import sys, urllib.request
for i in range(98):
    r = urllib.request.Request(sys.argv[1] + str(i), b'{"page":"runs","query":"q=1"}', method="PUT")
    r.add_header("Authorization", "Bearer " + sys.argv[2])
    r.add_header("Content-Type", "application/json")
    assert urllib.request.urlopen(r).status == 201
PY
put "$VIEWER" /filters/more '{"page":"runs","query":"q=1"}'
want 409 "one more"
call "$VIEWER" DELETE /filters/a
want 204 delete
call "$VIEWER" DELETE /filters/a
want 404 "once more"
call "" GET /filters
want 401 "of nobody"
api GET '/audit?path=/filters'
is "$(js 'len(b["items"])')" 0 "a log that anybody could fill"
stop server
start_server
call "$VIEWER" GET '/filters?page=runs'
is "$(js 'len(b["items"])')" 99 "after a restart"
put "$ADMIN" /users/ann '{"role":"viewer","password":"a long password"}'
want 201 user

# --- quotas
put "$ADMIN" /quotas/ann '{"runs":2}'
want 200 "a quota"
put "$ADMIN" /quotas/ann '{"runs":3}'
want 428 "no If-Match"
api GET /quotas/ann
want 200 "one quota"
etag=$(header ETag)
put "$ADMIN" /quotas/ann '{"runs":3}' -H "If-Match: $etag"
want 200 "with If-Match"
put "$ADMIN" /quotas/ann '{"runs":4}' -H "If-Match: $etag"
want 412 "with an old one"
put "$ADMIN" /quotas/ann '{"runs":0}' -H 'If-Match: *'
want 200 "whatever is there"
api GET /quotas/ann
want 404 "no limits"
put "$ADMIN" /quotas/ann '{"runs":4}' -H "If-Match: $etag"
want 412 "of one that is gone"

# --- what a job waits for
submit waits
job=$run.0.import.0.0
api GET "/jobs/$job"
is "$(js '[b["waiting"]["reason"], b["waiting"]["position"], b["waiting"]["queue_length"] > 0, b["waiting"]["runs_ahead"]]')" '["no worker is connected", 1, true, 0]' "waiting"
post "$ADMIN" "/runs/$run/pause" '{}'
paused() { api GET "/jobs/$job" && [ "$(js '[h["reason"] for h in b["waiting"]["history"]][-1]')" = "the run is paused" ]; }
wait_for 30 paused
is "$(js '[b["waiting"]["runs_ahead"], b["waiting"]["since_at"] == b["waiting"]["history"][-1]["from_at"], b["waiting"]["history"][-1]["to_at"]]')" '[null, true, null]' "paused"
api GET "/runs/$run/jobs"
is "$(js '"waiting" in b["items"][0]')" false "in lists"

# --- the log of a run as a file
for n in 1 2; do
	mkdir -p "$DATA/logs/$run/$job"
	for s in $(seq 1 3); do echo "2026-11-21T0$s:00:0$n.000Z info m line $s of $n"; done >"$DATA/logs/$run/$job/$n.log"
done
api GET "/runs/$run/log/content"
want 200 "the log"
is "$(wc -l <"$FLOW_DIR/body") $(head -1 "$FLOW_DIR/body")" "6 0.import.0.0#1 2026-11-21T01:00:01.000Z info m line 1 of 1" "its lines"
is "$(header Content-Disposition)" "attachment; filename=\"$run.log\"" "its name"
api GET "/runs/$run/log/content?q=LINE+2"
is "$(wc -l <"$FLOW_DIR/body")" 2 "lines with a text"
api GET "/runs/$run/log/content?q="
want 400 "no text"
api GET /runs/rnone/log/content
want 404 "no run"
call "$VIEWER" HEAD "/runs/$run/log/content" --head
want 200 HEAD
exit 0
