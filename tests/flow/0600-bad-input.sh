#!/bin/bash
# Bad input: each kind ends with one clear sentence and a code that is not zero, or with a failed job
# that shows the sentence; the store keeps no half-written artifact.
. tests/flow/lib.sh
need python3 curl
TOP=$(pwd)
P=$TOP/$PAWL_BUILD/pawl W=$TOP/$PAWL_BUILD/pawl-worker S=$TOP/$PAWL_BUILD/pawl-server
HERE=$TOP/tests/flow
bad=0
ok() { echo "ok: $1"; }
nok() { echo "FAILED: $1: $2"; bad=$((bad + 1)); }
# refused NAME PATTERN FILE CODE: the last line says it, the code is not zero.
refused() {
	[ "$4" -ne 0 ] || { nok "$1" "code 0"; return; }
	grep -Eq -- "$2" "$3" || { nok "$1" "no '$2' in: $(tail -2 "$3")"; return; }
	ok "$1"
}
"$P" demo world --data "$FLOW_DIR" --tiny >/dev/null || fail "no world"

# --- by hand: archives, models, judges; no server ----------------------------------------------------
cd "$FLOW_DIR" || exit 1
cat >spec.json <<X
{"template":"chatml","base_model":"$FLOW_DIR/world/base","data":{"prompts":[{"path":"$FLOW_DIR/world/prompts.jsonl","format":"auto"}]},
"generate":{"n":2,"temperature":1.0,"top_p":1.0,"max_new_tokens":8,"chunk":6},
"judge":{"kind":"model","template":{"name":"t","text":"{prompt} {response}","pattern":"zebra","min":0,"max":5,"integer":true},"samples":1,"min_valid":1,"max_new_tokens":8,"chunk":6,"max_retries":1}}
X
# job NAME STAGE SHARD PARAMS SPEC [ROLE=JOB:OUTPUT]...: code in $code, what it said in NAME/log.
job() {
	local d=$FLOW_DIR/jobs/$1 stage=$2 shard=$3 params=$4 spec=$5 inputs= sep= a role from out
	mkdir -p "$d/in"
	shift 5
	for a in "$@"; do
		role=${a%%=*} from=${a#*=} out=${from#*:} from=${from%%:*}
		ln -sfn "$FLOW_DIR/jobs/$from/out/$out" "$d/in/$role"
		inputs="$inputs$sep{\"role\":\"$role\",\"digest\":\"$(sha256sum "$FLOW_DIR/jobs/$from/out/$out.tar" | cut -d' ' -f1)\"}" sep=,
	done
	printf '{"id":"r1.1.%s.%s.0","run":"r1","stage":"%s","iter":1,"shard":%s,"pass":0,"seed":"1","params":%s,"inputs":[%s],"spec":%s}' \
		"$stage" "$shard" "$stage" "$shard" "$params" "$inputs" "$(tr -d '\n' <"$spec")" >"$d/job.json"
	timeout 60 "$W" stage "$d" >"$d/log" 2>&1
	code=$?
}
job base import 0 '{}' spec.json
[ $code = 0 ] || fail "import of the base: $(tail -2 jobs/base/log)"
job data import 1 '{}' spec.json
[ $code = 0 ] || fail "import of the data: $(tail -2 jobs/data/log)"
job gen generate 0 '{"from":0,"to":12}' spec.json model=base:model prompts=data:prompts
[ $code = 0 ] || fail "generate: $(tail -2 jobs/gen/log)"

cp jobs/base/out/model.tar whole.tar
"$P" ckpt verify whole.tar >out 2>&1 || nok "a whole archive verifies" "$(cat out)"
head -c $(($(stat -c %s whole.tar) / 2)) whole.tar >torn.tar
"$P" ckpt verify torn.tar >out 2>&1
refused "a torn tar names archive and member" 'torn\.tar.*(safetensors|manifest)' out $?
python3 "$HERE/spoil.py" flip whole.tar flipped.tar
"$P" ckpt verify flipped.tar >out 2>&1
refused "a flipped byte names archive and member" 'flipped\.tar.*model\.safetensors' out $?

for how in overlap huge hole header; do
	cp -r world/base "base-$how"
	python3 "$HERE/spoil.py" $how world/base/model.safetensors "base-$how/model.safetensors"
	sed "s#world/base#base-$how#" spec.json >"spec-$how.json"
	job "model-$how" import 0 '{}' "spec-$how.json"
	refused "safetensors: $how" 'base_model.*model\.safetensors' "jobs/model-$how/log" $code
	[ -z "$(ls jobs/model-$how/out/*.tar 2>/dev/null)" ] || nok "safetensors: $how" "left an output"
done

sed "s#\"kind\":\"model\"#\"kind\":\"command\",\"timeout_s\":1,\"command\":[\"$FLOW_DIR/judge.sh\"]#" spec.json >spec-command.json
judge() { # NAME PATTERN BODY
	printf '#!/bin/sh\n%s\n' "$3" >judge.sh
	chmod +x judge.sh
	job "judge-$1" judge 0 '{"pass":0}' spec-command.json responses=gen:responses
	refused "command judge: $1" "$2" "jobs/judge-$1/log" $code
	[ -z "$(ls "jobs/judge-$1"/out/*.tar 2>/dev/null)" ] || nok "command judge: $1" "left an output"
}
judge exits 'judge\.sh.*exit 3' 'exit 3'
judge short 'judge\.sh.*1 answers to 12 lines' 'cat >/dev/null; echo "{\"score\":1}"'
judge rubbish 'judge\.sh' 'sed s/.*/what/'
judge hangs 'judge\.sh' 'sleep 1000'
pgrep -f "$FLOW_DIR/judge.sh" >/dev/null && nok "command judge: hangs" "it still runs"
job deaf judge 0 '{"pass":0}' spec.json model=base:model responses=gen:responses
[ $code = 0 ] && grep -Eq '"reason":"(no_match|truncated)","score":null' jobs/deaf/out/judgements/data.jsonl &&
	! grep -q '"score":0' jobs/deaf/out/judgements/data.jsonl &&
	ok "an unreadable judge: missing, never zero" || nok "an unreadable judge" "$(tail -1 jobs/deaf/log)"
job deafpair pair 0 '{}' spec.json responses.0=gen:responses judgements.0.0=deaf:judgements
job deafdpo dpo 0 '{"step_from":0,"step_to":1,"total_steps":1}' spec.json model=base:model ref=base:model pairs=deafpair:pairs
refused "an unreadable judge: training says why" 'no pairs' jobs/deafdpo/log $code

python3 -c 'import json
print(json.dumps({"prompt": "Pack for the trip: " + "tent, rope, " * 4000}))' >long.jsonl
sed 's#world/prompts#long#' spec.json >spec-long.json
job long import 1 '{}' spec-long.json
job longgen generate 0 '{"from":0,"to":1}' spec-long.json model=base:model prompts=long:prompts
refused "prompt longer than the context" 'no prompt .* context of 256 tokens' jobs/longgen/log $code
head -1 world/prompts.jsonl >>long.jsonl
job long2 import 1 '{}' spec-long.json
job longgen2 generate 0 '{"from":0,"to":2}' spec-long.json model=base:model prompts=long2:prompts
[ $code = 0 ] && grep -q '"too_long":1' jobs/longgen2/log && grep -q 'longer than the context' jobs/longgen2/log &&
	ok "one long prompt of two: counted and said" || nok "one long prompt of two" "$(tail -1 jobs/longgen2/log)"

# --- settings ----------------------------------------------------------------------------------------
printf '# A setting nobody knows.\nserver.lissen = 127.0.0.1:0\n' >bad.conf
"$S" --config bad.conf >out 2>&1
refused "unknown key in a file" 'bad\.conf:2.*server\.lissen' out $?
"$S" --server-lissen x >out 2>&1
refused "unknown flag" 'server-lissen' out $?

# --- full disk ---------------------------------------------------------------------------------------
mkdir -p small
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=200k tmpfs small 2>/dev/null; then
	mkdir -p small/in
	sed 's#"id":"r1.1.import.0.0"#"id":"r1.1.import.9.0"#' jobs/base/job.json >small/job.json
	"$W" stage "$FLOW_DIR/small" >out 2>&1
	code=$?
	left=$(find small -name '*.tar' | wc -l)
	umount small
	refused "full disk" 'No space left|full' out $code
	[ "$left" = 0 ] || nok "full disk" "$left archives left behind"
else
	echo "full disk: not tried, a small tmpfs cannot be mounted here"
fi

# --- through server and worker -----------------------------------------------------------------------
cd "$TOP" || exit 1
start_redis
start_server --server-lease-ms 4000 --server-beat-ms 300
start_worker() { # STAGES
	start one "$W" --server "$URL" --token-file "$DATA/tokens/worker" --work-dir "$FLOW_DIR/work-$1" --name "w-$1" --threads 1 --worker-stages "$1"
}
cli() { "$P" "$@" --server "$URL" --token-file "$DATA/tokens/admin"; }
submit() { # BASE IFT: run in $run
	cat >"$FLOW_DIR/run.json" <<X
{"name":"bad","seed":5,"iterations":1,"template":"chatml","base_model":"$1","reuse":false,
"data":{"ift":[{"path":"$2","format":"pairs"}],"prompts":[{"path":"$FLOW_DIR/world/prompts.jsonl","format":"auto"}]},
"sft":{"batch":4,"epochs":1,"max_steps":2,"max_length":256,"baseline":false},"prompts":{"generator":"file","count":4,"rouge_max":1.0},"generate":{"n":2,"max_new_tokens":8}}
X
	cli run submit -f "$FLOW_DIR/run.json" --quiet >"$FLOW_DIR/submitted" || fail "submit: $(cat "$FLOW_DIR/submitted")"
	run=$(tail -1 "$FLOW_DIR/submitted")
}
job_is() { api GET "/jobs/$1"; [ "$status" = 200 ] && [ "$(js 'b["state"]')" = "$2" ]; }
says() { # NAME JOB PATTERN: the job failed and `pawl job show` gives the reason
	wait_for 90 job_is "$2" failed
	cli job show "$2" >"$FLOW_DIR/shown" 2>&1
	grep -Eq -- "$3" "$FLOW_DIR/shown" && ok "$1" || nok "$1" "no '$3' in: $(cat "$FLOW_DIR/shown")"
}

python3 -c 'import json
s = json.load(open("'"$FLOW_DIR"'/spec.json"))
s["judge"]["smaples"] = 3
json.dump(s, open("'"$FLOW_DIR"'/field.json", "w"))'
cli run submit -f "$FLOW_DIR/field.json" >"$FLOW_DIR/out" 2>&1
refused "unknown spec field" '/judge/smaples' "$FLOW_DIR/out" $?
api POST /runs -H 'Content-Type: application/json' -d @"$FLOW_DIR/field.json"
want 422 "unknown spec field"

head -2 "$FLOW_DIR/world/ift.jsonl" >"$FLOW_DIR/ill.jsonl"
echo '{"prompt": "x", "response": ' >>"$FLOW_DIR/ill.jsonl"
: >"$FLOW_DIR/empty.jsonl"
start_worker import
submit "$FLOW_DIR/world/base" "$FLOW_DIR/ill.jsonl"
says "malformed JSONL names file and line" "$run.0.import.1.0" 'ill\.jsonl:3'
submit "$FLOW_DIR/world/base" "$FLOW_DIR/empty.jsonl"
says "empty dataset" "$run.0.import.1.0" 'empty\.jsonl: no rows'
submit "$FLOW_DIR/base-overlap" "$FLOW_DIR/world/ift.jsonl"
says "overlapping offsets" "$run.0.import.0.0" 'model\.safetensors'
job_is "$run.0.import.0.0" failed
is "$(js 'b["attempts"]')" 1 "attempts at a model that cannot be read"

# A byte flips in a stored blob: the job that reads it refuses.
submit "$FLOW_DIR/world/base" "$FLOW_DIR/world/ift.jsonl"
wait_for 60 job_is "$run.0.import.0.0" done
digest=$(js 'b["outputs"][0]["digest"]')
wait_for 60 job_is "$run.0.import.1.0" done
stop one
blob=$(find "$DATA/store/blobs" -name "$digest*.tar")
python3 "$HERE/spoil.py" flip "$blob" "$FLOW_DIR/blob" && cp "$FLOW_DIR/blob" "$blob"
start_worker sft
says "a flipped byte in the store names archive and member" "$run.0.sft.1.0" "${digest:0:12}.*model\.safetensors"
stop one

# A torn upload leaves nothing.
work PUT "/worker/blobs/$(sha256sum "$FLOW_DIR/whole.tar" | cut -c1-63)0" -H 'Content-Type: application/x-tar' --data-binary @"$FLOW_DIR/torn.tar"
case $status in 4??) ok "a torn upload is refused: $status" ;; *) nok "a torn upload" "$status" ;; esac
[ -z "$(ls -A "$DATA/store/tmp")" ] && ok "nothing half-written in the store" || nok "half-written" "$(ls "$DATA/store/tmp")"
for f in $(find "$DATA/store/blobs" -name '*.tar' ! -path "$blob"); do
	is "$(sha256sum "$f" | cut -d' ' -f1)" "$(basename "$f" .tar)" "digest of a blob in the store"
done
[ $bad = 0 ] || fail "$bad kinds of bad input"
