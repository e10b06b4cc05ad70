#!/bin/sh
# Runs flow tests: real programs, free ports, a fresh folder each. A test says `# long` in its first
# five lines to run only with LONG=1, exits 77 to be skipped (its last line says why).
# usage: run-flow.sh [NAME...]   (default: all of tests/flow)
set -u
export PAWL_BUILD="${BUILD:-build}"
failed=0
[ $# -gt 0 ] || set -- tests/flow/[0-9]*.sh
for t in "$@"; do
	case $t in */*) ;; *) t=tests/flow/${t%.sh}.sh ;; esac
	name=$(basename "$t" .sh)
	[ -f "$t" ] || { echo "not ok flow $t: there is no such test"; failed=1; continue; }
	if [ -z "${LONG:-}" ] && head -5 "$t" | grep -q '^# long'; then continue; fi
	dir=$(mktemp -d "${TMPDIR:-/tmp}/pawl-flow-XXXXXX")
	started=$(date +%s)
	FLOW_DIR="$dir" timeout -k 10 "${FLOW_TIMEOUT_S:-900}" bash "$t" >"$dir/output.txt" 2>&1
	rc=$?
	took=$(($(date +%s) - started))
	case $rc in
	0) echo "ok flow $name (${took}s)" ;;
	77) echo "skip flow $name: $(tail -1 "$dir/output.txt")" ;;
	*)
		tail -40 "$dir/output.txt" | sed 's/^/# /'
		echo "not ok flow $name (code $rc, ${took}s)"
		failed=1
		;;
	esac
	if [ -n "${FLOW_KEEP:-}" ]; then echo "# kept $dir"; else rm -rf "$dir"; fi
done
exit $failed
