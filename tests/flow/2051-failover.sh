#!/bin/bash
# A failover of Redis that loses its tail: a master cut off first from its replica, then from everybody, and
# come back later. Submissions, results and decisions that it alone had acknowledged are true afterwards.
. tests/flow/lib.sh
need python3 redis-server redis-cli
export BUILD=$PAWL_BUILD
for seed in $(seq "${SEED:-1}" $((${SEED:-1} + ${ROUNDS:-1} - 1))); do
	python3 tests/chaos/failover.py "$FLOW_DIR/chaos-$seed" 2 "${PROMPTS:-60}" "$seed" || {
		tail -n 5 -- "$FLOW_DIR/chaos-$seed"/*.log
		fail "violations with seed $seed"
	}
	rm -rf "$FLOW_DIR/chaos-$seed"
done
