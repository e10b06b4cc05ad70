#!/bin/bash
# Every stage there is, by hand: once undisturbed, and once asked to stop and killed with -9 again and
# again. The same bytes. A model that was never trained says chosen words at random, so that judgements
# can be read, prompts accepted and answers paired. A stage of
# worker/stages/table.c that neither this chain nor a flow of its own runs by hand is a failure.
. tests/flow/by_hand.sh
command -v python3 >/dev/null || { echo "needs python3"; exit 77; }

"$P" demo world --data "$FLOW_DIR" --tiny >/dev/null || exit 1
# The world's tokenizer, and weights that make every token independent of what came before.
python3 - world <<'PY' || exit 1
import json, math, os, shutil, struct, sys
world = sys.argv[1]
base, talk = world + "/base", world + "/talk"
os.makedirs(talk)
for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
    shutil.copy(f"{base}/{name}", talk)
cfg = json.load(open(base + "/config.json"))
cfg.update(tie_word_embeddings=False, num_hidden_layers=1, hidden_size=16, intermediate_size=16, num_attention_heads=2,
           num_key_value_heads=2)
json.dump(cfg, open(talk + "/config.json", "w"))
vocab = json.load(open(base + "/tokenizer.json"))["model"]["vocab"]
say = {w: 1 for w in ("\u0120tent", "\u0120rope", "\u0120lamp", "\u0120soap", "\u0120kite", "\u0120drum", "\u0120book")
       if w in vocab}
say.update({"\u0120Score": 2, "\u01201": 2, "\u01204": 3, "\u01205": 2, ".": 2, "<|im_end|>": 2})
D, V = 16, cfg["vocab_size"]
row = lambda x, n: struct.pack(f"<{n}f", *([x] * n))
tensors = {"model.embed_tokens.weight": ([V, D], row(1, V * D)), "model.norm.weight": ([D], row(1, D)),
           "lm_head.weight": ([V, D], b"".join(row((math.log(say[w]) if w in say else -40) / D, D)
                                              for w, _ in sorted(vocab.items(), key=lambda x: x[1])))}
for part, shape in (("input_layernorm", [D]), ("post_attention_layernorm", [D]), ("self_attn.q_proj", [D, D]),
                    ("self_attn.k_proj", [D, D]), ("self_attn.v_proj", [D, D]), ("self_attn.o_proj", [D, D]),
                    ("mlp.gate_proj", [D, D]), ("mlp.up_proj", [D, D]), ("mlp.down_proj", [D, D])):
    tensors[f"model.layers.0.{part}.weight"] = (shape, row(0, math.prod(shape)))
head, data = {}, b""
for name, (shape, raw) in sorted(tensors.items()):
    head[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
    data += raw
text = json.dumps(head).encode()
text += b" " * (-len(text) % 8)
open(talk + "/model.safetensors", "wb").write(struct.pack("<Q", len(text)) + text + data)
rows = [{"question_id": i, "category": ("writing", "math")[i % 2], "turns": [f"Pack a tent, day {i}.", "And a rope?"]}
        for i in range(40)]
rows += [{"question": f"{i}+1?", "answer": f"#### {i + 1}"} for i in range(20)]
rows += [{"question": f"Which of {i}?", "choices": ["a tent", "a rope"], "answer": i % 2, "subject": "things"} for i in range(20)]
open(world + "/bench.jsonl", "w").writelines(json.dumps(r) + "\n" for r in rows)
# More of the ranked rows, with other numbers in their prompts.
ranked = [json.loads(l) for l in open(world + "/eval.jsonl")]
with open(world + "/ranked.jsonl", "w") as f:
    for k in range(5):
        for r in ranked:
            f.write(json.dumps({**r, "prompt": f"{r['prompt']} ({k})"}) + "\n")
PY
src() { printf '[{"path":"%s/world/%s.jsonl","format":"%s"}]' "$FLOW_DIR" "$1" "$2"; }
spec() { # spec BASE
	cat <<X
{"template":"chatml","base_model":"$FLOW_DIR/world/$1",
"data":{"ift":$(src ift pairs),"eft":$(src ranked ranked),"prompts":$(src prompts auto),"test":$(src test auto),
 "bench":$(src bench auto),"eft_eval_share":0.3,"ift_max":10000,"lang":"en"},
"sft":{"lr":2e-3,"lr_min":2e-4,"batch":16,"epochs":40,"max_steps":16,"max_length":256,"save_every_steps":4},
"eft":{"mode":"build","samples_per_item":4,"temperature":1,"top_p":1,"max_new_tokens":24},
"prompts":{"generator":"current","count":40,"min_words":2,"rouge_max":1,"shots_seed":2,"shots_machine":1,"temperature":1,
 "top_p":1,"max_new_tokens":16},
"generate":{"n":3,"temperature":1.0,"top_p":1.0,"max_new_tokens":16,"chunk":6},
"judge":{"kind":"model","template":{"name":"packing-5","text":"Check: {prompt}\n<response>{response}</response>\nScore it.",
 "pattern":"score|tent|rope|lamp|soap|kite|drum|book","min":0,"max":5,"integer":true},"samples":2,"min_valid":1,"temperature":1,"top_p":1,"max_new_tokens":24,
 "chunk":6,"max_retries":3},
"dpo":{"lr":1e-4,"lr_min":1e-5,"batch":4,"epochs":1,"max_length":256,"save_every_steps":2,"sft_replay":0.5},
"health":{"rows":24},
"protegi":{"run":true,"rounds":2,"beam":2,"budget":60,"minibatch":6,"gradients":2,"paraphrases":1,"samples_per_eval":6,
 "writer":{"kind":"model","temperature":1,"top_p":1,"max_new_tokens":16}},
"eval":{"max_new_tokens":16,"temperature":1.0,"top_p":1.0,"judge_samples":2,"head_to_head":{"judge":"model",
 "template":{"name":"two","form":"pair","text":"{prompt}\n{response_a}\n{response_b}\nWhich?"}}}}
X
}
spec base >spec.json
spec talk >spec-talk.json

chain() {
	R=$1 RUN=$2
	job base import 0 0 0 '{}' && SPEC=spec-talk.json job talk import 0 0 0 '{}' &&
	job data import 0 1 0 '{}' && job tests import 0 5 0 '{"what":"bench"}' &&
	job eft eft 0 0 0 '{"build":true}' eft=data:eft ift=data:ift model=talk:model &&
	job sft sft 0 1 0 '{"variant":"m1"}' base=base:model ift=data:ift eft=eft:eft &&
	job protegi protegi 0 0 0 '{}' model=talk:model eft=data:eft eval=eft:eval &&
	job prompts prompts 1 0 0 '{}' model=talk:model ift=data:ift &&
	job gen generate 1 0 0 '{"from":0,"to":24}' model=talk:model prompts=prompts:prompts &&
	job judge0 judge 1 0 0 '{"pass":0}' model=talk:model responses=gen:responses &&
	job judge1 judge 1 0 1 '{"pass":1}' model=talk:model responses=gen:responses &&
	job pair pair 1 0 0 '{}' responses.0=gen:responses judgements.0.0=judge0:judgements judgements.0.1=judge1:judgements &&
	job play generate 2 0 0 '{"from":0,"to":12,"n":1}' model=talk:model prompts=data:ift &&
	job spin pair 2 0 0 '{"kind":"spin"}' responses.0=play:responses ift=data:ift model=talk:model &&
	job reference reference 1 0 0 '{}' ref=sft:model pairs=pair:pairs || return 1
	local steps=$((($(wc -l <"$R/pair/out/pairs/data.jsonl") + 3) / 4))
	job dpo dpo 1 0 0 "{\"step_from\":0,\"step_to\":$steps,\"total_steps\":$steps}" model=sft:model ref=sft:model \
		reflogps=reference:reflogps pairs=pair:pairs ift=data:ift eft=eft:eft &&
	job eval eval 1 0 0 '{"name":"M2"}' model=talk:model eval=eft:eval test=data:test &&
	job versus versus 1 0 0 '{"name":"before"}' model=talk:model other=sft:model test=data:test &&
	job health health 1 0 0 '{"name":"M2"}' model=talk:model eval=eft:eval &&
	job bench bench 1 0 0 '{"name":"M2"}' model=talk:model bench=tests:bench
}
chain "$FLOW_DIR/a" plain || { echo "FAILED: the undisturbed chain"; exit 1; }
stops=0
chain "$FLOW_DIR/b" rough || { echo "FAILED: the interrupted chain"; exit 1; }
echo "$stops interruptions"
(cd a && for j in *; do
	cmp -s <(sha256sum "$j"/out/*.tar | cut -d' ' -f1) <(cd ../b && sha256sum "$j"/out/*.tar | cut -d' ' -f1) || echo "$j"
done) >differs
check "interrupted and killed, the same bytes" "$(cat differs)" ""
[ $stops -ge 12 ] || { echo "FAILED: only $stops interruptions took place"; fails=$((fails + 1)); }

# It was worth interrupting: everything that can be counted was there.
figure() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["metrics"][sys.argv[2]])' "a/$1/out/result.json" "$2"; }
for f in eft:eft.rows prompts:prompts.rows pair:pair.kept spin:pair.kept protegi:protegi.evaluations health:health.own bench:bench.bench.n; do
	case $(figure "${f%%:*}" "${f#*:}") in 0 | 0.0 | None) echo "FAILED: $f is nothing"; fails=$((fails + 1)) ;; esac
done
# Those who stop and go on say the same of themselves, too, but for what took time.
for j in eft protegi prompts pair health bench eval; do
	python3 - "$j" <<'PY' || fails=$((fails + 1))
import json, sys
a, b = (json.load(open(f"{d}/{sys.argv[1]}/out/result.json"))["metrics"] for d in "ab")
timed = ("seconds", "tokens", "gen.", "speed.")
diff = {k: (a.get(k), b.get(k)) for k in {*a, *b} if a.get(k) != b.get(k) and not any(t in k for t in timed)}
if diff:
    print(f"FAILED: figures of {sys.argv[1]} differ: {diff}")
sys.exit(bool(diff))
PY
done
grep -o '{"[a-z]*", stage_' "$top/worker/stages/table.c" | cut -d'"' -f2 | sort -u >stages
{ sed -n 's/.*"stage":"\([a-z]*\)".*/\1/p' a/*/job.json; echo; sed -n 's/.*"stage": "\([a-z]*\)".*/\1/p' "$top"/tests/flow/4*.sh; } |
	sort -u >covered
check "stages without a kill test" "$(comm -23 stages covered | tr '\n' ' ')" ""
exit $((fails > 0))
