#!/bin/bash
# An artifact goes through the server in pieces: offsets, breaks, a server killed in the middle, two that
# send at once, wrong bytes.
. tests/flow/lib.sh
. tests/flow/worker.sh
start_redis
start_server

head -c 3000000 /dev/urandom | base64 -w0 >"$FLOW_DIR/content"
file=$FLOW_DIR/a.tar
python3 - "$file" "$FLOW_DIR/content" <<'PY'
import hashlib, json, sys, tarfile
data = open(sys.argv[2], "rb").read()
man = json.dumps({"format": 1, "kind": "dataset", "members": [{"path": "data.jsonl", "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}], "meta": {}}, sort_keys=True, separators=(",", ":")).encode()
with open(sys.argv[1], "wb") as f:
    for name, d in (("data.jsonl", data), ("manifest.json", man)):
        t = tarfile.TarInfo(name)
        t.size, t.mode = len(d), 0o644
        f.write(t.tobuf(tarfile.PAX_FORMAT) + d + b"\0" * (-len(d) % 512))
    f.write(b"\0" * 1024)
PY
digest=$(sha256sum "$file" | cut -d' ' -f1)
size=$(stat -c %s "$file")
up=/worker/blobs/$digest/upload
piece() { # FROM COUNT: as an upload of the whole
	tail -c "+$(($1 + 1))" "$file" | head -c "$2" >"$FLOW_DIR/piece"
	work PUT "$up?offset=$1&size=$size" -H 'Content-Type: application/x-tar' --data-binary @"$FLOW_DIR/piece"
}
offset() { work GET "$up"; want 200 "where to go on"; js 'b["offset"]'; }

is "$(offset)" 0 "nothing was sent yet"
piece 0 1000000
want 200 "the first piece"
is "$(js 'b["offset"]')" 1000000
piece 500000 1000
want 409 "a piece from the middle"
piece 1200000 1000
want 409 "a piece beyond the end"
is "$(offset)" 1000000 "after refused pieces"

# A piece that breaks off: what came of it counts.
tail -c +1000001 "$file" | head -c 1000000 >"$FLOW_DIR/piece"
(curl -sS -m 2 -X PUT -H "Authorization: Bearer $WORKER" -H 'Content-Type: application/x-tar' --limit-rate 100k \
	--data-binary @"$FLOW_DIR/piece" "$URL/api/v1$up?offset=1000000&size=$size" >/dev/null 2>&1)
# The server may still be writing what came last.
more() { at=$(offset) && [ "$at" -gt 1000000 ]; }
wait_for 10 more
at=$(offset)
[ "$at" -lt 2000000 ] || fail "a broken piece counts whole"

# Killed with an upload half-way: it goes on with what is durable.
stop server KILL
start_server
now=$(offset)
[ "$now" -ge "$at" ] && [ "$now" -lt 2000000 ] || fail "after kill -9: $now, not $at"
at=$now
piece "$at" $((2500000 - at))
want 200 "on from there"

# Two at once: one of them has it.
piece 2500000 100000
want 200
is "$(offset)" 2600000
piece 2600000 "$size"
want 201 "the last piece"
is "$(js 'b["digest"]')" "$digest"
work GET "$up"
is "$(js 'b["existed"]')" true "once it is stored"
work GET "/worker/blobs/$digest"
want 200
is "$(sha256sum <"$FLOW_DIR/body" | cut -d' ' -f1)" "$digest" "what is stored"
piece 0 10
want 200 "a piece of what is there already"
[ -z "$(ls "$DATA/store/tmp")" ] || fail "left behind: $(ls "$DATA/store/tmp")"

# Other bytes than the name says: refused as a whole, and it begins anew.
wrong=${digest:0:63}$([ "${digest:63}" = 0 ] && echo 1 || echo 0)
up=/worker/blobs/$wrong/upload
piece 0 1000000
want 200
piece 1000000 "$size"
want 422 "the wrong bytes"
is "$(offset)" 0 "after the wrong bytes"
up=/worker/blobs/short/upload
work GET "$up"
want 404
exit 0
