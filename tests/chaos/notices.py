"""Real workers on machines that are taken away: a mock of each cloud's metadata service, or signals, as
QUEUE §6 of the reference has them. Trained steps go on elsewhere, and no attempt is burnt.

usage: notices.py FOLDER TRIALS [PLATFORM...]
A trial: a worker trains, its machine's notice comes at a random moment, and the job must be back in the queue
with its checkpoint within 80 % of the notice, and the worker gone with status 0 before its end. "none" is a machine that
goes without a word: its job is back after the lease. WIDTH trials go on beside each other (default: one a
processor), each with a run, a pool of workers and a metadata service of its own.
"""
import http.server
import json
import os
import queue
import random
import signal
import statistics
import subprocess
import sys
import threading
import time

import stack

LEASE_MS = 4000
# platform: seconds of notice, signal (None: the mock says it)
PLATFORMS = {"aws": (120, None), "gcp": (30, None), "azure": (30, None), "kubernetes": (15, signal.SIGTERM),
             "slurm": (30, signal.SIGTERM), "slurm-usr1": (120, signal.SIGUSR1), "none": (0, signal.SIGKILL)}


class Mock(http.server.BaseHTTPRequestHandler):
    """All three services on one port. Tokens of AWS live for five questions; Azure's first answer is late."""
    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        pass

    def answer(self, status, text):
        try:
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())
        except ConnectionError:
            self.close_connection = True  # Whoever asked is gone.

    def do_PUT(self):
        if self.path != "/latest/api/token" or not self.headers.get("X-aws-ec2-metadata-token-ttl-seconds"):
            return self.answer(400, "")
        token = "%016x" % random.getrandbits(64)
        self.server.tokens[token] = 5
        return self.answer(200, token)

    def aws(self):
        token = self.headers.get("X-aws-ec2-metadata-token", "")
        if self.server.tokens.get(token, 0) <= 0:
            return self.answer(401, "")
        self.server.tokens[token] -= 1
        if self.path.endswith("rebalance"):
            return self.answer(200, '{"noticeTime":"x"}') if self.server.rebalance.is_set() else self.answer(404, "")
        if self.server.taken.is_set():
            return self.answer(200, '{"action":"terminate","time":"2026-11-21T08:22:00Z"}')
        return self.answer(404, "<html>404 - Not Found</html>")

    def do_GET(self):
        self.server.asked += 1
        if self.path.startswith("/latest/meta-data/"):
            return self.aws()
        if self.path.startswith("/computeMetadata/v1/instance/preempted?wait_for_change=true"):
            if self.headers.get("Metadata-Flavor") != "Google":
                return self.answer(403, "")
            self.server.taken.wait(60)
            return self.answer(200, "TRUE" if self.server.taken.is_set() else "FALSE")
        if self.path.startswith("/metadata/instance/compute/name?"):
            return self.answer(200 if self.headers.get("Metadata") == "true" else 400, "vm")
        if self.path.startswith("/metadata/scheduledevents?api-version="):
            if self.headers.get("Metadata") != "true":
                return self.answer(400, "")
            if self.server.asked == 1:
                time.sleep(2)
            events = [{"EventId": "0", "EventType": "Preempt", "Resources": ["another_vm"]}]
            if self.server.taken.is_set():
                events.append({"EventId": "1", "EventType": "Preempt", "Resources": ["vm"]})
            return self.answer(200, json.dumps({"DocumentIncarnation": 1, "Events": events}))
        return self.answer(404, "")


class Cloud(http.server.ThreadingHTTPServer):
    """The metadata service of one machine."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Mock)
        self.taken, self.rebalance, self.tokens = threading.Event(), threading.Event(), {}
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.boot()

    def boot(self):
        self.taken.clear()
        self.rebalance.clear()
        self.asked = 0


class Lane(threading.Thread):
    """Trials one after another, of one job that goes on from each to the next."""

    def __init__(self, trials, number):
        super().__init__(daemon=True)
        self.stack, self.folder, self.todo, self.took = trials.stack, trials.folder, trials.todo, trials.took
        self.name, self.cloud, self.wrong = "worker%d" % number, Cloud(), None
        self.api = self.stack.client(timeout=30)
        self.job = self.submit(os.path.join(self.folder, "world"))

    def submit(self, world):
        status, run = self.api.ask("POST", "/runs", {
            "name": "notices", "seed": 5, "iterations": 1, "template": "chatml", "base_model": world + "/base",
            "reuse": False, "data": {"ift": [{"path": world + "/ift.jsonl", "format": "pairs"}],
                                     "prompts": [{"path": world + "/prompts.jsonl"}]},
            "pools": [stage + "=" + self.name for stage in ("import", "sft", "prompts")],
            "sft": {"lr": 2e-3, "batch": 16, "epochs": 1000, "max_steps": 100000, "max_length": 256,
                    "save_every_steps": 20, "baseline": False},
            "prompts": {"generator": "file", "count": 20, "rouge_max": 1.0}})
        if status != 201:
            raise SystemExit("submit: %s %s" % (status, run))
        return run["id"] + ".0.sft.1.0"

    def look(self):
        while True:
            status, job = self.api.ask("GET", "/jobs/" + self.job)
            if status == 200:
                return job
            if status == 404:
                return {"state": "unplanned", "progress": None}
            time.sleep(0.02)

    def worker(self, platform, notice_s=None):
        flags = ["--worker-notice-s", str(notice_s or PLATFORMS[platform][0])]
        if PLATFORMS[platform][1] is None:
            flags += ["--worker-cloud", platform, "--worker-cloud-url",
                     "http://127.0.0.1:%d" % self.cloud.server_port]
        self.cloud.boot()
        self.stack.spawn(self.name, [os.path.join(stack.BUILD, "pawl-worker"), "--server",
                                     "http://127.0.0.1:%d" % self.stack.port, "--token-file",
                                     os.path.join(self.stack.data, "tokens", "worker"), "--work-dir",
                                     os.path.join(self.folder, "work-" + self.name), "--threads", "1", "--name",
                                     platform, "--worker-pools", self.name] + flags)
        return self.stack.child[self.name]

    def done(self, job):
        return (job["progress"] or {}).get("done", 0)

    def steps(self):
        job = self.look()
        return self.done(job) if job["state"] == "running" else -1

    def begin(self):
        """A first worker takes the run as far as its training."""
        worker = self.worker("kubernetes")
        stack.wait_for("the run's first steps", 240, lambda: self.steps() > 20)
        worker.terminate()
        worker.wait(60)

    def trial(self, platform):
        """Seconds until the job is back."""
        seconds, sig = PLATFORMS[platform]
        worker, before = self.worker(platform), self.look()
        stack.wait_for("training", 240, lambda: self.steps() > self.done(before))
        if platform == "none":  # Losses without a checkpoint between them are poison, by design.
            stack.wait_for("a checkpoint", 240, lambda: self.look()["checkpoint"] != before["checkpoint"])
        time.sleep(random.random())
        begun = time.monotonic()
        if sig is None:
            self.cloud.taken.set()
        else:
            worker.send_signal(sig)
        stack.wait_for("job given back (%s)" % platform, seconds + LEASE_MS / 1000 + 60,
                       lambda: self.look()["state"] == "ready")
        back = time.monotonic() - begun
        code = worker.wait(60)
        self.judge(platform, before, code, back, time.monotonic() - begun)
        return back

    def judge(self, platform, before, code, back, gone):
        seconds, after = PLATFORMS[platform][0], self.look()
        if after["failures"] != 0:
            raise SystemExit("%s burnt an attempt: %s" % (platform, after))
        if platform == "none":
            if after["losses"] != before["losses"] + 1:
                raise SystemExit("no loss was counted: %s" % after)
        elif code != 0 or after["preemptions"] != before["preemptions"] + 1 or not after["checkpoint"]:
            raise SystemExit("%s: status %s, %s" % (platform, code, after))
        elif back > 0.8 * seconds or gone > seconds:
            raise SystemExit("%s: job back after %.1f s, gone after %.1f s of a notice of %d s" % (
                platform, back, gone, seconds))

    def hinted(self):
        """A rebalance recommendation: a checkpoint now, and nothing new afterwards."""
        at = self.done(self.look())
        worker = self.worker("aws")
        stack.wait_for("training", 240, lambda: self.steps() > at)
        with open(os.path.join(self.folder, self.name + ".log")) as f:
            f.seek(0, os.SEEK_END)
            self.cloud.rebalance.set()
            seen = ""

            def told():
                nonlocal seen
                seen += f.read()
                return "why=checkpoint" in seen
            stack.wait_for("a checkpoint on the hint", 60, told)
        if self.look()["state"] != "running":
            raise SystemExit("the hint took the job away")
        worker.terminate()
        worker.wait(60)

    def alone(self):
        """Its server does not answer: it leaves in time all the same."""
        worker = self.worker("kubernetes", 5)
        at = self.done(self.look())
        stack.wait_for("training", 240, lambda: self.steps() > at)
        self.stack.child["server"].send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        worker.terminate()
        code = worker.wait(60)
        took = time.monotonic() - begun
        self.stack.child["server"].send_signal(signal.SIGCONT)
        if code != 0 or took > 25:  # Four seconds; without a bound of its own it would ask for half a minute.
            raise SystemExit("without its server it left after %.1f s with status %s" % (took, code))
        return took

    def run(self):
        try:
            self.begin()
            while True:
                platform = self.todo.get_nowait()
                took = self.trial(platform) if platform != "hint" else self.hinted()
                self.took[platform].append(took)
        except queue.Empty:
            pass
        except BaseException as e:  # SystemExit would end this thread alone, and in silence.
            self.wrong = e


class Trials:
    def __init__(self, folder, n, platforms):
        self.folder, self.todo = folder, queue.Queue()
        self.took = {p: [] for p in platforms + ["hint"]}
        self.stack = stack.Stack(folder, flags=["--server-lease-ms", str(LEASE_MS), "--server-beat-ms", "400",
                                                "--server-rate-limit", "0"])
        for _ in range(n):
            for platform in platforms:
                self.todo.put(platform)
        self.todo.put("hint")

    def run(self, width):
        self.stack.begin()
        subprocess.run([os.path.join(stack.BUILD, "pawl"), "demo", "world", "--data", self.folder, "--quick"],
                       check=True, stdout=subprocess.DEVNULL)
        lanes, begun = [Lane(self, i) for i in range(width)], time.monotonic()
        for lane in lanes:
            lane.start()
        try:
            while any(lane.is_alive() for lane in lanes) and not any(lane.wrong for lane in lanes):
                time.sleep(0.1)
        finally:  # What was done counts also when it is broken off.
            self.report(time.monotonic() - begun, width)
        wrong = [lane.wrong for lane in lanes if lane.wrong]
        if wrong:
            raise SystemExit(str(wrong[0]))
        print("no answer of the server: left %.1f s after a notice of 5 s" % lanes[0].alone())

    def report(self, seconds, width):
        for platform, took in self.took.items():
            if platform != "hint" and took:
                print("%s: %d trials, job back after %.2f s (median), %.2f s (worst); notice %d s, lease %.0f s; no "
                      "attempt burnt" % (platform, len(took), statistics.median(took), max(took),
                                         PLATFORMS[platform][0], LEASE_MS / 1000))
        if self.took["hint"]:
            print("rebalance: checkpoint at once, job kept")
        print("%.0f s, %d beside each other" % (seconds, width), flush=True)


def main():
    folder, n = sys.argv[1], int(sys.argv[2])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("broken off"))
    t = Trials(folder, n, sys.argv[3:] or list(PLATFORMS))
    try:
        t.run(int(os.environ.get("WIDTH", "0")) or os.cpu_count())
    finally:
        t.stack.end()


if __name__ == "__main__":
    main()
