# The stages by hand, without server or store: import -> sft -> generate -> judge -> pair -> dpo ->
# eval on a tiny world. Done twice, and once with every job interrupted and resumed (asked to stop,
# then kill -9): the same bytes. Judges that are commands; judges that cannot be read.
. tests/flow/by_hand.sh

"$P" demo world --data "$FLOW_DIR" --tiny >/dev/null || exit 1
cat >spec.json <<X
{"template":"chatml","base_model":"$FLOW_DIR/world/base",
"data":{"ift":[{"path":"$FLOW_DIR/world/ift.jsonl","format":"pairs"}],"eft":[{"path":"$FLOW_DIR/world/eft.jsonl","format":"judge"}],
 "eval":[{"path":"$FLOW_DIR/world/eval.jsonl","format":"ranked"}],"prompts":[{"path":"$FLOW_DIR/world/prompts.jsonl","format":"auto"}],
 "test":[{"path":"$FLOW_DIR/world/test.jsonl","format":"auto"}],"ift_max":10000,"lang":"en"},
"sft":{"lr":2e-3,"lr_min":2e-4,"schedule":"cosine","batch":16,"epochs":40,"max_steps":40,"warmup_steps":4,"dropout":0.02,"max_length":256,"save_every_steps":5},
"generate":{"n":3,"temperature":1.0,"top_p":1.0,"max_new_tokens":32,"chunk":6},
"judge":{"kind":"model","template":{"name":"packing-5","text":"Check the packing list against the request.\nRequest: {prompt}\n<response>{response}</response>\nSay yes or no for each thing, name any extra, then give the score.","pattern":"score","min":0,"max":5,"integer":true},"samples":2,"min_valid":1,"temperature":0.7,"top_p":0.9,"max_new_tokens":64,"chunk":6,"max_retries":1},
"pair":{"length_control":0,"max_response_tokens":0},
"dpo":{"beta":0.1,"lr":1e-4,"lr_min":1e-5,"schedule":"cosine","batch":2,"epochs":2,"shard_steps":2,"save_every_steps":2,"nll_coef":0.2,"sft_replay":0.5,"max_length":256},
"eval":{"max_new_tokens":32,"temperature":1.0,"top_p":1.0,"judge_samples":2,"scorer":{"command":["$P","demo","score"]},"head_to_head":{"judge":"command","command":["$P","demo","compare"]}}}
X

chain() {
	R=$1 RUN=$2
	job base import 0 0 0 '{}' && job data import 0 1 0 '{}' &&
	job sft sft 0 1 0 '{"variant":"m1"}' base=base:model ift=data:ift eft=data:eft &&
	job eval1 eval 0 1 0 '{"name":"M1"}' model=sft:model eval=data:eval test=data:test &&
	job gen generate 1 0 0 '{"from":0,"to":20}' model=sft:model prompts=data:prompts &&
	job judge0 judge 1 0 0 '{"pass":0}' model=sft:model responses=gen:responses &&
	job judge1 judge 1 0 1 '{"pass":1}' model=sft:model responses=gen:responses &&
	job pair pair 1 0 0 '{}' responses.0=gen:responses judgements.0.0=judge0:judgements judgements.0.1=judge1:judgements || return 1
	local rows total
	rows=$(wc -l <"$R/pair/out/pairs/data.jsonl") total=$((2 * ((rows + 1) / 2)))
	echo "$rows pairs, $total steps" >"$R/size"
	job dpo0 dpo 1 0 0 "{\"step_from\":0,\"step_to\":2,\"total_steps\":$total}" model=sft:model ref=sft:model pairs=pair:pairs ift=data:ift eft=data:eft &&
	job dpo1 dpo 1 1 0 "{\"step_from\":2,\"step_to\":$total,\"total_steps\":$total}" model=dpo0:model state=dpo0:state ref=sft:model reflogps=dpo0:reflogps pairs=pair:pairs ift=data:ift eft=data:eft &&
	job eval2 eval 1 0 0 '{"name":"M2"}' model=dpo1:model eval=data:eval test=data:test prev=eval1:generations
}
chain "$FLOW_DIR/a" plain || { echo "FAILED: first chain"; exit 1; }
cat "$FLOW_DIR/a/size"
chain "$FLOW_DIR/b" plain || { echo "FAILED: second chain"; exit 1; }
check "twice the same bytes" "$(digests b)" "$(digests a)"
stops=0
chain "$FLOW_DIR/c" rough || { echo "FAILED: interrupted chain"; exit 1; }
echo "$stops interruptions"
check "interrupted and resumed, the same bytes" "$(digests c)" "$(digests a)"
[ $stops -ge 10 ] || { echo "FAILED: only $stops interruptions took place"; fails=$((fails + 1)); }
R=$FLOW_DIR/a RUN=plain
has "step 0 of dpo: loss is ln 2 before NLL and replay, rewards 0" '"rewards/chosen":0.0' a/dpo0/out/metrics.jsonl
has "truth from the scorer" 'truth.greedy_score' a/eval2/out/result.json
has "head-to-head by command" "\"h2h.n\":$(wc -l <world/test.jsonl)" a/eval2/out/result.json
# A slice in one piece gives the weights of two slices.
total=$(sed 's/.*, \([0-9]*\) steps/\1/' a/size)
job whole dpo 1 0 0 "{\"step_from\":0,\"step_to\":$total,\"total_steps\":$total}" model=sft:model ref=sft:model pairs=pair:pairs ift=data:ift eft=data:eft
check "one slice = two slices" "$(sha256sum <a/whole/out/model/model.safetensors)" "$(sha256sum <a/dpo1/out/model/model.safetensors)"

# An adapter instead of the weights: every shard begins with the same base, the state carries the
# adapter; what is interrupted, and one slice for two, end with the same bytes.
sed 's#"sft":{#"sft":{"lora_r":4,"lora_alpha":8,#; s#"dpo":{#"dpo":{"lora_r":4,"lora_alpha":8,"lora_targets":"q_proj,v_proj",#' spec.json >spec-lora.json
adapter_chain() {
	R=$1 RUN=$2
	mkdir -p "$R"
	for d in base data pair; do ln -sfn "$FLOW_DIR/a/$d" "$R/$d"; done
	SPEC=spec-lora.json job sft sft 0 1 0 '{"variant":"m1"}' base=base:model ift=data:ift eft=data:eft &&
	SPEC=spec-lora.json job dpo0 dpo 1 0 0 "{\"step_from\":0,\"step_to\":2,\"total_steps\":$total}" model=sft:model ref=sft:model pairs=pair:pairs ift=data:ift eft=data:eft &&
	SPEC=spec-lora.json job dpo1 dpo 1 1 0 "{\"step_from\":2,\"step_to\":$total,\"total_steps\":$total}" model=sft:model state=dpo0:state ref=sft:model reflogps=dpo0:reflogps pairs=pair:pairs ift=data:ift eft=data:eft &&
	SPEC=spec-lora.json job whole dpo 1 0 0 "{\"step_from\":0,\"step_to\":$total,\"total_steps\":$total}" model=sft:model ref=sft:model pairs=pair:pairs ift=data:ift eft=data:eft
}
adapter_chain "$FLOW_DIR/l" plain || { echo "FAILED: adapter chain"; exit 1; }
stops=0
adapter_chain "$FLOW_DIR/m" rough || { echo "FAILED: interrupted adapter chain"; exit 1; }
[ $stops -ge 4 ] || { echo "FAILED: only $stops interruptions of the adapter chain"; fails=$((fails + 1)); }
check "adapter: interrupted, the same bytes" "$(digests m)" "$(digests l)"
check "adapter: one slice = two slices" "$(sha256sum <l/whole/out/model/model.safetensors)" "$(sha256sum <l/dpo1/out/model/model.safetensors)"
has "adapter: rewards begin at 0" '"rewards/chosen":0.0' l/dpo0/out/metrics.jsonl
has "adapter: PEFT can read its settings" '"peft_type": "LORA"' l/dpo1/out/state/adapter_config.json
"$W" model merge --model l/sft/out/model --adapter l/dpo1/out/state --out merged >/dev/null 2>&1
check "adapter: the output is the input with it merged" "$(sha256sum <merged/model.safetensors)" "$(sha256sum <l/dpo1/out/model/model.safetensors)"
[ "$(sha256sum <l/dpo1/out/model/model.safetensors)" != "$(sha256sum <l/sft/out/model/model.safetensors)" ] || { echo "FAILED: the adapter learned nothing"; fails=$((fails + 1)); }

# The same over a base of 8 bits: the reference is the same base, so rewards begin at 0 here too.
sed 's#^{#{"engine":{"base":"q8"},#' spec-lora.json >spec-q8.json
R=$FLOW_DIR/q RUN=plain
mkdir -p "$R"
for d in base data pair; do ln -sfn "$FLOW_DIR/a/$d" "$R/$d"; done
ln -sfn "$FLOW_DIR/l/sft" "$R/sft"
SPEC=spec-q8.json job dpo0 dpo 1 0 0 "{\"step_from\":0,\"step_to\":2,\"total_steps\":$total}" model=sft:model ref=sft:model pairs=pair:pairs ift=data:ift eft=data:eft ||
	{ echo "FAILED: adapter over 8 bits"; exit 1; }
has "adapter over 8 bits: rewards begin at 0" '"rewards/chosen":0.0' q/dpo0/out/metrics.jsonl
[ "$(sha256sum <q/dpo0/out/reflogps/data.jsonl)" != "$(sha256sum <l/dpo0/out/reflogps/data.jsonl)" ] || { echo "FAILED: 8 bits gave the floats' reference"; fails=$((fails + 1)); }

R=$FLOW_DIR/a RUN=plain
# Judges that are programs.
cat >judge.sh <<'X'
#!/bin/sh
# Longer answers score higher; one in the middle is unreadable.
awk '{ n = length($0); if (NR == 2) print "{\"score\":null}"; else if (NR == 3) print "{\"score\":17}"; else printf "{\"score\":%d}\n", n % 6 }'
X
chmod +x judge.sh
sed "s#\"kind\":\"model\"#\"kind\":\"command\",\"command\":[\"$FLOW_DIR/judge.sh\"]#" spec.json >spec-command.json
SPEC=spec-command.json job judgec judge 1 0 0 '{"pass":0}' responses=gen:responses
has "command judge scores" '"score":[0-5]' a/judgec/out/judgements/data.jsonl
has "command judge: missing is missing" '"reason":"no_match","score":null' a/judgec/out/judgements/data.jsonl
has "command judge: out of range" '"reason":"out_of_range","score":null' a/judgec/out/judgements/data.jsonl
sed 's#"pattern":"score"#"pattern":"zebra"#' spec.json >spec-deaf.json
SPEC=spec-deaf.json job judged judge 1 0 0 '{"pass":0}' model=sft:model responses=gen:responses
has "unreadable judge: no scores" '"reason":"no_match","score":null' a/judged/out/judgements/data.jsonl
has "unreadable judge: tried again" '"attempts":2' a/judged/out/judgements/data.jsonl
SPEC=spec-deaf.json job paird pair 1 0 0 '{}' responses.0=gen:responses judgements.0.0=judged:judgements
has "unjudged candidates make no pairs" '"drop":"unjudged"' a/paird/out/samples/data.jsonl
check "no pairs" "$(wc -c <a/paird/out/pairs/data.jsonl)" 0
job dpod dpo 1 0 0 '{"step_from":0,"step_to":1,"total_steps":1}' model=sft:model ref=sft:model pairs=paird:pairs ift=data:ift eft=data:eft && { echo "FAILED: dpo without pairs succeeded"; fails=$((fails + 1)); }
has "dpo without pairs says so" 'no pairs' a/dpod/log
printf '#!/bin/sh\nexit 3\n' >broken.sh && chmod +x broken.sh
sed "s#\"kind\":\"model\"#\"kind\":\"command\",\"command\":[\"$FLOW_DIR/broken.sh\"]#" spec.json >spec-broken.json
SPEC=spec-broken.json job judgeb judge 1 0 0 '{"pass":0}' responses=gen:responses && { echo "FAILED: broken judge succeeded"; fails=$((fails + 1)); }
has "a broken command is named" 'broken.sh: exit 3' a/judgeb/log
exit $((fails > 0))
