#!/bin/sh
# The rules of the house, checked. Each rule prints one line `ok tidy: ...` or `not ok tidy: ...`
# after the offending places. Run from the root of the repository.
set -u
LC_ALL=C
export LC_ALL
failed=0

verdict() { # verdict NAME OFFENCES
	if [ -n "$2" ]; then
		printf '%s\n' "$2" | head -20 | sed 's/^/# /'
		echo "not ok tidy: $1"
		failed=1
	else
		echo "ok tidy: $1"
	fi
}

files() { git ls-files --cached --others --exclude-standard -- "$@" | while read -r f; do [ -f "$f" ] && echo "$f"; done; }
sources=$(files '*.c' '*.h')

# 1. Who may include whom (ARCHITECTURE.md, "Folders"). `base` stands below everything that is drawn.
may() {
	case "$1" in
	base) echo 'base' ;;
	kernels) echo 'kernels' ;;
	store) echo 'store base' ;;
	queue) echo 'queue base' ;;
	migrations) echo 'migrations queue base' ;;
	server) echo 'server migrations queue store base' ;;
	worker) echo 'worker kernels store base' ;;
	cli) echo 'cli store base' ;;
	tests) echo 'tests base kernels store queue migrations server worker cli' ;;
	esac
}
verdict 'include edges' "$(for f in $sources; do
	part=${f%%/*}
	allowed=" $(may "$part") "
	sed -n 's/^#include "\([a-z]*\)\/.*/\1/p' "$f" | sort -u | while read -r to; do
		case "$allowed" in *" $to "*) ;; *) echo "$f includes $to/ (allowed:$allowed)" ;; esac
	done
	grep -nE '^#include "[^/"]+"' "$f" | sed "s|^|$f:|; s|$| (spell includes from the root)|"
done)"

# 2. A third-party header has one owning file.
owner() { # owner HEADER-REGEX ALLOWED-FILE-REGEX
	grep -lE "^#include <$1" $sources | grep -vE "^($2)$" | sed "s|$| includes $1|"
}
verdict 'owners of third-party headers' "$(
	owner 'civetweb' 'server/http\.c|tests/bench/bench_server\.c'
	owner 'hiredis' 'queue/redis\.c'
	owner 'archive' 'store/tar\.c'
	owner 'curl/' 'base/fetch\.c'
)"

# 3. Sizes: a file under 800 lines, a function at most 70.
verdict 'files under 800 lines' "$(files '*.c' '*.h' '*.cu' '*.lua' '*.ts' '*.tsx' '*.mjs' '*.sh' '*.css' |
	while read -r f; do n=$(wc -l <"$f"); [ "$n" -lt 800 ] || echo "$f has $n lines"; done)"
verdict 'functions of at most 70 lines' "$(for f in $(files '*.c'); do
	awk -v f="$f" '/^\{/ { start = NR } /^\}/ { if (start && NR - start - 1 > 70) printf "%s:%d: %d lines\n", f, start, NR - start - 1; start = 0 }' "$f"
done)"
verdict 'lines of at most 110 columns' "$(for f in $sources; do
	# A letter of several bytes is one column: continuation bytes are not counted.
	tr -d '\200-\277' <"$f" | expand -t 8 | awk -v f="$f" 'length($0) > 110 { printf "%s:%d: %d columns\n", f, NR, length($0) }'
done)"

# 4. Calls that have no place here, each with what to use instead.
verdict 'no banned calls' "$(grep -nE '(^|[^A-Za-z0-9_>.])(strcpy|strcat|sprintf|vsprintf|gets|atoi|atol|atof|system|popen|strtok|alloca|rand|srand)\(' $sources |
	grep -vE ':[[:space:]]*(\*|/\*|//)' | sed 's/$/   (use str_copy str_fmt str_to_i64 proc_run rng_u32)/')"

# A wait that ends by the wall clock ends an hour late when somebody sets that back.
verdict 'no wait by the wall clock' "$(grep -nE 'CLOCK_REALTIME|pthread_cond_init\(|PTHREAD_COND_INITIALIZER' $sources |
	grep -vE '^(base/clk\.c|store/|tests/)' | sed 's/$/   (use clk_cond_init clk_after, clk_now_ms)/')"

# 5. Nothing unfinished, nothing of one machine.
verdict 'no left-over marks' "$(git grep -nIwE '(FIXME|TODO|XXX|HACK)' -- '*.c' '*.h' '*.ts' '*.tsx' '*.lua' '*.sh' '*.mjs' Makefile ':!tests/tidy.sh' 2>/dev/null)"
verdict 'no innerHTML in the web interface' "$(files 'web/src/*' | xargs -r grep -nE 'innerHTML|outerHTML|insertAdjacentHTML|document\.write|dangerouslySetInnerHTML')"

# 6. Every test function is collected; no large blob is tracked.
verdict 'no uncollected unit test' "$(for f in $(files 'tests/unit/test_*.c'); do
	grep -nE '^(static )?void test_[a-z0-9_]*__' "$f" | grep -vE 'void test_[a-z0-9_]*__[A-Za-z0-9_]*\(void\)$' | sed "s|^|$f:|"
done)"
verdict 'no tracked file over 256 KiB' "$(git ls-files | while read -r f; do
	[ -f "$f" ] && [ "$(wc -c <"$f")" -gt 262144 ] && echo "$f: $(wc -c <"$f") bytes"
done)"

# 7. What is made from queue/states.def and kept in the tree is what it would be made to now.
verdict 'states of the dashboard are those of the queue' "$(sh queue/states-ts.sh | diff - web/src/lib/states.gen.ts)"

exit $failed
