# For flow tests that run stages by hand, without server or store. Sourced at the root; goes to FLOW_DIR.
set -u
top=$(pwd); W="$top/$PAWL_BUILD/pawl-worker"; P="$top/$PAWL_BUILD/pawl"
cd "$FLOW_DIR" || exit 1
fails=0
check() { if [ "$2" = "$3" ]; then echo "ok: $1"; else echo "FAILED: $1: '$2', expected '$3'"; fails=$((fails + 1)); fi; }
has() { if grep -q "$2" "$3"; then echo "ok: $1"; else echo "FAILED: $1: no '$2' in $3"; tail -3 "$3"; fails=$((fails + 1)); fi; }
digests() { (cd "$1" && sha256sum ./*/out/*.tar); }

# job NAME STAGE ITER SHARD PASS PARAMS [ROLE=JOB:OUTPUT]...
job() {
	local d=$R/$1 stage=$2 iter=$3 shard=$4 pass=$5 params=$6 inputs= sep= a role from out digest
	mkdir -p "$d/in"
	shift 6
	for a in "$@"; do
		role=${a%%=*} from=${a#*=} out=${from#*:} from=${from%%:*}
		ln -s "$R/$from/out/$out" "$d/in/$role"
		digest=$(sha256sum "$R/$from/out/$out.tar" | cut -d' ' -f1)
		inputs="$inputs$sep{\"role\":\"$role\",\"digest\":\"$digest\"}" sep=,
	done
	printf '{"id":"r1.%s.%s.%s.%s","run":"r1","stage":"%s","iter":%s,"shard":%s,"pass":%s,"seed":"1","params":%s,"inputs":[%s],"spec":%s}' \
		"$iter" "$stage" "$shard" "$pass" "$stage" "$iter" "$shard" "$pass" "$params" "$inputs" "$(tr -d '\n' <"${SPEC:-spec.json}")" >"$d/job.json"
	eval "$RUN $d"
}
plain() { "$W" stage "$1" >"$1/log" 2>&1 || { tail -2 "$1/log"; return 1; }; }
# Interrupts the job over and over: first politely as soon as it works, then with kill -9 after its
# first checkpoint, until it ends by itself.
rough() {
	local n=0 pid sig rc
	while :; do
		"$W" stage "$1" >>"$1/log" 2>&1 & pid=$!
		sig=; [ $n -lt 4 ] && { [ $((n % 2)) = 0 ] && sig=TERM || sig=KILL; }
		if [ -n "$sig" ]; then
			for _ in $(seq 200); do
				kill -0 $pid 2>/dev/null || break
				[ $sig = TERM ] && [ -d "$1/work" ] && break
				[ -n "$(find "$1/ckpt" -name ckpt.json -newer "$1/mark" 2>/dev/null)" ] && break
				sleep 0.005
			done
			kill -$sig $pid 2>/dev/null && stops=$((stops + 1))
		fi
		wait $pid 2>/dev/null; rc=$?
		touch "$1/mark"
		[ $rc = 0 ] && return 0
		[ $rc = 1 ] && { tail -2 "$1/log"; return 1; }
		n=$((n + 1)); [ $n -gt 30 ] && return 1
	done
}
