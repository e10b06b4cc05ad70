"""Spoils a file in one way: spoil.py flip|overlap|huge|hole|header FROM TO."""
import json
import sys

how, source, target = sys.argv[1:4]
data = bytearray(open(source, "rb").read())
if how == "flip":
    data[len(data) // 2] ^= 1
else:
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + size])
    names = sorted((n for n in header if n != "__metadata__"), key=lambda n: header[n]["data_offsets"])
    first, last = header[names[0]]["data_offsets"], header[names[-1]]["data_offsets"]
    if how == "overlap":
        second = header[names[1]]["data_offsets"]
        second[0], second[1] = second[0] - 4, second[1] - 4
    elif how == "huge":
        last[1] = 2**62
    elif how == "hole":
        last[0], last[1] = last[0] + 4, last[1] + 4
        data += b"\0\0\0\0"
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    length = 2**60 if how == "header" else len(text)
    data = length.to_bytes(8, "little") + text + data[8 + size:]
open(target, "wb").write(data)
