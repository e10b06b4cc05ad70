#!/bin/bash
# A slow and dirty disk under the store and under Redis (fsync + 1.5 s, EIO, ENOSPC, short writes), with
# kill -9 in between: nothing acknowledged is lost. ROUNDS faults, SEED the moments.
. tests/flow/lib.sh
need python3 redis-server redis-cli cc
export BUILD=$PAWL_BUILD
cc -std=c11 -D_GNU_SOURCE -O2 -shared -fPIC -o "$FLOW_DIR/dirty_disk.so" tests/chaos/dirty_disk.c -ldl || fail "the shim"
python3 tests/chaos/dirty_disk.py "$FLOW_DIR/chaos" "$FLOW_DIR/dirty_disk.so" "${ROUNDS:-8}" "${PROMPTS:-20}" "${SEED:-1}" || {
	tail -n 5 -- "$FLOW_DIR"/chaos/*.log
	fail "violations"
}
