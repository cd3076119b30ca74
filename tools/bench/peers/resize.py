"""Change the rank of a kohya adapter with PyTorch: one process from a file to a file.

usage: resize.py METHOD ADAPTER NAMES OUT RANK [TIMES]

NAMES is a JSON list of the modules.  TIMES gets the seconds of each as JSON.
"""

import json
import sys
import time
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file


def by_product(up, down, rank):
    """As the common script does: the whole matrix, then all of its singular vectors."""
    u, s, vh = torch.linalg.svd(up @ down)
    return u[:, :rank] * s[:rank], vh[:rank]


def by_core(up, down, rank):
    """Through the small matrix between the two orthogonal factors."""
    q_up, r_up = torch.linalg.qr(up)
    q_down, r_down = torch.linalg.qr(down.T)
    u, s, vh = torch.linalg.svd(r_up @ r_down.T)
    return q_up @ (u[:, :rank] * s[:rank]), vh[:rank] @ q_down.T


METHODS = {"product": by_product, "qr-core": by_core}


def resized(file, name, rank, method):
    up, down, alpha = (file.get_tensor(f"{name}.{part}")
                       for part in ("lora_up.weight", "lora_down.weight", "alpha"))
    old, rank = down.shape[0], min(rank, down.shape[0])
    new_up, new_down = METHODS[method](up.flatten(1).float(), down.flatten(1).float(), rank)
    return {
        f"{name}.lora_up.weight":
            new_up.reshape(up.shape[0], rank, *up.shape[2:]).to(up.dtype).contiguous(),
        f"{name}.lora_down.weight":
            new_down.reshape(rank, *down.shape[1:]).to(down.dtype).contiguous(),
        f"{name}.alpha": alpha * (rank / old)}


def main(method, adapter, names, out, rank, times=None):
    tensors, seconds = {}, {}
    with safe_open(adapter, "pt") as file:
        for name in json.loads(Path(names).read_text()):
            start = time.perf_counter()
            tensors.update(resized(file, name, int(rank), method))
            seconds[name] = time.perf_counter() - start
    save_file(tensors, out, {"format": "pt"})
    if times:
        Path(times).write_text(json.dumps(seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
