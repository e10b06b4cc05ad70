#!/bin/sh
# Every header compiles alone.
failed=0
for h in $(git ls-files --cached --others --exclude-standard -- '*.h'); do
	[ -f "$h" ] || continue
	out=$(${CC:-cc} -std=c11 -D_GNU_SOURCE -I. -Itests/cuemu/include -Wall -Wextra -Werror -fsyntax-only -x c -include "$h" /dev/null 2>&1) ||
		{ echo "# $out"; echo "# $h does not compile alone"; failed=1; }
done
[ $failed -eq 0 ] && echo "ok headers compile alone" || echo "not ok headers compile alone"
exit $failed
