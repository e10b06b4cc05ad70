"""Redis memory of a million jobs as the planner makes them: 100 runs, a third generation, the rest judging.

usage: million.py FOLDER [JOBS]
Prints bytes a job and the total; ends with status 1 above 1 GB a million.
"""
import json
import os
import socket
import sys

import stack

RUN_JOBS = 9900


class Wire:
    """Commands without waiting for each answer."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        self.file = self.sock.makefile("rb")

    def send(self, words):
        parts = [b"*%d\r\n" % len(words)]
        for w in words:
            w = str(w).encode()
            parts.append(b"$%d\r\n%s\r\n" % (len(w), w))
        self.sock.sendall(b"".join(parts))

    def reply(self):
        line = self.file.readline()
        if line[:1] == b"-":
            raise SystemExit("redis: " + line.decode())
        if line[:1] == b"*":
            return [self.reply() for _ in range(int(line[1:]))]
        if line[:1] == b"$" and int(line[1:]) >= 0:
            return self.file.read(int(line[1:]) + 2)[:-2]
        return line[1:].strip()

    def call(self, *words):
        self.send(words)
        return self.reply()


def job(run, stage, shard, part, parents, inputs):
    id = "%s.1.%s.%d.%d" % (run, stage, shard, part)
    definition = {"cost_hint": 12.5, "id": id, "inputs": inputs, "iter": 1, "need": len(parents), "optional": False,
                  "params": {"from": shard * 256, "to": shard * 256 + 256}, "parents": parents, "pass": part,
                  "shard": shard, "stage": stage, "stall_ms": 1800000, "stall_requeue": False}
    text = json.dumps(definition, separators=(",", ":"), sort_keys=True)
    sources = " ".join(sorted({i["job"] for i in inputs}))
    return [id, stage, 1, shard, part, len(parents), 0, 12.5, 3, text, "", 0, 1800000, 0, sources,
            len(parents)] + parents


def jobs_of(run):
    prompts, model = run + ".1.prompts.0.0", run + ".0.sft.1.0"
    first = [job(run, "sft", 1, 0, [], []), job(run, "prompts", 0, 0, [], [])]
    first[0][0] = model  # iteration 0
    yield from first
    source = {"job": model, "output": "model", "role": "model"}
    for shard in range(RUN_JOBS // 4):
        made = job(run, "generate", shard, 0, [prompts, model],
                   [source, {"job": prompts, "output": "prompts", "role": "prompts"}])
        yield made
        for part in range(3):
            yield job(run, "judge", shard, part, [made[0]],
                      [source, {"job": made[0], "output": "responses", "role": "responses"}])


def fill(wire, runs):
    n = 0
    for r in range(runs):
        run, pending, words = "rm%d" % r, 0, []
        wire.call("FCALL", "pawl2_submit", 1, "{pawl}:m", 2, run, "{}", 5, 1, 0, "", "", "", "", 0)
        for j in jobs_of(run):
            words += j
            n += 1
            pending += 1
            if pending == 300:
                wire.call("FCALL", "pawl2_add_jobs", 1, "{pawl}:m", 2, run, *words)
                pending, words = 0, []
        if words:
            wire.call("FCALL", "pawl2_add_jobs", 1, "{pawl}:m", 2, run, *words)
    return n


def used(wire):
    return int(next(line for line in wire.call("INFO", "memory").decode().split() if
                    line.startswith("used_memory:")).split(":")[1])


def main():
    folder, want = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1000000
    s = stack.Stack(folder)
    try:
        s.redis()
        stack.wait_for("redis", 30, lambda: os.path.exists(s.sock))
        s.server()
        stack.wait_for("server", 60, s.answers)
        s.kill("server")
        wire = Wire(s.sock)
        wire.call("CONFIG", "SET", "appendfsync", "no")
        wire.call("CONFIG", "SET", "hash-max-listpack-value", "1024")
        before = used(wire)
        n = fill(wire, -(-want // RUN_JOBS))
        each = (used(wire) - before) / n
        print("%d jobs: %.0f MB of Redis memory, %.0f bytes a job; a million: %.2f GB" % (
            n, (used(wire) - before) / 1e6, each, each / 1e3))
        sys.exit(each > 1000)
    finally:
        s.end()


if __name__ == "__main__":
    main()
