"""Thousands of headers, valid, almost valid and invalid: the safetensors package and loratool
accept and refuse the same ones, but for the exceptions listed here, each with its reason.

The generator is seeded: the same files every time.
"""

import json
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

try:
    import safetensors
except ImportError as absent:
    print(f"skipped: {absent}")
    sys.exit(77)

LORATOOL = os.environ["LORATOOL"]
COUNT = 12000
dice = random.Random(20261124)
BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16,
        "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64, "C64": 64,
        "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}
NUMBERS = ["0", "1", "2", "-1", "3.0", "1e2", "007", "18446744073709551615", "18446744073709551616", "4294967296",
           "9223372036854775808", "null", "true", '"4"', "[]", "{}", "-0", "1E0", "6442450944"]


class Made(str):
    """JSON text of a part, put into the header as it is."""


def text(value):
    if isinstance(value, Made):
        return str(value)
    if isinstance(value, dict):
        return text(list(value.items()))
    if isinstance(value, list) and value and isinstance(value[0], tuple):
        return "{" + ",".join(f"{text(k)}:{text(v)}" for k, v in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(text, value)) + "]"
    return json.dumps(value, ensure_ascii=dice.random() < 0.5)


def a_name():
    return dice.choice(["a", "b.weight", "", "é", "\U0001f600", 'q"\\', "tab\t", "x" * 200, "__metadata", " ",
                        f"n{dice.randrange(9)}", f"layer.{dice.randrange(99)}.weight"])


def valid():
    """(pairs of the header, size of the data)"""
    at, pairs, names = 0, [], set()
    if dice.random() < 0.4:
        pairs.append(("__metadata__", dict((a_name(), a_name()) for _ in range(dice.randrange(3))) or Made("{}")))
    for _ in range(dice.choice([0, 1, 1, 2, 3, 8])):
        name = a_name()
        if name in names:
            continue
        names.add(name)
        dtype = dice.choice(list(BITS))
        shape = [dice.choice([0, 1, 2, 3, 4, 8]) for _ in range(dice.randrange(4))]
        bits = BITS[dtype]
        for n in shape:
            bits *= n
        if bits % 8:
            shape, bits = shape + [8], bits * 8
        entry = [("dtype", dtype), ("shape", shape), ("data_offsets", [at, at + bits // 8])]
        dice.shuffle(entry)
        pairs.append((name, entry))
        at += bits // 8
    dice.shuffle(pairs)
    return pairs, at


def pick_entry(pairs):
    found = [i for i, (name, entry) in enumerate(pairs) if name != "__metadata__" and isinstance(entry, list)]
    return dice.choice(found) if found else None


def edit_field(pairs):
    """Another value, another type, absent, doubled or unknown fields of one entry."""
    at = pick_entry(pairs)
    if at is None:
        return
    name, entry = pairs[at]
    i = dice.randrange(len(entry))
    key, value = entry[i]
    what = dice.randrange(9)
    if what == 0:
        entry[i] = (key, Made(dice.choice(NUMBERS)))
    elif what == 1 and isinstance(value, list) and value:
        value[dice.randrange(len(value))] = Made(dice.choice(NUMBERS))
    elif what == 2:
        del entry[i]
    elif what == 3:
        entry.append((key, value))
    elif what == 4:
        entry.append((dice.choice(["extra", "Dtype", "offset"]), Made(dice.choice(NUMBERS))))
    elif what == 5 and key == "dtype":
        entry[i] = (key, dice.choice(["f32", "F128", "", "F32 ", "E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "C128", *BITS]))
    elif what == 6 and key == "data_offsets":
        entry[i] = (key, [v + dice.choice([-1, 0, 1, 4, 8]) for v in value])
    elif what == 7 and key == "data_offsets":
        entry[i] = (key, value[::-1])
    elif what == 8 and isinstance(value, list):
        value.append(dice.choice([0, 1, 2]))


def edit_metadata(pairs):
    value = dice.choice([Made("null"), Made("[]"), Made('""'), Made('{"a":1}'), Made('{"a":null}'), Made('{"a":"b","a":"c"}'),
                         Made('{"a":{}}'), Made("{}"), Made("7")])
    if dice.random() < 0.3 or not any(name == "__metadata__" for name, _ in pairs):
        pairs.append(("__metadata__", value))
    else:
        for i, (name, _) in enumerate(pairs):
            if name == "__metadata__":
                pairs[i] = (name, value)


def edit_entries(pairs):
    at = pick_entry(pairs)
    if at is None:
        return
    what = dice.randrange(5)
    if what == 0:
        del pairs[at]
    elif what == 1:
        pairs.append(pairs[at])
    elif what == 2:
        pairs[at] = (pairs[at][0], Made(dice.choice(NUMBERS)))
    elif what == 3:
        pairs.append((a_name(), dict(pairs[at][1])))
    else:
        pairs[at] = (a_name(), pairs[at][1])


def edit_form(pairs):
    """The same values in other forms that JSON has for them, and numbers that no machine has."""
    at = pick_entry(pairs)
    if at is None or not all(isinstance(item, tuple) for item in pairs[at][1]):
        return
    name, entry = pairs[at]
    what = dice.randrange(4)
    if what == 0:
        pairs[at] = (name, [dict(entry).get(key, Made("null")) for key in ("dtype", "shape", "data_offsets")][:dice.choice([2, 3, 3])])
    elif what == 1:
        pairs[at] = (name, [(k, {v: Made("null")} if k == "dtype" else v) for k, v in entry])
    elif what == 2:
        entry.append(("more", Made(dice.choice(["1e308", "1e309", "-1e999", "1" * 400, "1e-999", "0.5e+3"]))))
    else:
        pairs[at] = (name, [(k, {str(i): x for i, x in enumerate(v)})
                            if k == "data_offsets" and isinstance(v, list) else (k, v) for k, v in entry])


def edit_bytes(head):
    """A byte or a token of the header's text."""
    at = dice.randrange(len(head) + 1)
    what = dice.randrange(8)
    odd = [b"\x00", b"\x01", b"\x7f", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", b"\\u0000",
           b"\\ud800", b"\\udc00\\ud800", b"\\q", b",", b"}", b"]", b"{", b"[", b'"', b":", b"//", b" ", b"\n", b"\x0b",
           b"NaN", b"1.", b".5", b"+1", b"0x1", b"'"]
    if what < 3:
        return head[:at] + dice.choice(odd) + head[at:]
    if what == 3:
        return head[:at] + head[at + 1 + dice.randrange(3):]
    if what == 4:
        return head[:at]
    if what == 5:
        return dice.choice([b" ", b"\n", b"\t", b"\r\n"]) * dice.randrange(1, 4) + head
    if what == 6:
        return head + dice.choice([b" ", b"\n", b"  \t", b"\x00", b"{}", b"x"])
    return head[:at] + bytes([dice.randrange(256)]) + head[at + 1:]


def one():
    """One file and how it was made."""
    pairs, size = valid()
    made = []
    for edit, chance in ((edit_field, 0.28), (edit_metadata, 0.28), (edit_entries, 0.28), (edit_form, 0.1)):
        if dice.random() < chance:
            edit(pairs)
            made.append(edit.__name__)
    head = (text(pairs) if pairs else "{}").encode()
    if dice.random() < 0.25:
        head = edit_bytes(head)
        made.append("edit_bytes")
    if dice.random() < 0.3:
        head += b" " * (-len(head) % 8)
    length = len(head)
    if dice.random() < 0.06:
        size += dice.choice([-1, 1, 8, -8])
        made.append("data size")
    if dice.random() < 0.04:
        length = dice.choice([0, 1, length - 1, length + 1, length + size, 2**63, 2**64 - 1, 2**32, 100_000_001])
        made.append("length")
    data = struct.pack("<Q", max(length, 0)) + head + bytes(max(size, 0))
    if dice.random() < 0.02:
        data = data[:dice.randrange(len(data))]
        made.append("cut")
    return data, "+".join(made) or "valid"


# ---- where they may differ -----------------------------------------------------------

def strings(node):
    """Everything between quotes in the JSON text, decoded; text that is no JSON has none."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, list):
        for item in node:
            yield from strings(item)


def parsed(data):
    """The header as nested lists of pairs, so that doubled names are seen; or None."""
    try:
        size, = struct.unpack("<Q", data[:8])
        return json.loads(data[8:8 + size].decode(), object_pairs_hook=lambda pairs: [list(p) for p in pairs])
    except (ValueError, struct.error, RecursionError):
        return None


def doubled(header):
    names = [pair[0] for pair in header if isinstance(pair, list) and pair]
    return len(set(map(str, names))) != len(names)


def nul_in_names(header):
    return any("\0" in s for s in strings(header))


def entries(header):
    """The values beside tensors' names."""
    return [pair[1] for pair in header if isinstance(pair, list) and len(pair) == 2 and pair[0] != "__metadata__"]


def listed_entry(header):
    return any(isinstance(e, list) and len(e) == 3 and isinstance(e[0], str) for e in entries(header))


def dtype_object(header):
    fields = [field for e in entries(header) if isinstance(e, list) for field in e if isinstance(field, list)]
    return any(field[0] == "dtype" and isinstance(field[1], list) for field in fields if len(field) == 2)


def endless(header):
    """A number beyond the range of a double, where nothing reads it."""
    if isinstance(header, list):
        return any(map(endless, header))
    return isinstance(header, float) and header in (float("inf"), float("-inf")) or isinstance(header, int) and abs(header) > 10 ** 308


# Files that the package takes and loratool does not: what the file is, why, and how it is told.
STRICTER = [
    ("a tensor or __metadata__ stands twice", "which of the two is meant cannot be known", "stands twice",
     lambda header: doubled(header)),
    ("an entry as a list of its values", "the format has objects", "the entry is not an object", listed_entry),
    ("a dtype as an object", "the format has strings", "'dtype' is missing, doubled or no string", dtype_object),
    ("U+0000 in a string", "no C string holds it", "U+0000", nul_in_names),
]
# And the other way round.
LAXER = [
    ("a number out of range in a field that nothing reads", "JSON has no range", "", endless),
]


def by_package(data):
    try:
        safetensors.deserialize(data)
        return None
    except Exception as refusal:  # its own error class, and what Rust's panics become
        return str(refusal)


def by_loratool(files):
    """Path stem -> message of those refused."""
    told = {}
    with tempfile.TemporaryDirectory() as scratch:
        for i, data in enumerate(files):
            (Path(scratch) / f"{i:06}.safetensors").write_bytes(data)
        paths = sorted(Path(scratch).iterdir())
        for start in range(0, len(paths), 1000):
            done = subprocess.run([LORATOOL, "info", "-q", *paths[start:start + 1000]], capture_output=True, text=True,
                                  errors="replace", timeout=300)
            if done.returncode not in (0, 5):
                sys.exit(f"loratool ended with {done.returncode}: {done.stderr[-500:]}")
            for line in done.stderr.splitlines():
                stem = re.search(r"(\d{6})\.safetensors: (.*)", line)
                told[int(stem[1])] = stem[2]
    return told


def excuse(rows, data, message):
    header = parsed(data)
    for title, _, told, fits in rows:
        if header is not None and told in (message or told) and fits(header):
            return title
    return None


def main():
    files, ways = zip(*(one() for _ in range(COUNT)))
    ours = by_loratool(files)
    counts, excused, failed = Counter(), Counter(), 0
    for i, data in enumerate(files):
        theirs = by_package(data)
        counts["refused by both" if theirs and i in ours else "accepted by both" if not theirs and i not in ours
               else "told apart"] += 1
        if bool(theirs) == (i in ours):
            continue
        title = excuse(LAXER if theirs else STRICTER, data, ours.get(i))
        if title:
            excused[title] += 1
            continue
        failed += 1
        if failed <= 20:
            print(f"FAILED {ways[i]}: package {theirs or 'accepts'}; loratool {ours.get(i, 'accepts')}: {data[:300]!r}")
    print(", ".join(f"{n} {what}" for what, n in sorted(counts.items())))
    for title, n in excused.items():
        print(f"  {n} excused: {title}")
    enough = counts["refused by both"] > COUNT // 10 and counts["accepted by both"] > COUNT // 10
    unused = [title for title, *_ in STRICTER + LAXER if not excused[title]]
    print(f"{COUNT} files, {failed} failed")
    if unused or not enough:
        print(f"FAILED exceptions that nothing needed: {unused}, enough of both: {enough}")
    sys.exit(1 if failed or unused or not enough else 0)


if __name__ == "__main__":
    main()
