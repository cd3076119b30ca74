#!/usr/bin/env python3
"""Every ceiling that --limit sets, from both sides: what takes just as much is accepted, and refused
(exit 5, the ceiling, the file and the place) at one less.

The smallest ceiling at which the file is accepted is looked for by halving, then compared with what
is known of the file.  test_safetensors_corpus.py has those of its format.
"""

import json
import os
import re
import resource
import struct
import subprocess
from pathlib import Path

from checks import check, run_tests
from torchfiles import (
    Entry, archive, dictionary, integer, legacy, legacy_tensor, name, parts, program, tensor, text, torch_zip, tuple_of,
)

LORATOOL = os.environ["LORATOOL"]
tried = set()


def info(path, limit, value, stdin=None):
    return subprocess.run([LORATOOL, "info", "-q", "--limit", f"{limit}={value}", path], input=stdin, capture_output=True, timeout=120)


def threshold(path, limit, most, stdin=None):
    """The smallest ceiling at which the file is accepted."""
    low, high = 0, most  # refused (nothing is 0), accepted
    while high - low > 1:
        middle = (low + high) // 2
        if info(path, limit, middle, stdin).returncode == 0:
            high = middle
        else:
            low = middle
    return high


def both_sides(limit, data, expected, message, most=1 << 20, at=None, stdin=None, placed=True):
    """expected: the exact ceiling, or None when it follows from no count in the file."""
    tried.add(limit)
    path = Path("ceiling.pt")
    path.write_bytes(data)
    shown = "-" if stdin else path
    check(info(shown, limit, most, stdin).returncode == 0, f"{limit}: refused at {most}: {info(shown, limit, most, stdin).stderr}")
    found = threshold(shown, limit, most, stdin) if expected is None else expected
    if expected is not None:
        done = info(shown, limit, expected, stdin)
        check(done.returncode == 0 and not done.stderr, f"{limit}={expected}: {done.returncode} {done.stderr}")
    done = info(shown, limit, found - 1, stdin)
    told = done.stderr.decode(errors="replace")
    check(found > 1 and done.returncode == 5 and not done.stdout, f"{limit}={found - 1}: {done.returncode} {told}")
    check(re.search(message.replace("N", str(found - 1)), told), f"{limit}={found - 1}: {told!r}")
    check(" <stdin>: " in told or " standard input: " in told or " -: " in told if stdin else " ceiling.pt: " in told,
          f"{limit}: no file in {told!r}")
    check(told.count("\n") == 1 and (not placed or re.search(r"\(at byte \d+\)$|'[^']+': ", told)), f"{limit}: no place in {told!r}")
    if at is not None:
        check(told.endswith(f"(at byte {at})\n"), f"{limit}: not at byte {at}: {told!r}")
    path.unlink()


def zipped(body):
    return torch_zip(program(dictionary(weight=tensor(), extra=body)))


DATA_AT = 30 + len("archive/data.pkl")  # of the pickle in a file of torch_zip


def test_pickle_ceilings():
    whole = program(dictionary(weight=tensor()))
    both_sides("pickle-size", torch_zip(whole), len(whole), "'archive/data.pkl' is over N bytes", at=DATA_AT)
    old = program(dictionary(weight=legacy_tensor()))
    both_sides("pickle-size", legacy(old), len(old), "pickle: over N bytes", at=legacy(old).index(old) + len(old) - 1)
    bodies = b"".join(name("mine", f"C{i}") + b"0" for i in range(40)) + b"N"
    # Three more make the tensor: its storage's class, a function and an OrderedDict.
    both_sides("globals", zipped(bodies), 43, "over N different globals")
    both_sides("pickle-string", zipped(text("x" * 5000)), 5000, "over N bytes in a string")
    both_sides("pickle-memo", zipped(b"N" + b"".join(b"r" + i.to_bytes(4, "little") for i in range(300))), 300, "over N values to remember")
    both_sides("pickle-stack", zipped(tuple_of(*[b"N"] * 700)), 704, "over N values on the stack")
    both_sides("pickle-marks", zipped(b"(" * 50 + b"N" + b"t" * 50), 51, "over N marks on the stack")
    both_sides("pickle-values", zipped(b"]" + b"]0" * 900), None, r"over N values \(")
    both_sides("pickle-memory", zipped(b"]" + text("y" * 500) + b"0" + (text("z" * 200) + b"0") * 400), None,
               "over N bytes of memory for its values", most=1 << 30)


def test_object_ceilings():
    deep = tensor()
    for i in range(30):
        deep = dictionary(**{f"d{i}": deep})
    both_sides("torch-depth", torch_zip(program(deep)), 30, "nested over N deep", most=1000)
    lists = b"N"
    for _ in range(40):
        lists = b"](" + lists + b"e"
    both_sides("torch-depth", zipped(lists), 40, "'extra': containers are nested over N deep", most=1000)
    some = {f"t{i:02}": tensor() for i in range(20)}
    both_sides("tensors", torch_zip(program(dictionary(**some))), 20, "over N tensors")
    both_sides("name-size", torch_zip(program(dictionary(**{"x" * 300: tensor()}))), 300, "a tensor name is over N bytes")
    both_sides("name-size", torch_zip(program(dictionary(abcdef=dictionary(**{"x" * 100: tensor()})))), 107,
               "'abcdef': a tensor name is over N bytes")


def test_overlap():
    once = dict(shape=(250,), strides=(0,))
    both_sides("overlap-size", torch_zip(program(dictionary(weight=tensor(**once)))), 250 * 4 - 16, "'weight': .* over N bytes beside the 16 of")
    # Views of one storage add up; the same memory counts once.
    several = {f"v{i}": tensor(shape=(100 + i,), strides=(0,)) for i in range(5)}
    both_sides("overlap-size", torch_zip(program(dictionary(**several, again=tensor(shape=(104,), strides=(0,))))), 510 * 4 - 16,
               "'v.': .* over N bytes")
    both_sides("overlap-size", legacy(program(dictionary(weight=legacy_tensor(**once)))), 250 * 4 - 16, "'weight': .* over N bytes")
    Path("half.pt").write_bytes(torch_zip(program(dictionary(a=tensor(), b=tensor(strides=(1, 2))))))
    check(info("half.pt", "overlap-size", 1).returncode == 0, "as much again as the storages hold is no bomb")
    Path("half.pt").unlink()


def test_archive_ceilings():
    ordinary = parts(program(dictionary(weight=tensor())))
    more = [Entry(f"archive/extra/{i}", b"x") for i in range(30)]
    both_sides("zip-entries", archive(*ordinary, *more), len(ordinary) + 30, "zip: over N entries", placed=False)
    zeros = 65 << 20
    floats = zeros // 4
    pickled = program(dictionary(weight=tensor(shape=(floats,), strides=(1,), count=floats)))
    packed = archive(*parts(pickled)[:-1], Entry("archive/data/0", bytes(zeros), deflate=True))
    both_sides("zip-ratio", packed, None, "entry 'archive/data/0': zip: the entry unpacks to more than N times its size", most=1032)


def test_pipe_ceiling():
    data = torch_zip(program(dictionary(weight=tensor())))
    both_sides("spool-size", data, len(data), "piped input is over N bytes", at=len(data) - 1, stdin=data)


def test_deflated_out_of_order():
    """A transposed view of a deflated storage is not unpacked anew for every piece of it."""
    side = 3200
    data = struct.pack(f"<{side}f", *range(side)) * side
    pickled = program(dictionary(weight=tensor(shape=(side, side), strides=(1, side), count=side * side)))
    for label, deflate in ("stored", False), ("deflated", True):
        Path(f"{label}.pt").write_bytes(archive(*parts(pickled)[:-1], Entry("archive/data/0", data, deflate=deflate)))

    def convert(label, *options):
        return subprocess.run([LORATOOL, "convert", f"{label}.pt", "-o", f"{label}.safetensors", "-q", "-f", *options],
                              capture_output=True, text=True, timeout=120)

    check(convert("stored").returncode == 0 and convert("deflated").returncode == 0, "convert")
    check(Path("stored.safetensors").read_bytes() == Path("deflated.safetensors").read_bytes(), "other bytes from a deflated storage")
    check(convert("deflated", "--limit", f"spool-size={len(data)}").returncode == 0, "refused at its size")
    done = convert("deflated", "--limit", f"spool-size={len(data) - 1}")
    check(done.returncode == 5 and "entry 'archive/data/0': zip: to be read out of order" in done.stderr,
          f"unpacked over and over: {done.returncode} {done.stderr!r}")
    for path in Path().iterdir():
        path.unlink()


def adapter_of(patterns, modules=2):
    """A LoRA for some modules whose ranks the patterns of diffusers' metadata give."""
    header = {"__metadata__": {"lora_adapter_metadata": json.dumps({"unet.r": 1, "unet.lora_alpha": 1,
                                                                    "unet.rank_pattern": patterns})}}
    for i in range(modules):
        for factor, shape in (("A", [1, 2]), ("B", [2, 1])):
            at = 8 * (len(header) - 1)
            header[f"unet.down_blocks.0.attentions.{i}.proj_in.lora_{factor}.weight"] = {
                "dtype": "F32", "shape": shape, "data_offsets": [at, at + 8]}
    head = json.dumps(header).encode()
    return struct.pack("<Q", len(head)) + head + bytes(16 * modules)


def test_pattern_ceilings():
    patterns = {"one.x": 1, "two.x": 1, "th(re)e": 1, "^exactly\\.one": 1}
    both_sides("pattern-work", adapter_of(patterns), None, "matching its patterns takes over N steps", placed=False)
    both_sides("pattern-memory", adapter_of(patterns), None, "its patterns take over N bytes when compiled", placed=False)


def with_little_memory():
    """256 MiB of data: a sanitizer's tables alone are larger."""
    if b"__asan_init" not in Path(LORATOOL).read_bytes():
        resource.setrlimit(resource.RLIMIT_DATA, (256 << 20, 256 << 20))


def test_expensive_patterns():
    """What takes a regular expression's compiler or matcher gigabytes or hours (or its stack) is told at once."""
    cases = {"(" + "()" * 1000 + "){64}": "nested|repeats", "(" + "|" * 2000 + "){64}": "repeats", "(" + "a?" * 1000 + "){64}": "repeats",
             "(()|a)*" * 250: "", "(a*)*" * 300 + "b": "", "((((a{1,60}){1,60}){1,60}){1,60})": "repeats", "(.*)*" * 9 + "w": "steps",
             "(?:.*.*.*.*)*w": "steps", "(" * 1000 + "a" + ")" * 1000: "deep", "a{99999}": "repeats", "(.|.)*(.|.)*(.|.)*w": "steps"}
    for pattern, reason in cases.items():
        Path("costly.safetensors").write_bytes(adapter_of({pattern: 1}))
        done = subprocess.run([LORATOOL, "info", "costly.safetensors"], capture_output=True, text=True, timeout=20,
                              preexec_fn=with_little_memory)
        label = f"{pattern[:40]}: {done.returncode} {done.stderr[:300]!r}"
        check(done.returncode == 5 if reason else done.returncode in (0, 5), label)
        check(re.search(reason, done.stderr) and done.stderr.count("\n") == (done.returncode != 0), label)
    many = {f"(a{i}{'b' * 60}){{64}}": 1 for i in range(20000)}
    Path("costly.safetensors").write_bytes(adapter_of(many))
    done = subprocess.run([LORATOOL, "info", "costly.safetensors"], capture_output=True, text=True, timeout=60,
                          preexec_fn=with_little_memory)
    check(done.returncode == 5 and "its patterns take over 16777216 bytes" in done.stderr, f"many: {done.returncode} {done.stderr[:300]!r}")
    Path("costly.safetensors").unlink()


ELSEWHERE = {"header-size", "metadata-entries", "json-depth", "json-values", "shards"}


def test_all_are_tried():
    done = subprocess.run([LORATOOL, "info", "--limit", "nothing=1", "x"], capture_output=True, text=True)
    names = set(re.sub(r".*there are: ", "", done.stderr.strip().splitlines()[0]).split(", "))
    names = {item.split()[0] for item in names}
    check(names == tried | ELSEWHERE, f"not tried: {names - tried - ELSEWHERE}, no limits: {(tried | ELSEWHERE) - names}")
    for limit in names:
        told = subprocess.run([LORATOOL, "info", "--limit", f"{limit}={2**62}", "absent"], capture_output=True, text=True).stderr
        most = re.search(rf"the limit '{limit}' takes 1 to (\d+)", told)
        most, over = (int(most[1]), int(most[1]) + 1) if most else (2**62, 2**64)  # or nothing but the number's type
        for value, code in ((0, 2), (1, 1), (most, 1), (over, 2)):
            done = subprocess.run([LORATOOL, "info", "--limit", f"{limit}={value}", "absent"], capture_output=True, text=True)
            check(done.returncode == code, f"{limit}={value}: {done.returncode} {done.stderr!r}")


if __name__ == "__main__":
    run_tests(test_pickle_ceilings, test_object_ceilings, test_overlap, test_archive_ceilings, test_pipe_ceiling,
              test_deflated_out_of_order,
              test_pattern_ceilings, test_expensive_patterns, test_all_are_tried)
