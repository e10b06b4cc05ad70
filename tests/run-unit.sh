#!/bin/sh
# Runs test programs, JOBS of them at a time (default: a program for each processor), prints their lines,
# each program's together, and closes with "N passed, N failed, N skipped".
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT
export dir
# A program line only counts when the program died without saying which test failed.
printf '%s\n' "$@" | xargs -P "${JOBS:-$(nproc)}" -I{} sh -c '
	name=$(basename "$1") out=$dir/$(basename "$1")
	"$1" >"$out" 2>&1 || grep -q "^not ok " "$out" || echo "not ok program $name" >>"$out"
	flock "$dir" cat "$out"' sh {}
passed=$(cat "$dir"/* | grep -c '^ok '); skipped=$(cat "$dir"/* | grep -c '^skip ')
failed=$(cat "$dir"/* | grep -c '^not ok ')
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
