"""One adapter file with modules in several dialects: each is found by its own name, and
two names of one weight are refused."""

import os
import subprocess

import torch
from common import check, loratool, run_tests
from safetensors.torch import load_file, save_file

SYNTH = os.environ["LORATOOL_SYNTH"]
MINI = "flux:d=32 h=8 n=2 s=2 i=8 c=8 p=8 g=1"


def synth(*args):
    subprocess.run([SYNTH, *map(str, args)], check=True, stdout=subprocess.DEVNULL)


def test_mixed(work):
    base, kohya = work / "base.safetensors", work / "kohya.safetensors"
    synth(MINI, "-o", base)
    synth(MINI, "--adapter", "--rank", "2", "--for", base, "-o", kohya)
    files = {"kohya": kohya}
    for to in "diffusers", "comfyui":
        files[to] = work / f"{to}.safetensors"
        loratool("convert", kohya, "--to", to, "--base", base, "-o", files[to], "-q")
    tensors = {k: load_file(v) for k, v in files.items()}
    first = {k: v for k, v in tensors["kohya"].items() if "double_blocks_0_" in k}
    second = {k: v for k, v in tensors["diffusers"].items()
              if ".transformer_blocks.1." in k}
    third = {k: v for k, v in tensors["comfyui"].items() if ".single_blocks." in k}
    check(first and second and third, "a dialect gave nothing")
    mixed = work / "mixed.safetensors"
    save_file(first | second | third, mixed)
    loratool("merge", "--base", base, mixed, "-o", work / "mixed.out", "-q")
    # The same modules, all in one dialect.
    part = {k: v for k, v in tensors["kohya"].items()
            if "double_blocks_" in k or "single_blocks_" in k}
    save_file(part, work / "part.safetensors")
    loratool("merge", "--base", base, work / "part.safetensors", "-o", work / "part.out", "-q")
    a, b = load_file(work / "mixed.out"), load_file(work / "part.out")
    check(a.keys() == b.keys(), "other tensors")
    for k in a:
        check(torch.equal(a[k], b[k]), f"{k} differs")
    # All of them in the one dialect again.
    loratool("convert", mixed, "--to", "kohya", "--base", base, "-o", work / "one", "-q")
    check(load_file(work / "one").keys() == part.keys(), "modules were lost")


def test_twice(work):
    base, kohya = work / "base.safetensors", work / "kohya.safetensors"
    public, out = work / "public.safetensors", work / "out.safetensors"
    synth(MINI, "-o", base)
    synth(MINI, "--adapter", "--rank", "2", "--for", base, "-o", kohya)
    loratool("convert", kohya, "--to", "diffusers", "--base", base, "-o", public, "-q")
    one, other = load_file(kohya), load_file(public)
    twice = one | {k: v for k, v in other.items() if k.endswith("to_q.lora_A.weight")
                   or k.endswith("to_q.lora_B.weight")}
    check(len(twice) > len(one), "nothing was doubled")
    save_file(twice, work / "twice.safetensors")
    for command in (["merge", "--base", base, work / "twice.safetensors"],
                    ["convert", work / "twice.safetensors", "--to", "kohya", "--base", base]):
        done = loratool(*command, "-o", out, code=3)
        lines = done.stderr.splitlines()
        check(0 < len(lines) <= 10, f"{len(lines)} lines")
        check("to_q" in done.stderr and "qkv" in done.stderr, done.stderr)
        check(not out.exists(), "an output appeared")


if __name__ == "__main__":
    run_tests(test_mixed, test_twice)
