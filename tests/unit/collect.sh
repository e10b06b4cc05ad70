#!/bin/sh
# Prints the table of tests of one file: every `void test_<module>__<what>(void)` in it.
names=$(sed -n 's/^void \(test_[a-z0-9_]*__[A-Za-z0-9_]*\)(void)$/\1/p' "$1")
printf '#include "tests/test.h"\n#include <stddef.h>\n'
for n in $names; do printf 'void %s(void);\n' "$n"; done
printf 'const struct test_entry test_entries[] = {\n'
for n in $names; do printf '\t{"%s", %s},\n' "$n" "$n"; done
printf '\t{NULL, NULL},\n};\n'
