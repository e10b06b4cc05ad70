# pawl-worker model on a model the demo makes: every command, and what it refuses.
. tests/flow/by_hand.sh
field() { sed -n "s/.*\"$1\":\([^,}]*\).*/\1/p"; }

"$P" demo world --data "$FLOW_DIR" --tiny >/dev/null || exit 1
M="$FLOW_DIR/world/base"

"$W" model info --model "$M" >info.json
check 'info ends well' $? 0
has 'info names the tokenizer' '"kind":"bpe, byte-level, gpt-2"' info.json
has 'info says the type' '"dtype":"F32"' info.json
has 'info says the family' '"family":"llama"' info.json
has 'info guesses the template' '"template_guess":"chatml"' info.json
has 'info lists fitting templates' '"chatml":"bef6847a' info.json

printf '%s\n' '{"text":"Pack for a hike: tent, rope \u4f60\u597d <|im_end|>"}' '{"text":""}' >texts.jsonl
"$W" model tokenize --model "$M" <texts.jsonl >ids.jsonl
"$W" model detokenize --model "$M" <ids.jsonl >back.jsonl
check 'texts come back' "$(head -1 back.jsonl)" '{"text":"Pack for a hike: tent, rope 你好 <|im_end|>"}'
check 'empty text' "$(tail -1 ids.jsonl)" '{"tokens":[],"n":0}'

gen() { "$W" model generate --model "$M" --template chatml --max-tokens 20 --temperature 1 --top-p 1 --seed 3 "$@"; }
gen --prompt 'Pack for a hike' --samples 3 --threads 1 >one.jsonl
gen --prompt 'Pack for a hike' --samples 3 --threads 2 >two.jsonl
check 'three samples' "$(wc -l <one.jsonl)" 3
check 'threads change nothing' "$(cat one.jsonl)" "$(cat two.jsonl)"

"$W" model generate --model "$M" --raw --prompt 'Pack' --max-tokens 12 --temperature 0 >greedy.jsonl
has 'raw prompts need no template' '"prompt":"Pack","sample":0' greedy.jsonl
echo "{\"id\":7,\"prompt\":\"Pack\",\"response\":\"and a tent\"}" |
	"$W" model score --model "$M" --template chatml >score.json
has 'score keeps the id' '"id":7' score.json
check 'a log-probability' "$(field logp <score.json | cut -c1)" '-'

echo '{"tokens":[1,2,3]}' | "$W" model logits --model "$M" --out logits.bin >logits.json
check 'logits are float32' "$(wc -c <logits.bin)" "$((3 * $(field vocab <logits.json) * 4))"

"$W" model export --model "$M" --out "$FLOW_DIR/bf16/" --dtype bf16 --max-shard-bytes 200000 >export.json
check 'export ends well' $? 0
has 'export says what it wrote' '"dtype":"BF16"' export.json
check 'as many files as it says' "$(ls bf16/*.safetensors | wc -l)" "$(field files <export.json)"
"$W" model info --model bf16 >info-bf16.json
has 'the export is a model' '"dtype":"BF16"' info-bf16.json
"$W" model export --model bf16 --out again --dtype bf16 --max-shard-bytes 200000 >/dev/null
check 'an export of an export is the same' "$(cd again && cat * | sha256sum)" "$(cd bf16 && cat * | sha256sum)"
"$W" model export --model "$M" --out f32 >/dev/null
"$W" model export --model f32 --out f32-again >/dev/null
check 'and of f32 in one file' "$(cd f32-again && cat * | sha256sum)" "$(cd f32 && cat * | sha256sum)"
check 'f32 answers as before' "$("$W" model generate --model f32 --raw --prompt 'Pack' --max-tokens 12 --temperature 0)" "$(cat greedy.jsonl)"

refused() { # refused NAME EXIT WORDS ARGUMENTS...
	local name=$1 code=$2 words=$3
	shift 3
	"$W" model "$@" >/dev/null 2>refused.txt </dev/null
	check "$name: exit" $? "$code"
	has "$name: reason" "$words" refused.txt
}
refused 'no such folder' 3 'config.json' info --model "$FLOW_DIR/nothing"
refused 'no tokenizer' 3 'neither tokenizer.json nor' tokenize --model "$FLOW_DIR/nothing"
refused 'unknown option' 2 'unknown option "--warm"' generate --model "$M" --warm 1
refused 'the folder is there' 1 'exists and is not an empty folder' export --model "$M" --out again
refused 'no such type' 1 'is not f32, bf16 or f16' export --model "$M" --out new --dtype q8
check 'a refused export leaves nothing' "$(ls -d new* 2>/dev/null)" ''
refused 'range' 2 'not a number from 0 to 1' generate --model "$M" --prompt x --top-p 2
refused 'template' 1 'needs the special token <|start_header_id|>' generate --model "$M" --template llama-3 --prompt x
refused 'context' 1 'no room for an answer' generate --model "$M" --prompt "$(head -c 20000 /dev/zero | tr '\0' 'q')"
echo '{"prompt":1}' | "$W" model generate --model "$M" >/dev/null 2>refused.txt
check 'bad line: exit' $? 1
has 'bad line: names line and field' 'line 1: field "prompt"' refused.txt

printf '{' >"$M/tokenizer.json"
refused 'torn tokenizer' 1 'tokenizer.json' info --model "$M"
[ $fails = 0 ]
