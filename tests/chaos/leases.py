"""Outages and clocks that step steal no lease, dead workers are found, zombies are refused.

usage: leases.py FOLDER SECONDS [SHIM]
Twenty workers hold a job each and beat. Redis stands still, is down, the server stands still, is down: each for
SECONDS, several leases. With SHIM, clock_step.c as a shared object, the clock of either and of both goes forward
and back by an hour. Then one worker dies, and one is suspended for longer than its lease and wakes up as a
zombie.
"""
import datetime
import os
import signal
import struct
import subprocess
import sys
import threading
import time

import kill9
import stack

LEASE_S, BEAT_S, WORKERS, DEAD = 6.0, 0.4, 20, 5
HOUR_S = 3600
# So much of a lease passes at most in an outage or when a clock steps (TICK_ADVANCE_MS_MAX of queue/limits.h): a
# lease of three seconds left a busy machine too little for the beats that follow.
LEAP_S = 2.0


class Holder(threading.Thread):
    """A worker that holds one job; paused it sends nothing, as one that was suspended."""

    def __init__(self, port, token):
        super().__init__(daemon=True)
        self.api, self.job, self.token, self.stale = stack.Client(port, token, 20), None, None, 0
        self.paused, self.beats, self.over = False, 0, False
        # Without an outage a worker that could not beat for a lease, on a busy machine, lost it by right.
        self.excused, self.starved, self.heard = False, 0, time.monotonic()

    def post(self, what, body):
        return self.api.ask("POST", "/worker/" + what, body)

    def take(self):
        status, reply = None, None
        while status != 201:
            status, reply = self.post("register", {"name": "holder", "engine": "sim", "code": "1"})
        self.id = reply["worker"]
        while self.job is None:
            status, reply = self.post("claim", {"worker": self.id, "wait_s": 1})
            if status == 200:
                self.job, self.token = reply["job"]["id"], reply["token"]

    def lease(self):
        return {"worker": self.id, "job": self.job, "token": self.token}

    def run(self):
        while not self.over:
            if not self.paused:
                self.beat()
            time.sleep(BEAT_S)

    def beat(self):
        sent = time.monotonic()
        status, _ = self.post("beat", self.lease())
        if status == 200:
            self.beats, self.heard = self.beats + 1, sent
        elif status == 409 and self.excused and time.monotonic() - self.heard > LEASE_S - LEAP_S:
            self.starved, self.job = self.starved + 1, None
            self.take()
            self.heard = time.monotonic()
        elif status == 409:
            self.stale += 1


class Leases:
    def __init__(self, folder, shim):
        self.stack = stack.Stack(folder, flags=["--server-lease-ms", str(int(LEASE_S * 1000)), "--server-beat-ms",
                                                str(int(BEAT_S * 1000)), "--server-tick-ms", "200"])
        self.clocks = {}
        if shim:
            self.give_clocks(os.path.realpath(folder), shim)

    def give_clocks(self, folder, shim):
        """Redis and server have a clock each, as on two machines."""
        self.clocks = {name: os.path.join(folder, "clock-" + name) for name in ("redis", "server")}
        for name in self.clocks:
            self.set_clock(name, 0)
        plain = self.stack.spawn
        self.stack.spawn = lambda name, argv, env=None: plain(
            name, argv, dict(env or {}, LD_PRELOAD=shim, CLOCK_STEP=self.clocks[name]))

    def set_clock(self, name, seconds):
        with open(self.clocks[name], "r+b" if os.path.exists(self.clocks[name]) else "wb") as f:
            f.write(struct.pack("q", seconds))

    def start(self):
        self.stack.begin()
        self.api = self.stack.client(timeout=30)
        token = self.stack.token("worker")
        # Each run has two imports that are ready at once.
        for _ in range(WORKERS // 2):
            spec = dict(kill9.spec(1), iterations=0)
            del spec["data"]["eft"], spec["data"]["prompts"]
            status, reply = self.api.ask("POST", "/runs", spec)
            if status != 201:
                raise SystemExit("submit: %s %s" % (status, reply))
        self.holders = [Holder(self.stack.port, token) for _ in range(WORKERS)]
        for h in self.holders:
            h.take()
            h.start()

    def look(self, job):
        return self.api.get("/jobs/" + job)

    def all_hold(self, what, beats=1):
        seen = [h.beats for h in self.holders]
        stack.wait_for("beats after " + what, 120,
                       lambda: all(h.beats >= b + beats or h.stale for h, b in zip(self.holders, seen)))
        for h in self.holders:
            stack.wait_for("a job for each after " + what, 60, lambda: h.job)
            job = self.look(h.job)
            if h.stale or job["losses"] > self.starved() or job["preemptions"] or job["state"] != "running":
                raise SystemExit("%s: the lease of %s was stolen: %s" % (what, h.job, job))

    def outage(self, name, seconds, kill):
        child = self.stack.child[name]
        if kill:
            self.stack.kill(name)
        else:
            child.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        if kill:
            getattr(self.stack, name)()
        else:
            child.send_signal(signal.SIGCONT)
        self.all_hold("%s %s for %.0f s" % (name, "down" if kill else "suspended", seconds))

    def off(self, name):
        """By how many seconds its clock is wrong, as it says itself."""
        if name == "redis":
            said = subprocess.run(["redis-cli", "-s", self.stack.sock, "TIME"], capture_output=True, text=True)
            now = float(said.stdout.split()[0])
        else:
            text = self.api.get("/session")["server_time"]
            now = datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
        return now - time.time()

    def starved(self):
        return sum(h.starved for h in self.holders)

    def steps(self, long):
        """Both clocks, an hour on, two back and one on. A lease that a step had ended would be gone with the next
        tick. The long form: each clock and both, and a lease of time after each step. Says how many there were."""
        n = 0
        for h in self.holders:
            h.excused = True
        for names in (["redis", "server"], ["redis"], ["server"])[:3 if long else 1]:
            for seconds in (HOUR_S, 0, -HOUR_S, 0) if long else (HOUR_S, -HOUR_S, 0):
                for name in names:
                    self.set_clock(name, seconds)
                    stack.wait_for("the step of %s" % name, 60, lambda: abs(self.off(name) - seconds) < 300)
                n += 1
                self.all_hold("the clock of %s at %d s" % (" and ".join(names), seconds), int(LEASE_S / BEAT_S) + 1 if long else 3)
        return n

    def deaths(self):
        """Seconds from a worker's last word to the return of its job, of several that die together."""
        dead, found = [self.holders.pop() for _ in range(DEAD)], {}
        for d in dead:
            d.over = True

        def all_found():
            for d in dead:
                if d not in found and self.look(d.job)["state"] != "running":
                    found[d] = time.monotonic() - d.heard
            return len(found) == DEAD
        stack.wait_for("the dead workers' jobs", 120, all_found)
        return sorted(found.values())

    def zombie(self):
        """Suspended, its job given to another, awake again: everything it writes is refused."""
        z, heir = self.holders.pop(), Holder(self.stack.port, self.stack.token("worker"))
        z.paused = True
        stack.wait_for("the zombie's lease", 60, lambda: self.look(z.job)["losses"] == 1)
        while heir.job != z.job:
            heir.job = None
            heir.take()
        z.api = stack.Client(self.stack.port, self.stack.token("worker"), 20)
        log = "/worker/log?job=%s&token=%s&attempt=1&offset=0" % (z.job, z.token)
        writes = {
            "beat": z.post("beat", z.lease()), "fail": z.post("fail", dict(z.lease(), kind="retry")),
            "complete": z.post("complete", dict(z.lease(), outputs=[])),
            "checkpoint": z.post("beat", dict(z.lease(), checkpoint={"outputs": {}, "state": {}})),
            "log": z.api.ask("POST", log, raw=b"zombie", headers={"Content-Type": "application/octet-stream"}),
        }
        for what, (status, reply) in writes.items():
            if status != 409 or reply["type"] != "stale":
                raise SystemExit("a zombie's %s was answered %s %s" % (what, status, reply))
        job = self.look(z.job)
        if job["state"] != "running" or job["failures"] or job["checkpoint"]:
            raise SystemExit("the zombie left a trace: %s" % job)
        return len(writes)


def main():
    seconds, shim = float(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None
    t = Leases(sys.argv[1], shim)
    try:
        t.start()
        t.all_hold("start")
        for name in ("redis", "server"):
            for kill in (False, True):
                t.outage(name, seconds, kill)
        print("4 outages of %.0f s (%.0f leases), %d workers: 0 leases stolen, 0 restarts" % (
            seconds, seconds / LEASE_S, WORKERS))
        if shim:
            print("%d steps of a clock by an hour: 0 leases stolen, 0 restarts; %d ended of workers that did not get to "
                  "beat for %.0f s" % (t.steps(seconds > 10 * LEASE_S), t.starved(), LEASE_S - LEAP_S))
        found = t.deaths()
        print("a dead worker is found after %.1f s (median), %.1f s (worst of %d); lease %.0f s" % (
            found[DEAD // 2], found[-1], DEAD, LEASE_S))
        if found[-1] > 10 * (LEASE_S + 2):
            raise SystemExit("a dead worker was found too late")
        print("%d writes of a zombie refused" % t.zombie())
    finally:
        t.stack.end()


if __name__ == "__main__":
    main()
