#!/usr/bin/env python3
"""Prints how the splitting rules of tokenizers cut random texts: `rule;hex of UTF-8;lengths in bytes`.

Python's re knows neither \\p{L} nor the \\s of others, so both are spelled out as ranges of code
points; the rest of each expression is the one of tokenizer.json, letter by letter.
"""
import random
import re
import sys
import unicodedata

SPACES = [9, 10, 11, 12, 13, 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029,
          0x202F, 0x205F, 0x3000]
RULES = {
    "gpt-2": r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""",
    "llama-3": r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"""
               r""" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+""",
    "qwen-2": r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"""
              r""" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+""",
}


def members(inside):
    out, start = "", None
    for cp in range(0x110001):
        yes = cp < 0x110000 and inside(cp)
        if yes and start is None:
            start = cp
        elif not yes and start is not None:
            out += "\\U%08x-\\U%08x" % (start, cp - 1)
            start = None
    return out


L = members(lambda cp: unicodedata.category(chr(cp))[0] == "L")
N = members(lambda cp: unicodedata.category(chr(cp))[0] == "N")
S = "".join("\\U%08x" % cp for cp in SPACES)


def compiled(rule):
    """Inside of a class the ranges stand as they are, outside in brackets."""
    out, inside, i = "", False, 0
    while i < len(rule):
        for name, ranges in ((r"\p{L}", L), (r"\p{N}", N), (r"\s", S), (r"\S", "^" + S)):
            if rule.startswith(name, i):
                out += ranges if inside else "[" + ranges + "]"
                i += len(name)
                break
        else:
            step = 2 if rule[i] == "\\" else 1
            inside = rule[i] == "[" or (inside and rule[i] != "]")
            out += rule[i:i + step]
            i += step
    return re.compile(out)


WORDS = ["'s", "'LL", "'\u017f", "'Re", "don't", "WE'VE", " ", "  ", "\n", "\r\n", "\t", "123", "4567", "\u00bd",
         "\u0663\u0664", "Hello", " world", "\u4f60\u597d", "\u0e2a\u0e27\u0e31", "\u0915\u094d\u0937", "!?", "...", "\u2014",
         "_", "\u00a0", "\u3000", "\u200b", "\x1c", "\x85", "\U0001f44d\U0001f3fd", "e\u0301", "\u01c5", "\u02b0", "'", "\u2019s"]

def main():
    random.seed(2)
    print(unicodedata.unidata_version)
    for name, rule in RULES.items():
        regex = compiled(rule)
        for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 6000):
            text = "".join(random.choice(WORDS) if random.random() < 0.8 else
                           chr(random.choice([random.randrange(0x20, 0x250), random.randrange(0x300, 0x3000),
                                              random.randrange(0x10000, 0x20000)]))
                           for _ in range(random.randint(1, 14)))
            pieces = [m.group(0) for m in regex.finditer(text)]
            assert "".join(pieces) == text, (name, text)
            print("%s;%s;%s" % (name, text.encode().hex(), " ".join(str(len(p.encode())) for p in pieces)))


if __name__ == "__main__":
    main()
