"""Real workers on machines that are taken away: a mock of each cloud's metadata service, or signals, as
QUEUE §6 of the reference has them. Trained steps go on elsewhere, and no attempt is burnt.

usage: notices.py FOLDER TRIALS [PLATFORM...]
A trial: a worker trains, its machine's notice comes at a random moment, and the job must be back in the queue
with its checkpoint, and the worker gone with status 0, within 80 % of the notice. "none" is a machine that
goes without a word: its job is back after the lease.
"""
import http.server
import json
import os
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
    taken, rebalance, asked, tokens = threading.Event(), threading.Event(), 0, {}

    def log_message(self, *words):
        pass

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_PUT(self):
        if self.path != "/latest/api/token" or not self.headers.get("X-aws-ec2-metadata-token-ttl-seconds"):
            return self.answer(400, "")
        token = "%016x" % random.getrandbits(64)
        Mock.tokens[token] = 5
        return self.answer(200, token)

    def aws(self):
        token = self.headers.get("X-aws-ec2-metadata-token", "")
        if Mock.tokens.get(token, 0) <= 0:
            return self.answer(401, "")
        Mock.tokens[token] -= 1
        if self.path.endswith("rebalance"):
            return self.answer(200, '{"noticeTime":"x"}') if Mock.rebalance.is_set() else self.answer(404, "")
        if Mock.taken.is_set():
            return self.answer(200, '{"action":"terminate","time":"2026-11-21T08:22:00Z"}')
        return self.answer(404, "<html>404 - Not Found</html>")

    def do_GET(self):
        Mock.asked += 1
        if self.path.startswith("/latest/meta-data/"):
            return self.aws()
        if self.path.startswith("/computeMetadata/v1/instance/preempted?wait_for_change=true"):
            if self.headers.get("Metadata-Flavor") != "Google":
                return self.answer(403, "")
            Mock.taken.wait(60)
            return self.answer(200, "TRUE" if Mock.taken.is_set() else "FALSE")
        if self.path.startswith("/metadata/instance/compute/name?"):
            return self.answer(200 if self.headers.get("Metadata") == "true" else 400, "vm")
        if self.path.startswith("/metadata/scheduledevents?api-version="):
            if self.headers.get("Metadata") != "true":
                return self.answer(400, "")
            if Mock.asked == 1:
                time.sleep(2)
            events = [{"EventId": "0", "EventType": "Preempt", "Resources": ["another_vm"]}]
            if Mock.taken.is_set():
                events.append({"EventId": "1", "EventType": "Preempt", "Resources": ["vm"]})
            return self.answer(200, json.dumps({"DocumentIncarnation": 1, "Events": events}))
        return self.answer(404, "")


class Trials:
    def __init__(self, folder):
        self.folder = folder
        self.stack = stack.Stack(folder, flags=["--server-lease-ms", str(LEASE_MS), "--server-beat-ms", "400"])
        self.mock = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mock)
        threading.Thread(target=self.mock.serve_forever, daemon=True).start()

    def start(self):
        self.stack.begin()
        self.api = self.stack.client(timeout=30)
        subprocess.run([os.path.join(stack.BUILD, "pawl"), "demo", "world", "--data", self.folder, "--tiny"],
                       check=True, stdout=subprocess.DEVNULL)
        world = os.path.join(self.folder, "world")
        status, run = self.api.ask("POST", "/runs", {
            "name": "notices", "seed": 5, "iterations": 1, "template": "chatml", "base_model": world + "/base",
            "reuse": False, "data": {"ift": [{"path": world + "/ift.jsonl", "format": "pairs"}],
                                     "prompts": [{"path": world + "/prompts.jsonl"}]},
            "sft": {"lr": 2e-3, "batch": 16, "epochs": 1000, "max_steps": 100000, "max_length": 256,
                    "save_every_steps": 20, "baseline": False},
            "prompts": {"generator": "file", "count": 20, "rouge_max": 1.0}})
        if status != 201:
            raise SystemExit("submit: %s %s" % (status, run))
        self.job = run["id"] + ".0.sft.1.0"

    def look(self):
        while True:
            status, job = self.api.ask("GET", "/jobs/" + self.job)
            if status == 200:
                return job
            if status == 404:
                return {"state": "unplanned", "progress": None}
            time.sleep(0.02)

    def worker(self, platform):
        flags = []
        if PLATFORMS[platform][1] is None:
            flags = ["--worker-cloud", platform, "--worker-cloud-url", "http://127.0.0.1:%d" % self.mock.server_port]
        self.stack.spawn("worker", [os.path.join(stack.BUILD, "pawl-worker"), "--server",
                                    "http://127.0.0.1:%d" % self.stack.port, "--token-file",
                                    os.path.join(self.stack.data, "tokens", "worker"), "--work-dir",
                                    os.path.join(self.folder, "work"), "--threads", "1", "--name", platform] + flags)

    def steps(self):
        job = self.look()
        return (job["progress"] or {}).get("done", 0) if job["state"] == "running" else -1

    def trial(self, platform):
        """Seconds until the job is back, until the worker is gone, and the steps that were lost."""
        seconds, sig = PLATFORMS[platform]
        Mock.taken.clear()
        Mock.asked = 0
        self.worker(platform)
        before = self.look()
        at = (before["progress"] or {}).get("done", 0)
        stack.wait_for("training", 120, lambda: self.steps() > at)
        if platform == "none":  # Losses without a checkpoint between them are poison, by design.
            stack.wait_for("a checkpoint", 120, lambda: self.look()["checkpoint"] != before["checkpoint"])
        time.sleep(random.random())
        begun, worker = time.monotonic(), self.stack.child["worker"]
        if sig is None:
            Mock.taken.set()
        else:
            worker.send_signal(sig)
        stack.wait_for("job given back (%s)" % platform, seconds + LEASE_MS / 1000 + 60,
                       lambda: self.look()["state"] == "ready")
        back = time.monotonic() - begun
        code = worker.wait(60)
        gone, after = time.monotonic() - begun, self.look()
        if after["failures"] != 0:
            raise SystemExit("%s burnt an attempt: %s" % (platform, after))
        if platform == "none":
            if after["losses"] != before["losses"] + 1:
                raise SystemExit("no loss was counted: %s" % after)
        elif code != 0 or after["preemptions"] != before["preemptions"] + 1 or not after["checkpoint"]:
            raise SystemExit("%s: status %s, %s" % (platform, code, after))
        elif gone > 0.8 * seconds:
            raise SystemExit("%s: gone after %.1f s of a notice of %d s" % (platform, gone, seconds))
        return back

    def hinted(self):
        """A rebalance recommendation: a checkpoint now, and nothing new afterwards."""
        Mock.taken.clear()
        self.worker("aws")
        at = (self.look()["progress"] or {}).get("done", 0)
        stack.wait_for("training", 120, lambda: self.steps() > at)
        with open(os.path.join(self.folder, "worker.log")) as f:
            f.seek(0, os.SEEK_END)
            Mock.rebalance.set()
            seen = ""

            def told():
                nonlocal seen
                seen += f.read()
                return "why=checkpoint" in seen
            stack.wait_for("a checkpoint on the hint", 60, told)
        if self.look()["state"] != "running":
            raise SystemExit("the hint took the job away")
        self.stack.child["worker"].terminate()
        self.stack.child["worker"].wait(60)
        Mock.rebalance.clear()


def main():
    folder, n = sys.argv[1], int(sys.argv[2])
    t = Trials(folder)
    try:
        t.start()
        t.worker("kubernetes")
        stack.wait_for("the run's first steps", 120, lambda: t.steps() > 20)
        t.stack.kill("worker", signal.SIGTERM)
        for platform in sys.argv[3:] or PLATFORMS:
            took = [t.trial(platform) for _ in range(n)]
            print("%s: %d trials, job back after %.2f s (median), %.2f s (worst); notice %d s, lease %.0f s; no "
                  "attempt burnt" % (platform, n, statistics.median(took), max(took), PLATFORMS[platform][0],
                                     LEASE_MS / 1000), flush=True)
        t.hinted()
        print("rebalance: checkpoint at once, job kept")
    finally:
        t.stack.end()


if __name__ == "__main__":
    main()
