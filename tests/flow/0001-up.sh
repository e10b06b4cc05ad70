# `pawl up`: one command gives a working stack; every part may be killed; two cannot share a
# folder; Ctrl-C and kill -9 leave nothing running; a second start finds everything again.
set -u
P="$(pwd)/$PAWL_BUILD/pawl"
D="$FLOW_DIR/data"
fails=0
up=
started=
check() { if [ "$2" = "$3" ]; then echo "ok: $1"; else echo "FAILED: $1: '$2', expected '$3'"; fails=$((fails + 1)); fi; }
# until SECONDS COMMAND...: polls a condition.
until_() { local n=$(($1 * 10)); shift; while ! "$@" >/dev/null 2>&1; do n=$((n - 1)); [ $n -gt 0 ] || return 1; sleep 0.1; done; }
children() { pgrep -P "$up" | wc -l; }
child() { pgrep -P "$up" -f "$1"; }
start() {
	rm -f "$FLOW_DIR/up.out" # else the words of the one before could be taken for its own
	"$P" up --data "$D" --listen 127.0.0.1:0 "$@" >"$FLOW_DIR/up.out" 2>"$FLOW_DIR/up.err" &
	up=$!
	started="$started $up"
	until_ 60 grep -q Ctrl-C "$FLOW_DIR/up.out" || { cat "$FLOW_DIR/up.err"; exit 1; }
}
idle_workers() { [ "$("$P" worker list --data "$D" --json | grep -o "\"state\":\"idle\"" | wc -l)" -ge "$1" ]; }
gone() { ! kill -0 "$1"; }
trap 'kill -9 $started 2>/dev/null' EXIT # its children go with each

start --workers 2
check 'redis, server and two workers' "$(children)" 4
until_ 20 idle_workers 2
check 'both workers are idle' "$?" 0
"$P" run list --data "$D" --json >"$FLOW_DIR/list"; check 'the API answers' "$(cat "$FLOW_DIR/list")" '[]'
"$P" up --data "$D" >/dev/null 2>&1; check 'a second one on the folder is refused' "$?" 5
"$P" token create t --role viewer --data "$D" --quiet >"$FLOW_DIR/token"; check 'a token' "$?" 0
url=$(sed -n 's/^client.server = //p' "$D/client.conf")
"$P" worker list --server "$url" --token-file "$FLOW_DIR/token" --quiet; check 'a viewer may look' "$?" 0
"$P" token list --server "$url" --token-file "$FLOW_DIR/token" 2>/dev/null; check 'a viewer may not see tokens' "$?" 4
echo wrong >"$FLOW_DIR/bad"
"$P" run list --server "$url" --token-file "$FLOW_DIR/bad" 2>/dev/null; check 'a wrong token' "$?" 4
"$P" run show rnone --data "$D" 2>/dev/null; check 'no such run' "$?" 3

for part in redis-server pawl-server worker-0; do
	old=$(child "$part")
	kill -9 "$old"
	again() { [ -n "$(child "$part")" ] && [ "$(child "$part")" != "$old" ]; }
	until_ 20 again; check "$part is started again" "$?" 0
	until_ 30 "$P" run list --data "$D"; check "the API answers after $part died" "$?" 0
done
"$P" token list --data "$D" --json | grep -q '"name":"t"'; check 'the token survived' "$?" 0

pids=$(pgrep -P "$up")
kill -TERM "$up"; wait "$up"; check 'stops with code 0' "$?" 0
for p in $pids; do kill -0 "$p" 2>/dev/null && { echo "FAILED: $p still runs"; fails=$((fails + 1)); }; done

start
until_ 20 idle_workers 1; check 'starts again on the same folder' "$?" 0
"$P" token list --data "$D" --json | grep -q '"name":"t"'; check 'the token is still there' "$?" 0
pids=$(pgrep -P "$up")
kill -9 "$up"; wait "$up" 2>/dev/null
for p in $pids; do until_ 10 gone "$p"; check "child $p went with it" "$?" 0; done
start --workers 0
check 'starts after kill -9, without workers' "$(children)" 2
kill -INT "$up"; wait "$up"
"$P" run list --data "$D" 2>/dev/null; check 'unreachable when stopped' "$?" 6

deep="$FLOW_DIR/$(printf 'd%.0s' $(seq 60))/$(printf 'e%.0s' $(seq 60))"
D=$deep; start --workers 0; check 'a folder too deep for a socket path' "$(children)" 2
kill -TERM "$up"; wait "$up"
exit $fails
