"""Histories of what clients asked and were told, and what must be true of them.

A record is one request: {"who", "op", "t0", "t1" (absent while no reply came), "status" (absent: unknown),
and the operation's own fields}. Only an answer is evidence; a request without one may or may not have
happened. check() returns sentences, one for each thing that cannot be.
"""
import json
import os
import time


class Log:
    """Writes records as two lines, asked and answered, so that a killed writer leaves the first."""

    def __init__(self, path, who):
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.who, self.n = who, 0
        self.pid = "%d-%s" % (os.getpid(), os.urandom(4).hex())  # The system gives the number again within the hour.

    def asked(self, op, **fields):
        self.n += 1
        record = dict(fields, who=self.who, pid=self.pid, n=self.n, op=op, t0=time.monotonic())
        self._put(record)
        return {"pid": self.pid, "n": self.n}

    def answered(self, asked, status, **fields):
        self._put(dict(fields, pid=asked["pid"], n=asked["n"], status=status, t1=time.monotonic()))

    def _put(self, record):
        os.write(self.fd, (json.dumps(record) + "\n").encode())


def read(paths):
    records = {}
    for path in paths:
        with open(path) as f:
            for line in f:
                try:
                    part = json.loads(line)
                except ValueError:
                    continue  # The last line of a killed writer.
                records.setdefault((path, part["pid"], part["n"]), {}).update(part)
    return [r for r in records.values() if "op" in r]


def fence(token):
    return int(token.split(".")[0])


def ok(r):
    return r.get("status") in (200, 201, 202)  # 204: a claim that found nothing


def acknowledged(records, op):
    return [r for r in records if r["op"] == op and ok(r)]


def check_submits(records, final):
    keys = {}
    for r in acknowledged(records, "submit"):
        if r["run"] not in final["runs"]:
            yield "run %s was acknowledged and is gone" % r["run"]
        if keys.setdefault(r["key"], r["run"]) != r["run"]:
            yield "key %s gave runs %s and %s" % (r["key"], keys[r["key"]], r["run"])


def check_completions(records, final):
    accepted = {}
    for r in acknowledged(records, "complete"):
        accepted.setdefault(r["job"], {})[r["token"]] = r
    for job, tokens in accepted.items():
        if len(tokens) > 1:
            yield "job %s: completions of %d leases were accepted" % (job, len(tokens))
        now = final["jobs"].get(job)
        if not now or now["state"] != "done":
            yield "job %s: completion acknowledged, and it is %s" % (job, now and now["state"])
        elif next(iter(tokens.values()))["digest"] not in now["digests"]:
            yield "job %s: another result than the one acknowledged" % job
    for job, now in final["jobs"].items():
        if now["state"] == "done" and now["completed"] != 1:
            yield "job %s: %d attempts completed" % (job, now["completed"])


def check_leases(records):
    claims = sorted(acknowledged(records, "claim"), key=lambda r: r["t0"])
    seen, ended, highest = {}, sorted(claims, key=lambda r: r["t1"]), 0
    i = 0
    for r in claims:
        if seen.setdefault(r["token"], r) is not r:
            yield "token %s was given out twice" % r["token"]
        while i < len(ended) and ended[i]["t1"] < r["t0"]:
            highest = max(highest, fence(ended[i]["token"]))
            i += 1
        if fence(r["token"]) <= highest:
            yield "lease %s of %s is not above %d, given out before" % (r["token"], r["job"], highest)


def check_order(records):
    """After a later lease, or a completion, nothing of an earlier lease is accepted."""
    claims, done = {}, {}
    for r in acknowledged(records, "claim"):
        claims.setdefault(r["job"], []).append(r)
    for r in acknowledged(records, "complete"):
        done.setdefault(r["job"], r)
    for r in records:
        if r["op"] == "claim" and ok(r) and r["job"] in done and r["t0"] > done[r["job"]]["t1"]:
            yield "job %s was given out after its completion" % r["job"]
        if r["op"] not in ("beat", "complete", "fail") or not ok(r) or r.get("again"):
            continue
        for c in claims.get(r["job"], []):
            if c["t1"] < r["t0"] and fence(c["token"]) > fence(r["token"]):
                yield "job %s: %s of lease %s accepted after lease %s" % (
                    r["job"], r["op"], r["token"], c["token"])


def check_decisions(records, final):
    claims = acknowledged(records, "claim")
    for r in acknowledged(records, "pause"):
        resumes = [x["t0"] for x in records if x["op"] in ("resume", "cancel") and x["run"] == r["run"]
                   and x["t0"] > r["t0"]]
        end = min(resumes, default=float("inf"))
        for c in claims:
            if c["run"] == r["run"] and c["t0"] > r["t1"] and c["t1"] < end:
                yield "job %s was given out while its run was paused" % c["job"]
    for r in acknowledged(records, "cancel"):
        state = final["runs"].get(r["run"])
        if state not in ("cancelled", "done"):
            yield "run %s was cancelled and is %s" % (r["run"], state)
        for c in claims:
            if c["run"] == r["run"] and c["t0"] > r["t1"]:
                yield "job %s was given out after its run was cancelled" % c["job"]


def check(records, final):
    """final: {"runs": {id: state}, "jobs": {id: {"state", "digests", "completed"}}}"""
    found = []
    for part in (check_submits(records, final), check_completions(records, final), check_leases(records),
                 check_order(records), check_decisions(records, final)):
        found.extend(part)
    return found
