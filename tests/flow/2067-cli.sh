#!/bin/bash
# The command line against a server: what differs, what it cost, when it ran, what was written; many runs at
# once; exit codes, questions on a terminal, completions and the manual.
. tests/flow/lib.sh
. tests/flow/worker.sh
start_redis
start_server --server-max-downloads 4
P=$PAWL_BUILD/pawl
unset NO_COLOR
cli() { "$P" "$@" --server "$URL" --token-file "$DATA/tokens/admin"; }
# code WANT WHAT command...: its exit code.
code() {
	local want=$1 what=$2 got
	shift 2
	"$@" >"$FLOW_DIR/out" 2>"$FLOW_DIR/err" </dev/null
	got=$?
	[ $got = "$want" ] || fail "$what: exit $got, expected $want: $(cat "$FLOW_DIR/out" "$FLOW_DIR/err")"
}
has() { grep -q -- "$1" "$FLOW_DIR/${2:-out}" || fail "no \"$1\" in $(cat "$FLOW_DIR/${2:-out}")"; }
hasnt() { ! grep -q -- "$1" "$FLOW_DIR/out" || fail "\"$1\" in $(cat "$FLOW_DIR/out")"; }
submit() { # NAME MORE
	echo "{\"name\":\"$1\",\"seed\":7,\"iterations\":0,\"base_model\":\"/m\",\"data\":{\"ift\":[{\"path\":\"/d/ift.jsonl\"}]},\"eft\":{\"mode\":\"given\"},\"sft\":{\"baseline\":false}$2}" >"$FLOW_DIR/spec.json"
	cli run submit -f "$FLOW_DIR/spec.json" --quiet || fail submit
}
a=$(submit alpha '') && b=$(submit beta ',"dpo":{"lr":2e-6,"beta":0.3}')

# --- diff
code 0 diff cli run diff "$a" "$b"
has 'dpo.lr'; has 'dpo.beta'; hasnt '^name'; hasnt 'seed'
code 0 "diff --ignore" cli run diff "$a" "$b" --ignore dpo
[ ! -s "$FLOW_DIR/out" ] || fail "differences that are ignored: $(cat "$FLOW_DIR/out")"
has 'no differences' err
code 0 "diff --all" cli run diff "$a" "$b" --all --json
python3 -c 'import json, sys
d = json.load(open(sys.argv[1]))
assert [x["key"] for x in d["differences"]] == ["dpo.beta", "dpo.lr", "dpo.lr_min", "name"], d
assert d["a"] == sys.argv[2] and d["differences"][0]["b"] == 0.3' "$FLOW_DIR/out" "$a" || fail "diff --json"
code 3 "diff with a stranger" cli run diff "$a" rnone

# --- cost, gantt: one job done, one that failed
code 0 "gantt of nothing" cli run gantt "$a"
has 'nothing has run yet' err
post "$WORKER" /worker/register '{"name":"w","pid":1,"host":"h","engine":"cpu/1","code":"c1","threads":2,"memory_bytes":1,"labels":{},"price_per_hour":7200,"stages":[],"pools":[]}'
w=$(js 'b["worker"]')
cli job set "$a.0.import.0.0" --priority 9 >/dev/null || fail "job set"
claim || fail "nothing to claim"
first=$job
data=$(tar_artifact "$FLOW_DIR/ift.tar" dataset data.jsonl '{"a":1}
' '{"rows":1}')
put_blob "$FLOW_DIR/ift.tar" "$data"
sleep 1.2 # So long it worked: lease clock, which ticks once a second.
complete "$(outputs "ift:dataset:$data:{\"rows\":1}")"
want 200 completion
claim || fail "nothing to claim"
post "$WORKER" /worker/fail "{\"job\":\"$job\",\"token\":\"$token\",\"kind\":\"fatal\",\"reason\":\"no such file\"}"
want 200 fail
run=${first%%.*}
code 0 cost cli run cost "$run"
has 'useful'; has '0 .*import'; has 'goodput'
grep -Eq 'cost +[0-9]+\.[0-9]+, of which' "$FLOW_DIR/out" || fail "no money: $(cat "$FLOW_DIR/out")"
code 0 "cost --json" cli run cost "$run" --json
python3 -c 'import json, sys
d = json.load(open(sys.argv[1]))
assert d["useful_s"] > 0 and d["useful_cost"] > 0 and d["stages"][0]["stage"] == "import", d' "$FLOW_DIR/out" || fail "cost --json"
code 0 "cost of nothing" cli run cost "$(submit gamma '')"
has 'unknown: no worker told its price'
code 0 gantt cli run gantt "$run" --width 80
has '^0 import .*|.*=.*|$'; has 'UTC'
code 0 "gantt --jobs" cli run gantt "$run" --jobs
has '^0 import 0.0'
code 2 "a narrow gantt" cli run gantt "$run" --width 10
api GET "/notices"
grep -q 'Job .* of iteration 0 in .* has failed: no such file' <<<"$body" || wait_for 10 eval 'api GET /notices && grep -q "of iteration 0 in .* has failed" <<<"$body"'

# --- logs
mkdir -p "$DATA/logs/$run/$first"
echo "2026-01-01T00:00:00.000Z info m an old line" >"$DATA/logs/$run/$first/1.log"
printf '%s info m a new line\n%s info m another\n' "$(date -u +%FT%T.000Z)" "$(date -u +%FT%T.001Z)" >>"$DATA/logs/$run/$first/1.log"
code 0 "run logs" cli run logs "$run" -o "$FLOW_DIR/all.log"
is "$(wc -l <"$FLOW_DIR/all.log")" 3 "lines of the run"
code 0 "since" cli run logs "$run" --since 1h --grep 'new line'
is "$(wc -l <"$FLOW_DIR/out")" 1 "new lines"
has "${first#*.}#1 "
code 0 "job logs" cli job logs "$first" --attempt 1 --since 2026-01-02 --grep another
is "$(wc -l <"$FLOW_DIR/out")" 1 "lines of the job"
code 2 "since when" cli run logs "$run" --since yesterday
code 3 "logs of nothing" cli run logs rnone
[ ! -s "$FLOW_DIR/out" ] || fail "an error went to stdout: $(cat "$FLOW_DIR/out")"

# --- downloads: as many as there may be, and of one token half of them
head -c 40000000 /dev/zero | tr '\0' x >"$DATA/logs/$run/$first/2.log"
slow() { start "slow$1" curl -sSN --limit-rate 20k -o "$FLOW_DIR/slow$1.bin" -H "Authorization: Bearer $2" "$URL/api/v1/jobs/$first/attempts/2/log/content"; }
post "$ADMIN" /tokens '{"name":"v","role":"viewer"}'
VIEWER=$(js 'b["secret"]')
for n in 1 2; do # One after the other, and nobody asks meanwhile: each holds a place.
	slow $n "$ADMIN"
	wait_for 30 test -s "$FLOW_DIR/slow$n.bin"
done
full() { call "$1" GET "/jobs/$first/attempts/2/log/content" -r 0-9; [ "$status" = 503 ]; }
wait_for 20 full "$ADMIN"
is "$(header Retry-After)" 5 "Retry-After"
call "$VIEWER" GET "/jobs/$first/attempts/2/log/content" -r 0-9
want 206 "of somebody else"
api GET "/runs/$run"
want 200 "and all else goes on"
stop slow1
fits() { ! full "$ADMIN"; }
wait_for 20 fits
stop slow2

# --- many at once
code 0 "bulk --dry-run" cli run bulk pause --state active --dry-run
has '3 runs match'
code 0 "bulk tag" cli run bulk tag -q beta --add night
has '1 of 1 done'
code 0 "bulk of none" cli run bulk cancel --tag nobody
has '0 runs match'
code 1 "bulk of nonsense" cli run bulk fly --state active
code 0 cordon cli worker cordon "$w"
code 0 "worker list" cli worker list
has cordoned
claim 0 && fail "a cordoned worker got a job"
code 0 "resume" cli worker resume "$w"
code 0 "worker list" cli worker list
hasnt cordoned

# --- where a job stands
ready=$(cli job list "$b" --state ready --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["id"])')
code 0 "job show" cli job show "$ready"
has '^waits for  '; has '^place .* of [12] of its run'; has 'WAITED FROM'

# --- questions: on a terminal only
ask() { python3 - "$1" "$P" run cancel "$b" --server "$URL" --token-file "$DATA/tokens/admin" $2 <<'PY'
import os, pty, sys
pid, fd = pty.fork()
if pid == 0: os.execv(sys.argv[2], sys.argv[2:])
out = b""
if sys.argv[1]: os.write(fd, sys.argv[1].encode() + b"\n")
try:
    while piece := os.read(fd, 4096): out += piece
except OSError: pass
sys.stdout.buffer.write(out)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
PY
}
ask n '' >"$FLOW_DIR/out"; is $? 1 "answered no"
has 'Not done'
ask '' --no-input >"$FLOW_DIR/out"; is $? 1 "nobody may be asked"
api GET "/runs/$b"
is "$(js 'b["state"]')" active "a run that was not cancelled"
ask y '' >"$FLOW_DIR/out"; is $? 0 "answered yes"

# --- exit codes, as documented
code 7 "watch of a cancelled run" cli run watch "$b" --quiet
code 5 "cancel once more" cli run pause "$b"
code 3 "no such run" cli run show rnone
code 2 "no such flag" cli run list --stat active
has 'Did you mean --state' err
code 2 "no such verb" cli run lits
has 'Did you mean "run list"' err
echo pawl_admin_0000000000000000_0000000000000000000000000000000000000000000000000000000000000000 >"$FLOW_DIR/wrong"
code 4 "a wrong token" "$P" run list --server "$URL" --token-file "$FLOW_DIR/wrong"
code 6 "nobody there" "$P" run list --server http://127.0.0.1:1 --token-file "$FLOW_DIR/wrong"
code 78 "a wrong setting" "$P" config check --log-level
echo 'server.lisen = x' >"$FLOW_DIR/bad.conf"
code 78 "a wrong file" "$P" config check "$FLOW_DIR/bad.conf"
echo 'client.server = http://x' >"$FLOW_DIR/good.conf"
code 0 "a right file" "$P" config check "$FLOW_DIR/good.conf"
code 0 "where settings come from" env PAWL_LOG_LEVEL=warn "$P" config show --origin --config "$FLOW_DIR/good.conf" --log-json
grep -E '^client.server .*http://x' "$FLOW_DIR/out" | grep -q file || fail "of a file: $(grep client.server "$FLOW_DIR/out")"
grep '^log.level' "$FLOW_DIR/out" | grep -q env || fail "of the environment"
grep '^log.json' "$FLOW_DIR/out" | grep -q flag || fail "of a flag"
grep '^server.threads' "$FLOW_DIR/out" | grep -q default || fail "of nobody"
code 0 "doctor" cli doctor --data "$DATA"
has '^ok .*server '; has 'role admin'
code 1 "doctor of nothing" "$P" doctor --server http://127.0.0.1:1 --token-file "$FLOW_DIR/wrong" --json
python3 -c 'import json, sys; assert any(c["state"] == "fail" for c in json.load(open(sys.argv[1])))' "$FLOW_DIR/out" || fail "doctor --json"
for what in "run list" "job list $a" "worker list" "token list" "user list" "quota list" "data ls" "ckpt ls" "hook list" "notice list" "op list" audit \
	"run show $a" "run gantt $run"; do
	code 0 "$what" cli $what --json
	python3 -m json.tool "$FLOW_DIR/out" >/dev/null || fail "$what --json is no JSON"
	code 0 "$what" cli $what
	! grep -q "$(printf '\033')" "$FLOW_DIR/out" || fail "$what writes control bytes where there is no terminal"
done
code 0 "quiet" cli run tag "$a" --star --quiet
[ ! -s "$FLOW_DIR/out" ] && [ ! -s "$FLOW_DIR/err" ] || fail "--quiet is not: $(cat "$FLOW_DIR/out" "$FLOW_DIR/err")"

# --- models side by side, as a server with more of them tells
mkdir -p "$FLOW_DIR/fake/api/v1"
echo '{"models":[{"run":"r1","name":"M1","metrics":{"length.sampled":100,"score":3.5}},{"run":"r1","name":"M2","metrics":{"length.sampled":150,"score":4}}],"pairs":[{"run":"r1","a":"M2","b":"M1","win":60,"tie":10,"loss":30,"n":100,"rate":0.65,"low":0.55,"high":0.74}]}' >"$FLOW_DIR/fake/api/v1/compare"
fake=$(free_port)
start fake python3 -m http.server --bind 127.0.0.1 --directory "$FLOW_DIR/fake" "$fake"
wait_for 60 curl -sf "http://127.0.0.1:$fake/api/v1/compare"
more() { "$P" eval compare r1 "$@" --server "http://127.0.0.1:$fake" --token-file "$FLOW_DIR/wrong"; }
code 0 "compare" more
has '^length.sampled .*100 .*150'; has '^M2 .*M1 .*60 .*10 .*30'
has 'moved together: M2 wins 65 % against M1, and its answers are 50 % longer'
code 0 "compare as Markdown" more --markdown --model M2
has '^| metric | M2 |'; has '^| score | 4 |'; has '^| M2 against M1 | 60 | 10 | 30 | 65.0 % (55.0 to 74.0) |'
has '^> Win rate and length'
code 0 "compare of another" more --model M1
hasnt against

# --- completions and the manual
"$P" completion bash >"$FLOW_DIR/bash" && bash -n "$FLOW_DIR/bash" || fail "completion bash"
completes() { bash -c '. "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pawl; echo "${COMPREPLY[*]}"' _ "$FLOW_DIR/bash" "$@"; }
is "$(completes pawl wor)" worker "a noun"
is "$(completes pawl run sub)" submit "a verb"
is "$(completes pawl run submit --dr)" --dry-run "a flag"
is "$(completes pawl data export --max-l)" --max-length "another"
is "$(completes pawl ckpt ls --js)" --json "one of all"
if command -v groff >/dev/null; then
	"$P" man | groff -man -Tascii -ww >"$FLOW_DIR/man" 2>"$FLOW_DIR/err" || fail "man"
	[ ! -s "$FLOW_DIR/err" ] && grep -q 'the server cannot be reached' "$FLOW_DIR/man" || fail "man: $(cat "$FLOW_DIR/err")"
fi
exit 0
