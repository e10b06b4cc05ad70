"""Redis memory of a million jobs, as the planner makes them and the queue keeps them.

usage: million.py FOLDER [JOBS [LISTPACK_VALUE]]
BENCH_QUEUE is build/bench/queue. Prints bytes a job and the total; ends with status 1 above 1 GB a million.
"""
import os
import re
import subprocess
import sys

import stack

BENCH = os.environ.get("BENCH_QUEUE", os.path.join(stack.BUILD, "bench", "queue"))


def used(sock):
    said = subprocess.run(["redis-cli", "-s", sock, "INFO", "memory"], capture_output=True, text=True, check=True)
    return int(re.search(r"^used_memory:(\d+)", said.stdout, re.M).group(1))


def main():
    folder, want = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "1000000"
    s = stack.Stack(folder)
    try:
        s.redis()
        stack.wait_for("redis", 30, lambda: os.path.exists(s.sock))
        settings = ["appendfsync", "no"] + (["hash-max-listpack-value", sys.argv[3]] if len(sys.argv) > 3 else [])
        subprocess.run(["redis-cli", "-s", s.sock, "CONFIG", "SET"] + settings, check=True, stdout=subprocess.DEVNULL)
        before = used(s.sock)
        made = subprocess.run([BENCH, "unix:" + s.sock, "planned", "1", want], check=True, capture_output=True, text=True)
        n = int(made.stdout)
        each = (used(s.sock) - before) / n
        print("%d jobs: %.0f MB of Redis memory, %.0f bytes a job; a million: %.2f GB" % (
            n, (used(s.sock) - before) / 1e6, each, each / 1e3))
        sys.exit(each > 1000)
    finally:
        s.end()


if __name__ == "__main__":
    main()
