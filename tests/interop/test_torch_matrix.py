#!/usr/bin/env python3
"""Torch files of every container, type and layout that torch writes, against torch.load.

Each file holds every type in every layout, in one of the structures that trainers save; the
tensors must come out of `convert` with the type, shape and bytes that torch gives them.
"""

import json
import os
import struct
import subprocess
import warnings
import zipfile
from collections import OrderedDict

from common import DTYPES, RawFile, SOURCE, check, loratool, report, run_tests, tensor_bytes
from torchfiles import listing, same_as_file, same_as_torch, same_names, spelling, torch_tensors, walk
from torchmade import (ABSENT, STORAGE_CLASSES, STRUCTURES, TYPED, TYPES, layouts, loaded, old_tar, raw,
                       rewritten, same_storage, samples, saved, swapped)

import torch
from safetensors.torch import load_file

warnings.simplefilter("ignore")
torch.manual_seed(7)

ALL = ["--all-tensors"]


# ---- the matrix ----------------------------------------------------------------------

def check_listing(path, wanted, what, *options, in_place=True):
    """Types, shapes and sizes are right; a tensor in one piece lies where the listing says."""
    rows, image = listing(path, *options), path.read_bytes()
    same_names(rows, wanted, f"{what}: info")
    for name in rows.keys() & wanted.keys():
        tensor = wanted[name]
        expected = (spelling(tensor.dtype), f"[{','.join(map(str, tensor.shape))}]",
                    tensor.numel() * tensor.element_size())
        *found, offset = rows[name]
        check(tuple(found) == expected, f"{what}: info -t: {name} {found}, not {expected}", "listing")
        if in_place and tensor.is_contiguous() and tensor.numel():
            data = tensor_bytes(tensor)
            check(offset is not None and image[offset:offset + len(data)] == data,
                  f"{what}: info -t: {name} is not at {offset}", "listing")


def check_all(path, wanted, what, work, in_place=True):
    """Everything comes out, under full paths."""
    check_listing(path, wanted, what, *ALL, in_place=in_place)
    has = {tensor.dtype for tensor in wanted.values()}
    out = work / "out.safetensors"
    out.unlink(missing_ok=True)
    if has & ABSENT:
        loratool("convert", path, "-o", out, *ALL, code=1)
        check(not out.exists(), f"{what}: a file without its complex tensors was written", "files")
    else:
        loratool("convert", path, "-o", out, *ALL)
        same_as_file(out, wanted, what)
    again = work / "out.pt"
    loratool("convert", path, "-o", again, "-f", *ALL)
    if check(again.exists(), f"{what}: no out.pt", "files"):
        ours = torch.load(again, weights_only=True)
        same_as_torch(ours, wanted, f"{what}: to .pt")
        lacking = same_storage(wanted) - same_storage(ours)
        apart = [sorted(group) for group in lacking][:3]
        check(not apart, f"{what}: to .pt: no longer shared: {apart}", "tied")


def check_model(path, wanted, what, work):
    """The model's tensors come out under their own names."""
    out = work / "model.safetensors"
    out.unlink(missing_ok=True)
    check_listing(path, wanted, f"{what}: model")
    if not {tensor.dtype for tensor in wanted.values()} & ABSENT:
        loratool("convert", path, "-o", out)
        same_as_file(out, wanted, f"{what}: model")


def inside(tensors, prefix):
    """The tensors whose names begin with a prefix, without it."""
    return {name[len(prefix):]: t for name, t in tensors.items() if name.startswith(prefix)}


def matrix(work):
    for legacy in (False, True):
        for dtypes in ([d for d in (TYPED if legacy else TYPES) if d not in ABSENT],
                       [d for d in (TYPED if legacy else TYPES) if d in ABSENT]):
            tensors = samples(dtypes)
            for name, (make, model, safe) in STRUCTURES.items():
                what = f"{'legacy' if legacy else 'zip'}, {name}, {len(dtypes)} types"
                path = saved(work / "in.pt", make(tensors), legacy)
                wanted = loaded(path, safe)
                check(len(wanted) >= len(tensors), f"{what}: torch lost tensors", "torch")
                check_all(path, wanted, what, work)
                if model is not None:
                    check_model(path, inside(wanted, model), what, work)


def wrappers(work):
    """What trainers wrap around the model's tensors is taken off, what goes with it set aside."""
    tensors = {"a.weight": raw(torch.float32, 2, 3), "b.bias": raw(torch.float16, 4)}
    state = {0: {"exp_avg": raw(torch.float32, 2, 3)}}
    aside = {"optimizer": {"state": state, "param_groups": []}, "epoch": 3}
    for wrapper in ("state_dict", "model", "model_state_dict", "module", "params", "params_ema",
                    "model.state_dict"):
        value = tensors
        for word in reversed(wrapper.split(".")):
            value = {word: value}
        for beside in aside, {**aside, "loss": torch.tensor(0.5)}:
            what = f"wrapper {wrapper} beside {' '.join(beside)}"
            path = saved(work / "in.pt", {**value, **beside})
            check_model(path, tensors, what, work)
            told = {item["path"].split(".")[0] for item in report("info", path)["aside"]}
            check(set(beside) <= told, f"{what}: set aside: {told}", "aside")
            check_listing(path, loaded(path), what, *ALL)


def roots(work):
    """Roots other than a dict."""
    lone = raw(torch.float32, 3, 2)
    for what, value in {"tensor": lone, "transposed": lone.t(), "parameter": torch.nn.Parameter(lone),
                        "list": [lone, lone[1]], "tuple": (lone, {"x": lone})}.items():
        for legacy in (False, True):
            path = saved(work / "in.pt", value, legacy)
            check_all(path, loaded(path), f"root {what}{', legacy' * legacy}", work)
    for what, value in {"empty dict": {}, "number": 3, "none": None, "text": "weights"}.items():
        path = saved(work / "in.pt", value)
        check(not listing(path, *ALL), f"root {what}: tensors out of nowhere", "names")


def names(work):
    """Names that are awkward in JSON, in dotted paths and as keys."""
    keys = ["with space", "weiß", "日本.重み", "\U0001f642", 'a"b\\c', "a/b", "..", "x" * 1000,
            "tab\tnew\nline", 7, -1, 2**40]
    value = {key: raw(torch.float32, i + 1) for i, key in enumerate(keys)}
    for legacy in (False, True):
        path = saved(work / "in.pt", value, legacy)
        out = work / "out.safetensors"
        loratool("convert", path, "-o", out, "-f", *ALL)
        same_as_file(out, loaded(path), f"names{', legacy' * legacy}")
    for what, value in {
        "one dotted path": {"a.b": raw(torch.float32, 2), "a": {"b": raw(torch.float32, 3)}},
        "a number and its text": {1: raw(torch.float32, 2), "1": raw(torch.float32, 3)},
        "cut at NUL": {"a\0b": raw(torch.float32, 2), "a\0c": raw(torch.float32, 3)},
    }.items():  # names that could fall together: no tensor may be lost in silence
        path = saved(work / "in.pt", value)
        out = work / "twice.safetensors"
        out.unlink(missing_ok=True)
        words = [os.environ["LORATOOL"], "convert", path, "-o", out, *ALL]
        done = subprocess.run(words, capture_output=True, timeout=60)
        check(done.returncode in (1, 5) and not out.exists() or
              done.returncode == 0 and len(RawFile(out).entries) == 2,
              f"{what} for two tensors: exit {done.returncode}", "names")


def lazy_bits(work):
    """Tensors that torch conjugates or negates only when they are read."""

    def whole():
        return torch.complex(torch.randn(3, 4), torch.randn(3, 4))

    tensors = {"conjugate": whole().conj(), "negative": whole().conj().imag,
               "turned": whole().conj().t(), "plain": whole()}
    path = saved(work / "in.pt", tensors)
    wanted = {name: t.resolve_conj().resolve_neg() for name, t in loaded(path).items()}
    out = work / "out.safetensors"
    words = [os.environ["LORATOOL"], "convert", path, "-o", out, *ALL]
    done = subprocess.run(words, capture_output=True, timeout=60)
    check(done.returncode in (0, 1), f"lazy bits: exit {done.returncode}", "exit code")
    if not done.returncode:  # refusing them would do, too
        same_as_file(out, wanted, "lazy bits")


# ---- other shapes of the same containers ---------------------------------------------

def containers(work):
    tensors = samples([torch.float16, torch.float32, torch.int64, torch.float8_e4m3fn, torch.uint16])
    path = saved(work / "in.pt", tensors)
    wanted = loaded(path)
    recent = {".format_version", ".storage_alignment", ".data/serialization_id"}
    for what, options in {
        "deflated": dict(method=zipfile.ZIP_DEFLATED),
        "zip64": dict(limit=0),
        "zip64, deflated": dict(limit=0, method=zipfile.ZIP_DEFLATED),
        "as torch 1.6": dict(drop=recent | {"byteorder"}),
        "another folder": dict(folder="my model.v2 é"),
        "backwards": dict(backwards=True),
    }.items():
        other = rewritten(path, **options)
        if what != "backwards":  # torch wants a sensible first name
            same_as_torch(loaded(other), wanted, f"torch: {what}")
        check_all(other, wanted, what, work, in_place="deflated" not in what)


def byte_orders(work):
    """Files of big-endian machines, by the record `byteorder`."""
    for unit, dtypes in {1: [torch.uint8, torch.bool], 2: [torch.float16, torch.bfloat16, torch.int16],
                         4: [torch.float32, torch.int32, torch.complex64],
                         8: [torch.float64, torch.int64, torch.complex128]}.items():
        path = saved(work / "in.pt", samples(dtypes))
        other = rewritten(path, lambda name, data: b"big" if name == "byteorder" else
                          swapped(data, unit) if name.startswith("data/") else data)
        wanted = loaded(path)
        if torch.complex64 not in dtypes and torch.complex128 not in dtypes:
            same_as_torch(loaded(other), wanted, f"torch: big-endian, unit {unit}")
        check_all(other, wanted, f"big-endian, unit {unit}", work, in_place=False)


def protocols(work):
    tensors = samples([torch.float16, torch.float32, torch.int64])
    for protocol in (1, 2, 3, 4, 5):
        for legacy in (False, True):
            for structure in ("nested", "lightning"):
                path = saved(work / "in.pt", STRUCTURES[structure].make(tensors), legacy,
                             pickle_protocol=protocol)
                what = f"protocol {protocol}, {structure}{', legacy' * legacy}"
                check_all(path, loaded(path, False), what, work)


def tars(work):
    tensors = {}
    for dtype in STORAGE_CLASSES:
        tensors.update({f"{dtype}"[6:] + "." + name: t for name, t in layouts(dtype).items()
                        if name not in ("parameter", "scalar", "scalar_inside") and t.numel()})
    views = [tensors["float32.part"], tensors["int64.row"], tensors["uint8.offset"]]
    for what, value in {"plain": OrderedDict(tensors),
                        "nested": {"state": [tensors, 3, "x"], "epoch": 7}}.items():
        path = old_tar(work / "in.tar", value, views)
        check_all(path, loaded(path, False), f"tar, {what}", work)


def pipes(work):
    """The same through standard input."""
    tensors = samples([torch.float32, torch.int8])
    old = {name: t for name, t in tensors.items() if t.dim() and t.numel() and "parameter" not in name}
    for what, path in {"zip": saved(work / "zip.pt", tensors),
                       "legacy": saved(work / "legacy.pt", tensors, True),
                       "tar": old_tar(work / "tar.pt", old)}.items():
        wanted = old if what == "tar" else loaded(path)
        out = work / f"{what}.safetensors"
        words = [os.environ["LORATOOL"], "convert", "-", "-o", out, *ALL]
        done = subprocess.run(words, input=path.read_bytes(), capture_output=True, timeout=60)
        check(done.returncode == 0, f"{what} through a pipe: {done}", "exit code")
        same_as_file(out, wanted, f"{what} through a pipe")


def of_the_gpu(work):
    """Storages that say they were on a GPU, and their old classes."""
    for legacy in (False, True):
        path = saved(work / "in.pt", samples(d for d in TYPED if d not in ABSENT), legacy)
        wanted = loaded(path)

        def moved(name, data):
            if name != "data.pkl":
                return data
            for kind in STORAGE_CLASSES.values():
                name = kind.encode() + b"\n"
                data = data.replace(b"ctorch\n" + name, b"ctorch.cuda\n" + name)
            return data.replace(b"X\3\0\0\0cpu", b"X\6\0\0\0cuda:1")

        if legacy:
            other = work / "moved.pt"
            other.write_bytes(moved("data.pkl", path.read_bytes()))
        else:
            other = rewritten(path, moved)
        found = dict(walk(torch.load(other, map_location="cpu", weights_only=True)))
        same_as_torch(found, wanted, "torch: from a GPU")
        check_all(other, wanted, f"from a GPU{', legacy' * legacy}", work)


def crowds(work):
    """More tensors than a small zip file has entries for."""
    tensors = {f"t{i}": torch.tensor([i, -i], dtype=torch.int32) for i in range(70000)}
    for legacy in (False, True):
        path = saved(work / "in.pt", tensors, legacy)
        out = work / f"out-{legacy}.safetensors"
        loratool("convert", path, "-o", out, "-q")
        same_as_file(out, tensors, f"70,000 tensors{', legacy' * legacy}")


def depths(work):
    """Deep nesting is read; what is too deep is said to be, not lost."""
    for depth, code in (80, 0), (300, 5):
        value = raw(torch.float32, 2)
        for _ in range(depth):
            value = {"x": value}
        path = saved(work / "in.pt", {"top": raw(torch.float32, 1), "deep": value})
        out = work / f"out-{depth}.safetensors"
        loratool("convert", path, "-o", out, *ALL, code=code)
        if code == 0:
            same_as_file(out, loaded(path), f"{depth} deep")
        else:
            check(not out.exists(), f"{depth} deep: a file was written", "files")


def unread(work):
    """A tensor of the model that is of a kind loratool does not read is never left out in silence."""
    eye = torch.eye(4)
    for what, odd in {"sparse": eye.to_sparse(), "sparse rows": eye.to_sparse_csr(),
                      "quantised": torch.quantize_per_tensor(eye, 0.1, 3, torch.qint8),
                      "meta": torch.empty(3, 2, device="meta"),
                      "half bytes": torch.zeros(4, 2, dtype=torch.uint8).view(torch.float4_e2m1fn_x2),
                      "bits": torch.zeros(4, dtype=torch.uint8).view(torch.bits8)}.items():
        tensors = {"plain": raw(torch.float32, 3), "odd.weight": odd}
        path = saved(work / "in.pt", {"state_dict": tensors})
        out = work / "unread.safetensors"
        for options in [], ALL:
            loratool("convert", path, "-o", out, *options, code=1)
            check(not out.exists(), f"{what}: a file without it was written", "files")
        told = [item["path"] for item in report("info", path)["aside"]]
        check(any(path.endswith("odd.weight") for path in told), f"{what}: set aside: {told}", "aside")


def containers_of_parameters(work):
    """An embedding's ParameterDict holds the model: its tensors are read, or the file refused."""
    vectors = torch.nn.Parameter(torch.randn(2, 8))
    for what, holder in {"dict": torch.nn.ParameterDict({"*": vectors}),
                         "list": torch.nn.ParameterList([vectors])}.items():
        path = saved(work / "in.pt", {"string_to_token": {"*": torch.tensor(265)}, "step": 5,
                                      "string_to_param": holder})
        out = work / f"{what}.safetensors"
        words = [os.environ["LORATOOL"], "convert", path, "-o", out]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        check(done.returncode in (1, 5) or done.returncode == 0 and any(
                  RawFile(out).bytes_of(name) == tensor_bytes(vectors.detach()) for name in RawFile(out).entries),
              f"parameter {what}: exit {done.returncode}: {done.stdout}", "names")


# ---- writing -------------------------------------------------------------------------

def there_and_back(work):
    """safetensors -> ckpt -> safetensors, bit for bit."""
    everything = samples([dtype for dtype in TYPES if dtype not in ABSENT])
    entries, data = {}, b""
    for name, tensor in everything.items():
        size = tensor.numel() * tensor.element_size()
        entries[name] = {"dtype": spelling(tensor.dtype), "shape": list(tensor.shape),
                         "data_offsets": [len(data), len(data) + size]}
        data += tensor_bytes(tensor)
    header = json.dumps({"__metadata__": {"format": "pt", "note": "kept"}, **entries}).encode()
    source = work / "in.safetensors"
    source.write_bytes(struct.pack("<Q", len(header)) + header + data)
    models = [source, SOURCE / "testdata/mini-llm/base/model.safetensors",
              SOURCE / "testdata/mini-llm/lora/adapter_model.safetensors"]
    for path in models:
        for suffix in (".ckpt", ".pt", ".pth", ".bin"):
            middle, back = work / f"middle{suffix}", work / "back.safetensors"
            loratool("convert", path, "-o", middle, "-f", "--allow-unmatched")  # its config stays behind
            loratool("convert", middle, "-o", back, "-f")
            wanted = everything if path == source else load_file(path)
            same_as_torch(torch.load(middle, weights_only=True), wanted, f"{path.name} to {suffix}")
            same_as_file(back, wanted, f"{path.name} to {suffix} and back")
            if suffix == ".ckpt":
                mapped = torch.load(middle, weights_only=True, mmap=True)
                same_as_torch(mapped, wanted, f"{path.name} mapped")


def dtypes(work):
    """--dtype on what a torch file holds."""
    tensors = {f"{name}.{layout}": tensor for name, dtype in DTYPES.items() for layout, tensor in
               {"plain": torch.randn(7, 5).to(dtype), "transposed": torch.randn(5, 7).to(dtype).t(),
                "stepped": torch.randn(9, 9).to(dtype)[::2, ::3]}.items()}
    tensors["count"] = torch.arange(5)
    path = saved(work / "in.pt", tensors)
    for name, dtype in DTYPES.items():
        for out in (work / f"{name}.safetensors", work / f"{name}.pt"):
            loratool("convert", path, "-o", out, "--dtype", name)
            wanted = {n: t.to(dtype) if t.is_floating_point() else t for n, t in tensors.items()}
            found = torch_tensors(out) if out.suffix == ".pt" else load_file(out)
            same_as_torch(found, wanted, f"--dtype {name}")


class Hostile:
    def __reduce__(self):
        return os.system, ("exit 3",)


def hostile(work):
    """A pickle that would run a command: named, refused, and its tensors to be had on request."""
    tensors = {"weight": raw(torch.float32, 4, 3)}
    for legacy in (False, True):
        path = saved(work / "in.pt", {"state_dict": tensors, "extra": Hostile()}, legacy)
        out = work / f"out-{legacy}.safetensors"
        loratool("info", path)
        loratool("info", "--strict", path, code=5)
        named = {item["name"]: item["verdict"] for item in report("info", path)["globals"]}
        check(named.get("posix.system") == "dangerous", f"globals {named}", "globals")
        loratool("convert", path, "-o", out, code=5)
        check(not out.exists(), "a file was written all the same", "files")
        loratool("convert", path, "-o", out, "--salvage")
        same_as_file(out, tensors, "salvaged")


run_tests(matrix, wrappers, roots, names, lazy_bits, containers, byte_orders, protocols, tars, pipes,
          of_the_gpu, crowds, depths, unread, containers_of_parameters, there_and_back, dtypes, hostile)
