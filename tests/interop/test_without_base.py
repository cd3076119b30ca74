"""Adapters of every published model, converted without the model: the same bytes as with
it.  The models are hollow files, names and shapes around a hole."""

import json
import math
import os
import struct
import subprocess

from common import SOURCE, check, loratool, report, run_tests
from safetensors.torch import load_file, save_file

SYNTH = os.environ["LORATOOL_SYNTH"]
MODELS = """
    unet-sd1:sd1 unet-sd2:sd2 unet-sdxl:sdxl unet-refiner:refiner
    flux:dev flux:schnell chroma:chroma flux2:dev flux2:klein-4B sd3:medium sd3:3.5-large
    auraflow:v0.3 pixart:alpha pixart:sigma lumina:image-2.0 zimage:z-image
    hunyuan-video:hunyuan-video hunyuan-image:2.1 qwen-image:qwen-image
    wan:2.1-t2v-1.3B wan:2.1-i2v-14B wan:2.2-ti2v-5B ltx:2B ltx:13B
    cosmos-predict2:2B-t2i anima:anima
""".split()


def hollow(path, table):
    listed = subprocess.run([SYNTH, table, "--list"], check=True, capture_output=True,
                            encoding="utf-8").stdout
    header, at = {}, 0
    for line in listed.splitlines():
        name, shape = line.split("\t")
        shape = [int(d) for d in shape.split(",") if d]
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        f.truncate(8 + len(text) + at)


def convert(adapter, to, out, *more):
    loratool("convert", adapter, "--to", to, "-o", out, "-f", "-q", *more)
    return out.read_bytes()


def test_models(work):
    base, adapter = work / "base.safetensors", work / "adapter.safetensors"
    one, two = work / "one.safetensors", work / "two.safetensors"
    for table in MODELS:
        family = table.split(":")[0]
        hollow(base, table)
        subprocess.run([SYNTH, table, "--adapter", "--rank", "1", "--for", base, "-o",
                        adapter], check=True, stdout=subprocess.DEVNULL)
        told = ["--family", "sdxl-refiner"] if family == "unet-refiner" else []
        for to in "diffusers", "kohya", "comfyui", "bfl":
            with_base = convert(adapter, to, one, "--base", base)
            check(convert(adapter, to, two) == with_base, f"{table} from kohya to {to}")
            for back in "kohya", "comfyui":
                again = convert(one, back, two, "--base", base)
                check(convert(one, back, work / "three.safetensors", *told) == again,
                      f"{table} from {to} to {back}")
        base.unlink()


def test_language_model(work):
    """Modules that are named by their own paths need no table."""
    lora = SOURCE / "testdata" / "mini-llm" / "lora"
    base = SOURCE / "testdata" / "mini-llm" / "base"
    for to, out in (("peft", work / "a"), ("peft", work / "b.safetensors")):
        loratool("convert", lora, "--to", to, "-o", f"{out}{'' if out.suffix else '/'}", "-q")
    loratool("convert", lora, "--to", "peft", "--base", base, "-o", f"{work / 'c'}/", "-q")
    for name in "adapter_model.safetensors", "adapter_config.json":
        check((work / "a" / name).read_bytes() == (work / "c" / name).read_bytes(),
              f"{name} differs from that made with the base")


def test_refusals(work):
    """Some of the blocks of two models with the same names; sizes of no model; nobody's."""
    base, adapter = work / "base.safetensors", work / "adapter.safetensors"
    hollow(base, "flux:dev")
    subprocess.run([SYNTH, "flux:dev", "--adapter", "--rank", "1", "--for", base, "-o",
                    adapter], check=True, stdout=subprocess.DEVNULL)
    convert(adapter, "diffusers", work / "public.safetensors", "--base", base)
    tensors = load_file(work / "public.safetensors")
    few = {k: v for k, v in tensors.items()
           if k.startswith("transformer.transformer_blocks.0.attn.to_")}
    check(len(few) == 10, f"{len(few)} tensors")
    save_file(few, work / "few.safetensors")
    out = work / "out.safetensors"
    done = loratool("convert", work / "few.safetensors", "--to", "comfyui", "-o", out, code=3)
    check("as well as" in done.stderr and "--family" in done.stderr, done.stderr)
    check(not out.exists(), "an output appeared")
    named = convert(work / "few.safetensors", "kohya", out, "--family", "flux")
    check(named == convert(work / "few.safetensors", "kohya", out, "--base", base),
          "--family and --base differ")
    # What the trainer wrote down decides, wherever that family stands among those that fit.
    save_file(few, work / "named.safetensors", {"ss_base_model_version": "flux1"})
    done = report("convert", work / "named.safetensors", "--to", "comfyui", "-o",
                  work / "named.out")
    check(done["family"] == "flux", f"the metadata was overlooked: {done['family']}")
    odd = {k: v[:, :-1].contiguous() if ".lora_A." in k else v for k, v in few.items()}
    save_file(odd, work / "odd.safetensors")
    done = loratool("convert", work / "odd.safetensors", "--to", "kohya", "-o",
                    work / "odd.out", code=3)
    check("give --base" in done.stderr, done.stderr)
    done = loratool("convert", work / "few.safetensors", "--to", "kohya", "--family",
                    "klingon", "-o", work / "odd.out", code=2)
    check("klingon" in done.stderr, done.stderr)
    told = report("convert", work / "few.safetensors", "--to", "kohya", "--family", "flux",
                  "-o", work / "told.safetensors")
    check(told["family"] == "flux", str(told["family"]))


if __name__ == "__main__":
    run_tests(test_models, test_language_model, test_refusals)
