"""The figures of oasst2_eft once more, by other code: which score each judgement has, how many of each
score there are, how they agree with the order people gave, and which pairs follow. Python's standard
library alone; nothing here is shared with the program it is compared with.
usage: oasst2.py PAWL-WORKER DATA-FOLDER
"""
import collections, itertools, json, math, re, subprocess, sys

worker, data = sys.argv[1], sys.argv[2]
rows = lambda name: [json.loads(line) for line in open(f"{data}/{name}", encoding="utf-8")]


def tool(args, items):
    text = "".join(json.dumps(item) + "\n" for item in items)
    out = subprocess.run([worker, "method", *args], input=text.encode(), stdout=subprocess.PIPE, check=True).stdout
    return [json.loads(line) for line in out.splitlines()]


def same(what, ours, theirs):
    close = ours == theirs or (isinstance(ours, float) and isinstance(theirs, float) and abs(ours - theirs) < 1e-9)
    print(f"{'ok' if close else 'FAILED'}: {what}: {ours}" + ("" if close else f", expected {theirs}"))
    return close


def ranks(x):  # average ranks
    order = sorted(x)
    return [(order.index(v) + 1 + len(order) - order[::-1].index(v)) / 2 for v in x]


def pearson(x, y):
    mx, my = sum(x) / len(x), sum(y) / len(y)
    sx = math.sqrt(sum((a - mx) ** 2 for a in x))
    sy = math.sqrt(sum((b - my) ** 2 for b in y))
    return sum((a - mx) * (b - my) for a, b in zip(x, y)) / sx / sy if sx and sy else None


def tau_b(x, y):
    sign = lambda v: (v > 0) - (v < 0)
    both = [(sign(a - c), sign(b - d)) for (a, b), (c, d) in itertools.combinations(zip(x, y), 2)]
    nx, ny = sum(a != 0 for a, _ in both), sum(b != 0 for _, b in both)
    return sum(a * b for a, b in both) / math.sqrt(nx * ny) if nx and ny else None


# --- scores: every judgement ends in "Score: n" ----------------------------------------------------
judged = rows("02.1_eft_selected_prepared_dataset.jsonl")
mine = [int(re.findall(r"[Ss]core:?\W{0,6}(\d)(?!\d)", r["completion"])[-1]) for r in judged]
theirs = [r["score"] for r in tool(["judge-parse"], [{"text": r["completion"]} for r in judged])]
fine = same("scores that differ", sum(a != b for a, b in zip(theirs, mine)), 0)
fine &= same("histogram", sorted(collections.Counter(theirs).items()), sorted(collections.Counter(mine).items()))

# --- agreement with people: the judged replies of one prompt ---------------------------------------
human = {}
for r in rows("00_eft.jsonl"):
    human[r["prompt_text"].strip(), r["response_text"].strip()] = (r["prompt_id"], r["quality_score"])
shown = re.compile(r"answer\.\n\n<question>(.*?)</question>\s*<respon\w*>(.*?)</response>\n\nAfter", re.S)  # spelled so there
groups = collections.defaultdict(list)
for r, score in zip(judged, mine):
    m = shown.search(r["prompt"])
    key = (m.group(1).strip(), m.group(2).strip()) if m else None
    if key in human:
        groups[human[key][0]].append((human[key][1], score, key[1]))
groups = [g for g in groups.values() if len(g) > 1]
print(f"{len(groups)} prompts with two judged replies or more, {sum(map(len, groups))} replies")
fine &= len(groups) > 100

agree = pairs = tied = exact = 0
rho, tau = [], []
for g in groups:
    right = True
    for (qa, sa, _), (qb, sb, _) in itertools.combinations(g, 2):
        right &= ((qa > qb) - (qa < qb)) == ((sa > sb) - (sa < sb))
        if qa != qb:
            pairs += 1
            tied += sa == sb
            agree += (qa > qb and sa > sb) or (qa < qb and sa < sb)
    exact += right
    quality, scores = [q for q, _, _ in g], [s for _, s, _ in g]
    rho.append(pearson(ranks(quality), ranks(scores)))
    tau.append(tau_b(quality, scores))
mean = lambda list_: sum(v for v in list_ if v is not None) / sum(v is not None for v in list_)
place = lambda g: [sorted({q for q, _, _ in g}, reverse=True).index(q) for q, _, _ in g]
got = tool(["rank"], [{"human_rank": place(g), "score": [s for _, s, _ in g]} for g in groups])[-1]
fine &= same("pairs ordered by people", got["pairs"], pairs)
fine &= same("pairwise accuracy, ties wrong", got["pairwise_accuracy"], agree / pairs)
fine &= same("ties", got["ties"], tied / pairs)
fine &= same("exact match", got["exact_match"], exact / len(groups))
fine &= same("Spearman, mean over prompts", got["spearman"], mean(rho))
fine &= same("Kendall's tau-b, mean over prompts", got["kendall"], mean(tau))

# --- pairs: the best and the worst, the first of equals, none when all are equal ------------------
asked = [{"id": str(i), "candidates": [{"text": t, "tokens": [k + 1], "scores": [s]} for k, (_, s, t) in enumerate(g)]}
         for i, g in enumerate(groups)]
want = []
for g in groups:
    scores = [s for _, s, _ in g]
    same_all = min(scores) == max(scores)
    want.append((None, None) if same_all else (scores.index(max(scores)), scores.index(min(scores))))
got = [(r["chosen"], r["rejected"]) for r in tool(["pairs"], asked)]
fine &= same("pairs that differ", sum(a != b for a, b in zip(got, want)), 0)
fine &= same("pairs kept", sum(a is not None for a, _ in got), sum(a is not None for a, _ in want))
sys.exit(0 if fine else 1)
