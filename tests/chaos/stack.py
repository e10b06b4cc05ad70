"""Redis and pawl-server as children of a test: started on free ports, killed, started again."""
import ctypes
import http.client
import json
import os
import signal
import socket
import subprocess
import time

BUILD = os.environ.get("BUILD", "build")
LIBC = ctypes.CDLL(None)


def die_with_parent():
    LIBC.prctl(1, signal.SIGKILL)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(what, seconds, true):
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise SystemExit("waited %d s in vain: %s" % (seconds, what))
        time.sleep(0.02)


class Client:
    """One kept connection. A request without an answer gives status None."""

    def __init__(self, port, token, timeout=10):
        self.port, self.token, self.timeout, self.conn = port, token, timeout, None

    def ask(self, method, path, body=None, raw=None, headers=()):
        sent = {"Authorization": "Bearer " + self.token}
        if raw is not None:
            sent["Content-Type"] = "application/x-tar"
        elif body is not None:
            sent["Content-Type"] = "application/json"
            raw = json.dumps(body).encode()
        sent.update(headers)
        try:
            if self.conn is None:
                self.conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout)
            self.conn.request(method, "/api/v1" + path, raw, sent)
            reply = self.conn.getresponse()
            text = reply.read()
            if reply.status == 429:  # Asked too often: refused, and nothing happened.
                time.sleep(0.2)
                return None, None
            return reply.status, json.loads(text) if text[:1] in (b"{", b"[") else None
        except (OSError, http.client.HTTPException, ValueError):
            if self.conn is not None:
                self.conn.close()
            self.conn = None
            return None, None


    def get(self, path, seconds=120):
        """What stands there; asked again while there is no answer, as on a machine with much to do."""
        end = time.monotonic() + seconds
        status, reply = self.ask("GET", path)
        while status != 200:
            if time.monotonic() > end:
                raise SystemExit("GET %s: %s %s" % (path, status, reply))
            time.sleep(0.01)
            status, reply = self.ask("GET", path)
        return reply


class Stack:
    def __init__(self, folder, redis_url=None, env=None, flags=()):
        self.dir = folder
        os.makedirs(folder, exist_ok=True)
        self.sock = os.path.join(folder, "redis.sock")
        self.redis_url = redis_url or "unix:" + self.sock
        self.port, self.admin_port = free_port(), free_port()
        self.data = os.path.join(folder, "data")
        self.env, self.flags, self.child = env or {}, list(flags), {}

    def spawn(self, name, argv, env=None):
        log = open(os.path.join(self.dir, name + ".log"), "ab")
        self.child[name] = subprocess.Popen(argv, stdout=log, stderr=log, preexec_fn=die_with_parent,
                                            env=dict(os.environ, **(env or {})))
        log.close()

    def kill(self, name, sig=signal.SIGKILL):
        self.child[name].send_signal(sig)
        self.child[name].wait()

    def redis(self):
        self.spawn("redis", ["redis-server", "--port", "0", "--unixsocket", self.sock, "--dir", self.dir,
                             "--appendonly", "yes", "--appendfsync", "always", "--save", "",
                             "--maxmemory-policy", "noeviction", "--hash-max-listpack-value", "1024",
                             "--loglevel", "warning"])

    def server(self):
        self.spawn("server", [os.path.join(BUILD, "pawl-server"), "--server-listen", "127.0.0.1:%d" % self.port,
                              "--server-admin-listen", "127.0.0.1:%d" % self.admin_port, "--server-redis",
                              self.redis_url, "--server-data-dir", self.data] + self.flags, self.env)

    def token(self, role):
        path = os.path.join(self.data, "tokens", role)
        wait_for(path, 60, lambda: os.path.exists(path) and os.path.getsize(path) > 20)
        with open(path) as f:
            return f.read().strip()

    def begin(self):
        """Redis and then the server, each waited for."""
        self.redis()
        wait_for("redis", 30, lambda: os.path.exists(self.sock))
        self.server()
        wait_for("server", 60, self.answers)

    def client(self, role="admin", timeout=10):
        return Client(self.port, self.token(role), timeout)

    def answers(self):
        """Whether a write is accepted: the whole stack is at work."""
        status, _ = Client(self.port, self.token("worker"), 10).ask(
            "POST", "/worker/register", {"name": "probe"})
        return status == 201

    def end(self):
        for child in self.child.values():
            child.kill()
            child.wait()

    def audit(self):
        out = subprocess.run(["redis-cli", "-s", self.sock, "FCALL", "pawl2_audit", "1", "{pawl}:m", "2"],
                             capture_output=True, text=True, check=True).stdout
        return [line for line in out.splitlines() if line.strip()]


class Supervised(Stack):
    """The same under `pawl up`, which is the one that starts again what was killed."""

    def __init__(self, folder, env, workers=0):
        super().__init__(folder, env=env)
        self.data, self.sock = os.path.join(folder, "up"), os.path.join(folder, "up", "redis", "redis.sock")
        self.workers = workers

    def redis(self):
        if "up" not in self.child:
            self.spawn("up", [os.path.join(BUILD, "pawl"), "up", "--data", self.data, "--workers", str(self.workers),
                              "--listen", "127.0.0.1:%d" % self.port], self.env)
            wait_for("pawl up", 60, self.running)

    def running(self):
        with open(os.path.join(self.dir, "up.log")) as f:
            return "Pawl is running" in f.read()

    def server(self):
        pass

    def kill(self, name, sig=signal.SIGKILL):
        if name in self.child:
            return super().kill(name, sig)

        def found():
            for pid in below(self.child["up"].pid, {"redis": "redis-server", "server": "pawl-server"}[name]):
                try:
                    os.kill(pid, sig)
                    return True
                except ProcessLookupError:
                    pass
            return False
        wait_for(name + " under pawl up", 60, found)

    def end(self):
        self.child["up"].terminate()
        self.child["up"].wait(60)
        super().end()


def below(pid, name=None):
    """A process's children, or those of that name."""
    found = []
    try:
        with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
            for child in f.read().split():
                with open("/proc/%s/comm" % child) as c:
                    if name is None or c.read().strip() == name:
                        found.append(int(child))
    except OSError:
        pass  # It ends meanwhile.
    return found


def finals(client):
    """What the system says at the end, as history.check() wants it."""
    final, cursor = {"runs": {}, "jobs": {}}, ""
    while cursor is not None:
        page = client.get("/runs?limit=200&cursor=" + cursor)
        final["runs"].update((r["id"], r["state"]) for r in page["items"])
        cursor = page["next_cursor"]
    for run in final["runs"]:
        jobs = client.get("/runs/%s/jobs?limit=10000" % run)
        attempts = client.get("/runs/%s/attempts" % run)
        completed = {}
        for a in attempts["items"]:
            if a["end"] == "completed":
                completed[a["job"]] = completed.get(a["job"], 0) + 1
        for j in jobs["items"]:
            final["jobs"][j["id"]] = {"state": j["state"], "completed": completed.get(j["id"], 0),
                                      "digests": [o["digest"] for o in j["outputs"] or []]}
    return final
