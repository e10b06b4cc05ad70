#!/bin/bash
# Notes, tags and stars: written only by who has read what is there, found again, in the audit log, and there
# after Redis has lost everything. Marks of an attempt that runs. The logs of a run as one, a long one among
# them.
. tests/flow/lib.sh
. tests/flow/worker.sh
start_redis
start_server
json='Content-Type: application/json'
patch() { call "$ADMIN" PATCH "$1" -H "$json" -d "$2" "${@:3}"; }
tag() { api GET "/runs/$run" && etag=$(header ETag); }

spec='{"name":"labels","notes":"as sent","base_model":"/m","data":{"ift":[{"path":"/d/ift.jsonl"}],"prompts":[{"path":"/d/p"}]},"eft":{"mode":"given"},"sft":{"baseline":false},"prompts":{"generator":"file"}}'
post "$ADMIN" /runs "$spec"
want 201 submit
run=$(js 'b["id"]')
is "$(js '[b["notes"], b["tags"], b["starred"]]')" '["as sent", [], false]' "labels at first"
post "$ADMIN" /runs "$spec"
other=$(js 'b["id"]')
post "$ADMIN" /tokens '{"name":"v","role":"viewer"}'
VIEWER=$(js 'b["secret"]')

patch "/runs/$run" '{"notes":"no"}'
want 428 "PATCH without If-Match"
patch "/runs/$run" '{"notes":"no"}' -H 'If-Match: "5:0"'
want 412 "If-Match of something else"
patch "/runs/rnone" '{"notes":"no"}'
want 404 "PATCH of no run"
call "$VIEWER" PATCH "/runs/$run" -H "$json" -d '{"notes":"no"}' -H 'If-Match: *'
want 403 "PATCH by a viewer"
tag
patch "/runs/$run" '{"notes":"line one\nline two","tags":["paper","judge v2"],"starred":true,"class":3}' -H "If-Match: $etag"
want 202 "PATCH with If-Match"
is "$(js '[b["tags"], b["starred"], b["class"]]')" '[["paper", "judge v2"], true, 3]' "labels"
patch "/runs/$run" '{"notes":"lost"}' -H "If-Match: $etag"
want 412 "the same If-Match again"
tag
is "$(js 'b["notes"]')" "line one
line two" notes
patch "/runs/$run" '{"tags":["a,b"]}' -H "If-Match: $etag"
want 400 "a tag with a comma"
patch "/runs/$run" '{"colour":"red"}' -H 'If-Match: *'
want 400 "an unknown field"
post "$ADMIN" "/runs/$run/pause" '{}' -H 'If-Match: "5"'
want 412 "pause of what is not there any more"

# Of twenty who read the same, one is heard.
tag
for i in $(seq 20); do
	curl -sS -o /dev/null -w '%{http_code}\n' -X PATCH -H "Authorization: Bearer $ADMIN" -H "$json" \
		-H "If-Match: $etag" -d "{\"max_running\":$i}" "$URL/api/v1/runs/$run" &
done >"$FLOW_DIR/codes"
wait $(jobs -p | grep -vxF -e "$redis_pid" -e "$server_pid")
is "$(sort "$FLOW_DIR/codes" | uniq -c | awk '{printf "%s %s,", $1, $2}')" "1 202,19 412," "twenty at once"

found() { api GET "/runs?$1" && js '[i["id"] for i in b["items"]]'; }
is "$(found tag=paper)" "[\"$run\"]" "by tag"
is "$(found 'tag=paper,judge%20v2')" "[\"$run\"]" "by two tags"
is "$(found tag=paper,x)" "[]" "by a tag it has and one it has not"
is "$(found starred=1)" "[\"$run\"]" starred
is "$(found q=LINE%20two)" "[\"$run\"]" "by its notes"
api GET '/audit?path=/runs&limit=30'
is "$(js 'sum(i["method"] == "PATCH" and i["status"] == 202 and i["who"] == "admin" for i in b["items"])')" 2 "audit entries"

# By the command line: two who tag at once lose nothing.
cli() { "$PAWL_BUILD/pawl" "$@" --server "$URL" --token-file "$DATA/tokens/admin"; }
cli run tag "$other" --add one --star >/dev/null || fail "run tag"
for i in 1 2 3; do cli run tag "$other" --add "t$i" >"$FLOW_DIR/tag$i" 2>&1 & pids[i]=$!; done
for i in 1 2 3; do wait "${pids[i]}" || fail "run tag $i: $(cat "$FLOW_DIR/tag$i")"; done
cli run tag "$other" --remove one >/dev/null || fail "run tag --remove"
cli run note "$other" "from the command line" >/dev/null || fail "run note"
api GET "/runs/$other"
is "$(js '[sorted(b["tags"]), b["starred"], b["notes"]]')" '[["t1", "t2", "t3"], true, "from the command line"]' "by the command line"
cli run list --tag t2 --starred | grep -q "$other" || fail "run list --tag"
cli run set "$other" --class 2 >/dev/null || fail "run set"

# Marks of an attempt that runs.
register w1 >/dev/null 2>&1
post "$WORKER" /worker/register '{"name":"w","info":{}}'
want 201 register
worker=$(js 'b["worker"]')
post "$WORKER" /worker/claim "{\"worker\":\"$worker\",\"wait\":5}"
want 200 claim
job=$(js 'b["job"]["id"]')
lease="\"job\":\"$job\",\"token\":\"$(js 'b["token"]')\",\"worker\":\"$worker\""
crun=${job%%.*}
for step in 3 5; do
	post "$WORKER" /worker/beat "{$lease,\"progress\":{\"done\":$step,\"total\":9,\"unit\":\"rows\"},\"checkpoint\":{\"step\":$step,\"outputs\":{}}}"
	want 200 beat
done
post "$WORKER" /worker/beat "{$lease,\"notice\":true}"
want 200 "beat with a notice"
api GET "/runs/$crun/attempts"
is "$(js '[[m["kind"], m["done"]] for a in b["items"] if a["ended_at"] is None for m in a["marks"]]')" '[["checkpoint", 3], ["checkpoint", 5], ["notice", 5]]' marks

# All of it is there after Redis has lost everything; what was refused is not.
grep -q withdrawn "$DATA/store/docs/runs/$run/decisions.jsonl" && echo "some lost the race in Redis"
api GET "/runs/$run"
before=$(js '[b["notes"], b["tags"], b["starred"], b["class"], b["max_running"]]')
stop server
stop redis
rm -rf "$FLOW_DIR"/appendonlydir "$FLOW_DIR"/dump.rdb
start_redis
start_server
api GET "/runs/$run"
want 200 "the run after a loss"
is "$(js '[b["notes"], b["tags"], b["starred"], b["class"], b["max_running"]]')" "$before" "labels after a loss"
is "$(found tag=t3)" "[\"$other\"]" "by tag after a loss"

# One log of many.
stamp() { printf '2026-11-21T10:00:%02d.000Z info test %s\n' "$1" "$2"; }
mkdir -p "$DATA/logs/$run/$run.0.sft.0.0" "$DATA/logs/$run/$run.0.eval.0.0"
log=$DATA/logs/$run/$run.0.sft.0.0/1.log
stamp 1 "first of sft" >"$log"
stamp 1 "first again" >"$DATA/logs/$run/$run.0.sft.0.0/2.log"
{ stamp 2 "Loss of eval"; echo "  and more of it"; stamp 5 "end of eval"; } >"$DATA/logs/$run/$run.0.eval.0.0/1.log"
python3 -c '
import sys
with open(sys.argv[1], "a") as f:
    line = "2026-11-21T10:00:03.%03dZ info stage metric step=%d " + "values of a step " * 55 + "\n"
    for i in range(60): f.write("".join(line % (i, i) for _ in range(1024)))' "$log"
size=$(stat -c %s "$log")
[ "$size" -gt 60000000 ] || fail "the log has $size bytes"
stamp 4 "end of sft" >>"$log"
ms() { python3 -c 'import time; print(int(time.time() * 1000))'; }
began=$(ms)
api GET "/runs/$run/log?limit=2000"
took=$(($(ms) - began))
want 200 "merged log"
[ $took -lt 8000 ] || fail "the end of the merged log took $took ms"
echo "the end of $size bytes in $took ms, curl and two Pythons included"
is "$(js '[i["text"][30:] for i in b["items"]][-3:][1:]')" '["test end of sft", "test end of eval"]' "its end"
is "$(js '[b["sources"], all(x["at"] <= y["at"] for x, y in zip(b["items"], b["items"][1:]))]')" "[3, true]" "order"
api GET "/runs/$run/log?limit=100000&cursor=$(js 'b["next_cursor"]')"
want 200 "the page before"
is "$(js 'all(" metric " in i["text"] for i in b["items"]) and len(b["items"]) > 50')" true "the page before"
cursor= found=
began=$(ms)
for _ in $(seq 20); do
	api GET "/runs/$run/log?q=LOSS%20of&cursor=$cursor"
	want 200 search
	found=$found$(js '"".join(i["text"][30:] for i in b["items"])')
	cursor=$(js 'b["next_cursor"]')
	[ "$cursor" != null ] || break
done
echo "searched it in $(($(ms) - began)) ms"
is "$found/$cursor" "test Loss of eval/null" "search through all"
api GET "/runs/$run/log?stage=eval"
is "$(js '[i["text"][-4:] for i in b["items"]]')" '["eval", "f it", "eval"]' "of one stage"
is "$(js 'b["items"][1]["at"]')" "2026-11-21T10:00:02.000Z" "time of a line without one"
api GET "/runs/$run/log?job=$run.0.sft.0.0&cursor=1:2:3:..."
want 400 "a cursor of nobody's"
api GET "/runs/rnone/log"
want 404 "log of no run"
call "" GET "/runs/$run/log"
want 401 "log for a stranger"
exit 0
