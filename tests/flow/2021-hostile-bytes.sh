#!/bin/bash
# Bytes nobody honest sends, in every position: NUL, CR, LF and other controls, lengths that lie, chunk
# tricks; and clients that are slow on purpose. Each is refused or cut, none gets a second answer, and
# everybody else is served meanwhile. Also run under the sanitizers (make check-hostile).
. tests/flow/lib.sh
start_redis
start_server --server-threads 64
python3 tests/flow/hostile.py "$PORT" "$ADMIN"
is $? 0 "hostile bytes"
kill -0 "$server_pid" || fail "the server is gone"
ticks() { awk '{print $14 + $15}' "/proc/$server_pid/stat"; }
before=$(ticks)
sleep 1
[ $(($(ticks) - before)) -lt 20 ] || fail "the server spins"
call "" GET /health
want 200
stop server
is "$code" 0 "exit code"
grep -E 'AddressSanitizer|LeakSanitizer|runtime error' "$FLOW_DIR/server.log" && fail "a sanitizer spoke"
exit 0
