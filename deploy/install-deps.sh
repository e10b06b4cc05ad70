#!/bin/sh
# Installs what building, running and testing Pawl needs on Debian or Ubuntu. Silent and without
# network when everything is there already; safe to run at every build.
#
#   install-deps.sh          build and run
#   install-deps.sh test     also what the tests use (headless Chromium, clang's sanitizers)
set -eu

packages='gcc make libc6-dev pkg-config libjansson-dev libhiredis-dev libarchive-dev libcivetweb-dev
libcurl4-openssl-dev zlib1g-dev redis-server ca-certificates'
[ "${1:-}" = test ] && packages="$packages g++ python3 procps chromium-headless-shell fonts-dejavu-core clang-format curl"

have() { dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }

# A tool built by hand or from elsewhere counts as well as Debian's package of it.
satisfied() {
	case "$1" in
	gcc | g++ | make | pkg-config | clang-format | curl) command -v "$1" >/dev/null || have "$1" ;;
	redis-server) command -v redis-server >/dev/null ;;
	chromium-headless-shell)
		command -v chromium-headless-shell >/dev/null || command -v chromium >/dev/null ||
			command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null
		;;
	*) have "$1" ;;
	esac
}

missing=''
for p in $packages; do satisfied "$p" || missing="$missing $p"; done
# Node only when there is none: any version from 18 on builds the web interface.
command -v npm >/dev/null || missing="$missing nodejs npm"
[ -n "$missing" ] || exit 0

command -v apt-get >/dev/null || {
	echo "install-deps: this is not Debian or Ubuntu; please install:$missing" >&2
	exit 1
}
as_root=''
if [ "$(id -u)" -ne 0 ]; then
	command -v sudo >/dev/null || {
		echo "install-deps: need root or sudo to install:$missing" >&2
		exit 1
	}
	as_root=sudo
fi

echo "install-deps: installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Ubuntu ships Chromium as a snap only; the browser tests are skipped there with the reason.
install() { $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >"$log" 2>&1; }
# A freshly installed redis-server would start as a service; ours are started by `pawl up` alone.
$as_root apt-get update >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
if ! install $missing; then
	without=$(echo "$missing" | sed 's/chromium-headless-shell//')
	install $without || { cat "$log" >&2; exit 1; }
	echo "install-deps: no chromium-headless-shell package here; browser tests will be skipped" >&2
fi
