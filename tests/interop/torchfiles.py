"""What the tests of torch files share: reading them without running what they name.

torch.load(weights_only=True) is the judge wherever it reads a file.  For the rest `stub_load`
reads the pickle with a table of known globals; every other name becomes a class without code.
"""

import collections
import io
import pickle
import struct
import zipfile

from common import RawFile, check, loratool, tensor_bytes

import torch

LEGACY_MAGIC = 0x1950a86a20f9469cfc6c
STORAGES = {"DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
            "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
            "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
            "BoolStorage": torch.bool, "ComplexFloatStorage": torch.complex64,
            "ComplexDoubleStorage": torch.complex128, "UntypedStorage": torch.uint8}


def kind(path):
    """'zip', 'jit', 'legacy' or None, by content."""
    with open(path, "rb") as file:
        start = file.read(32)  # protocols 4 and 5 have a frame before the magic number
    if start.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(path) as archive:
            names = [name.split("/", 1)[-1] for name in archive.namelist()]
        if "data.pkl" in names:
            return "jit" if "constants.pkl" in names else "zip"
    elif LEGACY_MAGIC.to_bytes(10, "little") in start:
        return "legacy"
    return None


# torch's types as safetensors spells them; complex32 and complex128 it does not have.
SPELLINGS = {"bool": "BOOL", "uint8": "U8", "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64",
             "uint16": "U16", "uint32": "U32", "uint64": "U64", "float16": "F16", "bfloat16": "BF16",
             "float32": "F32", "float64": "F64", "complex64": "C64", "float8_e4m3fn": "F8_E4M3",
             "float8_e5m2": "F8_E5M2", "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ",
             "float8_e8m0fnu": "F8_E8M0", "complex32": "C32", "complex128": "C128"}


def spelling(dtype):
    return SPELLINGS[str(dtype).removeprefix("torch.")]


# ---- a reader that imports nothing ---------------------------------------------------

class Opaque:
    """Stands for an object of a class that is not known; keeps what the pickle gives it."""

    def __new__(cls, *args, **named):
        self = super().__new__(cls)
        self.args, self.state = args, None
        return self

    def __init__(self, *args, **named):
        pass

    def __setstate__(self, state):
        self.state = state

    def append(self, item):
        pass

    def extend(self, items):
        pass

    def __setitem__(self, key, value):
        pass

    def __hash__(self):
        return id(self)


class Dict(collections.OrderedDict):
    """An OrderedDict whose attributes (_metadata) do not matter."""

    def __setstate__(self, state):
        pass


def view(storage, offset, size, stride, *rest):
    return storage.as_strided(size, stride, offset)


def typed_view(storage, offset, size, stride, grad, hooks, dtype, *rest):
    return storage.view(dtype).as_strided(size, stride, offset)


KNOWN = {
    "collections.OrderedDict": Dict,
    "torch.Size": tuple,
    "torch._utils._rebuild_tensor": view,
    "torch._utils._rebuild_tensor_v2": view,
    "torch._utils._rebuild_tensor_v3": typed_view,
    "torch._utils._rebuild_parameter": lambda tensor, *rest: tensor,
    "torch._utils._rebuild_parameter_with_state": lambda tensor, *rest: tensor,
    "torch._tensor._rebuild_from_type_v2": lambda func, kind, args, state: func(*args),
    "__builtin__.set": set, "builtins.set": set,
}


class Reader(pickle.Unpickler):
    def __init__(self, file, storages, names):
        super().__init__(file, encoding="latin1")
        self.storages, self.names = storages, names

    def find_class(self, module, name):
        full = f"{module}.{name}"
        self.names[full] += 1
        if full in KNOWN:
            return KNOWN[full]
        if module in ("torch", "torch.storage", "torch.cuda") and name in STORAGES:
            return STORAGES[name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        return type(name, (Opaque,), {"__module__": module})

    def persistent_load(self, words):
        if words[0] == "module":  # legacy: a class with its source
            return words[1]
        return self.storages(*words[1:])


class Archive:
    """The storages of a zip file."""

    def __init__(self, path):
        self.zip = zipfile.ZipFile(path)
        self.folder = self.zip.namelist()[0].split("/")[0]
        self.known = {}

    def member(self, name):
        return self.zip.read(f"{self.folder}/{name}")

    def __call__(self, dtype, key, location, count):
        if key not in self.known:
            data = bytearray(self.member(f"data/{key}"))
            empty = torch.empty(0, dtype=dtype)
            self.known[key] = torch.frombuffer(data, dtype=dtype, count=count) if count else empty
        return self.known[key]


class Stream:
    """The storages of a legacy file: empty until the bytes that follow the pickle are read."""

    def __init__(self):
        self.known = {}

    def __call__(self, dtype, key, location, count, part=None):
        if key not in self.known:
            self.known[key] = torch.zeros(count, dtype=dtype)
        whole = self.known[key]
        return whole if part is None else whole[part[1]:part[1] + part[2]]

    def fill(self, file):
        for key in pickle.load(file):
            count, = struct.unpack("<q", file.read(8))
            storage = self.known[key]
            data = bytearray(file.read(count * storage.element_size()))
            if count:
                storage.copy_(torch.frombuffer(data, dtype=storage.dtype))


def stub_load(path):
    """(the object, Counter of the globals named) of a zip or legacy file."""
    names = collections.Counter()
    if kind(path) == "zip":
        archive = Archive(path)
        return Reader(io.BytesIO(archive.member("data.pkl")), archive, names).load(), names
    with open(path, "rb") as file:
        assert Reader(file, None, names).load() == LEGACY_MAGIC
        Reader(file, None, names).load()  # protocol version
        Reader(file, None, names).load()  # sizes of the writing machine's types
        storages = Stream()
        value = Reader(file, storages, names).load()
        storages.fill(file)
    return value, names


# ---- tensors by path -----------------------------------------------------------------

def step(key):
    """A dict's key as a part of a path; a class by its full name."""
    return f"{key.__module__}.{key.__qualname__}" if isinstance(key, type) else str(key)


def walk(value, path=()):
    """Yield (dotted path, tensor) for every tensor in nested dicts, lists and tuples."""
    if isinstance(value, torch.Tensor):
        yield ".".join(path) or "tensor", value.detach()
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from walk(item, path + (step(key),))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from walk(item, path + (str(index),))


def torch_tensors(path):
    """{dotted path: tensor} as torch sees the file; by the stub reader if torch refuses it."""
    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        value = stub_load(path)[0]
    return dict(walk(value))


# ---- what loratool makes of a file ---------------------------------------------------

def same_names(found, wanted, what):
    extra, lacking = sorted(set(found) - set(wanted)), sorted(set(wanted) - set(found))
    return check(not extra and not lacking, f"{what}: extra {extra[:3]} of {len(extra)}, lacking "
                 f"{lacking[:3]} of {len(lacking)}", "names")


def listing(path, *options, **run):
    """{name: (dtype, shape, bytes, offset)} as `info --tensors` prints them; offset: number or None."""
    lines = loratool("info", "-t", path, *options, **run).stdout.splitlines()
    rows = [line.split("\t") for line in lines]
    return {name: (dtype, shape, int(size), None if offset == "-" else int(offset))
            for name, dtype, shape, offset, size in rows}


def same_as_file(path, wanted, what):
    """A safetensors file holds exactly these tensors: names, types, shapes, bytes."""
    if not check(path.exists(), f"{what}: no {path.name} was written", "files"):
        return
    file = RawFile(path)
    same_names(file.entries, wanted, what)
    for name, tensor in wanted.items():
        if name in file.entries:
            entry = file.entries[name]
            kind, shape = spelling(tensor.dtype), list(tensor.shape)
            check((entry["dtype"], entry["shape"]) == (kind, shape),
                  f"{what}: {name} is {entry['dtype']} {entry['shape']}, not {kind} {shape}", "types")
            check(file.bytes_of(name) == tensor_bytes(tensor), f"{what}: {name} differs", "bytes")


def same_as_torch(found, wanted, what):
    """Two dicts of tensors are the same: names, types, shapes, bytes."""
    same_names(found, wanted, what)
    for name in found.keys() & wanted.keys():
        ours, theirs = found[name], wanted[name]
        check((ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), f"{what}: {name} is {ours.dtype} "
              f"{list(ours.shape)}, not {theirs.dtype} {list(theirs.shape)}", "types")
        check(tensor_bytes(ours) == tensor_bytes(theirs), f"{what}: {name} differs", "bytes")
