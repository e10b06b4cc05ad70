#!/bin/bash
# A rebuild accepts that checkpoints are gone which a run that is over gave up, and misses others.
. tests/flow/lib.sh
need python3 redis-server redis-cli
export BUILD=$PAWL_BUILD
python3 tests/chaos/given_up.py "$FLOW_DIR/chaos" || {
	tail -n 15 -- "$FLOW_DIR"/chaos/*.log
	fail "rebuild"
}
