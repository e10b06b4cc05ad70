#!/bin/bash
# Redis, server, agents and executors killed with -9 at random under many small jobs; the history of all
# that clients were told is checked: nothing acknowledged is lost, doubled or out of order. KILLS, RUNS and
# PROMPTS set the size (a run has four jobs a prompt), SEED the moments; UP=1 or 0: only with `pawl up`, which
# starts again what was killed, or only without.
. tests/flow/lib.sh
need python3 redis-server redis-cli
export BUILD=$PAWL_BUILD
python3 tests/chaos/test_history.py || fail "the checker"
kills() { # kills FOLDER [up]
	python3 tests/chaos/kill9.py "$FLOW_DIR/$1" "${KILLS:-12}" "${RUNS:-2}" "${PROMPTS:-12}" "${SEED:-1}" ${2:+"$2"} || {
		tail -n 5 -- "$FLOW_DIR/$1"/*.log
		fail "see above"
	}
}
[ "${UP:-}" = 1 ] || kills chaos
[ "${UP:-}" = 0 ] || kills supervised up
