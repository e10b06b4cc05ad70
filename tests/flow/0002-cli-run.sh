# A run through the command line alone: dry run, submit, wait, look, export, download with a
# broken connection, verify, compare.
set -u
P="$(pwd)/$PAWL_BUILD/pawl"
D="$FLOW_DIR/data"
fails=0
check() { if [ "$2" = "$3" ]; then echo "ok: $1"; else echo "FAILED: $1: '$2', expected '$3'"; fails=$((fails + 1)); fi; }
p() { "$P" "$@" --data "$D"; }
cd "$FLOW_DIR" || exit 1
"$P" demo world --data "$FLOW_DIR" --tiny >/dev/null || exit 1
# Not through p(): the id of a function in the background is its shell's, and TERM would stop at it.
"$P" up --listen 127.0.0.1:0 --data "$D" >up.out 2>up.err &
up=$!
trap 'kill -TERM $up; wait $up' EXIT
for _ in $(seq 600); do grep -q Ctrl-C up.out && break; sleep 0.1; done

# Scores that differ, whatever the small model says.
cat >judge.sh <<'X'
awk '{printf "{\"score\":%d}\n", length($0) % 6}'
X
cat >run.json <<X
{"name":"flow","template":"chatml","base_model":"$FLOW_DIR/world/base","iterations":1,
"data":{"ift":[{"path":"$FLOW_DIR/world/ift.jsonl","format":"pairs"}],"eft":[{"path":"$FLOW_DIR/world/eft.jsonl","format":"judge"}],
 "eval":[{"path":"$FLOW_DIR/world/eval.jsonl","format":"ranked"}],"prompts":[{"path":"$FLOW_DIR/world/prompts.jsonl","format":"auto"}],
 "test":[{"path":"$FLOW_DIR/world/test.jsonl","format":"auto"}],"lang":"en"},
"eft":{"mode":"given"},"prompts":{"generator":"file","count":8},
"sft":{"lr":2e-3,"lr_min":2e-4,"batch":16,"epochs":40,"max_steps":20,"max_length":256},
"generate":{"n":3,"temperature":1.0,"max_new_tokens":32},
"judge":{"kind":"command","command":["sh","$FLOW_DIR/judge.sh"],"samples":1,"min_valid":1},
"dpo":{"lr":1e-4,"lr_min":1e-5,"batch":2,"epochs":1,"max_length":256},
"eval":{"max_new_tokens":32,"judge_samples":1}}
X
p run submit -f run.json --set iterations=2 --dry-run >plan 2>&1; check 'dry run' "$?" 0
grep -q 'jobs known so far' plan; check 'a plan is shown' "$?" 0
p run submit -f run.json --set dpo.lr=fast >/dev/null 2>bad; check 'a bad field is refused' "$?" 1
grep -q '/dpo/lr' bad; check 'and named' "$?" 0
echo '{' | p run submit -f - 2>/dev/null; check 'a bad file is refused' "$?" 1
p run submit -f run.json --wait --quiet >id 2>err; check 'submit and wait' "$?" 0
[ "$fails" = 0 ] || { cat plan bad err; p job list "$(cat id)"; tail -n 20 "$D"/log/*.log; exit 1; }
run=$(head -1 id)
check 'the run is done' "$(p run show "$run" --json | grep -o '"state":"[a-z]*"' | tail -1)" '"state":"done"'
p job logs "$run.0.sft.0.0" --tail 2000 >log; check 'a log' "$?" 0
[ -s log ]; check 'it holds something' "$?" 0
p data export --run "$run" --stage prompts -o rows.jsonl; check 'export' "$?" 0
check 'eight prompts' "$(wc -l <rows.jsonl)" 8
short=$(p data ls --run "$run" --stage pair | awk '/pairs/{print $1}')
p data export "$short" >/dev/null; check 'export by short digest' "$?" 0
digest=$(p ckpt ls --run "$run" | awk '$3=="M2"{print $1}')
p ckpt get "$digest" >/dev/null; check 'download' "$?" 0
cp "$digest.tar" whole; cp whole good.tar
head -c 100000 whole >"$digest.tar.part"; rm -f "$digest.tar"
p ckpt get "$digest" >/dev/null 2>got; check 'download goes on' "$?" 0
grep -q 'byte 100000' got; check 'where it ended' "$?" 0
cmp -s whole "$digest.tar"; check 'to the same bytes' "$?" 0
cp whole "$digest.tar.part"; rm -f "$digest.tar"
p ckpt get "$digest" >/dev/null 2>&1; check 'a download that was whole already' "$?" 0
{ head -c 100000 whole; echo rubbish; } >"$digest.tar.part"
p ckpt get "$digest" >/dev/null 2>&1; check 'rubbish is downloaded again' "$?" 0
cmp -s whole "$digest.tar"; check 'to the same bytes again' "$?" 0
p ckpt verify "$digest.tar" "$digest" >/dev/null; check 'verify' "$?" 0
printf X | dd of=whole bs=1 seek=60000 conv=notrunc 2>/dev/null
p ckpt verify whole "$digest" 2>/dev/null; check 'a flipped byte' "$?" 1
p ckpt get "$digest" --unpack dir >/dev/null; check 'unpack' "$?" 0
[ -s dir/model.safetensors ] && [ -s dir/config.json ]; check 'a model directory' "$?" 0
mkdir tarred && tar xf good.tar -C tarred; check 'tar xf does the same' "$?" 0
for from in dir tarred; do
	"${P}-worker" model export --model $from --out hf-$from --dtype bf16 >/dev/null; check "an export of $from" "$?" 0
done
check 'the same bytes of both' "$(cd hf-dir && sha256sum * | sha256sum)" "$(cd hf-tarred && sha256sum * | sha256sum)"
grep -q '"torch_dtype": "bfloat16"' hf-dir/config.json; check 'that says its type' "$?" 0
p eval compare "$run" | grep -q M2; check 'compare' "$?" 0
p eval compare "$run" --model M2 --markdown >table.md; check 'compare as Markdown' "$?" 0
check 'of one model' "$(head -1 table.md)" '| metric | M2 |'
p run gantt "$run" --jobs | grep -Eq '^1 dpo 0.0 +\|.*='; check 'a chart of its time' "$?" 0
p run cost "$run" | grep -q 'goodput'; check 'what it cost' "$?" 0
p run logs "$run" --stage dpo -o all.log; check 'all logs' "$?" 0
[ "$(grep -c '^1.dpo.0.0#1 ' all.log)" -gt 3 ]; check 'of one stage' "$?" 0
p db check --deep >/dev/null; check 'all bytes are right' "$?" 0
p run cancel "$run" 2>/dev/null; check 'a finished run cannot be cancelled' "$?" 5
exit $fails
