# The store in a bucket of an S3 service that is not ours (s3rver; signatures checked by aws4): the
# tests of the store, then a whole run of which server and worker keep everything there, artifacts in volumes;
# M1 once more while the worker is killed -9 when it has published a checkpoint: the same bytes.
set -u
. "$(dirname "$0")/lib.sh"
need node npm
[ -d tests/s3/node_modules/s3rver ] ||
	(cd tests/s3 && timeout 300 npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null 2>&1) ||
	skip "s3rver cannot be installed (no network?)"
start s3 node tests/s3/server.mjs "$FLOW_DIR/s3"
wait_for 60 grep -q '^port ' "$FLOW_DIR/s3.out"
export AWS_ACCESS_KEY_ID=S3RVER AWS_SECRET_ACCESS_KEY=S3RVER TMPDIR="$FLOW_DIR"
BUCKET="s3://pawl-bucket/flow?endpoint=http://127.0.0.1:$(sed 's/port //' "$FLOW_DIR/s3.out")&retry_ms=20"
if [ -x "$PAWL_BUILD/tests/test_store_s3" ]; then
	PAWL_TEST_S3="$BUCKET" "$PAWL_BUILD/tests/test_store_s3" >"$FLOW_DIR/unit.log" 2>&1 || fail "the tests of the store"
	grep -q '^ok test_store_s3__large' "$FLOW_DIR/unit.log" || fail "large files were not tried"
fi
# A wrong key is refused with a sentence.
AWS_SECRET_ACCESS_KEY=wrong "$PAWL_BUILD/pawl-server" --listen 127.0.0.1:0 --store "$BUCKET" --data-dir "$FLOW_DIR/no" \
	--redis "unix:/nowhere" >"$FLOW_DIR/no.txt" 2>&1 && fail "a server with a wrong key started"

P="$(pwd)/$PAWL_BUILD/pawl"
D="$FLOW_DIR/data"
cli() { "$P" "$@" --data "$D"; }
"$P" demo world --data "$FLOW_DIR" --tiny >/dev/null || fail "no demo world"
export PAWL_WORKER_VOLUME_BYTES=500000 PAWL_SERVER_LEASE_MS=12000 PAWL_SERVER_BEAT_MS=2000
PAWL_SERVER_STORE="$BUCKET" start up "$P" up --listen 127.0.0.1:0 --data "$D"
wait_for 60 grep -q Ctrl-C "$FLOW_DIR/up.out"
small_run bucket
sed -i 's/"sft":{/"reuse":false,"seed":3,"sft":{"baseline":false,"save_every_steps":1000,/; s/"max_steps":20/"max_steps":100/' "$FLOW_DIR/run.json"
timeout 400 "$P" run submit -f "$FLOW_DIR/run.json" --wait --quiet --data "$D" >"$FLOW_DIR/id" 2>"$FLOW_DIR/run.log" || fail "the run"
grep -rq 'store_direct.*s3://' "$D"/log/ || fail "the worker did not go to the bucket itself"
[ ! -e "$D/store/blobs" ] || fail "something was kept in a folder"
models() { cli ckpt ls --run "$1" | awk '$3 ~ /^M[0-9]+$/ {print $3, $1}' | sort; }
first=$(head -1 "$FLOW_DIR/id")
digest=$(models "$first" | awk '$1 == "M1" {print $2}')
(cd "$FLOW_DIR" && "$P" ckpt get "$digest" --data "$D" >/dev/null && "$P" ckpt verify "$digest.tar" "$digest") ||
	fail "download by way of the server"
[ -s "$FLOW_DIR/$digest.tar.v002" ] || fail "M1 is not in volumes"

# Killed at once after each of the first checkpoints the server knows of; what it goes on from comes out of the
# bucket.
known() { cli job show "$second.0.sft.1.0" --json 2>/dev/null | python3 -c 'import json, sys; print(json.dumps(json.load(sys.stdin)["checkpoint"]))'; }
sed -i 's/"iterations":1/"iterations":0/; s/"save_every_steps":1000/"save_every_steps":3/' "$FLOW_DIR/run.json"
second=$(cli run submit -f "$FLOW_DIR/run.json" --quiet) || fail "the second run"
over() { case $(cli run show "$second" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["state"])') in done | failed | cancelled) return 0 ;; *) return 1 ;; esac; }
kills=0 seen=null
more() { now=$(known); { [ -n "$now" ] && [ "$now" != null ] && [ "$now" != "$seen" ]; } || over; }
while [ $kills -lt 2 ] && wait_for 60 more && ! over; do
	for pid in $(pgrep -P "$up_pid" -f worker-0); do kill -9 "$pid" && kills=$((kills + 1)); done
	seen=$(known)
done
wait_for 300 over
[ $kills -ge 1 ] || fail "was over before anybody could be killed"
grep -q 'claim .*\.sft\..*resume=1' "$D"/log/worker-0.log || fail "nothing was resumed"
! grep -q resume_lost "$D"/log/worker-0.log || fail "a checkpoint could not be read"
is "$(models "$second")" "M1 $digest" "M1 after $kills kills"
stop up
