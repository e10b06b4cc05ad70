#!/bin/bash
# A backup of a folder that is at work, checked, spoiled, and brought back to life elsewhere: the runs are
# there again with their results, and so are tokens.
. tests/flow/lib.sh
. tests/flow/worker.sh
need redis-server python3
P=$PAWL_BUILD/pawl
D=$FLOW_DIR/data
up() { # FOLDER
	start up "$P" up --listen 127.0.0.1:0 --workers 0 --data "$1" --json
	wait_for 60 grep -q '"url"' "$FLOW_DIR/up.out"
	URL=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["url"])' "$FLOW_DIR/up.out")
	ADMIN=$(cat "$1/tokens/admin") WORKER=$(cat "$1/tokens/worker")
}
up "$D"
post "$ADMIN" /runs '{"name":"kept","base_model":"/m","iterations":0,"data":{"ift":[{"path":"/d/ift.jsonl"}]},"eft":{"mode":"given"},"sft":{"baseline":false}}'
want 201 submit
run=$(js 'b["id"]')
post "$WORKER" /worker/register '{"name":"w","pid":1,"host":"h","engine":"cpu/1","code":"c1","threads":2,"memory_bytes":1,"labels":{},"stages":[],"pools":[]}'
w=$(js 'b["worker"]')
api PATCH "/jobs/$run.0.import.0.0" -H 'Content-Type: application/json' -H 'If-Match: *' -d '{"priority":9}'
claim || fail "nothing to claim"
data=$(tar_artifact "$FLOW_DIR/ift.tar" dataset data.jsonl '{"a":1}
' '{"rows":1}')
put_blob "$FLOW_DIR/ift.tar" "$data"
complete "$(outputs "ift:dataset:$data:{\"rows\":1}")"
want 200 completion
finished=$job
api PATCH "/runs/$run" -H 'Content-Type: application/json' -H 'If-Match: *' -d '{"tags":["saved"]}'
want 202 tags

"$P" db check --data "$D" >"$FLOW_DIR/out" || fail "check: $(cat "$FLOW_DIR/out")"
grep -q 'queue: 0 problems' "$FLOW_DIR/out" || fail "the queue was not looked at: $(cat "$FLOW_DIR/out")"
"$P" db migrate --data "$D" | grep -q 'schema [0-9]' || fail migrate
"$P" db backup "$FLOW_DIR/saved" --data "$D" >"$FLOW_DIR/out" || fail backup
"$P" db backup "$FLOW_DIR/linked" --link --json --data "$D" >/dev/null || fail "backup --link"
"$P" db backup "$FLOW_DIR/saved" --data "$D" 2>/dev/null; is $? 5 "over another backup"
is "$(stat -c %a "$FLOW_DIR/saved" "$FLOW_DIR/saved/tokens/admin" | tr '\n' ' ')" "700 600 " "who may read it"
stop up
"$P" db migrate --data "$D" 2>/dev/null; is $? 6 "migrate without a Redis"
"$P" db check "$FLOW_DIR/saved" --deep >/dev/null || fail "check of a backup"

# What is spoiled is seen.
cp -r "$FLOW_DIR/saved" "$FLOW_DIR/spoiled"
blob=$FLOW_DIR/spoiled/store/blobs/${data:0:2}/$data.tar
chmod u+w "$blob" && printf X | dd of="$blob" bs=1 seek=600 conv=notrunc 2>/dev/null
"$P" db check "$FLOW_DIR/spoiled" >/dev/null || fail "names alone are right"
"$P" db check "$FLOW_DIR/spoiled" --deep >/dev/null 2>"$FLOW_DIR/err"; is $? 1 "a byte that is not"
grep -q 'not what its name says' "$FLOW_DIR/err" || fail "$(cat "$FLOW_DIR/err")"
rm -f "$blob"
"$P" db check "$FLOW_DIR/spoiled" >/dev/null 2>"$FLOW_DIR/err"; is $? 1 "a blob that is gone"
grep -q 'is not in the store' "$FLOW_DIR/err" || fail "$(cat "$FLOW_DIR/err")"
echo '{' >"$FLOW_DIR/spoiled/store/docs/runs/$run/record.json"
"$P" db check "$FLOW_DIR/spoiled" --json 2>/dev/null | grep -q '"problems":2' || fail "a document that is none"
rm "$FLOW_DIR/spoiled/backup.json"
"$P" db restore "$FLOW_DIR/spoiled" --data "$FLOW_DIR/new" 2>/dev/null; is $? 3 "half a backup"
[ ! -e "$FLOW_DIR/new" ] || fail "something was made of half a backup"

# All else is lost.
rm -rf "$D"
"$P" db restore "$FLOW_DIR/saved" --data "$D" >/dev/null 2>&1 || fail restore
"$P" db restore "$FLOW_DIR/saved" --data "$D" 2>/dev/null; is $? 5 "over what is there"
old=$ADMIN
up "$D"
is "$ADMIN" "$old" "token"
api GET "/runs/$run"
want 200 "the run"
is "$(js '[b["name"], b["tags"], b["progress"]["jobs_done"]]')" '["kept", ["saved"], 1]' "the run"
api GET "/jobs/$finished"
is "$(js '[b["state"], b["outputs"][0]["digest"]]')" "[\"done\", \"$data\"]" "its result"
api GET "/datasets/$data/rows"
want 200 "its rows"
stop up
exit 0
