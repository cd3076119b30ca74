"""What the interop tests share: running loratool, reading what it wrote, counting checks.

Every figure is taken in float64 from the bytes in the files; nothing here calls code of
loratool's own.  Packages that are absent make a test skip (exit code 77).
"""

import json
import math
import os
import struct
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

try:
    import numpy as np
    import torch
    from safetensors.torch import load_file
except ImportError as absent:
    print(f"skipped: {absent}")
    sys.exit(77)

SOURCE = Path(os.environ.get("LORATOOL_SOURCE", Path(__file__).resolve().parents[2]))
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


# ---- checks --------------------------------------------------------------------------

class Tally:
    """Checks made, checks failed, and the measurement nearest to its limit in each group."""

    SHOWN = 10  # failures printed for one group

    def __init__(self):
        self.made = 0
        self.failed = Counter()
        self.worst = {}

    def check(self, cond, message, group=""):
        self.made += 1
        if not cond:
            self.failed[group] += 1
            if self.failed[group] <= self.SHOWN:
                print(f"FAILED {group}{': ' if group else ''}{message}")
        return bool(cond)

    def at_most(self, value, limit, group, what):
        """value <= limit (false for NaN); the worst ratio of the group is printed at the end."""
        ratio = value / limit if limit else (math.inf if value else 0.0)
        if group not in self.worst or not ratio <= self.worst[group][0]:
            self.worst[group] = (ratio, value, limit, what)
        return self.check(value <= limit, f"{what}: {value:.6g} is above {limit:.6g}", group)

    def summary(self):
        for group, (ratio, value, limit, what) in self.worst.items():
            print(f"  {group}: worst {value:.4g} of {limit:.4g} allowed "
                  f"({100 * ratio:.3g} %) in {what}")
        failed = sum(self.failed.values())
        print(f"{self.made} checks, {failed} failed")
        return 0 if self.made and not failed else 1


tally = Tally()
check = tally.check
at_most = tally.at_most


def run_tests(*tests):
    """Run each test function in a scratch folder of its own and exit with the verdict."""
    for test in tests:
        with tempfile.TemporaryDirectory(prefix="loratool-") as folder:
            try:
                test(Path(folder))
            except Exception:
                traceback.print_exc(file=sys.stdout)
                check(False, f"{test.__name__} stopped early")
    sys.exit(tally.summary())


# ---- the program ---------------------------------------------------------------------

def loratool(*args, code=0):
    """Run the program; its exit code is a check.  Returns the finished process."""
    words = [os.environ["LORATOOL"], *map(str, args)]
    done = subprocess.run(words, capture_output=True, encoding="utf-8", timeout=300)
    check(done.returncode == code, f"exit {done.returncode}, expected {code}: "
          f"{' '.join(words[1:])}\n{done.stderr}", "exit code")
    return done


def report(*args):
    """Run with --json and return the report."""
    return json.loads(loratool(*args, "--json").stdout)


# ---- files ---------------------------------------------------------------------------

class RawFile:
    """A safetensors file taken apart by the format's definition, not by a package."""

    def __init__(self, path):
        image = Path(path).read_bytes()
        size, = struct.unpack("<Q", image[:8])
        entries = json.loads(image[8:8 + size])
        self.data_start = 8 + size
        self.data = image[8 + size:]
        self.metadata = entries.pop("__metadata__", {})
        self.entries = dict(sorted(
            entries.items(), key=lambda item: (item[1]["data_offsets"], item[0])))

    def bytes_of(self, name):
        start, end = self.entries[name]["data_offsets"]
        return self.data[start:end]


def tensor_bytes(tensor):
    """The bytes a tensor has in a file."""
    if not tensor.numel():
        return b""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


# ---- adapters ------------------------------------------------------------------------

SUFFIXES = {".lora_down.weight": "down", ".lora_up.weight": "up", ".lora_mid.weight": "mid",
            ".lora_A.weight": "down", ".lora_B.weight": "up", ".alpha": "alpha"}


def f64(tensor):
    return tensor.to(torch.float64).numpy()


def flat(array):
    return array.reshape(array.shape[0], -1)


def read_modules(path):
    """Module name -> {"up", "down", "mid", "alpha"}, as tensors, of an adapter file."""
    modules = {}
    for name, tensor in load_file(path).items():
        suffix = next(s for s in SUFFIXES if name.endswith(s))
        modules.setdefault(name[:-len(suffix)], {})[SUFFIXES[suffix]] = tensor
    return modules


def product(module, scale=None):
    """scale * up @ down as a matrix (out, in * kernel); scale is alpha / rank unless given."""
    up, down = flat(f64(module["up"])), f64(module["down"])
    rank = down.shape[0]
    if "mid" in module:
        down = np.einsum("ab...,bj->aj...", f64(module["mid"]), flat(down))
    if scale is None:
        scale = float(module["alpha"]) / rank if "alpha" in module else 1.0
    return scale * (up @ flat(down))


def best_error(matrix, rank):
    """Frobenius error of the best approximation of that rank (Eckart-Young)."""
    sigma = np.linalg.svd(matrix, compute_uv=False)
    return float(np.linalg.norm(sigma[rank:]))
