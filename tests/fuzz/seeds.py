#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets' corpora, testdata/corpora/TARGET/seed-*.

    LORATOOL_SYNTH=build/release/tests/synth/loratool_synth python3 tests/fuzz/seeds.py

Everything else in a corpus was found by a fuzzer (tools/fuzz --keep) and is left alone.
"""

import io
import json
import os
import pickle
import random
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tests/malformed"))
from torchfiles import (  # noqa: E402
    archive, dictionary, good, integer, legacy, legacy_tensor, name, parts, program, tensor, text, torch_zip, tuple_of,
)

TESTDATA = SOURCE / "testdata"
CORPORA = TESTDATA / "corpora"
SYNTH = os.environ["LORATOOL_SYNTH"]
numbers = random.Random(20261124)


def save(target, seed, data):
    folder = CORPORA / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"seed-{seed}").write_bytes(data if isinstance(data, bytes) else data.encode())


# ---- safetensors ---------------------------------------------------------------------

def values(dtype, count):
    numbers_ = [numbers.gauss(0, 1) for _ in range(count)]
    if dtype == "F16":
        return struct.pack(f"<{count}e", *numbers_)
    if dtype == "BF16":
        return b"".join(struct.pack("<f", v)[2:] for v in numbers_)
    return struct.pack(f"<{count}f", *numbers_)


def size_of(shape):
    count = 1
    for n in shape:
        count *= n
    return count


def safetensors(tensors, metadata=None, pad=0):
    """tensors: name -> (dtype, shape, bytes)"""
    header, data = {}, b""
    if metadata is not None:
        header["__metadata__"] = metadata
    for key, (dtype, shape, content) in tensors.items():
        header[key] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    head = json.dumps(header, separators=(",", ":")).encode() + b" " * pad
    return struct.pack("<Q", len(head)) + head + data


def filled(shapes, dtype="F32"):
    return {key: (dtype, shape, values(dtype, size_of(shape))) for key, shape in shapes.items()}


def nudged(tensors):
    """A fine-tune: some of the tensors are another draw."""
    return {key: (dtype, shape, values(dtype, size_of(shape)) if i % 3 else content)
            for i, (key, (dtype, shape, content)) in enumerate(tensors.items())}


DTYPES = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
          "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32,
          "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64}


def safetensors_seeds():
    save("safetensors", "every-dtype", safetensors({key: (key, (4,), bytes(4 * bits // 8))
                                                    for key, bits in DTYPES.items()}))
    save("safetensors", "empty", safetensors({}))
    save("safetensors", "metadata", safetensors(filled({"a": (2, 2)}), {"format": "pt", "é": "\U0001f600\n"}, pad=5))
    save("safetensors", "zero-sized", safetensors(filled({"a": (0, 4), "b": (), "c": (2,), "d": (0,)})))
    save("safetensors", "many", safetensors(filled({f"layers.{i}.weight": (1, 2) for i in range(30)}, "F16")))


# ---- torch ---------------------------------------------------------------------------

def deflated(path):
    out = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(zipfile.ZipInfo(info.filename), old.read(info), zipfile.ZIP_DEFLATED)
    return out.getvalue()


def old_tar(offset=0):
    def member(tar, path, data):
        info = tarfile.TarInfo(path)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    dump = lambda value: pickle.dumps(value, 2)
    cls = lambda kind: b"\x80\x02(" + integer(1) + text("cpu") + name("torch", kind) + b"t."
    storages = dump(1) + cls("FloatStorage") + struct.pack("<q4f", 4, 1, 2, 3, 4) + dump([])
    tensors = dump(1) + b"\x80\x02(" + integer(2) + integer(1) + name("torch", "FloatTensor") + b"t."
    tensors += struct.pack("<iiqqqqq", 2, 0, 2, 2, 2, 1, offset)
    whole = program(dictionary(weight=integer(2) + b"Q"))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        member(tar, "./storages", storages)
        member(tar, "tensors", tensors)
        member(tar, "pickle", whole)
    return out.getvalue()


def torch_seeds():
    mini = TESTDATA / "mini-torch"
    for path in sorted(mini.iterdir()):
        if path.name == "legacy.pt":
            save("torch_legacy", path.stem, path.read_bytes())
            continue
        save("torch_zip", path.stem, path.read_bytes())
        save("torch_zip", f"{path.stem}-deflated", deflated(path))
        with zipfile.ZipFile(path) as z:
            save("pickle", path.stem, z.read(f"{path.stem}/data.pkl"))
    save("torch_zip", "made", torch_zip(good()))
    save("torch_zip", "big-endian", archive(*parts(good())[:2], *parts(good())[2:]))
    rebuilt = name("torch._utils", "_rebuild_parameter") + tuple_of(tensor(), b"\x88", b"N") + b"R"
    save("torch_zip", "parameter", torch_zip(program(dictionary(state_dict=dictionary(weight=rebuilt), epoch=integer(3)))))
    called = name("os", "system") + tuple_of(text("true")) + b"R"
    save("torch_zip", "dangerous", torch_zip(program(dictionary(weight=tensor(), extra=called))))
    save("torch_legacy", "made", legacy(program(dictionary(weight=legacy_tensor(), bias=legacy_tensor((4,), (1,))))))
    save("torch_tar", "made", old_tar())
    save("torch_tar", "past-the-end", old_tar(1))
    plain = {"a": [1, -1, 2**40, 2**80, 1.5, None, True], "b": ("x", "é", b"bytes"), "c": {1, 2}, "d": {"e": []}}
    for protocol in range(6):
        save("pickle", f"protocol-{protocol}", pickle.dumps(plain, protocol))
    save("pickle", "calls", program(dictionary(
        a=called, b=b"(" + text("x") + b"iposix\nsystem\n", c=name("a", "b") + b")\x81}" + text("k") + b"Nsb",
        d=name("a", "b") + b"(t}\x92")))


# ---- texts ---------------------------------------------------------------------------

def text_seeds():
    index = {"metadata": {"total_size": 28}, "weight_map": {
        "a.weight": "model-00001-of-00002.safetensors", "b.weight": "model-00001-of-00002.safetensors",
        "c.weight": "model-00002-of-00002.safetensors"}}
    save("shards", "index", json.dumps(index))
    save("shards", "outside", json.dumps({"weight_map": {"a": "../x.safetensors"}}))
    save("shards", "missing", json.dumps({"weight_map": {**index["weight_map"], "d": "model-00002-of-00002.safetensors"}}))
    parts_ = {"scheduler": ["diffusers", "PNDMScheduler"], "text_encoder": ["transformers", "CLIPTextModel"],
              "unet": ["diffusers", "UNet2DConditionModel"]}
    pipeline = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.42.0", **parts_}
    save("pipeline", "index", json.dumps(pipeline, indent=2))
    save("pipeline", "without", json.dumps({**pipeline, "unet": [None, None], "safety_checker": ["a", "b"]}))
    save("pipeline", "outside", json.dumps({"../unet": ["a", "b"], "text_encoder": ["a", "b"]}))
    save("pipeline", "twice", '{"unet":["a","b"],"unet":["a","b"]}')
    save("pipeline", "list", json.dumps(list(parts_)))
    config = json.loads((TESTDATA / "mini-llm/lora/adapter_config.json").read_text())
    save("peft_config", "mini-llm", json.dumps(config))
    config.update(rank_pattern={"q_proj": 4, "^model\\.layers\\.[01]\\.mlp": 2}, alpha_pattern={".*k_proj": 8},
                  use_rslora=True, bias="all", modules_to_save=["lm_head"], layers_to_transform=[0, 1])
    save("peft_config", "patterns", json.dumps(config))
    save("peft_config", "kinds-of-patterns", '{"rank_pattern":{"(a|b)+c":4,"x.y":2,"^exactly.one":3,"^exactly\\\\.one":3},'
         '"alpha_pattern":{"(?<=q)_proj(?!x)":1},"r":8}')
    save("peft_config", "small", '{"peft_type":"LORA","r":8,"lora_alpha":16,"use_dora":false,"target_modules":"all-linear"}')
    for i, item in enumerate((r"q_proj", r"^model\.layers\.\d+\.mlp", r"(q|k|v)_proj$", r"[^.]+\.(?:a|b){1,3}", r".*", r"a\w+\.b?",
                              r"layers\.(1[0-9]|2)\.", r"(((((a)))))", r"\bq", r"x{0,255}", r"(?<=self_attn\.)q_proj(?!x)", r"(?P<n>a)(?P=n)\w*?",
                                r"(a*)*b", "caf.", r"[]x]+\.\d{1,3}")):
        save("pattern", f"{i:02}", item + "\nmodel.layers.11.self_attn.q_proj")
    for i, item in enumerate(('{"dtype":"F16","shape":[1,2],"data_offsets":[0,4]}', '[1,-2.5e3,true,false,null,"a\\u00e9\\ud83d\\ude00\\n"]',
                              ' {"a":{"b":[[],{}]},"dtype":1,"dtype":2} ', '"x"', "0", '{"r":18446744073709551615}')):
        save("json", f"{i:02}", item)


# ---- models and adapters -------------------------------------------------------------

def synth(layout, *options):
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "x.safetensors"
        subprocess.run([SYNTH, layout, "-o", out, *map(str, options)], check=True)
        return out.read_bytes()


def shapes_of(file):
    size, = struct.unpack("<Q", file[:8])
    header = json.loads(file[8:8 + size])
    return {key: tuple(entry["shape"]) for key, entry in header.items() if key != "__metadata__"}


TINY = ["flux:d=4 h=2 n=1 s=1 i=4 c=4 p=4 g=1", "sd3:d=4 n=1 x=0 q=1 p=4"]
LISTED = ["sd15", "sdxl", "refiner-unet", "clip-l", "openclip-g", "llama-1b", "vae-z4", "chroma:d=64 h=16 n=1 s=1 i=16 c=32 g=48 l=1",
          "flux2:d=64 h=16 n=1 s=1 c=96 g=1", "hunyuan-video:d=64 h=16 n=1 s=1 r=1 i=16 c=32 p=24 g=1",
          "auraflow:d=64 f=256 n=1 s=1 c=32 p=64", "pixart:d=96 n=1 c=48 t=7 m=1 e=32",
          "lumina:d=96 q=192 h=24 f=384 e=96 n=1 r=1 c=48", "qwen-image:d=64 h=16 n=1 c=48",
          "wan:d=64 f=96 n=1 i=36 o=16 x=2 e=1", "ltx:d=64 n=1", "cosmos-predict2:d=64 h=16 n=1 i=17 c=32 a=24"]


def llama():
    shapes = {"lm_head.weight": (8, 6), "model.embed_tokens.weight": (8, 6), "model.norm.weight": (6,)}
    for i in range(2):
        p = f"model.layers.{i}."
        shapes |= {p + "input_layernorm.weight": (6,), p + "mlp.down_proj.weight": (6, 10),
                   p + "mlp.up_proj.weight": (10, 6), p + "self_attn.q_proj.weight": (6, 6),
                   p + "self_attn.o_proj.weight": (6, 6), p + "self_attn.v_proj.bias": (6,)}
    return shapes


def llama_adapter():
    shapes = {}
    for key, shape in llama().items():
        if "_proj.weight" in key:
            stem = "base_model.model." + key[:-len(".weight")]
            shapes[stem + ".lora_A.weight"] = (2, shape[1])
            shapes[stem + ".lora_B.weight"] = (shape[0], 2)
    return shapes


def sd1():
    u = "model.diffusion_model."
    block = u + "input_blocks.1.1."
    return {
        u + "input_blocks.0.0.weight": (8, 4, 3, 3), u + "input_blocks.0.0.bias": (8,),
        u + "input_blocks.1.0.in_layers.2.weight": (8, 8, 3, 3), u + "input_blocks.1.0.in_layers.0.weight": (8,),
        block + "proj_in.weight": (8, 8, 1, 1), block + "transformer_blocks.0.attn1.to_q.weight": (8, 8),
        block + "transformer_blocks.0.attn2.to_k.weight": (8, 12), block + "transformer_blocks.0.ff.net.0.proj.weight": (16, 8),
        u + "middle_block.1.proj_in.weight": (8, 8, 1, 1),
        "cond_stage_model.transformer.text_model.encoder.layers.0.self_attn.q_proj.weight": (12, 12),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": (1, 7),
        "first_stage_model.decoder.conv_in.weight": (4, 4, 3, 3)}


def sd1_adapter():
    modules = {
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q": (8, 8),
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k": (8, 12),
        "lora_unet_down_blocks_0_attentions_0_proj_in": (8, 8, 1, 1),
        "lora_unet_down_blocks_0_resnets_0_conv1": (8, 8, 3, 3),
        "lora_te_text_model_encoder_layers_0_self_attn_q_proj": (12, 12)}
    shapes = {}
    for key, (rows, columns, *kernel) in modules.items():
        ones = tuple(1 for _ in kernel)
        shapes |= {key + ".alpha": (), key + ".lora_down.weight": (2, columns, *kernel),
                   key + ".lora_up.weight": (rows, 2, *ones)}
    key = "lora_unet_down_blocks_0_resnets_0_conv1"
    shapes |= {key + ".lora_mid.weight": (2, 2, 3, 3), key + ".lora_down.weight": (2, 8, 1, 1)}
    return shapes


def loralib_adapter():
    return {"transformer.h.0.attn.c_attn.lora_A": (4, 6), "transformer.h.0.attn.c_attn.lora_B": (12, 2)}


def gpt2():
    p = "transformer.h.0."
    return {"transformer.wpe.weight": (8, 6), "transformer.wte.weight": (8, 6), p + "ln_1.weight": (6,),
            p + "attn.c_attn.weight": (6, 18), p + "attn.c_proj.weight": (6, 6), p + "mlp.c_fc.weight": (6, 12)}


def pairs():
    """Name -> base, tuned, adapter."""
    made = {}
    for key, shapes, adapter in (("llama", llama(), llama_adapter()), ("sd1", sd1(), sd1_adapter()),
                                 ("gpt2", gpt2(), loralib_adapter())):
        for dtype in {"sd1": ["F16"], "gpt2": ["BF16"]}.get(key, ["F32"]):
            base = filled(shapes, dtype)
            made[f"{key}-{dtype.lower()}"] = (
                safetensors(base, {"format": "pt"}), safetensors(nudged(base), {"format": "pt"}),
                safetensors(filled(adapter, dtype), {"ss_network_dim": "2", "ss_network_alpha": "1"}))
    for layout in TINY:
        key, _, _ = layout.partition(":")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "base.safetensors"
            path.write_bytes(synth(layout))
            made[key] = (path.read_bytes(), synth(layout, "--tune-of", path, "--strength", 0.2),
                         synth(layout, "--adapter", "--rank", 2, "--for", path))
    return made


def packed(first, second, *options):
    head = bytes(options) + bytes(12 - len(options))
    return b"LTFZ" + head + struct.pack("<I", len(first)) + first + second


def model_seeds():
    config = b'{"peft_type":"LORA","r":2,"lora_alpha":4,"bias":"none"}'
    for key, (base, tuned, adapter) in pairs().items():
        listed = lambda file: "\n".join(" ".join(map(str, (k, *shape))) for k, shape in shapes_of(file).items())
        save("names", key, listed(base))
        save("names", f"{key}-adapter", listed(adapter))
        save("extract", key, packed(base, tuned, 3, 1))
        if key == "sd1-f16":
            save("extract", f"{key}-all", packed(base, tuned, 3, 0, 1, 0, 1, 1, 4))
        save("merge", key, packed(base, adapter, 192, 0, 0, 2))
        save("map", key, packed(base, adapter))
        save("resize", key, packed(adapter, config if "llama" in key else b"", 0, 0, 0, 2 if "llama" in key else 0))
        save("info", key, packed(base, b""))
        save("info", f"{key}-adapter", packed(adapter, config if "llama" in key else b""))
        for way in (1, 2) if key in ("flux", "sd3") else (0, 1):
            save("convert", f"{key}-{way}", packed(base if way == 2 else adapter, base, way, 0, 0, 2, way))
    # Without a base: the sizes are those of published models.
    for key, options, modules in (
            ("sd1-kohya", (1, 0, 0, 0, 2, 1, 0), {"lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k": (320, 768)}),
            ("sd1-diffusers", (1, 1, 1, 0, 0, 1, 2), {"unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k": (320, 768)}),
            ("flux-diffusers", (1, 0, 0, 0, 4, 1, 4), {"transformer.transformer_blocks.0.attn.to_q": (3072, 3072)})):
        kohya = key.endswith("kohya")
        made = {}
        for module, (rows, columns) in modules.items():
            made |= {module + (".lora_down.weight" if kohya else ".lora_A.weight"): (1, columns),
                     module + (".lora_up.weight" if kohya else ".lora_B.weight"): (rows, 1)}
        save("convert", f"{key}-alone", packed(safetensors(filled(made, "F16")), b"", *options))
    peft = b'{"peft_type":"LORA","r":2,"lora_alpha":4,"bias":"none","target_modules":["q_proj","o_proj","up_proj","down_proj"]}'
    save("convert", "llama-folder", packed(pairs()["llama-f32"][2], pairs()["llama-f32"][0], 1, 2, 0, 2, 1))
    save("convert", "llama-config", packed(pairs()["llama-f32"][2], peft, 1, 2, 0, 2, 1, 1))
    zipped = (TESTDATA / "mini-torch/views.pt").read_bytes()
    save("convert", "torch", packed(zipped, b"", 0, 1))
    save("info", "torch", packed(zipped, b""))
    save("merge", "peft", packed(pairs()["llama-f32"][0], pairs()["llama-f32"][2], 192, 0, 1, 2))
    for layout in LISTED:
        lines = subprocess.run([SYNTH, layout, "--list"], check=True, capture_output=True, text=True).stdout.splitlines()
        kept = [line for line in lines if len(lines) < 250 or any(part in line for part in (
            "input_blocks.0.", "input_blocks.1.", "middle_block.1.", "label_emb", "layers.0.", "resblocks.0."))]
        save("names", layout.partition(":")[0], "\n".join(line.replace("\t", " ").replace(",", " ") for line in kept))


def main():
    safetensors_seeds()
    torch_seeds()
    text_seeds()
    model_seeds()
    total = 0
    for folder in sorted(CORPORA.iterdir()):
        sizes = [path.stat().st_size for path in folder.iterdir()]
        total += sum(sizes)
        print(f"{folder.name:12} {len(sizes):4} files {sum(sizes):8} bytes")
    print(f"{total} bytes")


if __name__ == "__main__":
    main()
