#!/bin/bash
# Webhooks: signed, tried again until they are taken, at least once each though the server is killed in
# between; refused where they may not go; their addresses and secrets in no log. The feed of notices.
. tests/flow/lib.sh
start_redis
json='Content-Type: application/json'
put() { call "$ADMIN" PUT "$1" -H "$json" -d "$2" "${@:3}"; }

# A receiver: /ok takes all, /busy refuses until the file "open" is there. One line of JSON for each.
cat >"$FLOW_DIR/receiver.py" <<'PY'
import http.server, json, os, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        code = 200 if self.path == "/ok" or os.path.exists(sys.argv[1] + "/open") else 503
        with open(sys.argv[1] + "/got", "a") as f:
            f.write(json.dumps({"path": self.path, "code": code, "body": body, "event": self.headers["Pawl-Event"],
                "id": self.headers["Pawl-Delivery"], "signature": self.headers["Pawl-Signature"]}) + "\n")
        self.send_response(code)
        self.end_headers()
    def log_message(self, *a): pass
s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), H)
print(s.server_port, flush=True)
s.serve_forever()
PY
: >"$FLOW_DIR/got"
start receiver python3 "$FLOW_DIR/receiver.py" "$FLOW_DIR"
wait_for 10 grep -q '[0-9]' "$FLOW_DIR/receiver.out"
to=http://127.0.0.1:$(head -1 "$FLOW_DIR/receiver.out")
got() { python3 -c 'import json, sys
rows = [json.loads(l) for l in open(sys.argv[1])]
v = eval(sys.argv[2])
print(v)' "$FLOW_DIR/got" "$1"; }
has() { [ "$(got "$1")" = True ]; }

# By default nothing on this machine or in a private network is reached.
start_server
put /hooks/home "{\"url\":\"$to/ok\",\"events\":[\"*\"]}"
want 201 "a webhook to a private address"
post "$ADMIN" /hooks/home/test '{}'
is "$(js '[b["delivered"], b["status"]]')" "[false, 0]" "test of a private address"
[ -s "$FLOW_DIR/got" ] && fail "a private address was reached"
put /hooks/home '{"enabled":false}'
want 428 "a change without If-Match"
put /hooks/home '{"enabled":false}' -H 'If-Match: "1"'
want 412 "a change of something else"
put /hooks/none '{"url":"ftp://example.org/","events":["*"]}'
want 400 "an address of ftp"
put /hooks/none '{"url":"https://me:pw@example.org/","events":["*"]}'
want 400 "an address with a password"
put /hooks/none '{"url":"https://example.org/","events":["run.exploded"]}'
want 400 "an unknown kind"
put /hooks/none '{"url":"https://example.org/","events":["*"],"secret":"short"}'
want 400 "a short secret"
put /hooks/A%20B '{"url":"https://example.org/","events":["*"]}'
want 400 "a name with a space"
stop server

# One of the file, one of the API.
echo "0123456789abcdef-of-the-file" >"$FLOW_DIR/secret"
echo "{\"chat\":{\"url\":\"$to/busy\",\"events\":[\"run.cancelled\",\"run.done\"],\"secret_file\":\"$FLOW_DIR/secret\"}}" >"$FLOW_DIR/hooks.json"
start_server --server-hooks-private=true --server-hooks-file "$FLOW_DIR/hooks.json"
api GET /hooks
is "$(js '[[h["name"], h["file"]] for h in b["items"]]')" '[["chat", true], ["home", false]]' hooks
printf %s "$body" | grep -q secret && fail "the list shows a secret"
put /hooks/chat '{"enabled":false}' -H 'If-Match: *'
want 403 "a change of one of the file"
api GET /hooks/home
etag=$(header ETag)
put /hooks/home '{"events":["run.cancelled","test"],"secret":"0123456789abcdef-home"}' -H "If-Match: $etag"
want 200 "a change"
put /hooks/home '{"enabled":false}' -H "If-Match: $etag"
want 412 "the same If-Match again"
post "$ADMIN" /hooks/home/test '{}'
is "$(js '[b["delivered"], b["status"], b["error"]]')" "[true, 200, null]" "test"
is "$(got '[r["event"] for r in rows]')" "['test']" "what the receiver got"
python3 - "$FLOW_DIR/got" <<'PY' || fail signature
import hashlib, hmac, json, sys
r = json.loads(open(sys.argv[1]).readline())
t, v1 = r["signature"].split(",")
want = hmac.new(b"0123456789abcdef-home", f'{t[2:]}.{r["id"]}.{r["body"]}'.encode(), hashlib.sha256).hexdigest()
assert v1 == "v1=" + want, (r, want)
assert json.loads(r["body"])["kind"] == "test"
PY

# What happens is told: at once to who takes it, again and again to who does not.
spec='{"name":"told","base_model":"/m","data":{"ift":[{"path":"/d/ift.jsonl"}],"prompts":[{"path":"/d/p"}]},"eft":{"mode":"given"},"sft":{"baseline":false},"prompts":{"generator":"file"}}'
for i in 1 2; do
	post "$ADMIN" /runs "$spec"
	want 201 submit
	run[i]=$(js 'b["id"]')
	post "$ADMIN" "/runs/${run[i]}/cancel" '{}'
	want 202 cancel
done
wait_for 20 has 'sum(r["path"] == "/ok" and r["event"] == "run.cancelled" for r in rows) == 2'
wait_for 20 has 'any(r["path"] == "/busy" and r["code"] == 503 for r in rows)'
api GET /hooks
is "$(js '[h["waiting"] for h in b["items"]]')" "[2, 0]" "what waits"
api GET /hooks/chat/deliveries
is "$(js '[b["items"][-1]["status"], b["items"][-1]["tries"], b["items"][-1]["kind"]]')" '[503, 1, "run.cancelled"]' "the first try"

metric() { curl -s "http://127.0.0.1:$ADMIN_PORT/metrics" | grep -q "^pawl_$1$"; }
wait_for 10 metric 'webhook_waiting 2'
wait_for 10 metric 'webhook_failed_total [1-9].*'

# The server dies; the next one delivers what waits, in order.
kill -9 "$server_pid"
wait "$server_pid" 2>/dev/null
touch "$FLOW_DIR/open"
start_server --server-hooks-private=true --server-hooks-file "$FLOW_DIR/hooks.json"
wait_for 60 has 'len({r["id"] for r in rows if r["path"] == "/busy" and r["code"] == 200}) == 2'
is "$(got '[json.loads(r["body"])["run"] for r in rows if r["path"] == "/busy" and r["code"] == 200]')" "['${run[1]}', '${run[2]}']" "order"
is "$(got '{r["id"] for r in rows if r["path"] == "/busy" and r["code"] == 200} == {r["id"] for r in rows if r["path"] == "/ok" and r["event"] != "test"}')" True "the same ids for everybody"
waits() { api GET /hooks; [ "$(js 'sum(h["waiting"] for h in b["items"])')" = 0 ]; }
wait_for 20 waits

# The feed of the browsers; events of type notice.
api GET '/notices?limit=1'
is "$(js '[b["items"][0]["kind"], b["items"][0]["run"], b["next_cursor"] == b["items"][0]["id"]]')" "[\"run.cancelled\", \"${run[2]}\", true]" "newest notice"
api GET "/notices?limit=1&cursor=$(js 'b["next_cursor"]')"
is "$(js '[b["items"][0]["kind"], b["items"][0]["run"]]')" "[\"run.cancelled\", \"${run[1]}\"]" "the one before"
curl -sN -m 3 -H "Authorization: Bearer $ADMIN" "$URL/api/v1/events?topics=notices&after=0-1" >"$FLOW_DIR/events"
grep -q '^event: notice' "$FLOW_DIR/events" || fail "no event of type notice: $(head -c 300 "$FLOW_DIR/events")"

# By the command line.
cli() { "$PAWL_BUILD/pawl" "$@" --server "$URL" --token-file "$DATA/tokens/admin"; }
cli hook set third --url "$to/ok" --event run.done | grep -q 'shown once: [0-9a-f]' || fail "hook set"
cli hook test third | grep -q delivered || fail "hook test"
cli hook set third --off >/dev/null || fail "hook set --off"
cli hook list | grep -q 'third.*false' || fail "hook list: $(cli hook list)"
cli notice list | grep -q run.cancelled || fail "notice list"
cli hook delete third >/dev/null || fail "hook delete"

# A Redis that has lost everything is told of the webhooks again, and of our own tokens.
redis-cli -s "$REDIS_SOCK" flushall >/dev/null
there() { api GET /hooks && [ "$(js '[h["name"] for h in b["items"]]')" = '["chat", "home"]' ]; }
wait_for 20 there
wait_for 20 redis-cli -s "$REDIS_SOCK" get '{pawl}:turn:notices'
api GET /hooks/home
is "$(js 'b["url"]')" "$to/ok" "a webhook that came back"
api GET /notices
is "$(js 'b["items"]')" "[]" "old decisions are no news"

# Gone, and what the store and the logs know of it.
call "$ADMIN" DELETE /hooks/home
want 428 "removal without If-Match"
call "$ADMIN" DELETE /hooks/home -H 'If-Match: *'
want 204 removal
api GET /hooks/home
want 404 "a removed webhook"
grep -rqE '0123456789abcdef-|127.0.0.1:[0-9]+/(ok|busy)' "$FLOW_DIR"/server.log "$DATA/store" "$DATA/logs" 2>/dev/null && fail "a secret or address lies around"
[ "$(stat -c %a "$DATA/hooks")" = 700 ] || fail "the folder of webhooks is open to others"
exit 0
