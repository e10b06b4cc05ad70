# For flow tests that run a whole `pawl up`. Sourced after lib.sh.
cli() { "$PAWL_BUILD/pawl" "$@" --data "$DATA"; }
up_ready() { cli run list --json >/dev/null 2>&1; }
up_start() { # up_start NAME: a data folder of its own
	DATA=$FLOW_DIR/$1
	mkdir -p "$DATA"
	start "$1" "$PAWL_BUILD/pawl" up --data "$DATA" --listen 127.0.0.1:0
	wait_for 60 up_ready
}
# run_file FILE: submits and waits; the run's id in RUN. Says why when it does not end well.
run_file() {
	cli run submit -f "$1" --wait --quiet >"$FLOW_DIR/id" 2>"$FLOW_DIR/submit.log"
	code=$?
	RUN=$(head -1 "$FLOW_DIR/id")
	[ $code -eq 0 ] || { cli job list "$RUN" | tail -20; fail "run $RUN: code $code: $(tail -3 "$FLOW_DIR/submit.log")"; }
}
test_data() {
	local d
	for d in "${PAWL_TEST_DATA:-}" ../shared/data ../../shared/data; do
		[ -n "$d" ] && [ -e "$d/$1" ] && { TEST_DATA=$(cd "$d" && pwd); return; }
	done
	skip "needs $1 in ../shared/data or \$PAWL_TEST_DATA"
}
