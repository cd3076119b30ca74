#!/usr/bin/env python3
"""What test_dit.py checks, for the diffusion transformers of dit_relatives.py."""

from common import check, report, run_tests
from consumers import extract, merge, same_set, keys_of
from dit_relatives import RELATIVES, VIDEO15, VIDEO15_FUSED
from test_dit import SPELLINGS, check_output, compare, paths_of, random_factors, spelled, test_of

import torch
from safetensors.torch import load_file, save_file


def test_video15_apart(work):
    """HunyuanVideo 1.5 with q, k and v apart, as published: beside the form with them fused."""
    files = VIDEO15.make(work)
    fused = work / "fused.safetensors"
    tensors = load_file(files["base", "native"])
    for name in [n for n in tensors if "_attn_q." in n]:
        parts = [tensors.pop(name.replace("_attn_q.", f"_attn_{x}.")) for x in "qkv"]
        tensors[name.replace("_attn_q.", "_attn_qkv.")] = torch.cat(parts)
    save_file(tensors, fused)
    factors = random_factors(files["base", "native"], paths_of(files["base", "native"]))
    bases = {"apart": (files["base", "native"], VIDEO15), "fused": (fused, VIDEO15_FUSED)}
    for how in SPELLINGS["native"]:
        adapter = spelled(factors, SPELLINGS["native"][how], work / "spelled.safetensors")
        merged = work / "merged.safetensors"
        done = merge(files["base", "public"], [adapter], merged)
        check(done["modules_applied"] == len(factors), f"{how} on diffusers' layout", "apart")
        for name, (base, mini) in bases.items():
            out = work / "out.safetensors"
            done = merge(base, [adapter], out)
            check(done["modules_applied"] == len(factors), f"{how} on {name}", "apart")
            compare(mini.convert(out, work / "back.safetensors"), merged, "apart", f"{how} {name}")
    report("convert", adapter, "--to", "diffusers", "--base", files["base", "native"],
           "-o", work / "there.safetensors")
    check_output(VIDEO15, work / "there.safetensors", files, merged)
    own = work / "own.safetensors"
    done = extract(files["base", "native"], files["tuned", "native"], own, "-r", "8",
                   "--all-modules")
    check(done["family"] == VIDEO15.family, done["family"], "apart")
    same_set({key.partition(".")[0] for key in keys_of(own)},
             {"lora_unet_" + path.replace(".", "_") for path in factors}, "apart", "modules")


if __name__ == "__main__":
    run_tests(*map(test_of, RELATIVES), test_video15_apart)
