#!/usr/bin/env python3
"""Where a torch file is faulty: each kind of message tells the byte in the file, or the tensor.

The byte is worked out here from how the file was put together.  Of a deflated pickle it is that of
the entry, and the message tells the byte in what the entry unpacks to.
"""

import json
import os
import struct
import subprocess
from pathlib import Path

from checks import check, run_tests
from torchfiles import (
    Entry, archive, dictionary, good, integer, legacy, legacy_tensor, name, parts, program, storage, tar, tar_object,
    tar_storages, tar_tensors, tensor, text, torch_zip, tuple_of,
)

LORATOOL = os.environ["LORATOOL"]
HEAD = 30  # of a zip entry, without its name
PICKLE_AT = HEAD + len("archive/data.pkl")


def told(label, data, message, at=None, code=5, path="bad.pt", show=None):
    """at: the byte; None: message holds the place."""
    Path(path).write_bytes(data)
    done = subprocess.run([LORATOOL, "info", "--strict", show or path], capture_output=True, text=True, errors="replace", timeout=120)
    check(done.returncode == code, f"{label}: exit {done.returncode}: {done.stderr!r}")
    check(f" {path}: " in done.stderr and done.stderr.count("\n") == 1, f"{label}: {done.stderr!r}")
    check(message in done.stderr, f"{label}: {message!r} is not in {done.stderr!r}")
    if at is not None:
        check(done.stderr.endswith(f" (at byte {at})\n"), f"{label}: not at byte {at}: {done.stderr!r}")
    Path(path).unlink()


# ---- pickles -------------------------------------------------------------------------

FAULTS = {  # what stands where a value could: the message, and how many bytes into it the fault lies
    "value missing": (b"(R", "pickle: REDUCE finds too few values on the stack", 1),
    "no mark": (b"Ntt", "pickle: TUPLE finds no mark", 2),
    "not an opcode": (b"N\xff", "pickle: unknown operation 0xff", 1),
    "never remembered": (b"Nh\x63", "pickle: BINGET names a value that was not remembered", 1),
    "not a number": (b"Ngx\n", "pickle: GET has no number", 1),
    "no integer": (b"NIx\n", "pickle: INT has no integer", 1),
    "no float": (b"NFx\n", "pickle: FLOAT has no number", 1),
    "no quotes": (b"NSx\n", "pickle: STRING has no quoted string", 1),
    "broken escape": (b"NS'\\x0'\n", "pickle: STRING has a string with a broken escape", 1),
    "empty name": (b"Nc\n\n", "pickle: GLOBAL names no global", 1),
    "names that are none": (b"K\1K\2\x93", "pickle: STACK_GLOBAL finds no names on the stack", 4),
    "arguments that are none": (b"NNR", "pickle: REDUCE finds no tuple of arguments", 2),
    "state of nothing": (b"N}b", "pickle: BUILD on None", 2),
    "items of nothing": (b"N(Ne", "pickle: APPENDS on None", 3),
    "half a pair": (b"}(Nu", "pickle: SETITEMS finds a key without a value", 3),
    "extension": (b"N\x82\x01", "pickle: EXT1 is not an operation of saved tensors", 1),
    "long text": (b"NX\xff\xff\xff\x7f", "pickle: BINUNICODE goes past the end of the data", 1),
    "later protocol": (b"N\x80\x06", "pickle: PROTO is of a later protocol than 5", 1),
}


def test_pickles():
    for label, (body, message, inside) in FAULTS.items():
        pickled = program(dictionary(weight=tensor(), extra=body))
        at = pickled.index(text("extra") + body) + len(text("extra")) + inside
        told(f"{label}, zip", torch_zip(pickled), f"archive/data.pkl: {message}", PICKLE_AT + at)
        told(f"{label}, deflated", archive(Entry("archive/data.pkl", pickled, deflate=True), *parts(pickled)[1:]),
             f"archive/data.pkl, byte {at} of what it unpacks to: {message}", PICKLE_AT)
        old = program(dictionary(weight=legacy_tensor(), extra=body))
        data = legacy(old)
        told(f"{label}, legacy", data, message, data.index(text("extra") + body) + len(text("extra")) + inside)
        in_tar = tar(("storages", tar_storages()), ("tensors", tar_tensors()), ("pickle", program(dictionary(extra=body))))
        told(f"{label}, tar", in_tar, f"pickle: {message}", in_tar.index(text("extra") + body) + len(text("extra")) + inside)
    cut = program(dictionary(weight=tensor()))[:-1]
    told("no end", torch_zip(cut), "the data ends early", PICKLE_AT + len(cut))


def test_globals():
    called = name("os", "system") + tuple_of(text("true")) + b"R"
    pickled = program(dictionary(weight=tensor(), a=name("mine", "Class"), extra=called))
    data = torch_zip(pickled)
    told("danger", data, "the pickle in it names 'os.system'", data.index(b"cos\n"))
    stacked = text("os") + text("system") + b"\x93"
    data = torch_zip(program(dictionary(weight=tensor(), extra=stacked)))
    told("danger by name", data, "names 'os.system'", data.index(stacked) + len(stacked) - 1)
    # "foo.os" "system" is no danger, "foo" "os.system" is: the second is the one to tell.
    twice = name("foo.os", "system"), text("foo") + text("os.system") + b"\x93"
    data = torch_zip(program(dictionary(weight=tensor(), a=twice[0], b=twice[1])))
    told("danger by another name", data, "names 'foo.os.system'", data.index(twice[1]) + len(twice[1]) - 1)
    told("danger, deflated", archive(Entry("archive/data.pkl", pickled, deflate=True), *parts(pickled)[1:]),
         "names 'os.system'", PICKLE_AT)
    data = legacy(program(dictionary(weight=legacy_tensor(), extra=called)))
    told("danger, legacy", data, "names 'os.system'", data.index(b"cos\n"))
    data = tar(("storages", tar_storages()), ("tensors", tar_tensors()), ("pickle", program(dictionary(extra=called))))
    told("danger, tar", data, "names 'os.system'", data.index(b"cos\n"))
    data = program(dictionary(extra=called))
    told("danger, no torch file", data, "torch did not save tensors with, and it names 'os.system'", data.index(b"cos\n"))
    told("no torch file", program(dictionary(a=b"N", b=b"N")), "not one that torch saved tensors with", 0, code=1)


def test_sets():
    """In a model of several files the file that holds the danger is told."""
    Path("m").mkdir()
    pickled = program(dictionary(weight=tensor(), extra=name("os", "system")))
    Path("m/pytorch_model-00001-of-00002.bin").write_bytes(torch_zip(program(dictionary(other=tensor()))))
    data = torch_zip(pickled)
    second = "m/pytorch_model-00002-of-00002.bin"
    told("danger in a set", data, "names 'os.system'", data.index(b"cos\n"), path=second, show="m")
    told("fault in a set", data[:-30], "no directory at its end", len(data) - 30, path=second, show="m")
    Path("m/pytorch_model-00001-of-00002.bin").unlink()
    Path("m").rmdir()


def refused(label, folder, shown, message, code=5):
    """Shown of the folder's files (name -> bytes) ends with that message."""
    Path("m").mkdir()
    for name_, data in folder.items():
        Path("m", name_).write_bytes(data if isinstance(data, bytes) else data.encode())
    done = subprocess.run([LORATOOL, "info", Path("m", shown)], capture_output=True, text=True, errors="replace", timeout=120)
    check(done.returncode == code and done.stderr == f"loratool info: {message}\n", f"{label}: {done.returncode} {done.stderr!r}")
    for name_ in folder:
        Path("m", name_).unlink()
    Path("m").rmdir()


INDEX = "model.safetensors.index.json"


def plain(*names):
    """A safetensors file of one-byte tensors."""
    head = ",".join(f'"{n}":{{"dtype":"U8","shape":[1],"data_offsets":[{i},{i + 1}]}}' for i, n in enumerate(names))
    return struct.pack("<Q", len(head) + 2) + b"{" + head.encode() + b"}" + bytes(len(names))


def test_indexes():
    """The index that is wrong, with the byte where its JSON is, or the tensor and the shard."""
    one, two = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    def index(**map_):
        return '{"weight_map":{%s}}' % ",".join(f'"{k}":{v}' for k, v in map_.items())
    for label, text_, message in (
        ("no JSON", '{"weight_map":{"a":}}', "invalid JSON: unexpected character (at byte 19)"),
        ("not UTF-8", b'{"weight_map":{"\xff":1}}', "invalid JSON: not UTF-8 (at byte 16)"),
        ("empty", "", "invalid JSON: the text ends early (at byte 0)"),
        ("no map", "{}", "the index has no weight_map"),
        ("a list", "[]", "the index has no weight_map"),
        ("map is a list", '{"weight_map":[]}', "the index has no weight_map"),
        ("no file", index(a="1"), "the index gives tensor 'a' no file name"),
        ("out of the folder", index(a='"../x"'), "the index puts tensor 'a' into '../x', which is not the name of a file beside it"),
        ("twice", '{"weight_map":{"a":"%s","a":"%s"}}' % (one, one), "the index lists tensor 'a' twice"),
    ):
        refused(label, {INDEX: text_}, INDEX, f"m/{INDEX}: {message}")
    refused("not listed", {INDEX: index(a=f'"{one}"'), one: plain("a", "b")}, INDEX,
            f"m/{INDEX}: its shard '{one}' holds tensor 'b', which it does not list")
    refused("not there", {INDEX: index(a=f'"{one}"', b=f'"{one}"'), one: plain("a")}, INDEX,
            f"m/{INDEX}: it puts tensor 'b' into '{one}', which does not hold it")
    refused("a shard's own fault", {INDEX: index(a=f'"{one}"'), one: plain("a")[:-1]}, INDEX,
            f"m/{one}: tensor 'a': the data ends at byte 1 of 0: the file is truncated (at byte 9)")
    refused("in both", {one: plain("a"), two: plain("a")}, "", f"m/{two}: tensor 'a': stands in '{one}' too")
    refused("a shard is missing", {two: plain("a")}, "", f"m: the shard '{one}' is missing and there is no index", code=3)
    refused("a million shards", {"model-00001-of-99999.safetensors": plain("a")}, "", "m: over 1000 shards")
    refused("pipeline", {"model_index.json": "[1]"}, "", "m/model_index.json: is not a JSON object (at byte 0)")
    refused("pipeline's component", {"model_index.json": '{"../unet":["diffusers","UNet"]}'}, "",
            "m/model_index.json: bad name of a component: '../unet'")
    refused("pipeline's JSON", {"model_index.json": '{"unet":[1,]}'}, "", "m/model_index.json: invalid JSON: unexpected character (at byte 11)")
    refused("adapter's JSON", {"adapter_config.json": '{"r":01}', "adapter_model.safetensors": plain("base_model.model.a.lora_A.weight")}, "",
            "m/adapter_config.json: invalid JSON: number with a leading zero (at byte 5)")


# ---- storages and tensors ------------------------------------------------------------

def rebuilt(id_):
    return name("torch._utils", "_rebuild_tensor_v2") + tuple_of(
        id_, integer(0), tuple_of(integer(4)), tuple_of(integer(1)), b"\x89", b"N") + b"R"


def test_storages():
    kind = name("torch", "FloatStorage")
    for label, parts_, message in (
        ("two parts", (text("storage"), kind), "a storage of 2 parts"),
        ("seven parts", (text("storage"), kind, text("0"), text("cpu"), integer(4), b"N", b"N"), "a storage of 7 parts"),
        ("class is a text", (text("storage"), text("FloatStorage"), text("0"), text("cpu"), integer(4)), "a storage's class is a string"),
        ("key is a list", (text("storage"), kind, b"]", text("cpu"), integer(4)), "a storage's key is a list"),
        ("negative count", (text("storage"), kind, text("0"), text("cpu"), integer(-4)), "storage '0': its number of elements is damaged"),
        ("view of two", (text("storage"), kind, text("0"), text("cpu"), integer(4), tuple_of(b"N", b"N")), "a storage's view is damaged"),
        ("view past it", (text("storage"), kind, text("0"), text("cpu"), integer(4), tuple_of(text("1"), integer(2), integer(3))),
         "a storage's view goes past the end of the storage"),
    ):
        id_ = tuple_of(*parts_) + b"Q"
        pickled = program(dictionary(good=tensor(), weight=rebuilt(id_)))
        inside = pickled.index(id_) + len(id_) - 1
        told(label, torch_zip(pickled), message, PICKLE_AT + inside)
        told(f"{label}, deflated", archive(Entry("archive/data.pkl", pickled, deflate=True), *parts(pickled)[1:]),
             f"archive/data.pkl, byte {inside} of what it unpacks to: {message}", PICKLE_AT)
        data = legacy(program(dictionary(weight=rebuilt(id_))))
        told(f"{label}, legacy", data, message, data.index(id_) + len(id_) - 1)


def test_tensors():
    """By their names: where in the pickle they are made of what says little."""
    for label, options, message in (
        ("past its storage", dict(shape=(5,), strides=(1,)), "its elements go past the end of its storage (16 bytes)"),
        ("no such entry", dict(key="7"), "its storage '7' is missing"),
        ("two strides", dict(shape=(4,), strides=(1, 1)), "it has 1 sizes and 2 strides"),
        ("negative offset", dict(offset=-1), "its offset is no size"),
        ("negative size", dict(shape=(-1,), strides=(1,)), "its shape or strides hold something else than sizes"),
        ("40 dimensions", dict(shape=(1,) * 40, strides=(1,) * 40), "more dimensions than are handled"),
        ("far too large", dict(shape=(2**40,), strides=(0,)), "with it, views repeat elements: over 4294967296 bytes beside the 16 of"),
    ):
        told(label, torch_zip(program(dictionary(model=dictionary(weight=tensor(**options))))), f"weight': {message}")
    short = archive(*parts(good())[:-1], Entry("archive/data/0", bytes(8)))
    told("a short storage", short, "its storage '0' has 8 bytes instead of 16", short.index(bytes(8) + b"PK\1\2"))
    told("a key that is no text", torch_zip(program(dictionary(layers=b"}(U\x02\xff\xfe" + tensor() + b"u"))),
         "'layers': a key is no UTF-8 text")
    told("a key that is no text, outermost", torch_zip(program(b"}(U\x02\xff\xfe" + tensor() + b"u")),
         "'(the object itself)': a key is no UTF-8 text")
    told("a name twice", torch_zip(program(dictionary(a=dictionary(b=tensor()))[:-1] + text("a.b") + tensor() + b"u")),
         "tensor 'a.b': the name stands twice")


def test_legacy():
    plain = program(dictionary(weight=legacy_tensor()))
    data = legacy(plain)
    keys_at = data.index(plain) + len(plain)
    counts_at = len(data) - 24
    told("wrong count", legacy(plain, (("0", 5, bytes(20)),)), "storage '0': it has 5 elements", counts_at)
    told("not mentioned", legacy(plain, (("0", 4, bytes(16)), ("1", 4, bytes(16)))), "storage '1': the object does not mention it",
         len(legacy(plain, (("0", 4, bytes(16)), ("1", 4, bytes(16))))) - 24)
    twice = legacy(plain, (("0", 4, bytes(16)), ("0", 4, bytes(16))))
    told("twice", twice, "storage '0': it stands twice", len(twice) - 24)
    told("cut", data[:-1], "storage '0': the data ends early", len(data) - 1)
    keys = data[keys_at:counts_at]
    told("keys are no list", data.replace(keys, program(b"N")), "the list of storages is None", keys_at)
    told("a key is a list", data.replace(keys, program(b"](]e")), "a storage's key is a list", keys_at)
    version = program(b"M\xe9\x03")
    assert version in data
    told("another version", data.replace(version, program(b"M\xea\x03")), "another version than 1001", data.index(version), code=1)


def test_tar():
    def made(storages=None, tensors=None):
        return tar(("storages", storages or tar_storages()), ("tensors", tensors or tar_tensors()), ("pickle", tar_object()))

    path = Path("fine.pt")
    path.write_bytes(made())
    done = subprocess.run([LORATOOL, "info", "-t", path], capture_output=True, text=True)
    check(done.returncode == 0 and done.stdout.startswith("weight\tF32\t[4]\t"), f"tar: {done}")
    path.unlink()
    after = lambda data: len(data) + 512
    told("count", made(program(b"N")), "storages: a count is no integer", 512)
    head = b"\x80\x02K\x01."
    told("description", made(tar_storages(described=program(b"]"))), "storages: a description is damaged", after(head))
    told("class", made(tar_storages(described=program(tuple_of(integer(7), b"N", integer(1))))), "storages: a storage's class is",
         after(head))
    told("key", made(tar_storages(described=program(tuple_of(b"]", b"N", name("torch", "FloatStorage"))))),
         "storages: a storage's key is a list", after(head))
    views = after(tar_storages()) - len(b"\x80\x02].")
    told("views", made(tar_storages(views=program(b"N"))), "storages: the list of views is None", views)
    told("a view", made(tar_storages(views=program(b"](Ne"))), "storages: a storage's view is damaged", views)
    told("a view of nothing", made(tar_storages(views=program(b"](" + tuple_of(*map(integer, (1, 2, 0, 1))) + b"e"))),
         "storages: no storage '2'", views)
    told("a view past it", made(tar_storages(views=program(b"](" + tuple_of(*map(integer, (1, 7, 3, 2))) + b"e"))),
         "storages: a storage's view goes past", views)
    tensors = 512 * 2 + len(tar_storages()) + -len(tar_storages()) % 512
    described = tensors + len(head)
    told("tensor's count", made(tensors=tar_tensors(count=program(b"N"))), "tensors: a count is no integer", tensors)
    told("tensor's storage", made(tensors=tar_tensors(described=program(tuple_of(integer(9), integer(8), b"N")))),
         "tensors: no storage '8'", described)
    told("tensor past it", made(tensors=tar_tensors(numbers=(5, 1, 0))), "tensors: its elements go past the end", described)
    told("negative size", made(tensors=tar_tensors(numbers=(-4, 1, 0))), "tensors: a negative size", tensors + len(tar_tensors()) - 32)
    told("dimensions", made(tensors=tar_tensors(dims=99)), "tensors: more dimensions", tensors + len(tar_tensors()) - 32)
    bad = bytearray(made())
    bad[tensors - 512] ^= 1
    told("header", bytes(bad), "tar: a damaged header", tensors - 512)
    told("cut", made()[:tensors + 10], "tar: a member goes past the end of the file", tensors - 512)
    id_ = program(dictionary(weight=integer(5) + b"Q"))
    data = tar(("storages", tar_storages()), ("tensors", tar_tensors()), ("pickle", id_))
    told("no such object", data, "pickle: no object '5'", data.index(id_) + len(id_) - 3)


# ---- archives ------------------------------------------------------------------------

def test_archives():
    ordinary = parts(good())
    whole = archive(*ordinary)
    at = lambda data, entry: data.index(entry.encode()) + len(entry)  # its own header's name stands first
    told("cut", whole[:-1], "no directory at its end: the file is truncated", len(whole) - 1)
    two = archive(*ordinary, Entry("other/data.pkl", good()))
    told("two pickles", two, "more than one data.pkl: 'archive/data.pkl' and 'other/data.pkl'", at(two, "other/data.pkl"))
    told("empty pickle", archive(Entry("archive/data.pkl", b""), *ordinary[1:]), "'archive/data.pkl' is empty")
    odd = archive(*ordinary, Entry("archive/byteorder", b"middle"))
    told("byteorder", odd, "'archive/byteorder' is neither little nor big", at(odd, "archive/byteorder"))
    renamed = whole.replace(b"archive/version", b"archive/renamed", 1)
    told("another name in front", renamed, "entry 'archive/version': zip: the entry's own header tells another name",
         renamed.index(b"archive/renamed") + len("archive/"))
    far = archive(*ordinary[:-1], Entry("archive/data/0", bytes(16), size=2**31, csize=2**31))
    told("past the end", far, "entry 'archive/data/0': zip: ", at(far, "archive/data/0"))
    first = archive(*ordinary, Entry("archive/data/1", b"", absent=True, size=16, csize=16, offset=whole.index(b"archive/data/0") - HEAD))
    told("data of another", first, "entry 'archive/data/1': zip: the entry's own header tells another name",
         first.index(b"archive/data/0") + len("archive/data/"))
    corrupt = bytearray(archive(Entry("archive/data.pkl", good(), deflate=True), *ordinary[1:]))
    corrupt[PICKLE_AT + 3] ^= 0xff
    told("deflated nonsense", bytes(corrupt), "entry 'archive/data.pkl': zip: ", PICKLE_AT)
    told("deflated and cut", archive(Entry("archive/data.pkl", good(), deflate=True, csize=20), *ordinary[1:]),
         "entry 'archive/data.pkl': zip: ", PICKLE_AT)
    for label, entry, message, code in (
        ("encrypted", Entry("archive/x", b"x", flags=1), "zip: the entry is encrypted", 1),
        ("another method", Entry("archive/x", b"x", method=12), "zip: the entry is compressed by method 12", 1),
        ("two sizes", Entry("archive/x", b"x", size=2), "zip: a stored entry of two sizes", 5),
    ):
        told(label, archive(*ordinary, entry), f"entry 'archive/x': {message}", code=code)
    told("path", archive(*ordinary, Entry("archive/../x", b"x")), "entry 'archive/../x': zip: the name leads out of the archive")
    told("twice", archive(*ordinary, ordinary[-1]), "entry 'archive/data/0': zip: the name stands twice")


def test_other_entries():
    """What an archive holds beside what torch reads is listed, and its pickles are looked into."""
    def listed(label, *entries, code=0, options=()):
        Path("other.pt").write_bytes(archive(*parts(good()), *entries))
        done = subprocess.run([LORATOOL, "info", "--json", *options, "other.pt"], capture_output=True, text=True, timeout=120)
        check(done.returncode == code, f"{label}: exit {done.returncode} {done.stderr!r}")
        convert = subprocess.run([LORATOOL, "convert", "other.pt", "-o", "other.safetensors", "--json"], capture_output=True, text=True)
        Path("other.safetensors").unlink(missing_ok=True)
        Path("other.pt").unlink()
        dropped = {item["name"]: item["reason"] for item in json.loads(convert.stdout)["dropped"]} if convert.returncode == 0 else None
        return done, dropped

    known = [Entry(f"archive/{n}", b"1") for n in (".format_version", ".storage_alignment", ".data/serialization_id", "empty/")]
    _, without = listed("known ones", *known)
    check(without is not None and not any(n.startswith("archive/") for n in without), f"known ones: {without}")
    harmless = Entry("archive/extra.pkl", program(dictionary(a=name("collections", "OrderedDict"))))
    _, dropped = listed("others", Entry("archive/readme.txt", b"hello"), Entry("archive/data/99", bytes(8)), harmless,
                        Entry("archive/half.pkl", harmless.data[:-1]), Entry("elsewhere", b""))
    for n, reason in (("readme.txt", "an entry that torch does not read"), ("data/99", "a storage of no tensor"),
                      ("extra.pkl", "a pickle that torch does not read"), ("half.pkl", "a broken pickle that torch does not read")):
        check(dropped and dropped.get(f"archive/{n}", "").startswith(reason), f"{n}: {dropped}")
    check(dropped and "elsewhere" in dropped, f"elsewhere: {dropped}")
    called = program(dictionary(a=name("os", "system") + tuple_of(text("true")) + b"R"))
    for label, entry in (("a call", Entry("archive/evil.pkl", called)), ("deflated", Entry("archive/evil.pkl", called, deflate=True)),
                         ("outside", Entry("evil.pickle", called)), ("cut off behind the call", Entry("archive/evil.pkl", called[:-2]))):
        done, dropped = listed(label, entry, code=5, options=["--strict"])
        check("os.system" in done.stderr and "other.pt" in done.stderr, f"{label}: {done.stderr!r}")
        check(dropped is None, f"{label}: converted all the same")


if __name__ == "__main__":
    run_tests(test_pickles, test_globals, test_sets, test_indexes, test_storages, test_tensors, test_legacy,
              test_tar, test_archives, test_other_entries)
