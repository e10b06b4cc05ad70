#!/bin/sh
# Runs every suite of `make check`, also after a failure, and closes with the sum of their lines
# `ok ...`, `not ok ...`, `skip ...`. A `--` begins a lane: lanes run beside each other, the suites of
# one in their order; those before the first `--` run alone and first. A suite's lines come together,
# when it is over.
# usage: check.sh [NAME COMMAND]... [-- NAME COMMAND [NAME COMMAND]...]...
set -u
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'trap "" TERM; kill 0; exit 130' INT TERM # A shell's background jobs do not hear an interrupt.

# suite NAME COMMAND
suite() {
	echo "== $1"
	started=$(date +%s)
	# A suite that dies without naming a failed test is a failure all the same.
	sh -c "$2" >"$dir/$1" 2>&1 || grep -q '^not ok ' "$dir/$1" || echo "not ok suite $1" >>"$dir/$1"
	flock "$dir" cat "$dir/$1"
	echo "== $1 took $(($(date +%s) - started)) s"
}

lane() {
	while [ $# -ge 2 ] && [ "$1" != -- ]; do
		suite "$1" "$2"
		shift 2
	done
}

lane "$@"
while [ $# -gt 0 ]; do
	if [ "$1" = -- ]; then
		shift
		lane "$@" &
	else
		shift 2
	fi
done
wait
passed=$(cat "$dir"/* | grep -c '^ok ')
failed=$(cat "$dir"/* | grep -c '^not ok ')
skipped=$(cat "$dir"/* | grep -c '^skip ')
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
