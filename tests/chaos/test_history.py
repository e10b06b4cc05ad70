"""The checker itself: a good history passes, and each thing that must not be is found."""
import copy
import sys

import history


def good():
    r = [
        {"op": "submit", "key": "k", "run": "r1", "t0": 0, "t1": 1, "status": 201},
        {"op": "submit", "key": "k", "run": "r1", "t0": 2, "t1": 3, "status": 201},
        {"op": "claim", "run": "r1", "job": "r1.a", "token": "1.a", "t0": 4, "t1": 5, "status": 200},
        {"op": "beat", "job": "r1.a", "token": "1.a", "t0": 6, "t1": 7, "status": 200},
        {"op": "claim", "run": "r1", "job": "r1.a", "token": "2.b", "t0": 20, "t1": 21, "status": 200},
        {"op": "complete", "job": "r1.a", "token": "1.a", "digest": "x", "t0": 22, "t1": 23, "status": 409},
        {"op": "complete", "job": "r1.a", "token": "2.b", "digest": "y", "t0": 24},
        {"op": "complete", "job": "r1.a", "token": "2.b", "digest": "y", "t0": 26, "t1": 27, "status": 200},
        {"op": "pause", "run": "r1", "t0": 30, "t1": 31, "status": 202},
        {"op": "resume", "run": "r1", "t0": 40, "t1": 41, "status": 202},
        {"op": "claim", "run": "r1", "job": "r1.b", "token": "3.c", "t0": 42, "t1": 43, "status": 200},
        {"op": "complete", "job": "r1.b", "token": "3.c", "digest": "z", "t0": 44, "t1": 45, "status": 200},
    ]
    final = {"runs": {"r1": "done"}, "jobs": {"r1.a": {"state": "done", "digests": ["y"], "completed": 1},
                                              "r1.b": {"state": "done", "digests": ["z"], "completed": 1}}}
    return r, final


def spoil(name, change):
    records, final = copy.deepcopy(good())
    change(records, final)
    found = history.check(records, final)
    if not any(name in s for s in found):
        sys.exit("not found: %s; instead %s" % (name, found))


def main():
    if history.check(*good()):
        sys.exit("a good history is refused: %s" % history.check(*good()))
    spoil("is gone", lambda r, f: f["runs"].clear())
    spoil("gave runs", lambda r, f: (r[1].update(run="r2"), f["runs"].update(r2="done")))
    spoil("2 leases were accepted", lambda r, f: r[5].update(status=200))
    spoil("accepted after lease", lambda r, f: r[3].update(t0=22, t1=23))
    spoil("acknowledged, and it is ready", lambda r, f: f["jobs"]["r1.a"].update(state="ready"))
    spoil("another result", lambda r, f: f["jobs"]["r1.a"].update(digests=["q"]))
    spoil("attempts completed", lambda r, f: f["jobs"]["r1.a"].update(completed=2))
    spoil("given out twice", lambda r, f: r[10].update(token="2.b"))
    spoil("is not above", lambda r, f: r[4].update(token="1.b"))
    spoil("after its completion", lambda r, f: r[4].update(t0=50, t1=51))
    spoil("while its run was paused", lambda r, f: r[10].update(t0=35, t1=36))
    spoil("after its run was cancelled", lambda r, f: r.append(
        {"op": "cancel", "run": "r1", "t0": 8, "t1": 9, "status": 202}))
    spoil("was cancelled and is active", lambda r, f: (r.append(
        {"op": "cancel", "run": "r1", "t0": 50, "t1": 51, "status": 202}), f["runs"].update(r1="active")))
    print("the checker finds each of 13 faults")


if __name__ == "__main__":
    main()
