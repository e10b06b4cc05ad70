#!/bin/bash
# Kill anything, any number of times: the bytes of the last model are the same. An undisturbed run
# first; then the same run while redis-server, pawl-server, the agent and its executor are killed
# with SIGKILL at random moments. KILLS sets how many (default 10), SEED which moments.
. tests/flow/lib.sh
need python3 pgrep ps
KILLS=${KILLS:-10}
RANDOM=${SEED:-20261121}

"$PAWL_BUILD/pawl" demo world --data "$FLOW_DIR/demo" --tiny >/dev/null || fail "demo world"
cat >"$FLOW_DIR/judge.py" <<'PY'
import json, sys, zlib
for line in sys.stdin:
    row = json.loads(line)
    print(json.dumps({"id": row["id"], "score": zlib.crc32(row["response"].encode()) % 6}), flush=True)
PY
python3 - "$FLOW_DIR/demo/run.json" "$FLOW_DIR/judge.py" "$KILLS" <<'PY' || fail "settings"
import json, sys
path = sys.argv[1]
spec = json.load(open(path))
spec["reuse"] = False
many = int(sys.argv[3]) > 10 # Many jobs: the blows are to fall before the end.
spec["generate"]["shard_size"] = 1 if many else 4
if many:
    spec["iterations"] = 3
    spec["prompts"]["count"] = 32
# So small a model cannot judge, and nothing it says is right: a command tells its answers apart.
spec["judge"] = {"kind": "command", "command": ["python3", sys.argv[2]]}
json.dump(spec, open(path, "w"))
PY

cli() { "$PAWL_BUILD/pawl" "$@" --data "$DATA"; }
field() { python3 -c 'import json, sys
v = json.load(sys.stdin)
for k in sys.argv[1].split("."): v = v[int(k)] if isinstance(v, list) else v.get(k)
print("" if v is None else v)' "$1"; }
run_state() { cli run show "$RUN" --json 2>/dev/null | field state 2>/dev/null; }
up_ready() { cli run list --json >/dev/null 2>&1; }

stack() { # stack NAME: a data folder of its own, supervised by `pawl up`
	DATA=$FLOW_DIR/$1
	mkdir -p "$DATA"
	start "$1" env PAWL_SERVER_LEASE_MS=3000 PAWL_SERVER_BEAT_MS=500 \
		"$PAWL_BUILD/pawl" up --data "$DATA" --listen 127.0.0.1:0
	wait_for 60 up_ready
	RUN=$(cli run submit -f "$FLOW_DIR/demo/run.json" --json | field id) || fail "submit"
	[ -n "$RUN" ] || fail "no run id"
}
ended() { case "$(run_state)" in done | failed | cancelled) true ;; *) false ;; esac; }

# victim KIND: the process of that kind below the supervisor we started, newest first.
victim() {
	local agent
	case $1 in
	redis) pgrep -P "$chaos_pid" -x redis-server ;;
	server) pgrep -P "$chaos_pid" -x pawl-server ;;
	agent) pgrep -P "$chaos_pid" -x pawl-worker ;;
	executor)
		agent=$(pgrep -P "$chaos_pid" -x pawl-worker | head -1)
		[ -n "$agent" ] && pgrep -P "$agent" -x pawl-worker
		;;
	esac | head -1
}
units() { cli run show "$RUN" --json 2>/dev/null | python3 -c 'import json, sys
s = json.load(sys.stdin)["stages"]
print(sum((x.get("counts") or {}).get("done", 0) for x in s))' 2>/dev/null || echo 0; }
moved() { [ "$(units)" -gt "$1" ] || ended; }

stack calm
wait_for 1200 ended
is "$(run_state)" done "undisturbed run"
want_digest=$(cli run show "$RUN" --json | field final_digest)
[ -n "$want_digest" ] || fail "no final digest"
stop calm

stack chaos
kinds=(executor agent server redis)
killed=0
while [ $killed -lt "$KILLS" ] && ! ended; do
	kind=${kinds[killed % 4]}
	pid=$(victim $kind)
	if [ -z "$pid" ]; then
		sleep 0.1 # between two jobs there is no executor
		continue
	fi
	kill -9 "$pid" 2>/dev/null || continue
	killed=$((killed + 1))
	echo "killed $kind ($pid), $(units) jobs done"
	wait_for 60 up_ready
	# The next blow falls after some progress, at a moment of its own.
	before=$(units)
	[ $((RANDOM % 3)) -eq 0 ] || wait_for 300 moved "$before"
	sleep "0.$((RANDOM % 10))"
done
wait_for 1200 ended
is "$(run_state)" done "run after $killed kills"
is "$(cli run show "$RUN" --json | field final_digest)" "$want_digest" "digest after $killed kills"
[ $killed -eq "$KILLS" ] || fail "the run ended after $killed of $KILLS kills"

# Nothing lost, nothing doubled. A kill of agent, server or Redis burns no attempt; a crash of the
# executor may, when it had published nothing before.
cli job list "$RUN" --json >"$FLOW_DIR/jobs.json" || fail "job list"
URL=$(sed -n 's/^client.server = //p' "$DATA/client.conf")
python3 - "$FLOW_DIR/jobs.json" "$URL" "$DATA/tokens/admin" <<'PY' || fail "jobs"
import collections, json, sys, urllib.request
jobs = json.load(open(sys.argv[1]))
jobs = jobs["items"] if isinstance(jobs, dict) else jobs
token = open(sys.argv[3]).read().strip()
assert jobs and all(j["state"] == "done" for j in jobs), [j["id"] for j in jobs if j["state"] != "done"]
assert len({j["id"] for j in jobs}) == len(jobs)
ends, of_job = collections.Counter(), collections.defaultdict(list)
request = urllib.request.Request("%s/api/v1/runs/%s/attempts" % (sys.argv[2], jobs[0]["id"].split(".")[0]),
                                 headers={"Authorization": "Bearer " + token})
for a in json.load(urllib.request.urlopen(request))["items"]:
    of_job[a["job"]].append(a)
for j in jobs:
    attempts = of_job[j["id"]]
    crashes = [a for a in attempts if a["end"] == "failed" and a.get("signal") == 9]
    for a in attempts:
        assert a["end"] in ("completed", "preempted", "lease_lost") or a in crashes, (j["id"], a)
        ends["killed executor" if a in crashes else a["end"]] += 1
    assert [a["end"] for a in attempts].count("completed") == 1, (j["id"], attempts)
    assert j["failures"] <= len(crashes), (j["id"], j["failures"], attempts)
print(len(jobs), "jobs done;", dict(ends))
PY
stop chaos
echo "same bytes after $killed kills: $want_digest"
