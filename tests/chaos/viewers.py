"""Many viewers of the event stream that keep losing their connections: each sees every event of Redis once, in order.

usage: viewers.py FOLDER VIEWERS RECONNECTS [SEED [KILLS]]
A viewer breaks off at a random moment, most often within an event, and goes on with Last-Event-ID; the server
is killed KILLS times meanwhile. Redis's own stream is the truth. Prints one line of figures; status 1 when an
event was missed, doubled or out of order.
"""
import errno
import random
import re
import resource
import selectors
import socket
import subprocess
import sys
import threading
import time

import kill9
import stack

IDS = ("local out = {} for _, e in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do out[#out + 1] = e[1] end "
       "return out")


def key(id):
    return tuple(int(part) for part in id.split("-"))


class Viewer:
    """One stream after another. Only whole events count."""

    def __init__(self, port, token):
        self.port, self.token, self.seen, self.start = port, token, [], None
        self.resets, self.refused, self.connects, self.sock, self.until, self.again_at = 0, 0, 0, None, None, 0

    def open(self, life):
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.raw, self.text, self.head, self.until = b"", b"", None, time.monotonic() + life
        last = self.seen[-1] if self.seen else self.start
        resume = "Last-Event-ID: %s\r\n" % last if last else ""
        self.ask = ("GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer %s\r\n%s\r\n" % (
            self.port, self.token, resume)).encode()
        code = self.sock.connect_ex(("127.0.0.1", self.port))
        return code in (0, errno.EINPROGRESS)

    def close(self, pause):
        if self.sock:
            self.sock.close()
        self.sock, self.again_at = None, time.monotonic() + pause

    def write(self):
        self.sock.send(self.ask)
        self.ask = b""

    def read(self):
        """False when the connection is over."""
        data = self.sock.recv(65536)
        self.raw += data
        if self.head is None and b"\r\n\r\n" in self.raw:
            self.head, self.raw = self.raw.split(b"\r\n\r\n", 1)
            if b" 200 " not in self.head[:16]:
                self.refused += 1
                return False
            self.connects += 1
        if self.head is not None:
            self.unpack()
            self.events()
        return bool(data)

    def unpack(self):
        if b"chunked" not in self.head.lower():
            self.text, self.raw = self.text + self.raw, b""
            return
        while True:
            end = self.raw.find(b"\r\n")
            size = int(self.raw[:end], 16) if end > 0 else -1
            if size < 0 or len(self.raw) < end + 4 + size:
                return
            self.text += self.raw[end + 2:end + 2 + size]
            self.raw = self.raw[end + 4 + size:]

    def events(self):
        *blocks, self.text = self.text.split(b"\n\n")
        for block in blocks:
            fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line and line[:1] != b":")
            kind, id = fields.get(b"event"), fields.get(b"id", b"").decode()
            if kind == b"hello" and self.start is None:
                self.start = id
            elif kind == b"reset" or kind == b"hello":
                self.resets += 1
            elif id:
                self.seen.append(id)


class Test:
    def __init__(self, folder, viewers, reconnects, seed, kills):
        self.folder, self.n, self.reconnects, self.kills = folder, viewers, reconnects, kills
        self.dice, self.calm, self.told = random.Random(seed), False, 0
        # So many breaks a second that the whole takes a minute or so.
        self.life = 2.0 * viewers * max(10.0, min(60.0, reconnects / 150)) / reconnects
        threads = str(2 * viewers + 64)
        self.stack = stack.Stack(folder, flags=["--server-threads", threads, "--server-max-sse", str(viewers + 8),
                                                "--server-rate-limit", "0"])

    def start(self):
        self.stack.begin()
        self.api = self.stack.client(timeout=30)
        status, run = self.api.ask("POST", "/runs", kill9.spec(2))
        if status != 201:
            raise SystemExit("submit: %s %s" % (status, run))
        self.run_id = run["id"]
        token = self.stack.token("admin")
        self.poll = selectors.DefaultSelector()
        self.viewers = [Viewer(self.stack.port, token) for _ in range(self.n)]

    def happen(self):
        """Events, now and then many at once."""
        what = 0
        while not self.calm:
            for _ in range(self.dice.choice((1, 1, 1, 40))):
                status, _ = self.api.ask("POST", "/runs/%s/%s" % (self.run_id, ("pause", "resume")[what % 2]), {})
                what += status is not None and status < 500
            time.sleep(self.dice.random() * 0.4)

    def turn(self, poll, v, ready, now):
        try:
            if v.sock is None and now >= v.again_at:
                if v.open(self.dice.random() * self.life):
                    poll.register(v.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, v)
                else:
                    v.close(0.2)
            elif v.sock and ready & selectors.EVENT_WRITE and v.ask:
                v.write()
                poll.modify(v.sock, selectors.EVENT_READ, v)
            elif v.sock and ready & selectors.EVENT_READ:
                if not v.read():
                    raise OSError
            # Nobody leaves before the first word: a viewer without a position has nothing to resume.
            if v.sock and v.start and now > v.until and not self.calm:
                poll.unregister(v.sock)
                v.close(self.dice.random() * 0.3)
        except OSError:
            poll.unregister(v.sock)
            v.close(0.1)

    def watch(self, over):
        while not over():
            ready = {key.data: mask for key, mask in self.poll.select(0.02)}
            now = time.monotonic()
            for v in self.viewers:
                if v in ready or v.sock is None or now > v.until:
                    self.turn(self.poll, v, ready.get(v, 0), now)

    def ids(self):
        said = subprocess.run(["redis-cli", "-s", self.stack.sock, "EVAL", IDS, "1", "{pawl}:ev"],
                              capture_output=True, text=True, check=True).stdout
        return re.findall(r"^\d+-\d+$", said, re.M)

    def run(self):
        self.start()
        happening = threading.Thread(target=self.happen, daemon=True)
        happening.start()
        began, end = time.monotonic(), time.monotonic() + 1200
        for part in range(1, self.kills + 2):  # The children of a thread would die with it: nobody else may kill.
            enough = self.reconnects * part // (self.kills + 1)
            self.watch(lambda: self.connected() - self.n >= enough or time.monotonic() > end)
            if part <= self.kills:
                self.stack.kill("server")
                self.stack.server()
        took, self.calm = time.monotonic() - began, True
        happening.join()
        # Events go on: a worker that registered and is not heard of is lost a lease later. All up to here count.
        all_ids, until = self.ids(), time.monotonic() + 120
        last = key(all_ids[-1])
        self.watch(lambda: all(v.seen and key(v.seen[-1]) >= last for v in self.viewers) or time.monotonic() > until)
        return self.report(all_ids, took)

    def connected(self):
        return sum(v.connects for v in self.viewers)

    def report(self, all_ids, took):
        at, wrong, events, resets = {id: i for i, id in enumerate(all_ids)}, 0, 0, 0
        last = key(all_ids[-1])
        for v in self.viewers:
            while v.seen and key(v.seen[-1]) > last:
                v.seen.pop()
            want = all_ids[at[v.start] + 1:] if v.start in at else []
            events, resets = events + len(v.seen), resets + v.resets
            if v.seen != want or not want:
                wrong += 1
                first = next((i for i, (a, b) in enumerate(zip(v.seen, want)) if a != b), min(len(v.seen), len(want)))
                if wrong < 4:
                    print("a viewer after %d connections, %d refused: %d events, %d wanted, the %dth differs" % (
                        v.connects, v.refused, len(v.seen), len(want), first))
        print("%d viewers, %d reconnects in %.0f s, the server killed %d times: %d events in Redis, %d seen, %d resets; "
              "%d viewers missed or doubled one" % (self.n, self.connected() - self.n, took, self.kills, len(all_ids),
                                                    events, resets, wrong))
        return 1 if wrong or resets or self.connected() - self.n < self.reconnects else 0


def main():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    folder, viewers, reconnects = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else 1
    kills = int(sys.argv[5]) if len(sys.argv) > 5 else 0
    test = Test(folder, viewers, reconnects, seed, kills)
    try:
        sys.exit(test.run())
    finally:
        test.calm = True
        test.stack.end()


if __name__ == "__main__":
    main()
