#!/usr/bin/env python3
"""Prompt creation at its largest: N prompts (10^5) through all filters of Self-Instruct, one after the other.

usage: prompts.py [N] [--bin DIR]      needs ../shared/data or $PAWL_TEST_DATA

The prompts are real instructions (Self-Instruct's seeds, Open Assistant questions and prompts that a model
invented from them), and new ones made of the beginning of one and the end of another. Prints what became of
them, the time, and how many comparisons by ROUGE-L the two upper bounds settled.
"""
import collections, json, os, random, resource, subprocess, sys, time


def data_dir():
    for d in (os.environ.get("PAWL_TEST_DATA", ""), "../shared/data", "../../shared/data"):
        if d and os.path.isdir(os.path.join(d, "datasets")):
            return os.path.join(d, "datasets")
    sys.exit("needs ../shared/data or $PAWL_TEST_DATA")


def instructions(folder):
    """Every text under a key that names a prompt, once, in order."""
    seen = {}
    for name in ("self_instruct_seed_tasks.jsonl", "oasst2_eft/04_generated_prompts.jsonl", "oasst2_eft/00_eft.jsonl",
                 "oasst_trees/en_100_tree.jsonl"):
        for line in open(os.path.join(folder, name), encoding="utf-8"):
            row = json.loads(line)
            text = row.get("instruction") or row.get("prompt")
            text = text.get("text") if isinstance(text, dict) else text
            if isinstance(text, str) and 3 < len(text.split()) < 60:
                seen.setdefault(" ".join(text.split()))
    return list(seen)


def invented(real, n):
    rng = random.Random(1)
    for i in range(n):
        a, b = rng.choice(real).split(), rng.choice(real).split()
        yield " ".join(a[:rng.randint(2, max(2, len(a) * 2 // 3))] + b[rng.randint(0, len(b) // 2):])


def main():
    args = sys.argv[1:]
    where = args[args.index("--bin") + 1] if "--bin" in args else "build"
    n = int(args[0]) if args and args[0].isdigit() else 100000
    real = instructions(data_dir())
    rows = "".join(json.dumps({"instruction": t}) + "\n" for t in [*real, *invented(real, n - len(real))][:n]).encode()
    began = time.monotonic()
    p = subprocess.run([os.path.join(where, "pawl-worker"), "method", "filter"], input=rows, capture_output=True, check=True)
    wall = time.monotonic() - began
    use = resource.getrusage(resource.RUSAGE_CHILDREN)
    verdicts = collections.Counter(r["verdict"] for line in p.stdout.splitlines() for r in json.loads(line)["results"])
    asked, settled = (int(w.strip(",")) for w in p.stderr.decode().split() if w.strip(",").isdigit())
    print(f"{n} prompts ({len(real)} real ones): " + ", ".join(f"{k} {v}" for k, v in verdicts.most_common()))
    print(f"{use.ru_utime + use.ru_stime:.1f} s of one core ({wall:.1f} s on the wall), {use.ru_maxrss / 1024:.0f} MB")
    print(f"{asked} comparisons, {settled} settled by the two bounds ({100 * settled / max(asked, 1):.3f} %), "
          f"{asked - settled} computed")


if __name__ == "__main__":
    main()
