#!/bin/bash
# Kill anything, any number of times: the bytes of the last model are the same, nothing is lost or doubled, and a
# blow costs no more than the work since the last checkpoint. Each of ten stages is hit, and what is left of KILLS
# falls at random (50 in the long form); SEED says when.
. tests/flow/lib.sh
need python3 redis-server
export BUILD=$PAWL_BUILD
python3 tests/chaos/anything.py "$FLOW_DIR/chaos" "${KILLS:-14}" "${SEED:-20261121}" || {
	tail -n 15 -- "$FLOW_DIR"/chaos/*/up.log
	fail "work was lost, or other bytes came out"
}
