#!/bin/sh
# Runs test programs, prints their lines, and closes with "N passed, N failed, N skipped".
out=$(mktemp) && trap 'rm -f "$out"' EXIT
for t in "$@"; do "$t" || echo "not ok-program $(basename "$t")"; done 2>&1 | tee "$out"
# A program line only counts when the program died without saying which test failed.
passed=$(grep -c '^ok ' "$out"); skipped=$(grep -c '^skip ' "$out"); failed=$(grep -c '^not ok ' "$out")
if [ "$failed" -eq 0 ]; then failed=$(grep -c '^not ok-program' "$out"); fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
