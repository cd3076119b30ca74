"""Torch files put together byte by byte, good ones and bad ones; nothing but the standard library."""

import io
import pickle
import struct
import zipfile
import zlib

MAGIC = 0x1950a86a20f9469cfc6c


# ---- pickles -------------------------------------------------------------------------

def text(s):
    data = s.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def integer(n):
    if 0 <= n < 256:
        return b"K" + bytes([n])
    if -2**31 <= n < 2**31:
        return b"J" + struct.pack("<i", n)
    size = (n.bit_length() + 8) // 8
    return b"\x8a" + bytes([size]) + n.to_bytes(size, "little", signed=True)


def name(module, attribute):
    return b"c" + module.encode() + b"\n" + attribute.encode() + b"\n"


def tuple_of(*items):
    return b"(" + b"".join(items) + b"t"


def integers(values):
    return tuple_of(*map(integer, values))


def storage(key="0", count=4, kind="FloatStorage", module="torch"):
    return tuple_of(text("storage"), name(module, kind), text(key), text("cpu"), integer(count)) + b"Q"


def tensor(shape=(2, 2), strides=(2, 1), offset=0, **options):
    arguments = [storage(**options), integer(offset), integers(shape), integers(strides), b"\x89",
                 name("collections", "OrderedDict") + b")R"]
    return name("torch._utils", "_rebuild_tensor_v2") + tuple_of(*arguments) + b"R"


def dictionary(**items):
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def program(body):
    return b"\x80\x02" + body + b"."


def good():
    return program(dictionary(weight=tensor(), bias=tensor((4,), (1,), 0)))


# ---- zip archives --------------------------------------------------------------------

class Entry:
    """One entry of a hand-made archive; every field can be made to lie."""

    def __init__(self, path, data, deflate=False, **lies):
        self.path = path if isinstance(path, bytes) else path.encode()
        self.data, self.deflate, self.lies = data, deflate, lies

    def packed(self):
        if not self.deflate:
            return self.data
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        return packer.compress(self.data) + packer.flush()


def archive(*entries, comment=b""):
    """Local headers, data and a central directory as they are told to be."""
    out, directory = io.BytesIO(), io.BytesIO()
    for e in entries:
        packed = e.packed()
        field = lambda key, value: e.lies.get(key, value)
        size, csize = field("size", len(e.data)), field("csize", len(packed))
        crc, flags = field("crc", zlib.crc32(e.data)), field("flags", 0)
        method = field("method", 8 if e.deflate else 0)
        at = field("offset", out.tell())
        if not e.lies.get("absent"):
            out.write(struct.pack("<4s5H3I2H", b"PK\3\4", 20, flags, method, 0, 0x21, crc, csize, size,
                                  len(e.path), 0) + e.path + packed)
        directory.write(struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, flags, method, 0, 0x21, crc, csize,
                                    size, len(e.path), 0, 0, 0, 0, 0, at) + e.path)
    start = out.tell()
    out.write(directory.getvalue())
    out.write(struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, len(entries), len(entries), len(directory.getvalue()),
                          start, len(comment)) + comment)
    return out.getvalue()


def parts(pickled, **storages):
    """The entries of an ordinary file; storages: key -> bytes."""
    storages = storages or {"0": bytes(range(16))}
    return [Entry("archive/data.pkl", pickled), Entry("archive/version", b"3\n"),
            *(Entry(f"archive/data/{key.lstrip('_')}", data) for key, data in storages.items())]


def torch_zip(pickled, **storages):
    return archive(*parts(pickled, **storages))


# ---- the older formats ---------------------------------------------------------------

def legacy(pickled, storages=(("0", 4, bytes(range(16))),)):
    """Five pickles, then each storage's element count and bytes."""
    head = [pickle.dumps(item, 2) for item in (
        MAGIC, 1001, {"protocol_version": 1001, "little_endian": True,
                      "type_sizes": {"short": 2, "int": 4, "long": 4}})]
    keys = pickle.dumps([key for key, _, _ in storages], 2)
    tail = b"".join(struct.pack("<q", count) + data for _, count, data in storages)
    return b"".join(head) + pickled + keys + tail


def legacy_storage(key="0", count=4):
    return tuple_of(text("storage"), name("torch", "FloatStorage"), text(key), text("cpu"),
                    integer(count), b"N") + b"Q"


def legacy_tensor(shape=(2, 2), strides=(2, 1), offset=0, **options):
    return name("torch._utils", "_rebuild_tensor_v2") + tuple_of(
        legacy_storage(**options), integer(offset), integers(shape), integers(strides), b"\x89",
        name("collections", "OrderedDict") + b")R") + b"R"


# ---- tar archives --------------------------------------------------------------------

def tar(*members):
    """(name, bytes) after one another, as torch wrote them before 0.2."""
    out = io.BytesIO()
    for name_, data in members:
        head = bytearray(struct.pack("<100s8s8s8s12s12s8s1s100s8s", name_.encode(), b"0000644", b"0000000", b"0000000",
                                     b"%011o" % len(data), b"0" * 11, b" " * 8, b"0", b"", b"ustar\00000").ljust(512, b"\0"))
        head[148:156] = b"%06o\0 " % sum(head)
        out.write(head + data + bytes(-len(data) % 512))
    return out.getvalue() + bytes(1024)


def tar_storages(count=b"\x80\x02K\x01.", described=None, elements=4, data=bytes(16), views=b"\x80\x02]."):
    described = described or program(tuple_of(integer(7), text("cpu"), name("torch", "FloatStorage")))
    return count + described + struct.pack("<q", elements) + data + views


def tar_tensors(count=b"\x80\x02K\x01.", described=None, dims=1, numbers=(4, 1, 0)):
    described = described or program(tuple_of(integer(9), integer(7), name("torch", "FloatTensor")))
    return count + described + struct.pack("<ii", dims, 0) + struct.pack(f"<{len(numbers)}q", *numbers)


def tar_object():
    return program(dictionary(weight=integer(9) + b"Q"))
