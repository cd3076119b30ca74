"""Errors of stored adapters over the least possible ones, in float64."""

import statistics
from pathlib import Path

import torch
from safetensors import safe_open

FACTORS = ((".lora_up.weight", ".lora_down.weight"), (".lora_B.weight", ".lora_A.weight"))
NOTHING = 1e-6  # a rest of this share is rounding: its ratio says nothing


class Adapter:
    """The stored factors of a file or PEFT folder."""

    def __init__(self, path):
        path = Path(path)
        self.file = safe_open(path / "adapter_model.safetensors" if path.is_dir() else path, "pt")
        self.keys = set(self.file.keys())

    def names(self):
        ends = tuple(up for up, _ in FACTORS)
        return {key.removesuffix(end) for key in self.keys for end in ends if key.endswith(end)}

    def product(self, name):
        """scale * up @ down; without an alpha the scale is 1."""
        up, down = next(pair for pair in FACTORS if name + pair[0] in self.keys)
        up, down = (self.file.get_tensor(name + side).flatten(1).double() for side in (up, down))
        alpha = name + ".alpha"
        scale = float(self.file.get_tensor(alpha)) / down.shape[0] if alpha in self.keys else 1.0
        return scale * (up @ down)


def difference(base, tuned, item):
    first, end = item["first_row"], item["first_row"] + item["rows"]
    before, after = (f.get_tensor(item["tensor"])[first:end].double() for f in (base, tuned))
    return (after - before).flatten(1)


def least_error(delta, rank):
    """Of any matrix of that rank (Eckart-Young), from the smaller Gram matrix."""
    small = delta if delta.shape[0] <= delta.shape[1] else delta.T
    energy = torch.linalg.eigvalsh(small @ small.T)
    return float((energy.sum() - energy[len(energy) - min(rank, len(energy)):].sum())
                 .clamp(min=0).sqrt())


def compare(base, tuned, plan, adapters, rank):
    """For each adapter (name -> path): name -> [(ratio, module)] of the modules in the plan."""
    opened = {name: Adapter(path) for name, path in adapters.items()}
    held = {name: adapter.names() for name, adapter in opened.items()}
    ratios = {name: [] for name in adapters}
    with safe_open(base, "pt") as before, safe_open(tuned, "pt") as after:
        for item in plan:
            delta, module = difference(before, after, item), item["module"]
            least = least_error(delta, rank)
            if least <= NOTHING * float(delta.norm()):
                continue
            for name, adapter in opened.items():
                if module in held[name]:
                    error = float((delta - adapter.product(module)).norm())
                    ratios[name].append((error / least, module))
    return ratios


def rows(ratios):
    """(adapter, modules, worst ratio, median ratio, worst module) of each."""
    found = [(name, pairs, max(pairs)) for name, pairs in ratios.items() if pairs]
    return [(name, len(pairs), worst, statistics.median(ratio for ratio, _ in pairs), module)
            for name, pairs, (worst, module) in found]
