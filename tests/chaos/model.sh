#!/bin/bash
# The queue's model test in its long form: PARTS processes of OPS operations, JOBS of them at a time, each with
# seeds and a Redis of its own. Their output goes to FOLDER/part-N.log and counts also when this is broken off.
# usage: model.sh PROGRAM FOLDER   (OPS 1,000,000; PARTS 10; JOBS one a processor; SEED 1)
set -u
program=$(realpath "$1") folder=$2
mkdir -p "$folder"
part() { # part N
	PAWL_QUEUE_OPS=$OPS PAWL_QUEUE_SEED=$((SEED + 100000 * $1)) PAWL_TEST_TIMEOUT_S=99999 "$program" >"$folder/part-$1.log" 2>&1 || {
		echo "part $1 differs; the end of its output:"
		tail -20 "$folder/part-$1.log"
		exit 255 # xargs stops.
	}
}
export -f part
export program folder OPS=${OPS:-1000000} SEED=${SEED:-1}
seq 0 $((${PARTS:-10} - 1)) | xargs -P "${JOBS:-$(nproc)}" -I{} bash -c 'part {}'
rc=$?
cat "$folder"/part-*.log | awk '
	/^# seed/ { n += $4; seeds++ }
	/of .* moves/ { parts++; if (least == "" || $2 < least) { least = $2; all = $4 } }
	END { printf "%d operations of %d seeds; %d processes ended, with %s of %s moves at least\n", n, seeds, parts, least, all }'
exit $rc
