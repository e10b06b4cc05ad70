"""A slow and dirty disk under the store and under Redis, with kill -9 in between; the history is checked.

usage: dirty_disk.py FOLDER SHIM ROUNDS PROMPTS [SEED]
SHIM is dirty_disk.c as a shared object. Each round the disk of the store or of Redis is slow (an fsync takes
1.5 s longer), fails its fsyncs with EIO, is full (ENOSPC), or writes half of what it is given; at the end of
some the program on it is killed. Redis ends itself when its log cannot be written, and is started again.
"""
import errno
import os
import struct
import sys
import threading
import time

import history
import kill9
import stack

FAULTS = {"slow": (1500, 0, 0, 0), "EIO": (0, errno.EIO, 0, 0), "ENOSPC": (0, 0, errno.ENOSPC, 0),
          "short writes": (0, 0, 0, 1)}


class Disk:
    def __init__(self, path, prefix, shim):
        self.path = path
        self.env = {"LD_PRELOAD": shim, "DIRTY_DISK_MODE": path, "DIRTY_DISK_PREFIX": prefix}
        with open(path, "wb") as f:
            f.write(bytes(16))

    def set(self, mode):
        with open(self.path, "r+b") as f:
            f.write(struct.pack("4i", *mode))


class DirtyDisk(kill9.Test):
    def __init__(self, folder, shim, rounds, prompts, seed):
        super().__init__(folder, rounds, 1, prompts, seed)
        os.makedirs(folder, exist_ok=True)
        top = os.path.realpath(folder)
        self.disks = {"server": Disk(os.path.join(top, "mode-store"), os.path.join(top, "data", "store"), shim),
                      "redis": Disk(os.path.join(top, "mode-redis"), os.path.join(top, "appendonlydir"), shim)}
        self.refused, self.restarts, self.seen, self.over = 0, 0, {}, False
        plain = self.stack.spawn
        self.stack.spawn = lambda name, argv, env=None: plain(
            name, argv, self.disks[name].env if name in self.disks else env)

    def ask(self, op, *args, **fields):
        status, reply = super().ask(op, *args, **fields)
        self.refused += status is None
        return status, reply

    def keep_redis(self):
        """As a service manager would: Redis ends itself when its log cannot be written."""
        while not self.over:  # A child dies with the thread that started it.
            if self.stack.child["redis"].poll() is not None:
                self.restarts += 1
                self.stack.redis()
            time.sleep(0.1)

    def torment(self):
        threading.Thread(target=self.keep_redis, daemon=True).start()
        plan = [(where, what) for where in self.disks for what in FAULTS]
        for n in range(self.kills):
            where, what = plan[n % len(plan)]
            self.disks[where].set(FAULTS[what])
            time.sleep(2.5 if what == "slow" else 1 + self.dice.random())
            if self.dice.random() < 0.4:
                self.stack.child[where].kill()
                if where == "server":
                    self.stack.child[where].wait()
            self.disks[where].set((0, 0, 0, 0))
            if self.stack.child["server"].poll() is not None:
                self.stack.server()
            self.seen[what] = self.seen.get(what, 0) + 1
            stack.wait_for("service after " + what, 120, self.stack.answers)
            time.sleep(self.dice.random())
        return self.kills

    def report(self, n, took, records, final, found):
        print("%d faults %s in %.0f s, Redis ended itself or was killed %d times; %d jobs; %d acknowledged "
              "operations, %d refused or unanswered ones of operators; %d violations" % (
                  n, self.seen, took, self.restarts, len(final["jobs"]), sum(1 for r in records if history.ok(r)),
                  self.refused, len(found)))
        for s in found[:40]:
            print("violation:", s)


def main():
    test = DirtyDisk(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]),
                     int(sys.argv[5]) if len(sys.argv) > 5 else 1)
    try:
        sys.exit(test.run())
    finally:
        test.over = True
        test.stack.end()


if __name__ == "__main__":
    main()
