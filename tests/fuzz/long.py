"""Fuzz programs for so many seconds of processor time each, in slices, with libFuzzer where it was built and our
own driver elsewhere.

usage: long.py SECONDS PROGRAM...
What was done is kept beside each program (PROGRAM.long) and goes on from there when asked again, until the program
is built anew. Status 1 when something was found; the input lies beside the program.
"""
import glob
import json
import os
import re
import resource
import subprocess
import sys
import time

SLICE_S = 60


def spent():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Target:
    def __init__(self, program):
        self.program, self.name = program, os.path.basename(program)
        self.regress = "tests/fuzz/regress/" + self.name
        self.corpus, self.figures = program + ".corpus", program + ".long"
        self.lib = program + ".libfuzzer"
        self.past = {"seconds": 0.0, "inputs": 0}
        if os.path.exists(self.figures) and os.path.getmtime(self.figures) > os.path.getmtime(program):
            with open(self.figures) as f:
                self.past = json.load(f)

    def command(self):
        if os.path.exists(self.lib):
            return [self.lib, "-max_total_time=%d" % SLICE_S, "-print_final_stats=1", "-verbosity=0",
                    "-artifact_prefix=%s." % self.program, self.corpus] + [self.regress] * os.path.isdir(self.regress)
        return [self.program, "-runs=100000", "-dice=%d" % (self.past["inputs"] + 1)] + glob.glob(self.regress + "/*") + glob.glob(self.corpus + "/*")[:200]

    def slice(self):
        """The log when something was found, else None."""
        before = spent()
        done = subprocess.run(self.command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace", timeout=3600)
        n = re.search(r"number_of_executed_units: (\d+)|(\d+) inputs", done.stdout)
        self.past["inputs"] += int(n.group(1) or n.group(2)) if n else 0
        self.past["seconds"] += spent() - before
        with open(self.figures, "w") as f:
            json.dump(self.past, f)
        return done.stdout if done.returncode else None

    def run(self, seconds):
        os.makedirs(self.corpus, exist_ok=True)
        subprocess.run([self.program, "-seed=%s/seed" % self.corpus], check=True)
        while self.past["seconds"] < seconds:
            found = self.slice()
            if found is not None:
                print(found[-6000:])
                print("not ok fuzz %s" % self.name, flush=True)
                return False
        print("ok fuzz %s: %d inputs, %.0f s of processor time" % (self.name, self.past["inputs"],
                                                                    self.past["seconds"]), flush=True)
        return True


def main():
    begun = time.monotonic()
    good = [Target(program).run(float(sys.argv[1])) for program in sys.argv[2:]]
    print("%d targets, %d found something, %.0f s" % (len(good), good.count(False), time.monotonic() - begun))
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
