"""Kill anything, any number of times: the bytes of the last model are the same.

usage: anything.py FOLDER BLOWS [SEED]
The demo world's run undisturbed; then again while its worker is hit BLOWS times: executor or agent killed with
SIGKILL, or the agent told that its machine goes (SIGTERM); and after every third of these Redis or server is
killed. Every stage is hit: the first time as soon as it is seen at work, then at random. Beyond 20 blows there are
three iterations of more and smaller jobs. What a blow at a job cost is the time since its last checkpoint, and
is compared with the longest stretch without one that a job of that stage had in the undisturbed run.
"""
import collections
import datetime
import json
import os
import random
import signal
import subprocess
import sys
import time

import stack

ENDED = ("done", "failed", "cancelled")
KINDS = ("agent", "executor", "executor", "notice")
OFTEN = 2  # as often is one job hit: a third crash without a checkpoint would be its last
CHECKPOINT_S = 5.0  # rows are saved so often (ROWS_CKPT_MS of worker/stage_out.c)
JUDGE = """import json, sys, zlib
for line in sys.stdin:
    row = json.loads(line)
    print(json.dumps({"id": row["id"], "score": zlib.crc32(row["response"].encode()) % 6}), flush=True)
"""


def spec(folder, many):
    subprocess.run([os.path.join(stack.BUILD, "pawl"), "demo", "world", "--data", folder, "--tiny"], check=True,
                   stdout=subprocess.DEVNULL)
    # So small a model cannot judge, and nothing it says is right: a command tells its answers apart.
    judge = os.path.join(folder, "judge.py")
    with open(judge, "w") as f:
        f.write(JUDGE)
    with open(os.path.join(folder, "run.json")) as f:
        s = json.load(f)
    s.update(reuse=False, judge={"kind": "command", "command": [sys.executable, judge]})
    s["generate"]["shard_size"] = 1 if many else 4
    if many:
        s["iterations"], s["prompts"]["count"] = 3, 32
        s["sft"]["save_every_steps"] = 10
        s["dpo"].update(shard_steps=6, save_every_steps=2)
    return s


def at(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def stretches(attempt, end):
    """Seconds from checkpoint to checkpoint, from the attempt's start until `end`."""
    marks = [at(m["at"]) for m in attempt["marks"] if m["kind"] == "checkpoint" and at(m["at"]) <= end]
    times = [at(attempt["started_at"])] + marks + [end]
    return [b - a for a, b in zip(times, times[1:])]


class Run:
    """One run on a stack of its own under `pawl up`, with one worker."""

    def __init__(self, folder, spec):
        self.stack = stack.Supervised(folder, {"PAWL_SERVER_LEASE_MS": "3000", "PAWL_SERVER_BEAT_MS": "500",
                                               "PAWL_SERVER_RATE_LIMIT": "0"}, workers=1)
        self.stack.begin()
        self.api = self.stack.client(timeout=30)
        status, run = self.api.ask("POST", "/runs", spec)
        if status != 201:
            raise SystemExit("submit: %s %s" % (status, run))
        self.id = run["id"]

    def __enter__(self):
        return self

    def __exit__(self, *why):
        self.stack.end()

    def view(self):
        return self.api.get("/runs/" + self.id)

    def ended(self):
        return self.view()["state"] in ENDED

    def end(self):
        """Waits; the run's digest, jobs and attempts."""
        stack.wait_for("the run's end", 1800, self.ended)
        last = self.view()
        if last["state"] != "done":
            raise SystemExit("the run ended as %s: %s" % (last["state"], last["error"]))
        jobs = self.api.get("/runs/%s/jobs?limit=10000" % self.id)["items"]
        attempts = self.api.get("/runs/%s/attempts" % self.id)["items"]
        return last["final_digest"], jobs, attempts


class Ordeal(Run):
    def __init__(self, folder, spec, blows, seed, stages, n_jobs):
        """The undisturbed run had these stages and so many jobs."""
        super().__init__(folder, spec)
        self.blows, self.dice, self.struck, self.times = blows, random.Random(seed), [], collections.Counter()
        self.stages = set(stages)
        # How many jobs are done when a blow falls; the last ones have some jobs left to fall at.
        self.moments = sorted(self.dice.random() * 0.95 * n_jobs for _ in range(blows))

    def settle(self):
        """Blows whose attempt had just done its work do not count."""
        for s in [s for s in self.struck if not s["settled"]]:
            status, job = self.api.ask("GET", "/jobs/" + s["key"][0])
            if status == 200 and (job["state"] != "running" or job["attempts"] != s["key"][1]):
                s["settled"] = True
                if job["state"] == "done" and job["attempts"] == s["key"][1]:
                    self.struck.remove(s)

    def running(self):
        """The job at work, which was not hit yet in this attempt; None when there is none."""
        status, page = self.api.ask("GET", "/runs/%s/jobs?state=running" % self.id)
        for job in page["items"] if status == 200 else ():
            key = (job["id"], job["attempts"])
            if not any(s["key"] == key for s in self.struck) and self.times[job["id"]] < OFTEN:
                return dict(job, key=key)
        return None

    def strike(self, job, kind):
        """One blow at the worker. False when nobody was there to be hit."""
        agents = stack.below(self.stack.child["up"].pid, "pawl-worker")
        executors = [e for a in agents for e in stack.below(a, "pawl-worker")]
        if kind == "executor" and not executors:  # Between claim and computing, or computing and publishing.
            kind = "agent"
        try:
            os.kill((executors if kind == "executor" else agents)[0],
                    signal.SIGTERM if kind == "notice" else signal.SIGKILL)
        except (IndexError, ProcessLookupError):
            return False
        self.struck.append({"kind": kind, "at": time.time(), "key": job["key"], "stage": job["stage"],
                            "settled": False})
        self.times[job["id"]] += 1
        print("%s at %s" % (kind, job["id"]), flush=True)
        return True

    def due(self, new):
        """Whether it is time for the next blow, and it is not kept for a stage that was not hit yet."""
        if len(self.struck) + len(new) >= self.blows:
            return False
        return self.view()["counts"].get("done", 0) >= self.moments[len(self.struck)]

    def torment(self):
        while len(self.struck) < self.blows:
            self.settle()
            job, new = self.running(), self.stages - set(s["stage"] for s in self.struck)
            if job is None:
                if self.ended():
                    break
                time.sleep(0.002)
            elif job["stage"] not in new and not self.due(new):
                time.sleep(0.005)
            elif self.strike(job, self.dice.choice(KINDS[:2] if job["stage"] in new else KINDS)):
                # Not before the stages that come once were hit: they would pass unseen.
                if len(self.struck) % 3 == 0 and not new & {"import", "eft"}:
                    name = self.dice.choice(("redis", "server"))
                    self.stack.kill(name)
                    self.times[name] += 1
                    print(name, flush=True)


def check(jobs, attempts):
    """Nothing lost, nothing doubled. Only a crash of the executor may burn an attempt, and only where it had
    published nothing before."""
    of_job = collections.defaultdict(list)
    for a in attempts:
        of_job[a["job"]].append(a)
    if not jobs or len({j["id"] for j in jobs}) != len(jobs):
        raise SystemExit("jobs are missing or doubled")
    for j in jobs:
        all_of = of_job[j["id"]]
        crashes = [a for a in all_of if a["end"] == "failed" and a["signal"] == signal.SIGKILL]
        strange = [a for a in all_of if a["end"] not in ("completed", "preempted", "lease_lost") and a not in crashes]
        if j["state"] != "done" or strange or [a["end"] for a in all_of].count("completed") != 1 or \
                j["failures"] > len(crashes):
            raise SystemExit("job %s: %s" % (j, all_of))
    return of_job


def stages_of(attempts):
    """Seconds of the longest stretch between two checkpoints in each stage."""
    longest = collections.defaultdict(float)
    for a in attempts:
        longest[a["stage"]] = max([longest[a["stage"]]] + stretches(a, at(a["ended_at"])))
    return longest


def report(ordeal, longest, of_job, attempts):
    """What the blows cost, by stage. True when every stage was hit and no blow cost too much."""
    lost, worst = collections.defaultdict(list), 0.0
    for s in ordeal.struck:
        attempt = [a for a in of_job[s["key"][0]] if a["n"] == s["key"][1]][0]
        if attempt["end"] == "completed":
            continue  # The last blow of all may have come too late.
        # A machine that says goodbye has until the end of the attempt for its checkpoint.
        end = at(attempt["ended_at"]) if s["kind"] == "notice" else min(s["at"], at(attempt["ended_at"]))
        lost[s["stage"]].append(max(stretches(attempt, end)[-1], 0))
    for stage in sorted(longest):
        interval = max(CHECKPOINT_S, longest[stage])
        worst = max([worst] + [x / interval for x in lost[stage]])
        print("  %-9s %2d attempts ended by a blow; work lost each: %.2f s at most, %.2f s at most between two "
              "checkpoints undisturbed" % (stage, len(lost[stage]), max(lost[stage], default=0), longest[stage]))
    all_lost, all_work = sum(map(sum, lost.values())), sum(at(a["ended_at"]) - at(a["started_at"]) for a in attempts)
    missed = sorted(stage for stage in longest if not lost[stage])
    print("%d blows ended %d attempts: %.1f s of %.0f s of work lost, a blow %.2f of a checkpoint interval at most; "
          "stages never hit: %s" % (len(ordeal.struck), sum(map(len, lost.values())), all_lost, all_work, worst,
                                    ", ".join(missed) or "none"))
    return worst <= 10 and not missed  # one is wanted; a busy machine takes its time


def main():
    folder, blows, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1
    asked, begun = spec(os.path.join(folder, "demo"), blows > 20), time.monotonic()
    with Run(os.path.join(folder, "calm"), asked) as run:
        want, jobs, attempts = run.end()
    longest, calm, begun = stages_of(attempts), time.monotonic() - begun, time.monotonic()
    with Ordeal(os.path.join(folder, "chaos"), asked, blows, seed, longest, len(jobs)) as ordeal:
        ordeal.torment()
        got, jobs, attempts = ordeal.end()
    of_job = check(jobs, attempts)
    good = report(ordeal, longest, of_job, attempts)
    kinds = collections.Counter(s["kind"] for s in ordeal.struck)
    print("%d jobs in %.0f s, %.0f s undisturbed; %s; Redis killed %d times, server %d; digest %s, undisturbed %s" % (
        len(jobs), time.monotonic() - begun, calm, dict(kinds), ordeal.times["redis"], ordeal.times["server"],
        got, want))
    if len(ordeal.struck) < blows:
        raise SystemExit("the run ended after %d of %d blows" % (len(ordeal.struck), blows))
    sys.exit(0 if good and want and got == want else 1)


if __name__ == "__main__":
    main()
