# The store in a bucket of an S3 service that is not ours (s3rver; signatures checked by aws4): the
# tests of the store, then a whole run of which server and worker keep everything there.
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
"$P" demo world --data "$FLOW_DIR" --tiny >/dev/null || fail "no demo world"
PAWL_SERVER_STORE="$BUCKET" start up "$P" up --listen 127.0.0.1:0 --data "$D"
wait_for 60 grep -q Ctrl-C "$FLOW_DIR/up.out"
small_run bucket
timeout 400 "$P" run submit -f "$FLOW_DIR/run.json" --wait --quiet --data "$D" >"$FLOW_DIR/id" 2>"$FLOW_DIR/run.log" || fail "the run"
grep -rq 'store_direct.*s3://' "$D"/log/ || fail "the worker did not go to the bucket itself"
[ ! -e "$D/store/blobs" ] || fail "something was kept in a folder"
digest=$("$P" ckpt ls --run "$(head -1 "$FLOW_DIR/id")" --data "$D" | awk '$3=="M1"{print $1}')
(cd "$FLOW_DIR" && "$P" ckpt get "$digest" --data "$D" >/dev/null && "$P" ckpt verify "$digest.tar" "$digest") ||
	fail "download by way of the server"
stop up
