#!/bin/bash
# Redis and server suspended and down for several leases, and clocks that step by an hour, steal no lease; a dead
# worker is found soon after its lease; what a worker writes that was suspended for longer is refused. OUTAGE_S of
# each (long form: 600).
. tests/flow/lib.sh
need python3 redis-server cc
export BUILD=$PAWL_BUILD
cc -std=c11 -D_GNU_SOURCE -O2 -shared -fPIC -o "$FLOW_DIR/clock_step.so" tests/chaos/clock_step.c -ldl || fail "the shim"
python3 tests/chaos/leases.py "$FLOW_DIR/chaos" "${OUTAGE_S:-9}" "$FLOW_DIR/clock_step.so" || {
	tail -n 5 -- "$FLOW_DIR"/chaos/*.log
	fail "a lease was lost, or a zombie heard"
}
