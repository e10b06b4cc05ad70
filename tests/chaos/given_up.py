"""What a run that is over gave up and the store no longer has is no loss: an empty Redis gets the run back
all the same. What is missing without having been given up is told, and its job runs again.

usage: given_up.py FOLDER
"""
import glob
import json
import os
import subprocess
import sys

import kill9
import stack


class Test:
    def __init__(self, folder):
        self.folder = folder
        self.stack = stack.Stack(folder, flags=["--server-keep-last", "1"])

    def run(self):
        self.stack.begin()
        self.stack.spawn("agent", [sys.executable, os.path.join(kill9.HERE, "agent.py"), str(self.stack.port),
                                   os.path.join(self.stack.data, "tokens", "worker"),
                                   os.path.join(self.folder, "agent.history"),
                                   os.path.join(self.folder, "work"), "4", "0"])
        self.api = self.stack.client(timeout=30)
        status, run = self.api.ask("POST", "/runs", dict(kill9.spec(4), iterations=2))
        if status != 201:
            raise SystemExit("submit: %s %s" % (status, run))
        self.id = run["id"]
        stack.wait_for("the run's end", 120, lambda: self.look()["state"] == "done")
        self.stack.kill("agent")
        return self.look()

    def look(self):
        status, run = None, None
        while status != 200:  # The kept connection may be to a server that is gone.
            status, run = self.api.ask("GET", "/runs/" + self.id)
        return run

    def give_up(self):
        """Digests that the policy lets go, and the bytes gone as weeks of collections would have it."""
        status, _ = self.api.ask("POST", "/store/garbage", {})
        if status != 200:
            raise SystemExit("garbage: %s" % status)
        with open(os.path.join(self.stack.data, "store", "docs", "given-up", self.id + ".json")) as f:
            digests = list(json.load(f)["digests"])
        for digest in digests:
            self.lose(digest)
        return digests

    def lose(self, digest):
        found = [p for p in glob.glob(self.stack.data + "/store/**/*", recursive=True)
                 if os.path.isfile(p) and digest in p.replace("/", "") and "/docs/" not in p]
        if len(found) != 1:
            raise SystemExit("%s lies at %s" % (digest, found))
        os.remove(found[0])

    def rebuild(self):
        """What `pawl-server rebuild` says of an empty Redis."""
        self.stack.kill("server")
        subprocess.run(["redis-cli", "-s", self.stack.sock, "FLUSHALL"], check=True, stdout=subprocess.DEVNULL)
        said = subprocess.run([os.path.join(stack.BUILD, "pawl-server"), "rebuild", "--server-redis",
                               self.stack.redis_url, "--server-data-dir", self.stack.data],
                              capture_output=True, text=True, check=True).stdout.strip()
        self.stack.server()
        stack.wait_for("server", 60, self.stack.answers)
        return said


def main():
    t = Test(sys.argv[1])
    try:
        before = t.run()
        _, jobs = t.api.ask("GET", "/runs/%s/jobs?limit=1000" % t.id)
        gone = t.give_up()
        if len(gone) < 2 or before["final_digest"] in gone:
            raise SystemExit("given up: %s of a run with %s" % (gone, before["final_digest"]))
        said = t.rebuild()
        want = "rebuilt: 1 runs, %d jobs settled, 0 with missing outputs" % len(jobs["items"])
        if said != want:
            raise SystemExit("%s; wanted: %s" % (said, want))
        after = t.look()
        if (after["state"], after["final_digest"]) != ("done", before["final_digest"]):
            raise SystemExit("the run came back as %s %s" % (after["state"], after["final_digest"]))
        lost = next(o["digest"] for j in jobs["items"] if j["stage"] == "pair" for o in j["outputs"])
        t.lose(lost)
        said = t.rebuild()
        if not said.endswith(", 1 with missing outputs") or t.look()["state"] != "active":
            raise SystemExit("a lost result: %s, run %s" % (said, t.look()["state"]))
        print("%d artifacts given up and gone: the run is back whole; one lost otherwise is missed" % len(gone))
    finally:
        t.stack.end()


if __name__ == "__main__":
    main()
