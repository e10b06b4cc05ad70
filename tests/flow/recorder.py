"""Stands before a server and writes every answer to a journal that openapi.py reads: what real clients
get, not only curl. usage: recorder.py PORT SERVER_PORT JOURNAL   (PORT 0: any; prints the port)"""
import http.client, http.server, socketserver, sys, threading

BODY_MAX = 4 << 20
HOP = {"connection", "keep-alive", "transfer-encoding"}
lock = threading.Lock()


class Recorder(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def forward(self):
        size = int(self.headers.get("Content-Length") or 0)
        up = http.client.HTTPConnection("127.0.0.1", int(sys.argv[2]), timeout=60)
        up.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for k, v in self.headers.items():
            if k.lower() not in HOP and k.lower() not in ("accept-encoding", "expect"):
                up.putheader(k, v)
        up.endheaders()
        while size > 0:
            piece = self.rfile.read(min(size, 65536))
            if not piece:
                break
            size -= len(piece)
            up.send(piece)
        got = up.getresponse()
        self.answer(got)
        up.close()

    def answer(self, got):
        length = got.getheader("Content-Length")
        self.send_response_only(got.status)
        for k, v in got.getheaders():
            if k.lower() not in HOP:
                self.send_header(k, v)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        kept = b""
        whole = True
        while piece := got.read1(65536):
            self.wfile.write(piece)
            self.wfile.flush()
            whole = whole and len(kept) + len(piece) <= BODY_MAX
            kept += piece if whole else b""
        self.note(got, kept if whole and length is not None or not kept else None)

    def note(self, got, body):
        kind = (got.getheader("Content-Type") or "-").split(";")[0]
        line = f"{self.command} {self.path} {got.status} {kind} {-1 if body is None else len(body)}\n"
        with lock, open(sys.argv[3], "ab") as f:
            f.write(line.encode() + (body or b"") + b"\n")

    def log_message(self, *args):
        pass

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = forward


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True

    def handle_error(self, request, address):
        pass  # A client that hangs up.


server = Server(("127.0.0.1", int(sys.argv[1])), Recorder)
print(server.server_port, flush=True)
server.serve_forever()
