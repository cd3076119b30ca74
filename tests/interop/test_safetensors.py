"""Files between loratool and the safetensors package, in both directions."""

import re

from common import RawFile, check, loratool, report, run_tests, tensor_bytes

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save, save_file

METADATA = {"plain": "value", "": "empty key", "empty": "", "ss_tag": '{"a b": {"x": 1}}',
            "quotes": "a \"b\" 'c' \\ /", "unicode": "naïve 雪 🙂 \u2028", "control": "1\n2\t\x01",
            "long": "x" * 20000}
ODD_NAMES = ["", " ", "a b", 'quote " and \\ back', "slash/dot.dot", "雪.été.🙂", "tab\tnew\nline",
             "\x7f", "\u2028", "__metadata", "x" * 3000, "%s%n", "-r"]


def writable_dtypes():
    """Every torch dtype that the package can write, by name."""
    found = {}
    for name in sorted(dir(torch)):
        dtype = getattr(torch, name)
        if not isinstance(dtype, torch.dtype) or dtype in found.values():
            continue
        try:
            save({"x": torch.zeros(4, dtype=torch.uint8).view(torch.bool)
                  if dtype == torch.bool else torch.zeros(16, dtype=torch.uint8).view(dtype)})
        except (KeyError, RuntimeError, SafetensorError):
            continue
        found[name] = dtype
    return found


def some_bytes(dtype, shape):
    """A tensor with an arbitrary but valid bit pattern; shape as torch counts."""
    count = torch.Size(shape).numel()
    size = torch.empty(0, dtype=dtype).element_size()
    raw = torch.randint(0, 2 if dtype == torch.bool else 256, (count * size,), dtype=torch.uint8)
    return raw.view(dtype).reshape(shape)


def all_dtypes(prefix):
    """One matrix, one scalar and one empty tensor of every dtype."""
    tensors = {}
    for name, dtype in writable_dtypes().items():
        tensors[f"{prefix}{name}.weight"] = some_bytes(dtype, (3, 4))
        tensors[f"{prefix}{name}.empty"] = some_bytes(dtype, (2, 0, 3))
        if "x2" not in name:  # a packed pair has no scalar
            tensors[f"{prefix}{name}.scalar"] = some_bytes(dtype, ())
    return tensors


def printable(text):
    """Text as loratool prints it: one '?' for each control character and mark of direction."""
    return re.sub("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]", "?", text)


def filled(lines):
    return [line for line in lines if line[4] != "0"]


def check_listing(path):
    """info's listings of a file against its header as the format defines it."""
    raw = RawFile(path)
    expected = []
    for name, entry in raw.entries.items():
        start, end = entry["data_offsets"]
        shape = "[" + ",".join(map(str, entry["shape"])) + "]"
        expected.append([printable(name), entry["dtype"], shape, str(raw.data_start + start),
                         str(end - start)])
    text = loratool("info", "--tensors", path).stdout
    listed = [line.split("\t") for line in text.split("\n")[:-1]]
    check(sorted(listed) == sorted(expected), f"{path.name}: other lines", "info --tensors")
    # Empty tensors share an offset with what follows: their place in the list is free.
    check(filled(listed) == filled(expected), f"{path.name}: other order", "info --tensors")
    text = loratool("info", "--metadata", path).stdout
    listed = sorted(line.split("\t") for line in text.split("\n")[:-1])
    expected = sorted([printable(k), printable(v)] for k, v in raw.metadata.items())
    check(listed == expected, f"metadata lines differ: {listed}"[:500], "info --metadata")
    check_json(path, raw)


def check_json(path, raw):
    info = report("info", path)
    dtypes = [entry["dtype"] for entry in raw.entries.values()]
    sizes = [e["data_offsets"][1] - e["data_offsets"][0] for e in raw.entries.values()]
    expected = {
        "container": "safetensors", "metadata": raw.metadata, "tensor_count": len(dtypes),
        "bytes": sum(sizes), "file_bytes": path.stat().st_size,
        "params": sum(torch.Size(e["shape"]).numel() for e in raw.entries.values()),
        "dtypes": {d: dtypes.count(d) for d in dtypes},
    }
    for key, value in expected.items():
        check(info[key] == value, f"{key} is {info[key]}, expected {value}"[:500], "info --json")


def test_listings(folder):
    """info says exactly what the package wrote."""
    cases = {
        "dtypes": (all_dtypes("t."), None),
        "metadata": ({"x": torch.ones(2)}, METADATA),
        "names": ({name: torch.full((i + 1,), i, dtype=torch.int16)
                   for i, name in enumerate(ODD_NAMES)}, {"format": "pt"}),
        "shapes": ({f"s{i}": torch.zeros(shape) for i, shape in enumerate(
            [(), (1,), (0,), (1, 1, 1, 1, 1), (2, 3, 4, 5, 6, 7), (70000, 1), (0, 9)])}, None),
        "nothing": ({}, None),
        "many": ({f"blocks.{i}.weight": torch.zeros(1) for i in range(5000)}, None),
    }
    print("dtypes written:", ", ".join(writable_dtypes()))
    for case, (tensors, metadata) in cases.items():
        path = folder / f"{case}.safetensors"
        save_file(tensors, path, metadata)
        check(len(RawFile(path).entries) == len(tensors), f"{case}: tensors lost in writing")
        check_listing(path)


def tiny_adapter(path, metadata=None):
    save_file({"base_model.model.model.layers.0.self_attn.o_proj.lora_A.weight":
               torch.randn(3, 8),
               "base_model.model.model.layers.0.self_attn.o_proj.lora_B.weight":
               torch.randn(16, 3)}, path, metadata)


def tiny_model(dtype=torch.float32):
    return {"model.layers.0.self_attn.o_proj.weight": torch.randn(16, 8).to(dtype),
            "model.layers.0.self_attn.q_proj.weight": torch.randn(16, 8).to(dtype),
            "model.layers.0.input_layernorm.weight": torch.ones(8, dtype=dtype)}


def check_passed_through(base, merged, changed):
    """Every tensor but the changed ones has the same bytes, and so has the metadata."""
    before, after = RawFile(base), RawFile(merged)
    check(after.metadata == before.metadata, "metadata changed", "merge")
    check(list(after.entries) == list(before.entries), "tensors or their order changed", "merge")
    for name, entry in before.entries.items():
        kept = {k: after.entries[name][k] for k in ("dtype", "shape")}
        check(kept == {k: entry[k] for k in kept}, f"{name} became {kept}", "merge")
        equal = before.bytes_of(name) == after.bytes_of(name)
        check(equal != (name in changed), f"{name}: equal bytes is {equal}", "merge")


def test_merge_passes_through(folder):
    """Whatever an adapter does not touch is copied byte for byte."""
    base, lora, out = (folder / f"{n}.safetensors" for n in ("base", "lora", "out"))
    odd = {"odd." + name: torch.rand(2, 3) for name in ODD_NAMES}
    tiny_adapter(lora)
    for tensors in (all_dtypes("extra."), odd):
        save_file({**tensors, **tiny_model()}, base, METADATA)
        done = report("merge", "--base", base, lora, "-o", out, "-f")
        check(done["tensors_passed_through"] == len(tensors) + 2, "count passed through")
        check_passed_through(base, out, {"model.layers.0.self_attn.o_proj.weight"})
        read_back(out)


def read_back(path):
    """The package reads the file, and finds in it the bytes that are there."""
    raw, tensors = RawFile(path), load_file(path)
    check(tensors.keys() == raw.entries.keys(), f"{path.name}: names", "read back")
    check(len(tensors) > 0, f"{path.name}: nothing in it", "read back")
    for name, tensor in tensors.items():
        check(tensor_bytes(tensor) == raw.bytes_of(name), f"{path.name}: {name}", "read back")


def test_outputs_are_read(folder):
    """Outputs of extract, resize and merge in every dtype are ordinary files."""
    base, tuned, lora = (folder / f"{n}.safetensors" for n in ("base", "tuned", "lora"))
    save_file(tiny_model(), base)
    save_file(tiny_model(), tuned)
    for dtype in ("f32", "f16", "bf16"):
        for dialect in ("peft", "kohya", "diffusers"):
            path = folder / f"{dialect}-{dtype}.safetensors"
            loratool("extract", "--base", base, "--tuned", tuned, "-o", path, "-r", 4,
                     "--dtype", dtype, "--dialect", dialect)
            read_back(path)
            read_back_resized(path, dtype)
        merged = folder / f"merged-{dtype}.safetensors"
        tiny_adapter(lora, {"any": "thing"})
        loratool("merge", "--base", base, lora, "-o", merged, "--dtype", dtype)
        read_back(merged)


def read_back_resized(path, dtype):
    small = path.with_name("small-" + path.name)
    loratool("resize", path, "-o", small, "-r", 2, "--dtype", dtype)
    read_back(small)
    before, after = load_file(path), load_file(small)
    check(before.keys() == after.keys(), f"{small.name}: names changed", "read back")
    ranks = {t.shape[0] for n, t in after.items() if "down" in n or "lora_A" in n}
    check(ranks == {2}, f"{small.name}: ranks {ranks}", "read back")


torch.manual_seed(1)
run_tests(test_listings, test_merge_passes_through, test_outputs_are_read)
