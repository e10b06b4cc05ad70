#!/bin/bash
# Redis and server suspended and down for several leases steal no lease; a dead worker is found soon after
# its lease; what a worker writes that was suspended for longer is refused. OUTAGE_S of each (long form: 200).
. tests/flow/lib.sh
need python3 redis-server
export BUILD=$PAWL_BUILD
python3 tests/chaos/leases.py "$FLOW_DIR/chaos" "${OUTAGE_S:-6}" || {
	tail -n 5 -- "$FLOW_DIR"/chaos/*.log
	fail "a lease was lost, or a zombie heard"
}
