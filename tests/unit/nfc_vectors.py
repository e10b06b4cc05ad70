#!/usr/bin/env python3
"""Prints cases of normal form C as `hex of UTF-8 ; hex of its NFC`, one per line: every code point
that NFC touches, then random strings of such code points; all from Python's own implementation."""
import random
import unicodedata


def row(s):
    print("%s;%s" % (s.encode().hex(), unicodedata.normalize("NFC", s).encode().hex()))


points = [cp for cp in range(0x110000) if not 0xD800 <= cp < 0xE000]
touched = [cp for cp in points if unicodedata.combining(chr(cp)) or
           (unicodedata.decomposition(chr(cp)) or "<")[0] != "<"]
print(unicodedata.unidata_version)
for cp in touched:
    row(chr(cp))
for cp in touched:
    row(unicodedata.normalize("NFD", chr(cp)))
marks = [cp for cp in touched if unicodedata.combining(chr(cp))]
hangul = list(range(0x1100, 0x1120)) + list(range(0x1160, 0x1180)) + list(range(0x11A5, 0x11C8))
hangul += list(range(0xAC00, 0xD7A4, 97)) + list(range(0xAC00, 0xD7A4, 28 * 31))
letters = sorted({unicodedata.normalize("NFD", chr(cp))[0] for cp in touched})
random.seed(1)
for _ in range(30000):
    kinds = [touched, marks, marks, hangul, [ord(c) for c in letters], list(range(32, 127))]
    row("".join(chr(random.choice(random.choice(kinds))) for _ in range(random.randint(1, 12))))
for n in (33, 200, 5000):  # runs of marks longer than anybody writes
    row("a" + "".join(chr(random.choice(marks)) for _ in range(n)))
