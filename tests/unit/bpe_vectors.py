#!/usr/bin/env python3
"""Byte-pair encoding as it is defined and no faster: bpe_vectors.py tokenizer.json reads texts as
hex of UTF-8, one per line, and prints their ids. The first line is the version of Unicode."""
import json
import re
import sys
import unicodedata

from split_vectors import RULES, compiled

BLOCK = "\u2581"


def merged(word, rank):
    """Merges the pair of the lowest rank, the leftmost of equals, until there is none."""
    word = list(word)
    while len(word) > 1:
        best, i = min((rank.get(pair, len(rank)), i) for i, pair in enumerate(zip(word, word[1:])))
        if best == len(rank):
            break
        word[i:i + 2] = [word[i] + word[i + 1]]
    return word


def letters():
    """GPT-2's printable letter for every byte."""
    out, extra = {}, 256
    for b in range(256):
        plain = 33 <= b <= 126 or 161 <= b <= 172 or b >= 174
        out[b] = chr(b if plain else extra)
        extra += not plain
    return out


def main():
    file = json.load(open(sys.argv[1], encoding="utf-8"))
    model, byte_level = file["model"], file["decoder"]["type"] == "ByteLevel"
    pairs = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    rank = {pair: i for i, pair in reversed(list(enumerate(pairs)))}
    vocab, letter, cache = model["vocab"], letters(), {}
    regex = compiled(RULES["llama-3"]) if byte_level else re.compile(BLOCK + "+[^%s]*" % BLOCK)

    def ids_of(word):
        if model.get("ignore_merges") and word in vocab:
            return [vocab[word]]
        out = []
        for piece in merged(word, rank):
            out += [vocab[piece]] if piece in vocab else [vocab["<0x%02X>" % b] for b in piece.encode()]
        return out

    print(unicodedata.unidata_version)
    for line in sys.stdin:
        text, ids = bytes.fromhex(line.strip()).decode(), []
        if not byte_level:
            text = BLOCK + text.replace(" ", BLOCK)
        for m in regex.finditer(text):
            word = "".join(letter[b] for b in m.group(0).encode()) if byte_level else m.group(0)
            if word not in cache:
                cache[word] = ids_of(word)
            ids += cache[word]
        print(" ".join(map(str, ids)))


main()
