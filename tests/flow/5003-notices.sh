#!/bin/bash
# Machines that are taken away, as five platforms say it: the job is handed back within 80 % of the notice,
# with its checkpoint, and burns no attempt. TRIALS of each (the long form: 200), WIDTH beside each other.
. tests/flow/lib.sh
need python3 redis-server
export BUILD=$PAWL_BUILD
python3 tests/chaos/notices.py "$FLOW_DIR/chaos" "${TRIALS:-1}" || {
	tail -n 15 -- "$FLOW_DIR"/chaos/*.log
	fail "a notice was not followed"
}
