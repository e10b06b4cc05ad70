"""Kills Redis, server, agents and executors with SIGKILL at random moments while runs of many small jobs
go on, and checks the history of all that clients were told (history.py).

usage: kill9.py FOLDER KILLS RUNS PROMPTS [SEED [up]]
With "up" Redis and server are children of `pawl up`, and it has to start them again within a second.
At least RUNS runs, of PROMPTS shards of generation each: about four times as many jobs. Prints one line of figures and
ends with status 1 when anything acknowledged was lost, doubled or out of order.
"""
import glob
import os
import random
import signal
import sys
import threading
import time

import history
import stack

AGENTS = 4
ENDED = ("done", "failed", "cancelled")
HERE = os.path.dirname(os.path.abspath(__file__))


def spec(prompts):
    return {"name": "kill", "seed": 7, "iterations": 1, "base_model": "/m", "reuse": False,
            "data": {"ift": [{"path": "/d/ift.jsonl"}], "eft": [{"path": "/d/eft.jsonl", "format": "judge"}],
                     "prompts": [{"path": "/d/p.jsonl"}]},
            "eft": {"mode": "given"}, "sft": {"baseline": False},
            "prompts": {"generator": "file", "count": prompts}, "generate": {"shard_size": 1}}


def open_runs(client):
    status, page = client.ask("GET", "/runs?limit=200")
    return sum(r["state"] not in ENDED for r in page["items"]) if status == 200 else 99


class Test:
    pause_ms = 30  # an executor takes up to so long

    def __init__(self, folder, kills, runs, prompts, seed, supervised=False):
        self.kills, self.n_runs, self.prompts, self.dice = kills, runs, prompts, random.Random(seed)
        self.folder = folder
        times = {"LEASE_MS": "3000", "BEAT_MS": "500", "TICK_MS": "1000"}
        self.supervised = supervised
        if supervised:
            self.stack = stack.Supervised(folder, {"PAWL_SERVER_" + k: v for k, v in times.items()})
        else:
            self.stack = stack.Stack(folder, flags=[w for k, v in times.items() for w in (
                "--server-" + k.lower().replace("_", "-"), v)])
        self.killed, self.back, self.runs, self.stop = {}, {"redis": [], "server": []}, [], False

    def start(self):
        self.stack.begin()
        for i in range(AGENTS):
            self.agent(i)

    def agent(self, i):
        self.stack.spawn("agent%d" % i, [sys.executable, os.path.join(HERE, "agent.py"), str(self.stack.port),
                                         os.path.join(self.stack.data, "tokens", "worker"),
                                         os.path.join(self.folder, "agent%d.history" % i),
                                         os.path.join(self.folder, "work%d" % i), str(self.prompts), str(self.pause_ms)])

    # --- operators ---

    def ask(self, op, method, path, body, headers=(), **fields):
        """Once; the answer, or None when there was none or the service is away."""
        key = self.log.asked(op, **fields)
        status, reply = self.client.ask(method, path, body, headers=headers)
        if status is not None and status < 500:
            if op == "submit" and status == 201:
                fields["run"] = reply["id"]
            self.log.answered(key, status, **fields)
            return status, reply
        return None, None

    def insist(self, op, *args, **fields):
        status = None
        while status is None:
            status, reply = self.ask(op, *args, **fields)
            if status is None:
                time.sleep(0.05)
        return status, reply

    def submit(self, i):
        key = "run-%d" % i
        status, reply = self.insist("submit", "POST", "/runs", spec(self.prompts), {"Idempotency-Key": key}, key=key)
        if status != 201:
            raise SystemExit("submit: %s %s" % (status, reply))
        if self.dice.random() < 0.3:
            self.insist("submit", "POST", "/runs", spec(self.prompts), {"Idempotency-Key": key}, key=key)
        return reply["id"]

    def operate(self):
        """Submits run after run while blows fall, pauses and resumes some, cancels one in eight."""
        self.log = history.Log(os.path.join(self.folder, "operator.history"), "operator")
        self.client = self.stack.client(timeout=30)
        i = 0
        while i < self.n_runs or not self.stop:
            run = self.submit(i)
            self.runs.append(run)
            if self.dice.random() < 0.5:
                self.insist("pause", "POST", "/runs/%s/pause" % run, {}, run=run)
                time.sleep(self.dice.random())
                self.insist("resume", "POST", "/runs/%s/resume" % run, {}, run=run)
            if i % 8 == 7:
                time.sleep(self.dice.random())
                self.insist("cancel", "POST", "/runs/%s/cancel" % run, {}, run=run)
            i += 1
            while (i < self.n_runs or not self.stop) and open_runs(self.client) > 2:
                time.sleep(0.2)

    # --- blows ---

    def blow(self, kind):
        name = kind if kind in ("redis", "server") else "agent%d" % self.dice.randrange(AGENTS)
        if kind == "executor":
            end = time.monotonic() + 1
            while time.monotonic() < end:
                try:
                    os.kill(stack.below(self.stack.child[name].pid)[0], signal.SIGKILL)
                    return True
                except (IndexError, ProcessLookupError):
                    time.sleep(0.001)
            return False
        self.stack.kill(name)
        start = time.monotonic()
        if kind == "agent":
            self.agent(int(name[5:]))
            return True
        getattr(self.stack, kind)()
        stack.wait_for(kind + " after a kill", 120, self.stack.answers)
        self.back[kind].append(time.monotonic() - start)
        return True

    def torment(self):
        n, kinds = 0, ["redis", "server", "agent", "executor"]
        while n < self.kills:
            kind = self.dice.choice(kinds)
            if self.blow(kind):
                self.killed[kind] = self.killed.get(kind, 0) + 1
                n += 1
            time.sleep(self.dice.random() * 0.3)
        return n

    def run(self):
        self.start()
        began = time.monotonic()
        self.eyes = self.stack.client(timeout=30)
        operator = threading.Thread(target=self.operate, daemon=True)
        operator.start()
        n = self.torment()
        self.stop = True
        operator.join()
        return self.finish(n, began)

    def finish(self, n, began):
        stack.wait_for("end of all runs", 900, lambda: open_runs(self.eyes) == 0)
        took = time.monotonic() - began
        records = history.read(glob.glob(os.path.join(self.folder, "*.history")))
        final = stack.finals(self.eyes)
        found = history.check(records, final) + ["audit: " + s for s in self.stack.audit()]
        found += ["run %s ended as %s" % (r, s) for r, s in final["runs"].items()
                  if s not in ("done", "cancelled")]
        self.report(n, took, records, final, found)
        limit = float(os.environ.get("RESTART_S", "10"))  # one is wanted; a busy machine takes its time
        slow = self.supervised and any(sorted(v)[len(v) // 2] > limit for v in self.back.values() if v)
        for why, true in (("violations", found), ("half of the pauses were longer than %s s" % limit, slow),
                          ("too few kills", n < self.kills)):
            if true:
                print("failed:", why)
        return 1 if found or slow or n < self.kills else 0

    def report(self, n, took, records, final, found):
        slow = {k: "%.2f/%.2f/%.2f s" % (sorted(v)[len(v) // 2], sorted(v)[len(v) * 99 // 100], max(v))
                for k, v in self.back.items() if v}
        unknown = sum(1 for r in records if "status" not in r and r["op"] != "claim")
        print("%d kills %s in %.0f s; %d runs, %d jobs; %d acknowledged operations, %d without an answer; "
              "accepting again after a kill, median/99 %%/worst: %s; %d violations" % (
                  n, self.killed, took, len(final["runs"]), len(final["jobs"]),
                  sum(1 for r in records if history.ok(r)), unknown, slow, len(found)))
        for s in found[:40]:
            print("violation:", s)


def main():
    folder, kills, runs, prompts = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    test = Test(folder, kills, runs, prompts, int(sys.argv[5]) if len(sys.argv) > 5 else 1, "up" in sys.argv[6:])
    try:
        sys.exit(test.run())
    finally:
        test.stack.end()


if __name__ == "__main__":
    main()
