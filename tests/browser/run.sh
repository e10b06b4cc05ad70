#!/bin/sh
# The browser suite of `make check`: pure parts, every page, what people do, two tests at a time
# (PAWL_BROWSER_LANES; PAWL_BROWSER_TIMES=1 says how long each took). Needs node and a Chromium
# of the distribution; says so and passes without them. The real stack is tests/flow's business.
cd "$(dirname "$0")/../.." || exit 1
skip() {
	echo "skip browser: $1"
	exit 0
}
command -v npm >/dev/null 2>&1 || skip "node and npm are not installed"
[ -f web/dist/index.html ] || skip "web/dist is not built (make web)"
failed=0
build=${BUILD:-build}
mkdir -p "$build"
node --test --test-reporter=tap web/test/ >"$build/web-pure.txt" 2>&1 || failed=1
if [ $failed -eq 0 ]; then
	echo "ok web pure ($(grep -c '^ok\|^    ok' "$build/web-pure.txt") tests)"
else
	sed 's/^/# /' "$build/web-pure.txt"
	echo "not ok web pure"
fi
[ -d tests/browser/node_modules/playwright-core ] ||
	(cd tests/browser && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null 2>&1) ||
	skip "playwright-core cannot be installed (no network?)"
export PAWL_JOURNAL="$(realpath "$build")/browser.answers"
rm -f "$PAWL_JOURNAL"
cd tests/browser || exit 1
node -e 'import("./browser.mjs").then(b => process.exit(b.chromiumPath() ? 0 : 1))' ||
	skip "no Chromium (apt-get install chromium-headless-shell)"
node shots.mjs || failed=1
node acts.mjs || failed=1
node lists.mjs || failed=1
node review.mjs || failed=1
node live.mjs || failed=1
node hostile.mjs || failed=1
node limits.mjs || failed=1
# The mock must say what the server would: every answer the pages got is held against the API's description.
if ! command -v python3 >/dev/null 2>&1; then
	echo "skip browser answers: python3 is not installed"
elif python3 ../flow/openapi.py ../../server/openapi.json "$PAWL_JOURNAL" >"$PAWL_JOURNAL.txt"; then
	echo "ok browser answers as described ($(tail -1 "$PAWL_JOURNAL.txt"))"
else
	head -40 "$PAWL_JOURNAL.txt" | sed 's/^/# /'
	echo "not ok browser answers as described"
	failed=1
fi
exit $failed
