"""Judge and scorer of 0300-poem.sh: the shape of a Chinese quatrain, no taste involved.
JSON lines {"prompt","response"} in, {"score","correct","text"} out. 5 is four lines of the wanted
length (jueju of five or seven characters); else at most 4, less for each character and line too
many or too few. An unknown character counts as one."""
import json, re, sys


def lines_of(text):
    text = re.sub(r"<unk>| ?\u2047 ?", "\ufffd", text)
    text = "".join(text.split())
    return [x for x in re.split("[，。！？；、：,.!?;:]", text) if x]


def shape(prompt, response):
    want = 7 if "七绝" in prompt else 5
    got = [len(x) for x in lines_of(response)]
    if got == [want] * 4:
        return 5.0, got
    off = abs(len(got) - 4) + 0.5 * sum(min(abs(n - want), want) for n in got[:4])
    return round(max(0.0, 4 - 0.5 * off), 2), got


for line in sys.stdin:
    if line.strip():
        row = json.loads(line)
        score, got = shape(row["prompt"], row["response"])
        print(json.dumps({"id": row.get("id"), "score": score, "correct": score == 5,
                          "text": "lines of " + " ".join(map(str, got))}))
