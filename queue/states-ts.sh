#!/bin/sh
# The tables of queue/states.def as TypeScript, to standard output. `make states` keeps them in
# web/src/lib/states.gen.ts; tests/tidy.sh compares.
echo "/** Made from queue/states.def by \`make states\`: edit that. */"
${CC:-cc} -E -P -x c -I. queue/states.ts.in | grep . | sed 's/^\("\|\[\|[a-z]*: [01]\)/	\1/; s/^\];$/];/'
