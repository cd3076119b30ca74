#!/usr/bin/env python3
"""Safetensors files that must be refused, and their neighbours that must not.

The invalid cases are those of the format's own description and of its reference reader's tests
(test_reference has them under its names).  Each asserts the exit code, the message, the file's name
in it, and the byte or the tensor at which the fault lies.  Then the ceilings of this format, just
below and just above; test_ceilings.py has the others.
"""

import json
import os
import re
import struct
import subprocess
from pathlib import Path

from checks import check, run_tests

LORATOOL = os.environ["LORATOOL"]


def run(data, *options, name="case.safetensors"):
    path = Path(name)
    path.write_bytes(data)
    done = subprocess.run([LORATOOL, "info", *options, path], capture_output=True, text=True, errors="replace", timeout=120)
    path.unlink()
    return done


def refused(label, data, message, at=None, options=(), code=5, **more):
    done = run(data, *options, **more)
    check(done.returncode == code, f"{label}: exit {done.returncode}: {done.stderr.strip()}")
    check(message in done.stderr, f"{label}: {message!r} is not in {done.stderr.strip()!r}")
    check(done.stderr.count("\n") == 1 and not done.stdout, f"{label}: prints {done.stdout!r} {done.stderr!r}")
    check(f" {more.get('name', 'case.safetensors')}: " in done.stderr, f"{label}: names no file: {done.stderr!r}")
    check(re.search(r"tensor '|\(at byte \d+\)$|\d files$", done.stderr), f"{label}: names no place: {done.stderr!r}")
    if at is not None:
        check(done.stderr.endswith(f" (at byte {at})\n"), f"{label}: not at byte {at}: {done.stderr.strip()!r}")


def accepted(label, data, *options, **more):
    done = run(data, *options, **more)
    check(done.returncode == 0 and not done.stderr, f"{label}: exit {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def file(head, data=b"", length=None):
    head = head.encode() if isinstance(head, str) else head
    return struct.pack("<Q", len(head) if length is None else length) + head + data


def entry(dtype="F32", shape="[1]", offsets="[0,4]"):
    return f'{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}'


def tensors(**entries):
    return "{" + ",".join(f'"{name}":{text}' for name, text in entries.items()) + "}"


# ---- the frame -----------------------------------------------------------------------

def test_frame():
    refused("empty", b"", "the file is empty", 0)
    for n in range(1, 8):
        refused(f"{n} bytes", bytes(n), "too few for a header", n)
    refused("no header", struct.pack("<Q", 0), "the text ends early", 8)
    refused("header over the file", file("{}", length=3), "goes past the end of the file", 0)
    refused("header over 64 bits", file("{}", length=2**64 - 1), "over the format's ceiling", 0)
    refused("header at 2^63", file("{}", length=2**63), "over the format's ceiling", 0)
    refused("header over the ceiling", file("{}", length=100_000_001), "over the format's ceiling of 100000000", 0)
    refused("header just at the ceiling, but short", file("{}", length=100_000_000), "goes past the end of the file", 0)
    accepted("no tensors", file("{}"))
    accepted("padded", file("{}" + " " * 6))
    accepted("space before and behind", file(" \n\t\r{} \n"))
    for label, head, message, at in (
        ("starts with a bracket", "[]", "the header is not a JSON object", 8),
        ("starts with a text", '"x"', "the header is not a JSON object", 8),
        ("byte order mark", "\ufeff{}", "unexpected character", 8),
        ("NUL padding", "{}\0\0", "text after the end", 10),
        ("two objects", "{}{}", "text after the end", 10),
        ("comment", "{/**/}", "expected a member name", 9),
    ):
        refused(label, file(head), message, at)


def test_json():
    for label, head, message, at in (
        ("cut off", '{"a":', "the text ends early", 13),
        ("invalid UTF-8", b'{"\xff":1}', "not UTF-8", 10),
        ("overlong UTF-8", b'{"\xc0\x80":1}', "not UTF-8", 10),
        ("surrogate in UTF-8", b'{"\xed\xa0\x80":1}', "not UTF-8", 10),
        ("beyond Unicode", b'{"\xf4\x90\x80\x80":1}', "not UTF-8", 10),
        ("lone surrogate", r'{"\ud800":1}', "lone surrogate", 10),
        ("surrogates the wrong way", r'{"\udc00\ud800":1}', "lone surrogate", 10),
        ("U+0000", r'{"a\u0000":1}', "U+0000", 11),
        ("bad escape", r'{"\x":1}', "bad escape", 10),
        ("raw line feed", '{"a\n":1}', "control character", 11),
        ("no end of the text", '{"a', "unterminated string", 9),
        ("comma at the end", '{"a":1,}', "expected a member name", 15),
        ("comma missing", '{"a":1 "b":1}', "expected ',' or a closing bracket", 15),
        ("colon missing", '{"a" 1}', "expected ':'", 13),
        ("single quotes", "{'a':1}", "expected a member name", 9),
        ("leading zero", '{"a":01}', "leading zero", 13),
        ("plus sign", '{"a":+1}', "unexpected character", 13),
        ("NaN", '{"a":NaN}', "unexpected character", 13),
        ("point without digits", '{"a":1.}', "bad number", 13),
        ("wrong bracket", '{"a":[}', "unexpected character", 14),
    ):
        refused(label, file(head), "invalid JSON: ", at)
        refused(label, file(head), message, at)


# ---- the reference reader's tests ----------------------------------------------------

ENTRY = b'{"test":{"dtype":"I32","shape":[2,2],"data_offsets":[0,16]}}'


def framed(head, data=b""):
    return struct.pack("<Q", len(head)) + head + data


def test_reference():
    """The files of its unit tests, Python tests and attempts at abuse, byte for byte where they are short."""
    valid = framed(ENTRY, bytes(16))
    accepted("test_deserialization", valid)
    accepted("test_empty_shapes_allowed", framed(b'{"test":{"dtype":"I32","shape":[],"data_offsets":[0,4]}}', bytes(4)))
    accepted("test_zero_sized_tensor", framed(b'{"test":{"dtype":"I32","shape":[2,0],"data_offsets":[0, 0]}}'))
    accepted("test_whitespace_padded_header", framed(b"{}\r \t\n"))
    accepted("test_whitespace_leading_padded_header", framed(b"\t\n{}\r "))
    accepted("test_empty, metadata alone", framed(b'{"__metadata__":{"framework":"pt"}}     '))
    accepted("test_serialization_fp4", framed(
        b'{"attn.0":{"dtype":"F4","shape":[1,2],"data_offsets":[0,1]}}    ', b"\0"))
    refused("test_serialization_fp4_misaligned", framed(
        b'{"attn.0":{"dtype":"F4","shape":[1,3],"data_offsets":[0,2]}}', bytes(2)), "whole bytes", 9)
    refused("test_serialization_fp4_invalid", framed(
        b'{"attn.0":{"dtype":"F4","shape":[1,2],"data_offsets":[0,2]}}', bytes(2)), "span 2 bytes, but F4 [1, 2] takes 1", 9)
    refused("test_metadata_incomplete_buffer", valid + b"extra_bogus_data_for_polyglot_file",
            "34 bytes follow the last tensor's data", len(valid))
    refused("test_metadata_incomplete_buffer, cut", valid[:-2], "the data ends at byte 16 of 14: the file is truncated", 9)
    refused("test_header_too_large", b"<\0\0\0\0\xff\xff\xff" + valid[8:],
            "the header length 18446742974197923900 is over the format's ceiling of 100000000", 0)
    refused("test_header_too_small", b"", "the file is empty", 0)
    refused("test_invalid_header_length", b"<\0\0\0\0\0\0\0", "the header length 60 goes past the end of the file (8 bytes)", 0)
    refused("test_invalid_header_non_utf8", framed(b"\xff"), "invalid JSON: unexpected character", 8)
    refused("test_invalid_header_not_json", framed(b"{"), "invalid JSON: the text ends early", 9)
    refused("test_invalid_info", framed(b'{"test":{"dtype":"I32","shape":[2,2],"data_offsets":[0, 4]}}'),
            "span 4 bytes, but I32 [2, 2] takes 16", 9)
    for label, size in (("elements", 18446744073709551614), ("bytes", 9223372036854775807)):
        refused(f"test_validation_overflow, {label}", framed(
            b'{"test":{"dtype":"I32","shape":[2,%d],"data_offsets":[0,16]}}' % size, bytes(16)), "overflow", 9)
    refused("test_truncated_header_is_rejected", valid[:8 + len(ENTRY) // 2], "goes past the end of the file", 0)
    refused("test_data_offset_overflow_is_rejected", framed(
        b'{"liar":{"dtype":"F32","shape":[1024,1024],"data_offsets":[0,4194304]}}', b"\0"), "the file is truncated", 9)
    attack = json.dumps({f"weight_{i}": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]} for i in range(10)}).encode()
    refused("test_json_attack", framed(attack, bytes(16)), "tensor 'weight_1': its data overlaps that of another", 8 + len(attack))
    refused("abuse attempt 1: a length within the file's size", struct.pack("<Q", 1000) + valid[8:], "goes past the end", 0)
    refused("abuse attempt 1: a header that ends in the data", struct.pack("<Q", 70) + valid[8:], "text after the end", 8 + len(ENTRY))
    for side, n in ((2, 50_000), (200, 20_000)):
        many = json.dumps({f"weight_{i}": {"dtype": "F32", "shape": [side, side], "data_offsets": [0, side * side * 4]}
                           for i in range(n)}).encode()
        refused(f"abuse attempts 2 and 3: {n} times the same data", framed(many, bytes(side * side * 4)),
                "its data overlaps that of another", 8 + len(many))
    refused("something", b"something", "not a tensor file", 0)
    # What its JSON library takes for the same thing, and the format's description has not.
    refused("an entry that is a list", framed(b'{"a":["F32",[1],[0,4]]}', bytes(4)), "the entry is not an object", 9)
    refused("a dtype that is an object", framed(
        b'{"a":{"dtype":{"F32":null},"shape":[1],"data_offsets":[0,4]}}', bytes(4)), "'dtype' is missing, doubled or no string", 9)
    refused("__metadata__ that is a tensor", framed(b'{"__metadata__":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
            "value of 'shape' is not a string", 47)
    refused("a list around the header", framed(b"[null,%s]" % ENTRY, bytes(16)), "the header is not a JSON object", 8)
    refused("__metadata__ of metadata", framed(b'{"__metadata__":{"a":{"b":"c"}}}'), "value of 'a' is not a string", 29)
    accepted("a metadata name twice", framed(b'{"__metadata__":{"k":"v","k":"w"}}'))


BITS = {8: "BOOL U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ", 16: "I16 U16 F16 BF16", 32: "I32 U32 F32",
        64: "I64 U64 F64 C64", 4: "F4", 6: "F6_E2M3 F6_E3M2"}


def test_dtypes():
    """All that the format has: whole, a byte too long and too short, in fractions of a byte."""
    for bits, names in BITS.items():
        for dtype in names.split():
            for count in range(1, 9):
                size, rest = divmod(bits * count, 8)
                case = lambda end: file(tensors(a=entry(dtype, f"[{count}]", f"[0,{end}]")), bytes(max(end, size)))
                if rest:
                    refused(f"{count} of {dtype}", case(size + 1), "whole bytes", 9)
                    continue
                accepted(f"{count} of {dtype}", case(size))
                refused(f"{count} of {dtype}, a byte more", case(size + 1), f"takes {size}", 9)
                refused(f"{count} of {dtype}, a byte less", case(size - 1), f"takes {size}", 9)


# ---- entries -------------------------------------------------------------------------

def test_entries():
    four = bytes(4)
    cases = {
        "no object": ("1", "the entry is not an object"),
        "a list": ("[]", "the entry is not an object"),
        "null": ("null", "the entry is not an object"),
        "no dtype": ('{"shape":[1],"data_offsets":[0,4]}', "'dtype' is missing"),
        "no shape": ('{"dtype":"F32","data_offsets":[0,4]}', "'shape' is missing"),
        "no offsets": ('{"dtype":"F32","shape":[1]}', "'data_offsets' is missing"),
        "two dtypes": ('{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}', "'dtype' is missing, doubled"),
        "two shapes": ('{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}', "'shape' is missing, doubled"),
        "two offsets": ('{"dtype":"F32","shape":[1],"data_offsets":[0,4],"data_offsets":[0,4]}', "'data_offsets' is missing, doubled"),
        "dtype is a number": ('{"dtype":1,"shape":[1],"data_offsets":[0,4]}', "'dtype' is missing"),
        "dtype is null": ('{"dtype":null,"shape":[1],"data_offsets":[0,4]}', "'dtype' is missing"),
        "dtype is a list": ('{"dtype":["F32"],"shape":[1],"data_offsets":[0,4]}', "'dtype' is missing"),
        "dtype is empty": (entry(""), "unknown dtype ''"),
        "shape is null": (entry(shape="null"), "'shape' is missing, doubled or no array"),
        "shape is an object": (entry(shape='{"0":1}'), "'shape' is missing, doubled or no array"),
        "shape of shapes": (entry(shape="[[1]]"), "something else than sizes"),
        "size is null": (entry(shape="[null]"), "something else than sizes"),
        "size is true": (entry(shape="[true]"), "something else than sizes"),
        "size is minus zero": (entry(shape="[-0]", offsets="[0,0]"), "something else than sizes"),
        "offsets are null": (entry(offsets="null"), "not two unsigned integers"),
        "offsets are an object": (entry(offsets='{"0":0,"1":4}'), "not two unsigned integers"),
        "offsets are texts": (entry(offsets='["0","4"]'), "not two unsigned integers"),
        "offsets have points": (entry(offsets="[0.0,4.0]"), "not two unsigned integers"),
        "offsets of offsets": (entry(offsets="[[0],[4]]"), "not two unsigned integers"),
        "no fields": ("{}", "'dtype' is missing"),
        "unknown dtype": (entry("F31"), "unknown dtype 'F31'"),
        "dtype in lower case": (entry("f32"), "unknown dtype 'f32'"),
        "torch's complex32": (entry("C32"), "unknown dtype 'C32'"),
        "shape is a number": (entry(shape="1"), "'shape' is missing, doubled or no array"),
        "negative size": (entry(shape="[-1]"), "something else than sizes"),
        "size with a point": (entry(shape="[1.0]"), "something else than sizes"),
        "size with an exponent": (entry(shape="[1e0]"), "something else than sizes"),
        "size is a text": (entry(shape='["1"]'), "something else than sizes"),
        "size over 64 bits": (entry(shape="[18446744073709551616]"), "something else than sizes"),
        "product over 64 bits": (entry(shape="[4294967296,4294967296]"), "overflow"),
        "product over 64 bits, then zero": (entry(shape="[18446744073709551615,2,0]", offsets="[0,0]"), "overflow"),
        "bytes over 64 bits": (entry(shape="[4611686018427387904]"), "overflow"),
        "one offset": (entry(offsets="[0]"), "not two unsigned integers"),
        "three offsets": (entry(offsets="[0,4,4]"), "not two unsigned integers"),
        "negative offset": (entry(offsets="[-4,0]"), "not two unsigned integers"),
        "offset over 64 bits": (entry(offsets="[0,18446744073709551616]"), "not two unsigned integers"),
        "offset at 2^64 - 1": (entry(offsets="[18446744073709551611,18446744073709551615]"), "the file is truncated"),
        "offsets run backwards": (entry(offsets="[4,0]"), "run backwards"),
        "too few bytes": (entry(offsets="[0,3]"), "span 3 bytes, but F32 [1] takes 4"),
        "too many bytes": (entry(offsets="[0,5]"), "span 5 bytes, but F32 [1] takes 4"),
        "data past the end": (entry(offsets="[4,8]"), "the file is truncated"),
        "half a byte": (entry("F4", "[1]", "[0,1]"), "whole bytes"),
        "six bits": (entry("F6_E2M3", "[1]", "[0,1]"), "whole bytes"),
        "17 dimensions": (entry(shape="[" + ",".join("1" * 17) + "]"), "more dimensions"),
    }
    for label, (text, message) in cases.items():
        refused(label, file(tensors(a=text), four), message, 9)
        refused(label, file(tensors(a=text), four), "tensor 'a'", 9)
    accepted("16 dimensions", file(tensors(a=entry(shape="[" + ",".join("1" * 16) + "]")), four))
    accepted("two half bytes", file(tensors(a=entry("F4", "[2]", "[0,1]")), b"x"))
    accepted("a field more", file('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":{"b":[]}}}', four))
    accepted("fields in another order", file('{"a":{"data_offsets":[0,4],"shape":[1],"dtype":"F32"}}', four))
    accepted("scalar", file(tensors(a=entry(shape="[]")), four))


def test_tiling():
    two = lambda a, b: tensors(a=entry(offsets=a), b=entry(offsets=b))
    data_at = 8 + len(two("[0,4]", "[4,8]"))
    accepted("in a row", file(two("[0,4]", "[4,8]"), bytes(8)))
    accepted("in the other order", file(two("[4,8]", "[0,4]"), bytes(8)))
    refused("the same bytes twice", file(two("[0,4]", "[0,4]"), bytes(8)), "overlaps", data_at)
    refused("overlap", file(two("[0,4]", "[2,6]"), bytes(8)), "overlaps", data_at + 2)
    refused("hole", file(two("[0,4]", "[5,9]"), bytes(9)), "there is a hole before", data_at + 5)
    refused("hole at the beginning", file(two("[4,8]", "[8,12]") , bytes(12)), "there is a hole before", data_at + 4 + 1)
    refused("bytes behind", file(two("[0,4]", "[4,8]"), bytes(9)), "1 bytes follow", data_at + 8)
    refused("bytes without a tensor", file("{}", b"x"), "1 bytes follow", 10)
    refused("cut", file(two("[0,4]", "[4,8]"), bytes(7)), "the file is truncated", 9 + len('"a":' + entry()) + 1)
    zero = tensors(a=entry(shape="[0]", offsets="[0,0]"), b=entry(), c=entry(shape="[2,0]", offsets="[4,4]"))
    accepted("tensors without bytes", file(zero, bytes(4)))
    refused("a tensor without bytes inside another", file(
        tensors(a=entry(), b=entry(shape="[0]", offsets="[2,2]")), bytes(4)), "tensor 'b': its data overlaps")
    refused("a tensor without bytes behind the end", file(
        tensors(a=entry(), b=entry(shape="[0]", offsets="[5,5]")), bytes(4)), "tensor 'b': the data ends at byte 5 of 4")
    refused("a hole before a tensor without bytes", file(
        tensors(a=entry(), b=entry(shape="[0]", offsets="[5,5]"), c=entry(offsets="[5,9]")), bytes(9)), "tensor 'b': there is a hole")
    aligned = tensors(a=entry("U8", "[1]", "[0,1]"), b=entry(offsets="[4,8]"))
    refused("data that was aligned by a gap", file(aligned, bytes(8)), "tensor 'b': there is a hole before", 8 + len(aligned) + 4)
    odd = tensors(a=entry("U8", "[1]", "[0,1]"), b=entry(offsets="[1,5]"))
    accepted("data that is not aligned", file(odd, bytes(5)))


def test_names():
    twice = '{"a":%s,"a":%s}' % (entry(), entry(offsets="[4,8]"))
    refused("a name twice", file(twice, bytes(8)), "the name stands twice", 9 + len('"a":' + entry()) + 1)
    hidden = r'{"a":%s,"\u0061":%s}' % (entry(), entry(offsets="[4,8]"))
    refused("a name twice, once escaped", file(hidden, bytes(8)), "the name stands twice")
    accepted("an empty name", file('{"":%s}' % entry(), bytes(4)))
    shown = accepted("a name of control characters", file(r'{"\u001b[2J":%s}' % entry(), bytes(4)), "--tensors")
    check("\x1b" not in shown, "a control character is printed")
    for one in ("\x7f", "\x80", "\x9b", "\x9f"):  # DEL and what ISO 6429 has above ASCII
        shown = accepted(f"a name of {one!r}", file('{"%s2J\u00a0":%s}' % (one, entry()), bytes(4)), "--tensors")
        check(one not in shown and "?2J\u00a0" in shown, f"{one!r} is printed")
    # Marks that turn the direction of writing or end a line, and what stands beside them.
    for first, last in ((0x61c, 0x61c), (0x200e, 0x200f), (0x2028, 0x202e), (0x2066, 0x2069)):
        for code in range(first - 1, last + 2):
            shown = accepted(f"a name of U+{code:04X}", file('{"%sx":%s}' % (chr(code), entry()), bytes(4)), "--tensors")
            check(("?x" if first <= code <= last else chr(code) + "x") in shown, f"U+{code:04X} is printed wrongly")
    for label, text in (("a list", "[]"), ("a text", '""'), ("a number", "1")):
        refused(f"__metadata__ is {label}", file('{"__metadata__":%s}' % text), "__metadata__ is not an object", 9)
    for label, text in (("a number", "1"), ("null", "null"), ("a list", "[]"), ("an object", "{}"), ("a boolean", "true")):
        refused(f"metadata value is {label}", file('{"__metadata__":{"k":%s}}' % text), "value of 'k' is not a string", 29)
    refused("__metadata__ twice", file('{"__metadata__":{},"__metadata__":{}}'), "__metadata__ stands twice", 27)
    accepted("__metadata__ is null", file('{"__metadata__":null}'))
    accepted("__metadata__ is empty", file('{"__metadata__":{}}'))


# ---- ceilings ------------------------------------------------------------------------

def both_sides(limit, most, make, message, code=5, **more):
    """What takes `most` is accepted at that ceiling and refused at one less."""
    accepted(f"{limit}={most}", make(most), "-q", "--limit", f"{limit}={most}", **more)
    refused(f"{limit}={most - 1}", make(most), message, None, ("-q", "--limit", f"{limit}={most - 1}"), code, **more)


def many(n):
    return file(tensors(**{f"t{i}": entry("U8", "[1]", f"[{i},{i + 1}]") for i in range(n)}), bytes(n))


def test_ceilings():
    both_sides("tensors", 50, many, "over 49 tensors")
    both_sides("header-size", 4000, lambda n: file("{}" + " " * (n - 2)), "ceiling of 3999")
    both_sides("name-size", 300, lambda n: file('{"%s":%s}' % ("x" * n, entry()), bytes(4)), "over 299 bytes")
    both_sides("metadata-entries", 20, lambda n: file(json.dumps({"__metadata__": {str(i): "" for i in range(n)}})),
               "over 19 metadata entries")
    # The header's object, the entry, and n - 2 lists in a field that nothing reads.
    both_sides("json-depth", 40, lambda n: file('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":%s}}' % (
        "[" * (n - 2) + "]" * (n - 2)), bytes(4)), "nested over 39 deep")
    both_sides("json-values", 100, lambda n: file('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":[%s]}}' % (
        ",".join("1" * (n - 9))), bytes(4)), "over 99 values")
    # And as they are without --limit.
    deep = lambda n: file('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":%s}}' % ("[" * n + "]" * n), bytes(4))
    accepted("depth 64", deep(62), "-q")
    refused("depth 65", deep(63), "nested over 64 deep")
    accepted("metadata entries", file(json.dumps({"__metadata__": {str(i): "" for i in range(8192)}})), "-q")
    refused("one metadata entry more", file(json.dumps({"__metadata__": {str(i): "" for i in range(8193)}})), "over 8192 metadata entries")
    accepted("longest name", file('{"%s":%s}' % ("x" * 65536, entry()), bytes(4)), "-q")
    refused("name too long", file('{"%s":%s}' % ("x" * 65537, entry()), bytes(4)), "over 65536 bytes")
    accepted("longest header", file("{}" + " " * (100_000_000 - 2)), "-q")
    refused("header too long", file("{}" + " " * (100_000_001 - 2)), "ceiling of 100000000", 0)


def test_index_ceiling():
    names = [f"model-{i:05}-of-00003.safetensors" for i in (1, 2, 3)]
    for i, name in enumerate(names):
        Path(name).write_bytes(file('{"t%d":%s}' % (i, entry()), bytes(4)))
    index = json.dumps({"weight_map": {f"t{i}": name for i, name in enumerate(names)}}).encode()
    both_sides("shards", 3, lambda n: index, "over 2 files", name="model.safetensors.index.json")
    for name in names:
        Path(name).unlink()


if __name__ == "__main__":
    run_tests(test_frame, test_json, test_reference, test_dtypes, test_entries, test_tiling, test_names,
              test_ceilings, test_index_ceiling)
