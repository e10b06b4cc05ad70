#!/bin/bash
# Requests nobody honest sends: each gets a clean 4xx, none spins, crashes or slips through.
. tests/flow/lib.sh
start_redis
start_server
# raw TEXT: sends bytes as they are (\r\n escapes), prints the status of the first answer and how many
# answers came.
raw() {
	python3 - "$PORT" "$1" <<'PY'
import re, socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10)
data = b""
try: # The server may hang up before it has heard all of it.
    s.sendall(sys.argv[2].encode().decode("unicode_escape").encode("latin-1"))
    s.shutdown(socket.SHUT_WR)
except OSError: pass
try:
    while (got := s.recv(65536)): data += got
except OSError: pass
codes = re.findall(rb"HTTP/1\.1 (\d{3})", data)
print((codes[0].decode() if codes else "none"), len(codes))
PY
}
host='Host: 127.0.0.1\r\n'
auth="Authorization: Bearer $ADMIN\r\n"

is "$(raw "POST /api/v1/session HTTP/1.1\r\n${host}Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 4\r\n\r\na=b\x00")" "415 1" "form with a NUL"
is "$(raw "POST /api/v1/session HTTP/1.1\r\n${host}Content-Type: application/json\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /api/v1/runs HTTP/1.1\r\n${host}${auth}\r\n")" "400 1" "Content-Length and Transfer-Encoding"
is "$(raw "POST /api/v1/session HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")" "411 1" "chunked"
is "$(raw "POST /api/v1/session HTTP/1.1\r\n${host}Content-Length: 2\r\nContent-Length: 60\r\n\r\n{}")" "400 1" "two Content-Lengths"
is "$(raw "GET /api/v1/runs%0d%0aX-Evil:1 HTTP/1.1\r\n${host}\r\n")" "400 1" "CR LF in the path"
is "$(raw "GET /api/v1/runs?q=a%0d%0aSet-Cookie:x HTTP/1.1\r\n${host}${auth}\r\n")" "400 1" "CR LF in the query"
is "$(raw "GET /api/v1/health%00 HTTP/1.1\r\n${host}\r\n" | cut -c1)" "4" "NUL in the path"
is "$(raw "GET /api/v1/health HTTP/1.1\r\nHost: evil.example\r\n\r\n")" "421 1" "foreign Host"
is "$(raw "GET /api/v1/health HTTP/1.1\r\nHost: evil.example:$PORT\r\n\r\n")" "421 1" "foreign Host with our port"
is "$(raw "GET /api/v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n")" "400 1" "two Hosts"
is "$(raw "GET /api/v1/health HTTP/1.1\r\n\r\n")" "400 1" "no Host"
curl -s --path-as-is "$URL/../../../../etc/passwd" | grep -q root: && fail "dot segments left the pages"
is "$(raw "GET /assets/%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\n${host}\r\n" | cut -c1)" "4" "encoded dot segments"
is "$(raw "OPTIONS /api/v1/runs HTTP/1.1\r\n${host}Origin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\n\r\n")" "405 1" "preflight"
# The unread rest of a refused body is never taken for a request.
is "$(raw "POST /api/v1/runs HTTP/1.1\r\n${host}Content-Length: 70\r\nContent-Type: application/json\r\n\r\nGET /api/v1/health HTTP/1.1\r\n${host}\r\n")" "401 1" "body as a request"
big=$(printf 'x%.0s' $(seq 20000))
case "$(raw "GET /api/v1/health HTTP/1.1\r\n${host}X-Big: $big\r\n\r\n")" in 4* | none*) ;; *) fail "20 KB header" ;; esac
case "$(raw "GARBAGE\r\n\r\n")" in 4* | none*) ;; *) fail "garbage" ;; esac

head -c 2000000 /dev/zero | tr '\0' ' ' >"$FLOW_DIR/big.json"
call "$ADMIN" POST /runs -H 'Content-Type: application/json' --data-binary @"$FLOW_DIR/big.json"
want 413 "2 MB body"
deep=$(printf '[%.0s' $(seq 5000))
post "$ADMIN" /runs "$deep"
want 400 "deep JSON"
post "$ADMIN" /runs '{"name":"a","name":"b"}'
want 400 "duplicate key"
post "$ADMIN" /runs '[]'
want 400 "array"
api GET '/runs?lmit=3'
want 400 "misspelt parameter"
api GET '/runs?limit=99999'
want 400 "limit too large"
api GET /nonsense
want 404
is "$(js 'b["type"]')" not-found "problem type"
is "$(js 'b["instance"]')" "$(header X-Request-Id)" "request id"
api GET /runs/..%2f..%2fx
want 404 "traversal in an id"
api GET "/jobs/r1.0.sft.0.0/attempts/1/log"
want 200 "log of nothing is empty"

# Still well, and idle.
call "" GET /health
want 200
ticks() { awk '{print $14 + $15}' "/proc/$server_pid/stat"; }
before=$(ticks)
sleep 1
[ $(($(ticks) - before)) -lt 20 ] || fail "the server spins"
is "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$ADMIN_PORT/livez")" 200 livez
is "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$ADMIN_PORT/readyz")" 200 readyz
exit 0
