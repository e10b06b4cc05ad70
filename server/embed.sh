#!/bin/sh
# Prints an assembler file that holds every file of web/dist, gzipped, and a table of them
# (struct asset of server/assets.h). Usage: embed.sh WORKDIR > assets.S
# Deterministic: sorted names, gzip -n. Without web/dist one page says that the UI was not built.
set -eu
work=$1
rm -rf "$work" && mkdir -p "$work"
table=$work/table
: >"$table"
n=0

type_of() {
	case $1 in
	*.html) echo 'text/html; charset=utf-8' ;;
	*.js | *.mjs) echo 'text/javascript; charset=utf-8' ;;
	*.css) echo 'text/css; charset=utf-8' ;;
	*.json | *.map) echo 'application/json' ;;
	*.webmanifest) echo 'application/manifest+json' ;;
	*.svg) echo 'image/svg+xml' ;;
	*.png) echo 'image/png' ;;
	*.ico) echo 'image/x-icon' ;;
	*.woff2) echo 'font/woff2' ;;
	*.txt) echo 'text/plain; charset=utf-8' ;;
	*) echo 'application/octet-stream' ;;
	esac
}

add() { # file, path
	n=$((n + 1))
	gzip -9nc "$1" >"$work/$n.gz"
	etag=$(sha256sum "$1" | cut -c1-32)
	cat <<ASM
	.section .rodata
p$n:	.asciz "$2"
t$n:	.asciz "$(type_of "$2")"
e$n:	.asciz "$etag"
	.balign 16
g$n:	.incbin "$work/$n.gz"
h$n:
ASM
	echo "	.quad p$n, t$n, e$n, g$n, h$n - g$n" >>"$table"
}

if [ -f web/dist/index.html ]; then
	for f in $(cd web/dist && find . -type f ! -name '*.gz' | LC_ALL=C sort); do
		add "web/dist/$f" "${f#.}"
	done
else
	add server/no-ui.html /index.html
fi
add server/openapi.json /api/v1/openapi.json
cat <<ASM
	.section .data.rel.ro, "aw"
	.balign 8
	.globl asset_table
	.type asset_table, %object
asset_table:
$(cat "$table")
	.quad 0, 0, 0, 0, 0
	.size asset_table, . - asset_table
	.section .note.GNU-stack, "", %progbits
ASM
