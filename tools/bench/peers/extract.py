"""Extract an adapter with PyTorch: one process from two models to a file.

usage: extract.py METHOD BASE TUNED PLAN OUT RANK [TIMES]

PLAN is a JSON list of the modules: "module" is the name in the adapter, "tensor" that in the
models, "first_row" and "rows" the part of it.  OUT is a file with kohya keys in float16 or, if it
ends in "/", a PEFT folder in bfloat16.  TIMES gets the seconds of each module as JSON.
Tensors are mapped and taken one by one, so reading and memory are the least they can be.
"""

import json
import sys
import time
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file


def svd(delta, rank, full):
    u, s, vh = torch.linalg.svd(delta, full_matrices=full)
    return u[:, :rank] * s[:rank], vh[:rank]


def svd_lowrank(delta, rank, niter):
    u, s, v = torch.svd_lowrank(delta, q=rank, niter=niter)
    return u * s, v.T


METHODS = {
    "full": lambda delta, rank: svd(delta, rank, True),
    "thin": lambda delta, rank: svd(delta, rank, False),
    "lowrank": lambda delta, rank: svd_lowrank(delta, rank, 7),
    "lowrank2": lambda delta, rank: svd_lowrank(delta, rank, 2),
}


def difference(base, tuned, item):
    first, end = item["first_row"], item["first_row"] + item["rows"]
    before, after = (f.get_tensor(item["tensor"])[first:end].float() for f in (base, tuned))
    return after - before


def factors(delta, rank, method):
    matrix = delta.flatten(1)
    rank = min(rank, *matrix.shape)
    up, down = METHODS[method](matrix, rank)
    kernel = delta.shape[2:]
    return (up.reshape(-1, rank, *[1] * len(kernel)),
            down.reshape(rank, delta.shape[1], *kernel))


def write(path, modules, rank):
    tensors, peft = {}, path.endswith("/")
    dtype = torch.bfloat16 if peft else torch.float16
    names = ("lora_B", "lora_A") if peft else ("lora_up", "lora_down")
    for name, pair in modules.items():
        for factor, tensor in zip(names, pair):
            tensors[f"{name}.{factor}.weight"] = tensor.to(dtype).contiguous()
        if not peft:
            tensors[f"{name}.alpha"] = torch.tensor(float(pair[1].shape[0]))
    if peft:
        Path(path).mkdir(exist_ok=True)
        suffixes = sorted({name.rsplit(".", 1)[1] for name in modules})
        config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": suffixes}
        Path(path, "adapter_config.json").write_text(json.dumps(config))
        path += "adapter_model.safetensors"
    save_file(tensors, path, {"format": "pt"})


def main(method, base, tuned, plan, out, rank, times=None):
    modules, seconds = {}, {}
    with safe_open(base, "pt") as before, safe_open(tuned, "pt") as after:
        for item in json.loads(Path(plan).read_text()):
            start = time.perf_counter()
            delta = difference(before, after, item)
            modules[item["module"]] = factors(delta, int(rank), method)
            seconds[item["module"]] = time.perf_counter() - start
    write(out, modules, int(rank))
    if times:
        Path(times).write_text(json.dumps(seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
