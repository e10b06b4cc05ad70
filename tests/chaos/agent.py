"""A worker that computes nothing: agent and executor as two processes, either of which may be killed.

usage: agent.py PORT TOKEN_FILE HISTORY FOLDER ROWS PAUSE_MS
It speaks the real protocol, makes real archives with contents of its own for every lease (so that a
second result would be seen), and writes down what it asked and was told.
"""
import hashlib
import io
import json
import os
import random
import signal
import sys
import tarfile
import time

import history
import stack

OUTPUTS = {
    "import": [("ift", "dataset"), ("eft", "dataset"), ("prompts", "dataset"), ("model", "checkpoint")],
    "eft": [("eft", "dataset"), ("eval", "dataset")],
    "sft": [("model", "checkpoint"), ("state", "train_state")],
    "prompts": [("prompts", "dataset")],
    "generate": [("responses", "dataset")],
    "judge": [("judgements", "dataset")],
    "pair": [("pairs", "dataset"), ("samples", "dataset")],
    "reference": [("reflogps", "dataset")],
    "dpo": [("model", "checkpoint"), ("state", "train_state")],
    "eval": [("generations", "dataset"), ("rm", "dataset")],
}


def archive(kind, text, meta):
    member = {"dataset": "data.jsonl", "checkpoint": "config.json", "train_state": "state.json"}[kind]
    data, out = text.encode(), io.BytesIO()
    manifest = json.dumps({"format": 1, "kind": kind, "meta": meta, "members": [
        {"path": member, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}]},
        sort_keys=True, separators=(",", ":")).encode()
    for name, content in ((member, data), ("manifest.json", manifest)):
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(content), 0o644
        out.write(info.tobuf(tarfile.PAX_FORMAT) + content + b"\0" * (-len(content) % 512))
    out.write(b"\0" * 1024)
    return out.getvalue()


class Agent:
    def __init__(self, port, token, log, folder, rows, pause_ms):
        self.api = stack.Client(port, token, 30)
        self.log, self.folder, self.rows, self.pause_ms, self.id = log, folder, rows, pause_ms, None

    def say(self, op, path, body, **fields):
        key = self.log.asked(op, **fields)
        status, reply = self.api.ask("POST", path, body)
        return key, status, reply

    def lease(self, op, body, **fields):
        body = dict(body, worker=self.id, job=self.job, token=self.token)
        key, status, reply = self.say(op, "/worker/" + op, body, job=self.job, token=self.token, **fields)
        if status is not None:
            self.log.answered(key, status, again=bool((reply or {}).get("again")))
        return status

    def register(self):
        status, reply = self.api.ask("POST", "/worker/register", {"name": "sim", "engine": "sim", "code": "1"})
        self.id = reply["worker"] if status == 201 else None
        return self.id is not None

    def claim(self):
        key, status, reply = self.say("claim", "/worker/claim", {"worker": self.id, "wait_s": 1})
        if status == 404:
            self.id = None
        if status != 200:
            if status is not None:
                self.log.answered(key, status)
            return False
        job = reply["job"]
        self.job, self.token, self.stage = job["id"], reply["token"], job["stage"]
        self.log.answered(key, 200, job=job["id"], run=job["run"], token=reply["token"])
        return True

    def compute(self):
        """In a child, as an executor is. The outputs' paths, or None when it was killed."""
        child = os.fork()
        if child == 0:
            stack.die_with_parent()
            time.sleep(random.random() * self.pause_ms / 1000)
            for role, kind in OUTPUTS[self.stage]:
                text = json.dumps({"job": self.job, "lease": self.token, "role": role}) + "\n"
                with open(os.path.join(self.folder, role), "wb") as f:
                    f.write(archive(kind, text, {"rows": self.rows} if kind == "dataset" else {}))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        return status == 0

    def outputs(self):
        listed = []
        for role, kind in OUTPUTS[self.stage]:
            with open(os.path.join(self.folder, role), "rb") as f:
                data = f.read()
            digest = hashlib.sha256(data).hexdigest()
            if self.api.ask("PUT", "/worker/blobs/" + digest, raw=data)[0] not in (200, 201):
                return None
            meta = {"rows": self.rows} if kind == "dataset" else {}
            listed.append({"role": role, "kind": kind, "digest": digest, "size": len(data), "meta": meta})
        return listed

    def until_told(self, op, body, **fields):
        """Repeats until there is an answer that is one: this is how a real agent ends an attempt."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            status = self.lease(op, body, **fields)
            if status is not None and status < 500:
                return status
            time.sleep(0.05)
        return None

    def attempt(self):
        if not self.compute():
            self.until_told("fail", {"kind": "preempted", "reason": "the executor was killed"})
            return
        self.lease("beat", {"progress": {"done": 1, "total": 1, "unit": "job"}})
        listed = None
        while listed is None:
            listed = self.outputs()
            if listed is None and self.lease("beat", {}) == 409:
                return
            time.sleep(0.05 if listed is None else 0)
        self.until_told("complete", {"outputs": listed, "metrics": {}, "seconds": 0.1, "engine": "sim",
                                     "code": "1"}, digest=listed[0]["digest"])

    def run(self):
        while True:
            if self.id is None and not self.register() or not self.claim():
                time.sleep(0.02)
            else:
                self.attempt()


def main():
    port, token_file, log, folder, rows, pause_ms = sys.argv[1:7]
    stack.die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.makedirs(folder, exist_ok=True)
    with open(token_file) as f:
        token = f.read().strip()
    Agent(int(port), token, history.Log(log, "agent"), folder, int(rows), float(pause_ms)).run()


if __name__ == "__main__":
    main()
