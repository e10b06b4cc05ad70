# Helpers of the flow tests: real programs on free ports, waited for, and ended by the id we started.
# A test sources this file; FLOW_DIR is its fresh folder and PAWL_BUILD where the programs are.
set -u
FLOW_DIR=${FLOW_DIR:-$(mktemp -d "${TMPDIR:-/tmp}/pawl-flow-XXXXXX")}
PAWL_BUILD=${PAWL_BUILD:-build}
export -n PAWL_BUILD # The programs read PAWL_* as settings.
FLOW_PIDS=()

skip() { echo "$*"; exit 77; }
fail() { echo "FAILED: $*" >&2; exit 1; }
need() { for p in "$@"; do command -v "$p" >/dev/null || skip "needs $p"; done; }

flow_end() {
	local code=$? pid
	if [ $code -eq 0 ] && [ -f "$FLOW_DIR/answers" ]; then
		python3 tests/flow/openapi.py server/openapi.json "$FLOW_DIR"/answers* || code=1
	fi
	for pid in "${FLOW_PIDS[@]:-}"; do
		if [ -n "$pid" ]; then kill -9 "$pid" 2>/dev/null; wait "$pid" 2>/dev/null; fi
	done
	if [ $code -ne 0 ] && [ $code -ne 77 ]; then
		for f in "$FLOW_DIR"/*.log; do [ -f "$f" ] && { echo "--- $f"; tail -20 "$f"; }; done
	fi
	exit $code
}
trap flow_end EXIT

# start NAME command...: output to NAME.log (and NAME.out), pid in $NAME_pid.
start() {
	local name=$1
	shift
	: >"$FLOW_DIR/$name.out" # At once: nobody may take an old line for a new one.
	"$@" >"$FLOW_DIR/$name.out" 2>"$FLOW_DIR/$name.log" &
	local pid=$!
	FLOW_PIDS+=("$pid")
	printf -v "${name}_pid" %s "$pid"
}
# stop NAME [signal]: waits for the end; its exit code is in $code.
stop() {
	local var=$1_pid
	kill "-${2:-TERM}" "${!var}" 2>/dev/null
	wait "${!var}" 2>/dev/null
	code=$?
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# wait_for SECONDS command...: until it succeeds.
wait_for() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || fail "waited in vain for: $*"
		sleep 0.05
	done
}

start_redis() {
	need redis-server redis-cli
	REDIS_SOCK=$FLOW_DIR/redis.sock
	start redis redis-server --port 0 --unixsocket "$REDIS_SOCK" --dir "$FLOW_DIR" --appendonly yes \
		--appendfsync always --save '' --maxmemory-policy noeviction --hash-max-listpack-value 1024 --loglevel warning
	wait_for 20 redis-cli -s "$REDIS_SOCK" ping
}

# start_server [flags...]: sets PORT, ADMIN_PORT, URL, ADMIN (token), WORKER (token). Keeps its ports
# when started again.
start_server() {
	need curl python3
	PORT=${PORT:-$(free_port)}
	ADMIN_PORT=${ADMIN_PORT:-$(free_port)}
	URL=http://127.0.0.1:$PORT
	DATA=$FLOW_DIR/data
	start server "$PAWL_BUILD/pawl-server" --server-listen "127.0.0.1:$PORT" \
		--server-admin-listen "127.0.0.1:$ADMIN_PORT" --server-redis "${REDIS_URL:-unix:${REDIS_SOCK:-}}" \
		--server-data-dir "$DATA" "$@"
	wait_for 20 grep -q '^login: ' "$FLOW_DIR/server.out"
	ADMIN=$(cat "$DATA/tokens/admin" 2>/dev/null)
	WORKER=$(cat "$DATA/tokens/worker" 2>/dev/null)
}

# api METHOD PATH [curl options]: as admin; body in $body, headers in $FLOW_DIR/headers, status in $status.
# Every answer goes to the journal that flow_end holds against the API's description.
api() { call "$ADMIN" "$@"; }
work() { call "$WORKER" "$@"; }
call() {
	local token=$1 method=$2 path=$3
	shift 3
	: >"$FLOW_DIR/body"
	status=$(curl -sS -o "$FLOW_DIR/body" -D "$FLOW_DIR/headers" -w '%{http_code}' --max-time 40 -X "$method" \
		${token:+-H "Authorization: Bearer $token"} "$@" "$URL/api/v1$path") || status=000
	body=$(tr -d '\0' <"$FLOW_DIR/body" 2>/dev/null)
	[ "$status" = 000 ] || note_answer "$method" "/api/v1$path" "$(header Content-Type)"
}
note_answer() { # METHOD TARGET TYPE: of the last answer; the body only where it is JSON
	local size=-1 kind=${3%%;*}
	case $kind in *json | '') size=$(stat -c %s "$FLOW_DIR/body") ;; esac
	{
		printf '%s %s %s %s %s\n' "$1" "${2// /+}" "$status" "${kind:--}" "$size"
		[ "$size" = -1 ] || cat "$FLOW_DIR/body"
		echo
	} >>"$FLOW_DIR/answers"
}
post() { call "$1" POST "$2" -H 'Content-Type: application/json' -d "$3" "${@:4}"; }

want() { [ "$status" = "$1" ] || fail "${2:-last call}: status $status, expected $1: $body"; }
header() { sed -n "s/^$1: //Ip" "$FLOW_DIR/headers" | tr -d '\r' | tail -1; }
# js EXPRESSION: of the last body `b`, as Python sees it.
js() { printf %s "$body" | python3 -c 'import json, sys
b = json.load(sys.stdin)
v = eval(sys.argv[1])
print(json.dumps(v) if isinstance(v, (dict, list, bool)) or v is None else v)' "$1"; }
is() { [ "$1" = "$2" ] || fail "${3:-value} is \"$1\", expected \"$2\""; }

# small_run NAME: a specification over $FLOW_DIR/world to $FLOW_DIR/run.json, with a judge whose scores
# differ whatever the small model says.
small_run() {
	local W=$FLOW_DIR/world
	echo 'awk "{printf \"{\\\"score\\\":%d}\\n\", length(\$0) % 6}"' >"$FLOW_DIR/judge.sh"
	cat >"$FLOW_DIR/run.json" <<X
{"name":"$1","template":"chatml","base_model":"$W/base","iterations":1,
"data":{"ift":[{"path":"$W/ift.jsonl","format":"pairs"}],"eft":[{"path":"$W/eft.jsonl","format":"judge"}],
 "eval":[{"path":"$W/eval.jsonl","format":"ranked"}],"prompts":[{"path":"$W/prompts.jsonl","format":"auto"}],
 "test":[{"path":"$W/test.jsonl","format":"auto"}],"lang":"en"},
"eft":{"mode":"given"},"prompts":{"generator":"file","count":8},
"sft":{"lr":2e-3,"lr_min":2e-4,"batch":16,"epochs":40,"max_steps":20,"max_length":256},
"generate":{"n":3,"temperature":1.0,"max_new_tokens":32},
"judge":{"kind":"command","command":["sh","$FLOW_DIR/judge.sh"],"samples":1,"min_valid":1},
"dpo":{"lr":1e-4,"lr_min":1e-5,"batch":2,"epochs":1,"max_length":256},
"eval":{"max_new_tokens":32,"judge_samples":1}}
X
}
