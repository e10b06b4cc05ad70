#!/bin/sh
# Runs flow tests, FLOW_JOBS of them at a time (default: one): real programs, free ports, a fresh folder
# each. A test says `# long` in its first five lines to run only with LONG=1, exits 77 to be skipped (its
# last line says why).
# usage: run-flow.sh [NAME...]   (default: all of tests/flow)
set -u
export PAWL_BUILD="${BUILD:-build}"

one() {
	t=$1
	case $t in */*) ;; *) t=tests/flow/${t%.sh}.sh ;; esac
	name=$(basename "$t" .sh)
	[ -f "$t" ] || { echo "not ok flow $t: there is no such test"; return 1; }
	if [ -z "${LONG:-}" ] && head -5 "$t" | grep -q '^# long'; then return 0; fi
	dir=$(mktemp -d "${TMPDIR:-/tmp}/pawl-flow-XXXXXX")
	started=$(date +%s)
	FLOW_DIR="$dir" timeout -k 10 "${FLOW_TIMEOUT_S:-900}" bash "$t" >"$dir/output.txt" 2>&1
	rc=$?
	took=$(($(date +%s) - started))
	case $rc in
	0) said="ok flow $name (${took}s)" ;;
	77) said="skip flow $name: $(tail -1 "$dir/output.txt")" ;;
	*) said="$(tail -40 "$dir/output.txt" | sed 's/^/# /')
not ok flow $name (code $rc, ${took}s)" ;;
	esac
	printf '%s\n' "$said" # in one write: tests beside it speak too
	if [ -n "${FLOW_KEEP:-}" ]; then echo "# kept $dir"; else rm -rf "$dir"; fi
	[ $rc -eq 0 ] || [ $rc -eq 77 ]
}

if [ "${1:-}" = --one ]; then
	one "$2"
	exit
fi
[ $# -gt 0 ] || set -- tests/flow/[0-9]*.sh
printf '%s\n' "$@" | xargs -P "${FLOW_JOBS:-1}" -I{} sh "$0" --one {}
