#!/bin/sh
# Runs fuzz programs, RUNS inputs each: the regressions and our own mutations, then libFuzzer when
# it was built. The corpus stays in the build folder and grows from run to run.
status=0
for program in "$@"; do
	name=$(basename "$program")
	corpus=$program.corpus
	mkdir -p "$corpus"
	"$program" -seed="$corpus/seed"
	if ! "$program" -runs="${RUNS:-20000}" $(find tests/fuzz/regress/"$name" -type f 2>/dev/null); then
		echo "not ok fuzz $name"
		status=1
		continue
	fi
	if [ -x "$program.libfuzzer" ]; then
		if ! timeout 3600 "$program.libfuzzer" -runs="${RUNS:-20000}" -verbosity=0 \
			-artifact_prefix="$program." "$corpus" $(find tests/fuzz/regress/"$name" -maxdepth 0 2>/dev/null) >"$program.log" 2>&1; then
			tail -30 "$program.log"
			echo "not ok fuzz $name (libFuzzer)"
			status=1
			continue
		fi
	fi
	echo "ok fuzz $name"
done
exit $status
