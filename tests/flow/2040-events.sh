#!/bin/bash
# The event stream: resumed without gap or double, over a killed server; reset, bye, caps.
. tests/flow/lib.sh
start_redis
start_server --server-threads 32 --server-max-sse 3

spec() { echo "{\"name\":\"e$1\",\"base_model\":\"/m\",\"data\":{\"ift\":[{\"path\":\"/d/i\"}]}}"; }
listen() { # NAME SECONDS [curl options]
	local name=$1 s=$2
	shift 2
	start "$name" curl -sN --max-time "$s" -H "Authorization: Bearer $ADMIN" "$@"
}
ids() { grep '^id: ' "$FLOW_DIR/$1.out" | cut -d' ' -f2; }

listen one 60 "$URL/api/v1/events"
wait_for 5 grep -q 'event: hello' "$FLOW_DIR/one.out"
for i in 1 2 3; do post "$ADMIN" /runs "$(spec $i)"; want 201; done
run=$(js 'b["id"]')
wait_for 5 sh -c "grep -c 'event: run' $FLOW_DIR/one.out | grep -q '[3-9]'"
sleep 0.5
# Another one from an id in the middle sees exactly the rest.
middle=$(ids one | sed -n 4p)
listen two 60 "$URL/api/v1/events?after=$middle"
wait_for 5 sh -c "[ \"\$(grep '^id: ' $FLOW_DIR/two.out | tail -1)\" = \"\$(grep '^id: ' $FLOW_DIR/one.out | tail -1)\" ]"
is "$(ids two | md5sum)" "$(ids one | sed 1,4d | md5sum)" "events after the middle"
# A topic is kept to.
listen three 60 "$URL/api/v1/events?topics=run:$run&after=$middle"
wait_for 5 grep -q 'event: job' "$FLOW_DIR/three.out"
grep '^data: ' "$FLOW_DIR/three.out" | grep -v "\"$run\"" && fail "a foreign event on the topic"

# One too many is told at once.
api GET /events
want 503 "fourth stream"
is "$(header Retry-After)" 10
api GET '/events?topics=nonsense'
want 400
api GET '/events?after=x'
want 400

# kill -9, more events through a new server: all streams together are one unbroken row.
last=$(ids one | tail -1)
stop server KILL
start_server --server-threads 32 --server-max-sse 3
post "$ADMIN" /runs "$(spec 4)"
want 201
listen four 60 -H "Last-Event-ID: $last" "$URL/api/v1/events"
wait_for 5 grep -q 'event: run' "$FLOW_DIR/four.out"
sleep 0.5
redis-cli -s "$REDIS_SOCK" --scan --pattern '*ev' >"$FLOW_DIR/keys"
all=$(redis-cli -s "$REDIS_SOCK" xrange '{pawl}:ev' - + | grep -E '^[0-9]+-[0-9]+$' | sort -u -t- -k1,1n -k2,2n)
seen=$({ ids one | sed 1d; ids four; } | sort -u -t- -k1,1n -k2,2n)
from=$(echo "$seen" | head -1)
is "$(echo "$seen" | md5sum)" "$(echo "$all" | sed -n "/^$from\$/,\$p" | md5sum)" "row of ids"
is "$({ ids one | sed 1d; ids four; } | sort | uniq -d | wc -l)" 0 "doubles"

# Too old an id: reset, not silence.
listen five 60 "$URL/api/v1/events?after=1-0"
sleep 0.3
redis-cli -s "$REDIS_SOCK" xtrim '{pawl}:ev' maxlen 1 >/dev/null
listen six 60 "$URL/api/v1/events?after=1-0"
wait_for 5 grep -q 'event: reset' "$FLOW_DIR/six.out"

# A closing server says goodbye and does not hang on its streams.
before=$SECONDS
stop server
is "$code" 0 "exit code"
[ $((SECONDS - before)) -le 4 ] || fail "shutdown took $((SECONDS - before)) s"
wait_for 5 grep -q 'event: bye' "$FLOW_DIR/four.out"
exit 0
