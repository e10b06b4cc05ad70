#!/bin/bash
# Kill anything, any number of times: the bytes of the last model are the same, nothing is lost or doubled, and a
# blow costs no more than the work since the last checkpoint. Every stage is hit. KILLS of the worker in all (50 in
# the long form), SEED which moments.
. tests/flow/lib.sh
need python3 redis-server
export BUILD=$PAWL_BUILD
python3 tests/chaos/anything.py "$FLOW_DIR/chaos" "${KILLS:-11}" "${SEED:-20261121}" || {
	tail -n 15 -- "$FLOW_DIR"/chaos/*/up.log
	fail "work was lost, or other bytes came out"
}
