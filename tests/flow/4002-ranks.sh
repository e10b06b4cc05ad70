# One job on several ranks, by hand: two hold the model together or divide batches; the same bytes
# twice; a rank that is killed ends the job with its cause, and the job resumes to the same bytes;
# two ranks write the same answers as one; ranks that mpirun would start; what cannot be divided.
. tests/flow/by_hand.sh

"$P" demo world --data "$FLOW_DIR" --tiny >/dev/null || exit 1
# job NAME STAGE RANKS PARALLEL PARAMS ROLE=JOB:OUTPUT... (makes the folder)
job() {
	local d=$FLOW_DIR/$1 stage=$2 ranks=$3 parallel=$4 params=$5 inputs= sep= a role from out
	mkdir -p "$d/in"
	shift 5
	for a in "$@"; do
		role=${a%%=*} from=${a#*=} out=${from#*:} from=${from%%:*}
		ln -s "$FLOW_DIR/$from/out/$out" "$d/in/$role"
		inputs="$inputs$sep{\"role\":\"$role\",\"digest\":\"$(sha256sum "$FLOW_DIR/$from/out/$out.tar" | cut -d' ' -f1)\"}" sep=,
	done
	cat >"$d/job.json" <<X
{"id":"r.0.$stage.0.0","run":"r","stage":"$stage","seed":"1","params":$params,"inputs":[$inputs],
"spec":{"template":"chatml","base_model":"$FLOW_DIR/world/base","engine":{"ranks":$ranks,"parallel":"$parallel"},
"data":{"ift":[{"path":"$FLOW_DIR/world/ift.jsonl","format":"pairs"}],"eft":[{"path":"$FLOW_DIR/world/eft.jsonl","format":"judge"}],
 "prompts":[{"path":"$FLOW_DIR/world/prompts.jsonl","format":"auto"}],"ift_max":10000,"lang":"en"},
"sft":{"lr":2e-3,"schedule":"cosine","batch":4,"epochs":40,"max_steps":60,"dropout":0.02,"max_length":256,"save_every_steps":2${LORA:-}},
"generate":{"n":2,"temperature":0,"top_p":1.0,"max_new_tokens":12,"chunk":6}}}
X
}
run() { "$W" stage "$FLOW_DIR/$1" >>"$FLOW_DIR/$1/log" 2>&1; }
digests() { (cd "$FLOW_DIR/$1/out" && sha256sum ./*.tar); }
# A rank of the job PID: a child of it whose command line says so.
rank_of() { pgrep -P "$1" -f -- --rank | head -1; }

job base import 1 tensor '{}'; sed -i 's/"params":{}/"params":{},"shard":0/' base/job.json
job data import 1 tensor '{}'; sed -i 's/"params":{}/"params":{},"shard":1/' data/job.json
run base && run data || { tail -2 base/log data/log; exit 1; }
sft() { job "$1" sft "$2" "$3" '{"variant":"m1"}' base=base:model ift=data:ift eft=data:eft; }

sft one 1 tensor; run one || { tail -2 one/log; exit 1; }
for how in tensor data; do
	j=by-$how
	sft $j 2 $how; sft $j-again 2 $how; sft $j-killed 2 $how
	run $j && run $j-again || { tail -3 $j/log; exit 1; }
	check "$how: twice the same bytes" "$(digests $j-again)" "$(digests $j)"
	# Stopped at its first checkpoint, so that it has steps left; a machine that is busy elsewhere may see
	# that too late, then once more.
	for try in 1 2 3 4 5; do
		"$W" stage "$FLOW_DIR/$j-killed" >$j-killed/log 2>&1 & pid=$!
		until [ -e $j-killed/ckpt/1/ckpt.json ]; do
			kill -0 $pid 2>/dev/null || break
		done
		kill -STOP $pid && kill -9 "$(rank_of $pid)" && kill -CONT $pid
		wait $pid; rc=$?
		[ $rc -eq 0 ] || break
		rm -rf $j-killed; sft $j-killed 2 $how
	done
	check "$how: a killed rank ends the job" $rc 1
	has "$how: and its cause is said" 'pawl-worker stage: rank 1 ended: signal 9' $j-killed/log
	check "$how: nobody is left" "$(pgrep -f -- "--rank $FLOW_DIR/$j-killed")" ""
	run $j-killed || { tail -3 $j-killed/log; exit 1; }
	has "$how: it resumes" 'resumed step=' $j-killed/log
	check "$how: to the same bytes" "$(digests $j-killed)" "$(digests $j)"
done
# What one rank trains, but for the last places: the losses of the last step.
loss() { grep -o 'step=60 values="loss=[0-9.]*' $1/log | tail -1 | cut -c1-24; }
check "the loss of one rank (tensor)" "$(loss by-tensor)" "$(loss one)"
check "the loss of one rank (data)" "$(loss by-data)" "$(loss one)"
LORA=',"lora_r":4,"lora_alpha":8'
sft lora 2 tensor; run lora || { tail -3 lora/log; exit 1; }
has "an adapter is written whole" '"r": 4' lora/out/state/adapter_config.json
LORA=

# Log-probabilities differ in their last places.
answers() { sed 's/"logp":[^,]*,//g' $1/out/responses/data.jsonl | sha256sum; }
for n in 1 2; do
	job gen$n generate $n tensor '{"from":0,"to":6}' model=one:model prompts=data:prompts
	run gen$n || { tail -3 gen$n/log; exit 1; }
done
check "two ranks write what one writes" "$(answers gen2)" "$(answers gen1)"

# As mpirun starts them: all at once, the first one is the job's.
job mpi generate 1 tensor '{"from":0,"to":6}' model=one:model prompts=data:prompts
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export MASTER_ADDR=127.0.0.1 MASTER_PORT=$port OMPI_COMM_WORLD_SIZE=2
OMPI_COMM_WORLD_RANK=1 "$W" stage "$FLOW_DIR/mpi" >mpi/log.1 2>&1 & other=$!
OMPI_COMM_WORLD_RANK=0 "$W" stage "$FLOW_DIR/mpi" >mpi/log 2>&1
check "rank 0 of two that were started" $? 0
wait $other; check "rank 1 of them" $? 0
unset MASTER_ADDR MASTER_PORT OMPI_COMM_WORLD_SIZE
check "and the same answers" "$(answers mpi)" "$(answers gen1)"

sft odd 7 tensor; run odd
check "what cannot be divided is refused" $? 1
has "with the reason" '7 ranks cannot share a model with so many key/value heads' odd/log
[ $fails = 0 ] || { echo "FAILED: $fails checks"; exit 1; }
