#!/usr/bin/env python3
"""Files that older torch versions wrote, and theirs reading what loratool wrote.

LORATOOL_TORCHES names Python interpreters that have such a torch, separated by colons; without
it the test is skipped.  Known to work: torch 1.0.0 and 1.10.2 under Python 3.6, 1.4.0 under
Python 2.7, 1.6.0 under Python 3.8.  Their wheels have 0.6 to 0.9 GB each, and need numpy,
typing_extensions, dataclasses and future beside them.
"""

import json
import os
import subprocess
import sys
import warnings

from common import check, loratool, run_tests
from torchfiles import kind, listing, same_as_file, same_as_torch, same_names, torch_tensors

import torch

TORCHES = [path for path in os.environ.get("LORATOOL_TORCHES", "").split(":") if path]
if not TORCHES:
    print("skipped: LORATOOL_TORCHES names no Python with an older torch")
    sys.exit(77)
warnings.simplefilter("ignore")

# Runs under Python 2.7 and torch 1.0, too.
WRITE = """
import collections, os, sys, torch
folder = sys.argv[1]
dtypes = [n for n in ("uint8 int8 int16 int32 int64 float16 float32 float64 bool bfloat16 complex64 "
                      "complex128").split() if isinstance(getattr(torch, n, None), torch.dtype)]
torch.manual_seed(3)

def made(name, *shape):
    values = torch.randn(*shape) * 50
    if name == "bool":
        return values > 0
    return values.to(getattr(torch, name))

def layouts(name):
    whole = made(name, 6, 4)
    makers = [("contiguous", lambda: made(name, 3, 4)), ("transposed", lambda: made(name, 4, 3).t()),
              ("stepped", lambda: made(name, 7, 8)[1::2, 1::3]), ("tied", lambda: whole),
              ("tied_too", lambda: whole), ("part", lambda: whole[2:5, 1:]),
              ("offset", lambda: made(name, 40)[7:19].view(3, 4)),
              ("expanded", lambda: made(name, 1, 4).expand(3, 4)), ("scalar", lambda: made(name, 1)[0]),
              ("empty", lambda: made(name, 0, 3)),
              ("permuted", lambda: made(name, 2, 3, 4, 5).permute(0, 3, 1, 2))]
    for layout, make in makers:
        try:
            yield layout, make()
        except RuntimeError:  # this torch cannot do that to this type
            pass

def usable(name):
    try:
        return made(name, 2) is not None
    except RuntimeError:
        return False

dtypes = [name for name in dtypes if usable(name)]

class Net(torch.nn.Module):
    def __init__(self):
        super(Net, self).__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.norm = torch.nn.BatchNorm2d(4)
        self.rnn = torch.nn.LSTM(4, 5)
        self.tied = self.conv

net = Net()
optimizer = torch.optim.Adam(net.parameters())
net.rnn(net.norm(net.conv(torch.randn(2, 3, 3, 3))).view(2, 1, 4))[0].sum().backward()
optimizer.step()
flat = collections.OrderedDict((n + "." + l, t) for n in dtypes for l, t in layouts(n))
values = {
    "flat": flat,
    "net": net.state_dict(),
    "parallel": torch.nn.DataParallel(net).state_dict(),
    "training": {"epoch": 3, "model_state_dict": net.state_dict(),
                 "optimizer_state_dict": optimizer.state_dict(), "loss": 0.5,
                 "name": u"n\\xe4me", "args": ["--lr", 1e-3]},
    "lightning": {"epoch": 1, "global_step": 10, "state_dict": net.state_dict(),
                  "callbacks": {Net: {"best": 1}}, "lr_schedulers": [],
                  "optimizer_states": [optimizer.state_dict()]},
    "parameter": net.conv.weight,
    "list": [net.conv.weight.data, {"x": net.norm.running_mean}],
    "cell": {"string_to_param": torch.nn.ParameterDict({"*": torch.nn.Parameter(torch.randn(2, 8))}),
             "step": 5},
    "module": net,
}
ways = [("default", {})]
if tuple(map(int, torch.__version__.split(".")[:2])) >= (1, 6):
    # before, zip files were an experiment that no later torch reads
    ways.append(("legacy", {"_use_new_zipfile_serialization": False}))
for protocol in (3, 4):
    if sys.version_info[0] >= 3:
        ways.append(("protocol%d" % protocol, {"pickle_protocol": protocol}))
for way, options in ways:
    for name in sorted(values):
        try:
            torch.save(values[name], os.path.join(folder, "%s-%s.pt" % (name, way)), **options)
        except Exception as error:
            print("%s-%s: %s" % (name, way, error))
print("%s, %d tensors of %s" % (torch.__version__, len(flat), " ".join(dtypes)))
"""

READ = """
import json, sys, torch
value = torch.load(sys.argv[1])
print(json.dumps({name: [str(t.dtype)[6:], list(t.shape),
    [repr(v) for v in t.contiguous().view(-1).tolist()]] for name, t in value.items()}))
"""


PREFIXES = {"training": "model_state_dict.", "lightning": "state_dict.", "parallel": "module."}


def run(python, code, *args):
    words = [python, "-c", code, *map(str, args)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    check(done.returncode == 0, f"{python}: {done.stderr[-400:]}", "other torch")
    return done.stdout


def written(work):
    """loratool reads what the other torch wrote as this torch reads it."""
    for number, python in enumerate(TORCHES):
        folder = work / str(number)
        folder.mkdir()
        print(f"{python}: torch", run(python, WRITE, folder).replace("\n", "; "), flush=True)
        for path in sorted(folder.glob("*.pt")):
            what = f"{python}, {path.stem}"
            wanted = torch_tensors(path)
            check(kind(path) in ("zip", "legacy"), f"{what}: {kind(path)}", "files")
            if path.stem.startswith(("module-", "cell-")):
                loratool("info", path)  # objects of classes: told, but not gone into
                continue
            # safetensors has no complex128
            plain = all(tensor.dtype != torch.complex128 for tensor in wanted.values())
            out = work / f"out.{'safetensors' if plain else 'pt'}"
            out.unlink(missing_ok=True)
            loratool("convert", path, "-o", out, "--all-tensors")
            if plain:
                same_as_file(out, wanted, what)
            elif out.exists():
                same_as_torch(torch.load(out, weights_only=True), wanted, what)
            start = PREFIXES.get(path.stem.split("-")[0], "")
            same_names(listing(path), [n[len(start):] for n in wanted if n.startswith(start)], what)


def read_back(work):
    """The other torch reads what loratool wrote."""
    tensors = {"a.weight": torch.randn(3, 4), "half": torch.randn(5).half(),
               "double": torch.randn(2, 2).double(), "long": torch.arange(7),
               "byte": torch.arange(5, dtype=torch.uint8), "scalar": torch.tensor(2.5),
               "empty": torch.empty(0, 3), "short": torch.arange(4, dtype=torch.int16).view(2, 2).t()}
    tensors["tied"] = tensors["a.weight"]
    source, out = work / "in.pt", work / "out.pt"
    torch.save(tensors, source)
    loratool("convert", source, "-o", out)
    for python in TORCHES:
        version = run(python, "import torch; print(torch.__version__)").strip()
        if tuple(map(int, version.split(".")[:2])) < (1, 6):
            print(f"{python}: torch {version} reads no zip files of today")
            continue
        found = json.loads(run(python, READ, out) or "{}")
        same_names(found, tensors, python)
        for name in found.keys() & tensors.keys():
            t = tensors[name].contiguous()
            wanted = [str(t.dtype)[6:], list(t.shape), [repr(v) for v in t.view(-1).tolist()]]
            check(found[name] == wanted, f"{python}: {name}: {found[name]}, not {wanted}", "other torch")


run_tests(written, read_back)
