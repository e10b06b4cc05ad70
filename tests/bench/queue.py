"""Claim and complete: ours beside BullMQ, beanstalkd and a bare LMOVE, interleaved, on one Redis.

    BENCH_QUEUE=build/bench/queue python3 tests/bench/queue.py

BULLMQ=DIR holds node_modules/bullmq and ioredis; beanstalkd is taken from the PATH. A peer that is
not there leaves its column empty. JOBS, REPS. Of the repetitions the medians count, theirs as ours, and a
ratio is the median of the ratios within each. Beside jobs per second stands what one job cost: microseconds
of processor time of Redis's thread and of the clients' process, which other work on the machine hardly
changes.
"""
import os, shutil, socket, statistics, subprocess, sys, tempfile, time

BENCH = os.environ.get("BENCH_QUEUE", "build/bench/queue")
BULLMQ = os.environ.get("BULLMQ", "")
REPS = int(os.environ.get("REPS", "5"))
JOBS = int(os.environ.get("JOBS", "8000"))  # at most 10,000: they are one run
HERE = os.path.dirname(os.path.abspath(__file__))


def wait_for(ready, what):
    end = time.monotonic() + 20
    while not ready():
        if time.monotonic() > end:
            sys.exit(f"{what} did not start")
        time.sleep(0.02)


def figures(*cmd, **env):
    """Jobs per second, microseconds of Redis's thread and of the clients for one."""
    p = subprocess.run(cmd, capture_output=True, text=True, env={**os.environ, **env})
    if p.returncode:
        sys.exit(f"{' '.join(cmd)}: {p.stderr[-500:]}")
    return tuple(float(v) for v in p.stdout.split()[-3:])


class Redis:
    def __init__(self, sync):
        self.dir = tempfile.mkdtemp(prefix="pawl-bench-")
        self.sock = self.dir + "/s"
        self.p = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", self.sock, "--dir", self.dir,
                                   "--save", "", "--appendonly", "yes", "--appendfsync", sync, "--loglevel",
                                   "warning", "--hash-max-listpack-value", "1024"], stdout=subprocess.DEVNULL)
        wait_for(lambda: os.path.exists(self.sock), "redis-server")

    def close(self):
        self.p.kill()
        self.p.wait()
        shutil.rmtree(self.dir)


def bean_worker(port, n):
    """Reserve and delete n jobs over one connection."""
    s = socket.create_connection(("127.0.0.1", port))
    f = s.makefile("rb")
    for _ in range(n):
        s.sendall(b"reserve\r\n")
        job = f.readline().split()
        f.read(int(job[2]) + 2)
        s.sendall(b"delete " + job[1] + b"\r\n")
        f.readline()
    s.close()


def beanstalkd(sync, connections, jobs):
    """Its log fsynced after every write (-f0) or every second. Clients are processes: Python's threads
    would share one processor."""
    if not shutil.which("beanstalkd"):
        return None
    d = tempfile.mkdtemp(prefix="pawl-bench-")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    p = subprocess.Popen(["beanstalkd", "-l", "127.0.0.1", "-p", str(port), "-b", d, "-f",
                          "0" if sync == "always" else "1000"])

    def up():
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return True
        except OSError:
            return False
    wait_for(up, "beanstalkd")
    each = jobs // connections
    with socket.create_connection(("127.0.0.1", port)) as s:
        f = s.makefile("rb")
        for _ in range(each * connections):
            s.sendall(b"put 0 0 60 1\r\nx\r\n")
        for _ in range(each * connections):
            f.readline()
    start = time.monotonic()
    pids = []
    for _ in range(connections):
        pid = os.fork()
        if pid == 0:
            bean_worker(port, each)
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    took = time.monotonic() - start
    p.kill()
    p.wait()
    shutil.rmtree(d)
    return each * connections / took, None, None


def bullmq(redis, workers, concurrency, jobs):
    if not BULLMQ:
        return None
    return figures("node", HERE + "/peers/bullmq.mjs", redis.sock, str(workers), str(concurrency), str(jobs))


def cell(sync, connections):
    """What each took in every repetition. The first of one repetition is the last of the next."""
    jobs = JOBS if sync == "everysec" else max(JOBS // (4 if connections > 1 else 16), 100)
    got = {}
    for k in range(REPS):
        redis = Redis(sync)
        ours = lambda how: figures(BENCH, "unix:" + redis.sock, how, str(connections), str(jobs))
        takes = {"ours": lambda: ours("chained"), "bullmq": lambda: bullmq(redis, connections, 1, jobs),
                 "two": lambda: ours("two"),
                 "pipelined": lambda: bullmq(redis, 1, connections, jobs) if connections > 1 else None,
                 "lmove": lambda: ours("lmove"), "beanstalkd": lambda: beanstalkd(sync, connections, jobs)}
        names = list(takes)
        for name in names[k % len(names):] + names[:k % len(names)]:
            got.setdefault(name, []).append(takes[name]())
        redis.close()
    return got


def text(took, i=0):
    return f"{statistics.median(t[i] for t in took):,.0f}" if took[0] and took[0][i] is not None else ""


def ratio(a, b):
    return f"{statistics.median(x[0] / y[0] for x, y in zip(a, b)):.2f}" if a[0] and b[0] else ""


def cost(took):
    return f"{text(took, 1)} + {text(took, 2)}" if took[0] else ""


print("| fsync | connections | ours | ours, two calls | BullMQ | ratio | BullMQ, one connection for all | ratio | "
      "beanstalkd | ratio | LMOVE + LPOP | share | µs of Redis + clients, ours | BullMQ | one connection for all |")
print("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|")
for sync in ("everysec", "always"):
    for connections in (1, 32):
        g = cell(sync, connections)
        print(f"| {sync} | {connections} | {text(g['ours'])} | {text(g['two'])} | {text(g['bullmq'])} | "
              f"{ratio(g['ours'], g['bullmq'])} | {text(g['pipelined'])} | {ratio(g['ours'], g['pipelined'])} | "
              f"{text(g['beanstalkd'])} | {ratio(g['ours'], g['beanstalkd'])} | {text(g['lmove'])} | "
              f"{ratio(g['ours'], g['lmove'])} | {cost(g['ours'])} | {cost(g['bullmq'])} | "
              f"{cost(g['pipelined'])} |", flush=True)
