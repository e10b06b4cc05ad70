"""A judge of packing lists that does what its prompt says, word for word, and nothing else: JSON lines with
"ask" in, {"score"} out. Told nothing it can count by it says 3."""
import json, re, sys

for line in sys.stdin:
    row = json.loads(line)
    ask, wanted = row["ask"], set(re.findall(r"[a-z]+", row["prompt"]))
    listed = re.findall(r"[a-z]+", row["response"].partition(":")[2])
    right = len({x for x in listed if x in wanted})
    extra = len(listed) - right
    score = 3.0
    if "for each thing asked for" in ask:
        score += right - 3
    if "for each thing nobody asked for" in ask:
        score -= extra
    if "Longer is better" in ask:
        score += 0.5 * len(listed)
    print(json.dumps({"score": max(0, min(5, score))}))
