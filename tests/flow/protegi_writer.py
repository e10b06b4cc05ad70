"""A writer of criticisms, edits and paraphrases by rule, for judge templates of the demo world, whose own
model is far too small to write any. JSON lines of the stage `protegi` in, {"text"} out; a pure function of
each line. It knows nothing of the judge: it draws from a stock of edits of which most do nothing or do
harm (some drop a slot and must be refused), so what becomes better is chosen, not written."""
import json, random, sys

STOCK = ["Check this packing list.", "Look at it.", "Add a point for each thing asked for.", "Longer is better.",
         "Take a point off for each thing nobody asked for.", "Be polite.", "What is the score?"]
WORDS = {"Look at": "Consider", "Check": "Inspect", "Longer": "More", "point": "mark", "thing": "item", "it.": "this."}


def reasons(row, draw):
    read = [x for x in row["errors"] if x["score_a"] is not None and x["score_b"] is not None]
    found = ["it should be more polite"]
    if len(read) < len(row["errors"]):
        found.append("some answers got no readable score: it may say too much, or mark its parts badly")
    if any(x["score_a"] == x["score_b"] for x in read):
        found.append("it does not tell good lists from bad ones")
    if any(x["score_a"] != x["score_b"] for x in read):
        found.append("it prefers lists that people do not")
    draw.shuffle(found)
    return found[:row["n"]]


def drop(lines, draw):
    del lines[draw.randrange(len(lines))]


def say(lines, draw):
    plain = [i for i, x in enumerate(lines) if "{" not in x]
    if plain and draw.random() < 0.6:
        lines[draw.choice(plain)] = draw.choice(STOCK)
    else:
        lines.insert(0, draw.choice(STOCK))


def label(lines, draw):
    for i, x in enumerate(lines):
        if "{prompt}" in x:
            lines[i] = draw.choice(["Request: {prompt}", "{prompt}", "Question: {prompt}"])


def mark(lines, draw):
    for i, x in enumerate(lines):
        if "{response}" in x:
            lines[i] = draw.choice(["<response>{response}</response>", "Answer: {response}"])


def swap(lines, draw):
    i, k = draw.randrange(len(lines)), draw.randrange(len(lines))
    lines[i], lines[k] = lines[k], lines[i]


def edit(row, draw):
    lines = row["judge"].split("\n")
    likely = [drop, drop, label, mark] if "readable" in (row["reason"] or "") else [say, say, label]
    draw.choice(likely + [drop, say, label, mark, swap])(lines, draw)
    return "\n".join(lines)


def variant(row, draw):
    text = row["judge"]
    old = draw.choice(sorted(WORDS))
    return text.replace(old, WORDS[old]) if draw.random() < 0.7 else text.replace("\n", "\n\n")


for line in sys.stdin:
    row = json.loads(line)
    draw = random.Random(row["seed"])
    if row["kind"] == "reasons":
        out = "".join(f"<START>{x}<END>\n" for x in reasons(row, draw))
    elif row["kind"] == "edits":
        out = "".join(f"<START>{edit(row, draw)}<END>\n" for _ in range(row["n"]))
    else:
        out = variant(row, draw)
    print(json.dumps({"text": out}))
