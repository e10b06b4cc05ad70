#!/bin/bash
# Viewers of the event stream that keep losing their connections, and a server that is killed: nobody misses an
# event or sees one twice. VIEWERS, RECONNECTS and KILLS set the size (the long form: 500, 10000, 20).
. tests/flow/lib.sh
need python3 redis-server redis-cli
export BUILD=$PAWL_BUILD
python3 tests/chaos/viewers.py "$FLOW_DIR/chaos" "${VIEWERS:-40}" "${RECONNECTS:-300}" "${SEED:-1}" "${KILLS:-2}" || {
	tail -n 15 -- "$FLOW_DIR"/chaos/*.log
	fail "events were missed or doubled"
}
