#!/usr/bin/env python3
"""Kinds of training in the demo world, over several seeds: what the paper found, in miniature.

usage: demo-variants.py [--bin DIR] [--data DIR] [--seeds 1,2,3,4,5] [--variants a,b,...] [--iterations N]
                        [--table]

One `pawl up` in DATA runs them one after the other. What runs of a seed have in common (M1, prompts,
answers, judgements) is made once: results are keyed by content. What is finished is kept in DATA/results
and not run again, so it can be stopped at any time; the table is of what is there, DATA/table.md.
"""
import argparse, json, math, os, signal, statistics, subprocess, sys, time, urllib.error, urllib.request

FIGURES = (("score", "truth.sampled_score", 1), ("judge", "rm.pairwise_accuracy", 100),
           ("length", "length.sampled", 1))
RHO = 0.32


def self_reward(spec):
    pass


def positive(spec):
    spec["stages"] = ["sft", "positive"]


def spin(spec):
    spec["stages"] = ["sft", "spin"]
    spec["spin"] = {"max_rows": spec["prompts"]["count"]}


def rho(spec):
    spec["pair"] = {"length_control": RHO}


def one(spec):
    spec["judge"].update(samples=1, min_valid=1)


def no_replay(spec):
    spec["dpo"]["sft_replay"] = 0


VARIANTS = {  # those that share M1 with others first
    "self-reward": (self_reward, "self-reward DPO"),
    "rho": (rho, f"the same, ρ = {RHO}"),
    "one": (one, "the same, one judgement instead of three"),
    "no-replay": (no_replay, "the same, no replay of seed data (IFT and EFT)"),
    "spin": (spin, "SPIN"),
    "positive": (positive, "positive-only: perfect answers join the SFT data"),
}
# (what, figure, variant, compared with, sign expected; 0: no gain expected)
FINDINGS = (
    ("self-reward DPO makes better answers than M1 (§1.12)", "score", "self-reward", "M1", 1),
    ("self-reward DPO beats positive-only (§1.13)", "score", "self-reward", "positive", 1),
    ("positive-only brings no gain over M1 (§1.13)", "score", "positive", "M1", 0),
    ("self-reward DPO beats SPIN, which is bounded by the people it learns from", "score", "self-reward", "spin", 1),
    ("the judge gets better as well (§1.12)", "judge", "self-reward", "M1", 1),
    ("answers get longer (§1.14)", "length", "self-reward", "M1", 1),
    ("ρ keeps answers shorter (§7)", "length", "self-reward", "rho", 1),
    ("ρ costs nothing in quality (§7)", "score", "self-reward", "rho", 0),
    ("three judgements give better answers than one", "score", "self-reward", "one", 1),
    ("replay of seed data keeps the judge", "judge", "self-reward", "no-replay", 1),
    ("replay of seed data makes better answers", "score", "self-reward", "no-replay", 1),
)
T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


class Stack:
    def __init__(self, args):
        self.data = os.path.join(args.data, "up")
        os.makedirs(self.data, exist_ok=True)
        self.log = open(os.path.join(args.data, "up.log"), "a")
        self.up = subprocess.Popen([os.path.join(args.bin, "pawl"), "up", "--data", self.data, "--listen", "127.0.0.1:0"],
                                   stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.url = None
        for line in self.up.stdout:
            at = line.find("http://")
            if at >= 0:
                self.url = "/".join(line[at:].split()[0].split("/")[:3])
                break
        if not self.url:
            sys.exit(f"pawl up did not start; see {self.log.name}")
        self.token = open(os.path.join(self.data, "tokens", "admin")).read().strip()

    def call(self, method, path, body=None, key=None):
        head = {"Authorization": "Bearer " + self.token, "Content-Type": "application/json"}
        if key:
            head["Idempotency-Key"] = key
        req = urllib.request.Request(f"{self.url}/api/v1/{path}", method=method, headers=head,
                                     data=json.dumps(body).encode() if body is not None else None)
        for attempt in range(60):
            try:
                return json.load(urllib.request.urlopen(req, timeout=60))
            except urllib.error.HTTPError as e:
                if e.code < 500:
                    sys.exit(f"{method} {path}: {e.code} {e.read().decode()[:500]}")
            except OSError:
                pass
            time.sleep(2)
        sys.exit(f"{method} {path}: no answer")

    def stop(self):
        self.up.terminate()
        self.up.wait()


def specification(args, seed, variant):
    world = os.path.join(args.data, f"world-{seed}")
    path = os.path.join(world, "run.json")
    if not os.path.exists(path):
        subprocess.run([os.path.join(args.bin, "pawl"), "demo", "world", "--quick", "--seed", str(seed),
                        "--data", world], check=True, stdout=subprocess.DEVNULL)
    spec = json.load(open(path))
    spec["name"] = f"{variant}, seed {seed}"
    VARIANTS[variant][0](spec)
    if args.iterations > 1:
        spec["iterations"] = args.iterations
        if "stages" in spec:
            spec["stages"] += spec["stages"][-1:] * (args.iterations - 1)
            del spec["iterations"]
    elif "stages" in spec:
        del spec["iterations"]
    return spec


def run(stack, args, seed, variant, path):
    began = time.time()
    spec = specification(args, seed, variant)
    answer = stack.call("POST", "runs", spec, f"variants-{seed}-{variant}-{args.iterations}")
    run_id = answer["id"]
    while True:
        view = stack.call("GET", f"runs/{run_id}")
        if view["state"] == "done":
            break
        if view["state"] in ("failed", "cancelled"):
            sys.exit(f"seed {seed}, {variant}: the run {run_id} is {view['state']}")
        time.sleep(2)
    models = stack.call("GET", f"compare?run={run_id}")["models"]
    jobs = stack.call("GET", f"runs/{run_id}/jobs?limit=1000")["items"]
    pairs = [j["metrics"] for j in jobs if j["stage"] == "pair" and j.get("metrics")]
    result = {"run": run_id, "seconds": round(time.time() - began), "pairs": pairs,
              "models": {m["name"]: m["metrics"] for m in models}}
    with open(path + ".tmp", "w") as f:
        json.dump(result, f, indent=1)
    os.rename(path + ".tmp", path)


def result_path(args, seed, variant):
    return os.path.join(args.data, "results", f"{variant}.{args.iterations}.{seed}.json")


def load(args):
    """{variant: {seed: {figure: value}}}, "M1" among the variants; and what ran."""
    table, ran = {"M1": {}}, {}
    last = f"M{args.iterations + 1}"
    for variant in VARIANTS:
        for seed in args.seeds:
            try:
                r = json.load(open(result_path(args, seed, variant)))
            except FileNotFoundError:
                continue
            for name, model in ((variant, last), ("M1", "M1")):
                m = r["models"][model]
                table.setdefault(name, {})[seed] = {f: scale * m[key] for f, key, scale in FIGURES}
            ran[variant, seed] = r
    return table, ran


def mean_of(values):
    m = statistics.fmean(values)
    if len(values) < 2:
        return m, math.nan
    return m, T95[min(len(values) - 1, 9)] * statistics.stdev(values) / math.sqrt(len(values))


def shown(values, digits):
    m, half = mean_of(values)
    return f"{m:.{digits}f}" + (f" ± {half:.{digits}f}" if half == half else "")


def verdict(low, high, sign):
    if sign == 0:
        return "does not hold" if low > 0 else "holds (no gain seen)"
    if low > 0:
        return "holds"
    return "does not hold" if high < 0 else "not shown: the interval has 0 in it"


def print_table(args, out):
    table, ran = load(args)
    p = lambda *a: print(*a, file=out)
    p(f"| training | seeds | true score | judge pairwise % | length | pairs or perfect answers |")
    p("|---|---|---|---|---|---|")
    for name in ["M1", *VARIANTS]:
        rows = table.get(name, {})
        if not rows:
            continue
        cells = [shown([v[f] for v in rows.values()], 1 if f != "score" else 2) for f, _, _ in FIGURES]
        kept = [sum(x.get("pair.positives", x.get("pair.kept", 0)) for x in ran[name, s]["pairs"])
                for s in rows if (name, s) in ran]
        p(f"| {VARIANTS[name][1] if name in VARIANTS else 'M1: where all begin'} | "
          f"{', '.join(map(str, sorted(rows)))} | " + " | ".join(cells) +
          f" | {statistics.fmean(kept):.0f} |" if kept else
          f"| M1: where all begin | {', '.join(map(str, sorted(rows)))} | " + " | ".join(cells) + " | |")
    p("\n| finding | difference in | first − second, paired by seed | seeds above 0 | in miniature |")
    p("|---|---|---|---|---|")
    for what, figure, a, b, sign in FINDINGS:
        seeds = sorted(set(table.get(a, {})) & set(table.get(b, {})))
        if len(seeds) < 2:
            continue
        d = [table[a][s][figure] - table[b][s][figure] for s in seeds]
        m, half = mean_of(d)
        p(f"| {what} | {figure} | {m:+.2f} ± {half:.2f} | {sum(x > 0 for x in d)} of {len(d)} | "
          f"{verdict(m - half, m + half, sign)} |")
    p("\nSeed by seed (true score / judge % / length):\n")
    p("| training | " + " | ".join(f"seed {s}" for s in args.seeds) + " |")
    p("|---|" + "---|" * len(args.seeds))
    for name in ["M1", *VARIANTS]:
        if name in table:
            p(f"| {name} | " + " | ".join(
                "{score:.2f} / {judge:.1f} / {length:.1f}".format(**table[name][s]) if s in table[name] else "-"
                for s in args.seeds) + " |")
    seconds = sum(r["seconds"] for r in ran.values())
    p(f"\n{len(ran)} runs, {seconds} seconds.")


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--bin", default="build")
    a.add_argument("--data", default="build/variants")
    a.add_argument("--seeds", default="1,2,3,4,5")
    a.add_argument("--variants", default=",".join(VARIANTS))
    a.add_argument("--iterations", type=int, default=1)
    a.add_argument("--table", action="store_true", help="only print what is there")
    args = a.parse_args()
    args.seeds = [int(s) for s in args.seeds.split(",")]
    args.bin, args.data = os.path.abspath(args.bin), os.path.abspath(args.data)
    os.makedirs(os.path.join(args.data, "results"), exist_ok=True)
    # Two passes, so that early on there is a table of whatever needs no second fine-tuning.
    wanted = [v for v in args.variants.split(",") if v]
    first, second = [v for v in wanted if v != "positive"], [v for v in wanted if v == "positive"]
    todo = [(s, v) for group in (first, second) for s in args.seeds for v in group
            if not os.path.exists(result_path(args, s, v))]
    if todo and not args.table:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the stack is stopped
        stack = Stack(args)
        try:
            for seed, variant in todo:
                run(stack, args, seed, variant, result_path(args, seed, variant))
                with open(os.path.join(args.data, "table.md"), "w") as f:
                    print_table(args, f)
                print(f"seed {seed}, {variant}: done", file=sys.stderr, flush=True)
        finally:
            stack.stop()
    print_table(args, sys.stdout)


if __name__ == "__main__":
    main()
