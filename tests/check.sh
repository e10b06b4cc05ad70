#!/bin/sh
# Runs every suite of `make check`, also after a failure, and closes with the sum of their lines
# `ok ...`, `not ok ...`, `skip ...`.
# usage: check.sh NAME COMMAND [NAME COMMAND]...
set -u
out=$(mktemp)
trap 'rm -f "$out"' EXIT
while [ $# -ge 2 ]; do
	name=$1 command=$2
	shift 2
	echo "== $name"
	before=$(grep -c '^not ok ' "$out")
	started=$(date +%s)
	{ sh -c "$command" 2>&1; echo "suite-code $?"; } | tee -a "$out" | grep --line-buffered -v '^suite-code '
	# A suite that dies without naming a failed test is a failure all the same.
	if ! tail -1 "$out" | grep -q '^suite-code 0$' && [ "$(grep -c '^not ok ' "$out")" -eq "$before" ]; then
		echo "not ok suite $name" | tee -a "$out"
	fi
	echo "== $name took $(($(date +%s) - started)) s"
done
passed=$(grep -c '^ok ' "$out")
failed=$(grep -c '^not ok ' "$out")
skipped=$(grep -c '^skip ' "$out")
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
