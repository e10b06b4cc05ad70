"""Sends hostile bytes to a server and checks each answer. usage: hostile.py PORT ADMIN_TOKEN"""
import re, socket, sys, threading, time

port, token = int(sys.argv[1]), sys.argv[2]
bad = []
count = 0


def talk(data, wait=15):
    """Statuses of all answers, and whether the server hung up in time."""
    s = socket.create_connection(("127.0.0.1", port), timeout=wait)
    got = b""
    try:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # It may hang up before it has heard all.
    try:
        while piece := s.recv(65536):
            got += piece
        ended = True
    except socket.timeout:
        ended = False
    except OSError:
        ended = True
    s.close()
    return [int(c) for c in re.findall(rb"(?:^|\n)HTTP/1\.[01] (\d{3})", got)], ended, got


def expect(what, data, allowed, answers=1):
    global count
    count += 1
    codes, ended, got = talk(data)
    if not ended or len(codes) > answers or any(c not in allowed for c in codes):
        bad.append(f"{what}: {codes} {'' if ended else '(no end)'}, allowed {sorted(allowed)}")
    if b"X-Evil" in got.split(b"\r\n\r\n")[0]:
        bad.append(f"{what}: a header was forged")


refused = set(range(400, 432))
H, A = b"Host: 127.0.0.1\r\n", b"Authorization: Bearer " + token.encode() + b"\r\n"


def positions():
    """A whole request, and where its parts begin and end."""
    request = (b"POST /api/v1/runs?dry_run=1 HTTP/1.1\r\n" + H + A +
               b"Content-Type: application/json\r\nIdempotency-Key: abc\r\nCookie: a=b\r\nContent-Length: 2\r\n\r\n")
    return request, b"{}"


# 1. A control byte in every position of the head. None may pass as if nothing had been (200) but where a
#    line break makes a header of its own, or ends the head.
request, body = positions()
for control in (b"\0", b"\r", b"\n", b"\x01", b"\x0b", b"\x1b", b"\x7f"):
    for at in range(0, len(request), 1 if control == b"\0" else 3):
        data = request[:at] + control + request[at:] + body
        ok = refused | {501, 505} | ({200, 422} if control in b"\r\n" or at == 0 or at >= len(request) - 4 else set())
        expect(f"{control!r} at {at}", data, ok, answers=2 if control in b"\r\n" else 1)
        if len(bad) > 20:
            break

# 2. The same, percent-encoded, in path and query.
for code in list(range(0x20)) + [0x7f]:
    pct = b"%%%02x" % code
    if code == 9:
        continue  # A tab is text.
    expect(f"{pct} in the path", b"GET /api/v1/ru" + pct + b"ns HTTP/1.1\r\n" + H + A + b"\r\n", {400})
    expect(f"{pct} in the query", b"GET /api/v1/runs?q=a" + pct + b"X-Evil:1 HTTP/1.1\r\n" + H + A + b"\r\n", {400})

# 3. Lengths that lie; a request hidden in the body must stay unanswered.
hidden = b"GET /api/v1/session HTTP/1.1\r\n" + H + A + b"\r\n"
for value in (b"-1", b"+5", b"0x10", b"5, 5", b"5,6", b"1e3", b"99999999999999999999", b"18446744073709551621", b"5 5", b"five", b"",
              b"9223372036854775808", b"1048577"):
    expect(f"Content-Length {value!r}", b"POST /api/v1/runs HTTP/1.1\r\n" + H + A +
           b"Content-Type: application/json\r\nContent-Length: " + value + b"\r\n\r\n" + hidden, refused | {200, 422})
for first, second in ((b"2", b"60"), (b"60", b"2"), (b"2", b"2"), (b"", b"2")):
    expect(f"lengths {first!r} and {second!r}", b"POST /api/v1/runs HTTP/1.1\r\n" + H + A + b"Content-Length: " + first +
           b"\r\nContent-Length: " + second + b"\r\n\r\n{}" + hidden, refused)
for chunked in (b"chunked", b"Chunked", b" chunked", b"chunked, identity", b"identity", b"gzip, chunked", b"xchunked", b"\tchunked", b"chunked\t"):
    for length in (b"", b"Content-Length: 4\r\n", b"Content-Length: 0\r\n"):
        expect(f"Transfer-Encoding {chunked!r} {length!r}", b"POST /api/v1/runs HTTP/1.1\r\n" + H + A + length + b"Transfer-Encoding: " +
               chunked + b"\r\n\r\n0\r\n\r\n" + hidden, refused)
for chunks in (b"ffffffffffffffff\r\nx", b"-1\r\nx\r\n", b"5;ext=\r\nhello\r\n0\r\n\r\n", b"\r\n\r\n", b"5\nhello\n0\n\n", b"0x5\r\nhello\r\n0\r\n\r\n"):
    expect(f"chunks {chunks!r}", b"POST /api/v1/runs HTTP/1.1\r\n" + H + A + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + hidden, refused)
expect("folded length", b"POST /api/v1/runs HTTP/1.1\r\n" + H + A + b"Content-Length:\r\n 4\r\n\r\n{}" + hidden, refused | {200, 422})
expect("space before the colon", b"POST /api/v1/runs HTTP/1.1\r\n" + H + A + b"Content-Length : 2\r\n\r\n{}" + hidden, refused)

# 4. Heads and targets.
expect("20 KB header", b"GET /api/v1/session HTTP/1.1\r\n" + H + A + b"X-Big: " + b"x" * 20000 + b"\r\n\r\n", refused | {413, 431})
expect("1000 headers", b"GET /api/v1/session HTTP/1.1\r\n" + H + A + b"".join(b"X-%d: 1\r\n" % i for i in range(1000)) + b"\r\n", refused)
expect("long target", b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\n" + H + b"\r\n", refused)
for target in (b"http://evil.example/", b"*", b"//evil.example/api/v1/session", b"/api/v1/../../etc/passwd", b"/%2e%2e/%2e%2e/etc/passwd",
               b"/..%5c..%5cetc", b"\\etc", b"evil.example:80"):
    codes, ended, got = talk(b"GET " + target + b" HTTP/1.1\r\n" + H + A + b"\r\n")
    count += 1
    if b"root:" in got or not ended or len(codes) > 1:
        bad.append(f"target {target!r}: {codes}")
for method in (b"CONNECT", b"TRACE", b"PROPFIND", b"MKCOL", b"OPTIONS", b"get", b"X" * 300, b"G\tT"):
    expect(f"method {method[:20]!r}", method + b" /api/v1/runs HTTP/1.1\r\n" + H + A + b"\r\n", refused | {501})
for version in (b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2", b"HTTP/9", b"HTTP/1.1x", b"http/1.1", b""):
    expect(f"version {version!r}", b"GET /api/v1/session " + version + b"\r\n" + H + A + b"\r\n", refused | {505, 200})
for host in (b"evil.example", b"127.0.0.1.evil.example", b"evil.example:%d" % port, b"127.0.0.1@evil.example", b"[", b"", b" ", b"evil.example#127.0.0.1",
             b"127.0.0.1, evil.example"):
    expect(f"Host {host!r}", b"GET /api/v1/session HTTP/1.1\r\nHost: " + host + b"\r\n" + A + b"\r\n", {400, 421})
for origin in (b"http://evil.example", b"null", b"http://127.0.0.1.evil.example", b"http://evil.example/http://127.0.0.1", b"file://"):
    expect(f"Origin {origin!r}", b"POST /api/v1/session HTTP/1.1\r\n" + H + b"Cookie: pawl_sid=" + b"0" * 64 + b"\r\nOrigin: " + origin +
           b"\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}", refused)

# 5. JSON bodies: deep, wide, broken, not UTF-8.
def json_body(what, text, allowed):
    expect(what, b"POST /api/v1/runs?dry_run=1 HTTP/1.1\r\n" + H + A + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" %
           len(text) + text, allowed)
json_body("deep arrays", b"[" * 100000, {400})
json_body("deep objects", b'{"a":' * 20000 + b"1" + b"}" * 20000, {400})
json_body("not UTF-8", b'{"name":"\xff\xfe"}', {400})
json_body("NUL in a string", b'{"name":"a\\u0000b"}', {400, 200, 422})
json_body("a raw NUL", b'{"name":"a\0b"}', {400})
json_body("huge number", b'{"seed":1e999}', {400, 200, 422})
json_body("half a surrogate", b'{"name":"\\ud800"}', {400, 200, 422})
json_body("trailing bytes", b"{}{}", {400})
json_body("short body", b"{", {400})

# 6. Slow on purpose: more of them than may be, and everybody else is served within a second or so.
slow_end = []


def slow(first, drip, name):
    s = socket.create_connection(("127.0.0.1", port), timeout=60)
    began = time.monotonic()
    try:
        s.sendall(first)
        while time.monotonic() - began < 50:
            s.sendall(drip)
            s.settimeout(0.5)
            try:
                if not s.recv(4096):
                    break
            except socket.timeout:
                pass
    except OSError:
        pass
    slow_end.append((name, time.monotonic() - began))
    s.close()


many = [threading.Thread(target=slow, args=(b"GET /api/v1/session HTTP/1.1\r\nX-A: ", b"a", "header")) for _ in range(15)]
many += [threading.Thread(target=slow, args=(b"POST /api/v1/session HTTP/1.1\r\n" + H + b"Content-Type: application/json\r\nContent-Length: 900\r\n\r\n{",
                                             b" ", "body")) for _ in range(15)]
for t in many:
    t.start()
worst = 0.0
for _ in range(20):
    began = time.monotonic()
    codes, ended, _ = talk(b"GET /api/v1/session HTTP/1.1\r\n" + H + A + b"Connection: close\r\n\r\n")
    worst = max(worst, time.monotonic() - began)
    if codes != [200]:
        bad.append(f"beside slow clients: {codes}")
    time.sleep(0.1)
if worst > 5:
    bad.append(f"beside slow clients one waited {worst:.1f} s")
for t in many:
    t.join()
late = [f"{n} {s:.0f} s" for n, s in slow_end if s > 45]
if late:
    bad.append(f"slow clients were never cut: {late}")

print("\n".join(bad[:40]))
print(f"{count} hostile requests, {len(bad)} wrong; slow clients cut after at most {max(s for _, s in slow_end):.0f} s, others waited {worst * 1000:.0f} ms")
sys.exit(bool(bad))
