"""Merge adapters into a model with PyTorch: one process from files to a file.

usage: merge.py BASE PLAN OUT

PLAN is a JSON list of the modules: "adapter" is the file, "module" the name in it, "tensor" that
in the model, "first_row" and "rows" the part of it.  The sum is taken in float32 and rounded once.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file


def metadata(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


def change(adapter, name):
    up, down = (adapter[f"{name}.lora_{side}.weight"].flatten(1).float() for side in ("up", "down"))
    return (float(adapter[f"{name}.alpha"]) / down.shape[0]) * (up @ down)


def merged(weight, items, adapters):
    total = weight.flatten(1).to(torch.float32, copy=True)
    for item in items:
        rows = total[item["first_row"]:item["first_row"] + item["rows"]]
        rows += change(adapters[item["adapter"]], item["module"])
    return total.view(weight.shape).to(weight.dtype)


def main(base, plan, out):
    places = defaultdict(list)
    for item in json.loads(Path(plan).read_text()):
        places[item["tensor"]].append(item)
    paths = {item["adapter"] for items in places.values() for item in items}
    adapters = {path: load_file(path) for path in paths}
    tensors = load_file(base)
    for name, items in places.items():
        tensors[name] = merged(tensors[name], items, adapters)
    save_file(tensors, out, metadata(base))


if __name__ == "__main__":
    main(*sys.argv[1:])
