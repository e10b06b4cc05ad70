"""A failover that loses the tail: the replica is cut off, the master goes on acknowledging, then the master is
cut off from everybody and its sentinel makes the replica master. What was acknowledged must still be true.

usage: failover.py FOLDER RUNS PROMPTS [SEED]
"""
import os
import re
import signal
import subprocess
import sys
import time

import history
import kill9
import stack

HERE = os.path.dirname(os.path.abspath(__file__))


def redis_cli(port, *words):
    return subprocess.run(["redis-cli", "-p", str(port)] + list(words), capture_output=True, text=True).stdout


class Failover(kill9.Test):
    pause_ms = 100

    def __init__(self, folder, runs, prompts, seed):
        super().__init__(folder, 0, runs, prompts, seed)
        self.master, self.replica, self.proxy, self.sentinel = (stack.free_port() for _ in range(4))
        self.stack.redis_url = "sentinel://127.0.0.1:%d/pawl" % self.sentinel

    def redis(self, name, port, *more):
        folder = os.path.join(self.folder, name)
        os.makedirs(folder, exist_ok=True)
        self.stack.spawn(name, ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", folder,
                                "--appendonly", "yes", "--appendfsync", "always", "--save", "",
                                "--maxmemory-policy", "noeviction", "--repl-diskless-sync-delay", "0"] + list(more))

    def start(self):
        self.redis("master", self.master)
        self.stack.spawn("proxy", [sys.executable, os.path.join(HERE, "proxy.py"), str(self.proxy), str(self.master)])
        stack.wait_for("proxy", 30, lambda: "PONG" in redis_cli(self.proxy, "ping"))
        self.redis("replica", self.replica, "--replicaof", "127.0.0.1", str(self.proxy))
        stack.wait_for("replica", 30,
                       lambda: "master_link_status:up" in redis_cli(self.replica, "info", "replication"))
        conf = os.path.join(self.folder, "sentinel.conf")
        with open(conf, "w") as f:
            f.write("port %d\nbind 127.0.0.1\ndir %s\nsentinel monitor pawl 127.0.0.1 %d 1\n"
                    "sentinel down-after-milliseconds pawl 1000\nsentinel failover-timeout pawl 5000\n"
                    % (self.sentinel, self.folder, self.proxy))
        self.stack.spawn("sentinel", ["redis-server", conf, "--sentinel"])
        stack.wait_for("sentinel", 30, lambda: str(self.replica) in redis_cli(self.sentinel, "sentinel", "replicas", "pawl"))
        self.stack.server()
        stack.wait_for("server", 60, self.stack.answers)
        for i in range(kill9.AGENTS):
            self.agent(i)

    def in_the_tail(self):
        """Operators' work that the replica never hears of."""
        self.runs.append(self.submit(len(self.runs)))
        status, reply = self.insist("pause", "POST", "/runs/%s/pause" % self.runs[0], {}, run=self.runs[0])
        if status != 202:
            raise SystemExit("pause: %s %s" % (status, reply))
        time.sleep(1.5)
        self.runs.append(self.submit(len(self.runs)))

    def state_of(self, run):
        status = None
        while status != 200:
            status, view = self.eyes.ask("GET", "/runs/" + run)
        return view["state"]

    def run(self):
        self.start()
        began = time.monotonic()
        self.eyes, self.client = self.stack.client(timeout=30), self.stack.client(timeout=30)
        self.log = history.Log(os.path.join(self.folder, "operator.history"), "operator")
        for i in range(self.n_runs):
            self.runs.append(self.submit(i))
        time.sleep(1 + self.dice.random() * 2)
        self.stack.child["proxy"].send_signal(signal.SIGUSR1)
        self.in_the_tail()
        self.stack.child["proxy"].send_signal(signal.SIGUSR2)
        cut = time.monotonic()
        stack.wait_for("failover", 120, lambda: "master" in redis_cli(self.replica, "role").split("\n")[0])
        stack.wait_for("writes after the failover", 120, self.stack.answers)
        self.gap = time.monotonic() - cut
        # The old master comes back with a tail of its own: nobody may listen to it.
        self.stack.child["proxy"].send_signal(signal.SIGCONT)
        self.held = self.state_of(self.runs[0]) == "paused"
        self.insist("resume", "POST", "/runs/%s/resume" % self.runs[0], {}, run=self.runs[0])
        return self.finish(0, began)

    def report(self, n, took, records, final, found):
        with open(os.path.join(self.folder, "server.log")) as f:
            given = [tuple(map(int, m)) for m in re.findall(r"compared runs=(\d+) jobs=(\d+) decisions=(\d+)", f.read())]
        runs, jobs, decisions = (max(column) for column in zip(*given))
        if not self.held:
            found.append("the pause was forgotten")
        if not (runs and jobs and decisions):
            found.append("the failover lost nothing, so nothing was shown")
        print("failover: %.1f s until writes were accepted; Redis had lost %d runs, %d results, %d decisions, and "
              "has them again; %d acknowledged operations in %.0f s; %d violations" % (
                  self.gap, runs, jobs, decisions, sum(1 for r in records if history.ok(r)), took, len(found)))
        for s in found[:40]:
            print("violation:", s)


def main():
    test = Failover(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else 1)
    test.stack.audit = lambda: [line for line in redis_cli(test.replica, "FCALL", "pawl2_audit", "1", "{pawl}:m",
                                                           "2").splitlines() if line.strip()]
    try:
        sys.exit(test.run())
    finally:
        test.stack.end()


if __name__ == "__main__":
    main()
