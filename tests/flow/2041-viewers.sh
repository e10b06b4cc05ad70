#!/bin/bash
# Viewers of the event stream that keep losing their connections: nobody misses an event or sees one twice.
# VIEWERS and RECONNECTS set the size (the long form: 500, 10000); 2040 has the killed server.
. tests/flow/lib.sh
need python3 redis-server redis-cli
export BUILD=$PAWL_BUILD
python3 tests/chaos/viewers.py "$FLOW_DIR/chaos" "${VIEWERS:-40}" "${RECONNECTS:-300}" || {
	tail -n 15 -- "$FLOW_DIR"/chaos/*.log
	fail "events were missed or doubled"
}
