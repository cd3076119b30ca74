"""Hashes in metadata, and the order of tensors, recomputed by their definitions.

sshs_model_hash     SHA-256 of all bytes after the header
sshs_legacy_hash    first 8 digits of the SHA-256 of bytes 0x100000 to 0x110000 of the file
                    that the package would write with only the ss_* metadata
modelspec.hash_sha256   0x and the SHA-256 of all bytes after the header
"""

import hashlib
import json
import struct
from pathlib import Path

from common import RawFile, check, loratool, report, run_tests
from samples import sd_base, write_kohya

import torch
from safetensors.torch import load_file, save, save_file

HASHES = ("sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256")
EMPTY_SLICE = "e3b0c442"
SPEC = {"modelspec.sai_model_spec": "1.0.1", "modelspec.hash_sha256": "0x" + "1" * 64}
STALE = {"sshs_model_hash": "0" * 64, "sshs_legacy_hash": "0" * 8, **SPEC}
ODD_TEXT = {"ss_output_name": "naïve 雪 🙂", "ss_training_comment": "a \"b\" \\ / \n\t\x01\x7f\u2028",
            "ss_empty": "", "": "empty key", "ss_": "short", "notss_x": "x"}


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def legacy_hash(tensors, metadata):
    kept = {k: v for k, v in metadata.items() if k.startswith("ss_")}
    image = save(tensors, kept)
    return sha256(image[0x100000:0x110000])[:8]


def check_hashes(path, what, keys):
    """Returns the legacy hash, so that a caller can require a slice that is not empty."""
    raw, tensors = RawFile(path), load_file(path)
    legacy = legacy_hash(tensors, raw.metadata)
    expected = {"sshs_model_hash": sha256(raw.data), "sshs_legacy_hash": legacy,
                "modelspec.hash_sha256": "0x" + sha256(raw.data)}
    for key in keys:
        check(raw.metadata.get(key) == expected[key],
              f"{what}: {key} is {raw.metadata.get(key)}, expected {expected[key]}", "hash")
    check_info(path, what, raw, legacy)
    return legacy


def check_info(path, what, raw, legacy):
    """info --hash says the same of the file."""
    told, = report("info", "--hash", path)["hashes"]
    image = Path(path).read_bytes()
    expected = {"sha256": sha256(image), "data_sha256": sha256(raw.data), "legacy": legacy,
                "autov1": sha256(image[0x100000:0x110000])[:8], "autov2": sha256(image)[:10],
                "autov3": sha256(raw.data)[:12]}
    told_of = {key: told[key] for key in expected}
    check(told_of == expected, f"{what}: info tells {told_of}, expected {expected}", "info")
    claims = {c["key"]: c["verdict"] for c in told["claims"]}
    right = {key: "right" for key in HASHES if key in raw.metadata}
    check(claims == right, f"{what}: info tells of its claims {claims}", "info")


def check_order(path, what):
    """The order, padding and offsets are those of the package for the same tensors."""
    raw = RawFile(path)
    image = save(load_file(path), raw.metadata)
    size, = struct.unpack("<Q", image[:8])
    entries = json.loads(image[8:8 + size])
    entries.pop("__metadata__", None)
    check(list(raw.entries) == list(entries), f"{what}: tensors in another order", "order")
    check(raw.entries == entries, f"{what}: other offsets", "order")
    check(raw.data_start == 8 + size, f"{what}: header of another size", "order")
    check(raw.data == image[8 + size:], f"{what}: other data", "order")


def check_adapter(path, what, keys=HASHES[:2]):
    check_order(path, what)
    return check_hashes(path, what, keys)


def large_pair(folder):
    """Models whose adapter of rank 64 is larger than 1.2 MB."""
    base = sd_base(torch.float32)
    tuned = {n: t + torch.randn(t.shape) if t.is_floating_point() else t for n, t in base.items()}
    for tensors, name in ((base, "base"), (tuned, "tuned")):
        for i in range(3, 12):  # the blocks that have attention
            block = f"model.diffusion_model.output_blocks.{i}.1.transformer_blocks.0."
            tensors[f"{block}ff.net.2.weight"] = torch.randn(440, 440)
        save_file(tensors, folder / f"{name}.safetensors")
    return folder / "base.safetensors", folder / "tuned.safetensors"


def test_extract(folder):
    base, tuned = large_pair(folder)
    out = folder / "lora.safetensors"
    for dtype in ("f32", "f16", "bf16"):
        for rank in (1, 64):
            loratool("extract", "--base", base, "--tuned", tuned, "-o", out, "-f", "-r", rank,
                     "--dtype", dtype)
            legacy = check_adapter(out, f"extract {dtype} rank {rank}")
            large = out.stat().st_size > 1_200_000
            check((legacy != EMPTY_SLICE) == large == (rank == 64), f"{legacy} is of no use here")


def test_extract_peft(folder):
    """PEFT and diffusers files have no such hashes, but the same order."""
    base, tuned = large_pair(folder)
    for dialect in ("peft", "diffusers"):
        out = folder / f"{dialect}.safetensors"
        loratool("extract", "--base", base, "--tuned", tuned, "-o", out, "-r", 4, "--dialect",
                 dialect)
        check_order(out, f"extract {dialect}")
        told = {"lora_alpha": "rank"} if dialect == "peft" else {}
        check(RawFile(out).metadata == {"format": "pt", **told}, f"{dialect}: metadata", "hash")


def large_kohya(path, dtype, metadata):
    """Rank 300, so that rank 200 in f32 is still larger than 1.2 MB."""
    tensors = {}
    for i in range(3):
        tensors[f"lora_unet_block_{i}.lora_down.weight"] = torch.randn(300, 400).to(dtype)
        tensors[f"lora_unet_block_{i}.lora_up.weight"] = torch.randn(350, 300).to(dtype)
        tensors[f"lora_unet_block_{i}.alpha"] = torch.tensor(float(i + 1)).to(dtype)
    save_file(tensors, path, metadata)


def test_resize(folder):
    """Hashes that the input carries are replaced by the output's, whatever text is beside them."""
    lora, out = folder / "lora.safetensors", folder / "out.safetensors"
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        for metadata in (STALE, {**STALE, **ODD_TEXT}, ODD_TEXT):
            large_kohya(lora, dtype, metadata)
            for rank in (1, 200, 300):
                loratool("resize", lora, "-o", out, "-f", "-r", rank, "--dtype", "f32")
                what = f"resize {dtype} to {rank}"
                legacy = check_adapter(out, what, HASHES if HASHES[2] in metadata
                                       else HASHES[:2])
                check((legacy != EMPTY_SLICE) == (rank > 1), f"{what}: {legacy} is of no use here")
                kept = metadata.items() - STALE.items()
                check(kept <= RawFile(out).metadata.items(), f"{what}: metadata is lost", "hash")


def test_merge(folder):
    """A base's hashes are renewed or dropped where it has them; none is added."""
    base, lora, out = (folder / f"{n}.safetensors" for n in ("base", "lora", "out"))
    tensors = {**sd_base(torch.float32), "model.diffusion_model.large": torch.rand(400, 1000)}
    write_kohya(lora, torch.float16, (4,), False)
    for keys, text in [(k, t) for k in ((), HASHES[:1], HASHES[:2], HASHES[2:], HASHES)
                       for t in (ODD_TEXT, {})]:
        metadata = {"format": "pt", **text, **{key: STALE[key] for key in keys}}
        save_file(tensors, base, metadata)
        loratool("merge", "--base", base, lora, "-o", out, "-f")
        written = RawFile(out).metadata
        legacy = check_hashes(out, f"merge with {keys}", written.keys() & set(HASHES))
        check(legacy != EMPTY_SLICE, f"{legacy} is of no use here")
        rest = {k: v for k, v in written.items() if k not in keys}
        check(rest == {"format": "pt", **text}, f"merge with {keys}: {rest}", "hash")


def test_follow(folder):
    """Outputs so large that they are hashed while they are written."""
    base, lora, out = (folder / f"{n}.safetensors" for n in ("base", "lora", "out"))
    tensors = sd_base(torch.float32)
    for i in range(5):
        tensors[f"model.diffusion_model.large{i}"] = torch.rand(4096, 2200)
    write_kohya(lora, torch.float16, (4,), False)
    save_file(tensors, base, {"format": "pt", **STALE})
    for threads in (1, 4):
        loratool("merge", "--base", base, lora, "-o", out, "-f", "-j", threads)
        check_hashes(out, f"large merge -j{threads}", HASHES)
        loratool("merge", "--base", base, lora, "-o", f"{folder}/shards{threads}/", "-j", threads,
                 "--max-shard-size", "80MB")
        shards = sorted((folder / f"shards{threads}").glob("*.safetensors"))
        check(len(shards) == 3, f"{len(shards)} shards, not 3")
        for shard in shards:
            check_hashes(shard, f"shard {shard.name} -j{threads}",
                         RawFile(shard).metadata.keys() & set(HASHES))
        check(any(RawFile(s).metadata.keys() & set(HASHES) for s in shards), "no shard has hashes")
    loratool("convert", base, "-o", out, "-f", "--dtype", "bf16")
    check_hashes(out, "large convert", HASHES)
    # Half-way through, an element that the type cannot hold: the output does not appear.
    tensors["model.diffusion_model.large3"][0, 0] = 1e30
    save_file(tensors, base, {"format": "pt", **STALE})
    before = set(folder.iterdir())
    done = loratool("merge", "--base", base, lora, "-o", folder / "none.safetensors", "--dtype",
                    "f16", code=1)
    check("which F16 cannot hold" in done.stderr, f"failed merge: {done.stderr}")
    check(set(folder.iterdir()) == before, "a failed merge left something behind")


torch.manual_seed(8)
run_tests(test_extract, test_extract_peft, test_resize, test_merge, test_follow)
