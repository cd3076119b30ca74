"""Torch files for the tests: tensors of every type and layout, in what trainers save, in each
container; and what other programs make of the containers.
"""

import argparse
import io
import pickle
import struct
import sys
import tarfile
import types
import zipfile
from collections import OrderedDict, namedtuple

from torchfiles import SPELLINGS, walk

import torch

TYPES = [getattr(torch, name) for name in SPELLINGS]
ABSENT = {torch.complex32, torch.complex128}  # from safetensors
# Those with a storage class, which the legacy format needs.
TYPED = [dtype for dtype in TYPES if dtype in (
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16,
    torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128)]


STORAGE_CLASSES = {torch.float64: "DoubleStorage", torch.float32: "FloatStorage",
                   torch.float16: "HalfStorage", torch.int64: "LongStorage", torch.int32: "IntStorage",
                   torch.int16: "ShortStorage", torch.int8: "CharStorage", torch.uint8: "ByteStorage"}


# ---- what is saved -------------------------------------------------------------------

def raw(dtype, *shape):
    """Random bytes as a tensor: every bit pattern, NaNs of all kinds among them."""
    count = torch.Size(shape).numel()
    size = torch.empty(0, dtype=dtype).element_size()
    data = torch.randint(0, 2 if dtype == torch.bool else 256, (count * size,), dtype=torch.uint8)
    return data.view(dtype).reshape(shape) if count else torch.empty(shape, dtype=dtype)


def layouts(dtype):
    """{name: tensor}: the ways in which a tensor lies in its storage."""
    whole = raw(dtype, 6, 4)
    return {
        "contiguous": raw(dtype, 3, 4),
        "transposed": raw(dtype, 4, 3).t(),
        "stepped": raw(dtype, 7, 8)[1::2, 1::3],
        "row": raw(dtype, 5, 6)[3],
        "column": raw(dtype, 5, 6)[:, 2],
        "tied": whole,
        "tied_too": whole,
        "tied_detached": whole.detach(),
        "reshaped": whole.view(3, 8),
        "part": whole[1:3],
        "overlapping": whole[2:5, 1:],
        "windows": raw(dtype, 12).as_strided((5, 4), (2, 1)),
        "offset": raw(dtype, 40)[7:19].view(3, 4),
        "expanded": raw(dtype, 1, 4).expand(3, 4),
        "filled": raw(dtype, 1).expand(2, 3, 2),
        "parameter": torch.nn.Parameter(raw(dtype, 2, 3), requires_grad=False),
        "scalar": raw(dtype, 1).reshape(()),
        "scalar_inside": raw(dtype, 9)[4],
        "empty": raw(dtype, 0, 3),
        "empty_inside": raw(dtype, 8)[8:],
        "empty_middle": raw(dtype, 2, 0, 4),
        "channels_last": raw(dtype, 2, 3, 4, 5).permute(0, 3, 1, 2),
        "channels_last_3d": raw(dtype, 2, 2, 3, 2, 3).permute(0, 4, 1, 2, 3),
        "permuted": raw(dtype, 2, 3, 4, 2, 3).permute(4, 2, 0, 1, 3),
        "ones": raw(dtype, 1, 5, 1).transpose(0, 2),
    }


def samples(dtypes):
    return {f"{str(dtype).removeprefix('torch.')}.{name}": tensor
            for dtype in dtypes for name, tensor in layouts(dtype).items()}


def fake_class(module, name):
    """A class that torch.load can import though no package of that name is there."""
    parts = module.split(".")
    for i in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:i]), types.ModuleType(".".join(parts[:i])))
    made = type(name, (), {"__module__": module})
    setattr(sys.modules[module], name, made)
    return made


CALLBACK = fake_class("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")
METRIC = fake_class("some_trainer.metrics", "Metric")

# make: dict of tensors -> what is saved; model: what the names of the model's tensors begin with,
# None where that is not looked at; safe: weights_only=True reads it.
Structure = namedtuple("Structure", "make model safe")


def nested(tensors):
    items = list(tensors.items())
    third = len(items) // 3
    blocks = [dict(items[:third]), tuple(t for _, t in items[third:2 * third])]
    return {"net": {"blocks": blocks, 7: {}},
            "averages": OrderedDict(items[2 * third:]), "steps": 3, "rate": 1e-4, "none": None,
            "name": "näme", "nothing": [], "long": 2**70, "flags": (True, False), "bytes": b"\x00\xff"}


def lightning(tensors):
    module = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    metric = METRIC()
    metric.best, metric.names = 0.5, ["a", "b"]
    return {"epoch": 6, "global_step": 840000, "pytorch-lightning_version": "1.4.2",
            "state_dict": OrderedDict(tensors),
            "callbacks": {CALLBACK: {"monitor": "val/loss", "best_model_score": torch.tensor(0.25),
                                     "best_model_path": "a/b.ckpt", "current_score": None}},
            "optimizer_states": [optimizer.state_dict()], "lr_schedulers": [{"base_lrs": [1e-3]}],
            "hyper_parameters": argparse.Namespace(rank=8, metric=metric), "kinds": {1, 2}}


def with_metadata(tensors):
    value = OrderedDict(tensors)
    value._metadata = OrderedDict([("", {"version": 1}), ("bn", {"version": 2})])
    return value


def parallel(tensors):
    return OrderedDict((f"module.{name}", tensor) for name, tensor in tensors.items())


STRUCTURES = {
    "plain": Structure(dict, "", True),
    "nested": Structure(nested, None, True),
    "lightning": Structure(lightning, "state_dict.", False),
    "metadata": Structure(with_metadata, "", True),
    "parallel": Structure(parallel, "module.", True),
}


def saved(path, value, legacy=False, **options):
    torch.save(value, path, _use_new_zipfile_serialization=not legacy, **options)
    return path


def loaded(path, safe=True):
    """{dotted path: tensor} as torch reads a file that this test wrote."""
    return dict(walk(torch.load(path, weights_only=safe)))


def same_storage(tensors):
    """The groups of names whose tensors are the same elements of one storage."""
    groups = {}
    for name, t in tensors.items():
        if t.numel():
            key = t.untyped_storage().data_ptr(), t.storage_offset(), t.shape, t.stride(), t.dtype
            groups.setdefault(key, set()).add(name)
    return {frozenset(group) for group in groups.values() if len(group) > 1}


# ---- other shapes of the containers --------------------------------------------------

def rewritten(path, change=lambda name, data: data, method=zipfile.ZIP_STORED, drop=(), folder=None,
              limit=None, backwards=False):
    """A copy of a zip file made with zipfile; change(name in the folder, bytes) -> bytes."""
    out = path.with_name("rewritten.pt")
    kept, zipfile.ZIP64_LIMIT = zipfile.ZIP64_LIMIT, limit if limit is not None else zipfile.ZIP64_LIMIT
    try:
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w", method) as new:
            for name in sorted(old.namelist(), reverse=backwards):
                top, rest = name.split("/", 1)
                if rest not in drop:
                    data = change(rest, old.read(name))
                    name = f"{folder or top}/{rest}"
                    with new.open(name, "w", force_zip64=limit is not None) as file:
                        file.write(data)
    finally:
        zipfile.ZIP64_LIMIT = kept
    return out


def swapped(data, unit):
    return b"".join(data[i:i + unit][::-1] for i in range(0, len(data), unit))


def walk_same(value):
    """The tensors themselves: walk() detaches them."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from walk_same(item)


class TarPickler(pickle.Pickler):
    """Names tensors by number, as torch before 0.2 did."""

    def __init__(self, file, keys):
        super().__init__(file, protocol=2)
        self.keys = keys

    def persistent_id(self, value):
        return self.keys.get(id(value)) if isinstance(value, torch.Tensor) else None


def old_tar(path, value, views=()):
    """Torch's first format.  views: tensors whose storage is kept as a part of another one."""
    tensors = list({id(tensor): tensor for tensor in walk_same(value)}.values())
    keys = {id(tensor): 1000 + i for i, tensor in enumerate(tensors)}
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage() for t in tensors}
    roots, parts, of_tensor = io.BytesIO(), [], {}
    pickle.dump(len(storages), roots, protocol=2)
    for number, (pointer, storage) in enumerate(storages.items()):
        dtype = next(t.dtype for t in tensors if t.untyped_storage().data_ptr() == pointer)
        pickle.dump((number, "cpu", getattr(torch, STORAGE_CLASSES[dtype])), roots, protocol=2)
        data = bytes(storage.tolist())
        roots.write(struct.pack("<q", len(data) // dtype.itemsize) + data)
        for t in tensors:
            if t.untyped_storage().data_ptr() == pointer:
                of_tensor[id(t)] = number, t.storage_offset()
    for i, t in enumerate(views):
        root, offset = of_tensor[id(t)]
        parts.append((500 + i, root, offset, t.numel()))
        of_tensor[id(t)] = 500 + i, 0
    pickle.dump(parts, roots, protocol=2)
    table = io.BytesIO()
    pickle.dump(len(tensors), table, protocol=2)
    for t in tensors:
        storage, offset = of_tensor[id(t)]
        kind = getattr(torch, STORAGE_CLASSES[t.dtype].replace("Storage", "Tensor"))
        pickle.dump((keys[id(t)], storage, kind), table, protocol=2)
        numbers = *t.shape, *t.stride(), offset
        table.write(struct.pack(f"<ii{len(numbers)}q", t.dim(), 0, *numbers))
    body = io.BytesIO()
    TarPickler(body, keys).dump(value)
    machine = pickle.dumps({"protocol_version": 1000, "little_endian": True}, 2)
    with tarfile.open(path, "w:", format=tarfile.PAX_FORMAT) as archive:
        for name, data in {"sys_info": machine, "pickle": body.getvalue(), "tensors": table.getvalue(),
                           "storages": roots.getvalue()}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path
