#!/usr/bin/env python3
"""Adapters judged by what the models do: how much of a fine-tuning's gain an adapter carries.

The gain is the fall of the loss on the tuned data from base to tuned; the part that base with an
adapter merged in reaches of it is what is measured.
"""

from common import check, run_tests
from consumers import DATA, extract, measured, merge

import torch
from safetensors.torch import load_file, save_file

import minis

RANKS = 4, 8, 16
SLACK = 0.01  # by which a higher rank may be worse
ROUNDING = 2.0**-24  # of float32, relative

LLM = {
    "name": "mini-llm",
    "loss": lambda path: minis.llm_loss(minis.load_llm(path), "tuned"),
    "documented loss": lambda path: minis.llm_loss(minis.load_llm(path), "tuned"),
    "base": DATA / "mini-llm/base/model.safetensors",
    "tuned": DATA / "mini-llm/tuned/model.safetensors",
    "lora": DATA / "mini-llm/lora",
    "documented": {"base": 3.4136, "tuned": 1.6274, "lora": 1.8140},  # testdata/README.md
    "floors": (0.50, 0.65, 0.80),
}
SD = {
    "name": "mini-sd",
    "loss": lambda path: minis.sd_loss(minis.load_sd(path), "tuned", count=32),
    "documented loss": lambda path: minis.sd_loss(minis.load_sd(path), "tuned"),
    "base": DATA / "mini-sd/base.safetensors",
    "tuned": DATA / "mini-sd/tuned.safetensors",
    "lora": DATA / "mini-sd/lora.safetensors",
    "documented": {"base": 0.3919, "tuned": 0.0369, "lora": 0.0510},
    "floors": (0.85, 0.92, 0.95),
}


def merged_with(mini, adapter, work):
    merge(mini["base"], [adapter], work / "merged.safetensors", "--dtype", "f32")
    return work / "merged.safetensors"


def check_trained(mini, work):
    """The trained LoRA, merged, closes the part of the gap that its trainer measured."""
    documented, label = mini["documented"], mini["name"]
    loss = mini["documented loss"](merged_with(mini, mini["lora"], work))
    gap = documented["base"] - documented["tuned"]
    for name, value in (("trainer", documented["lora"]), ("loratool", loss)):
        gain = (documented["base"] - value) / gap
        print(f"{label}: trained LoRA, {name}: loss {value:.6f}, gain {gain:.4f}")
    measured(abs(loss - documented["lora"]), 1e-4, label, "trained LoRA, loss off by")


def check_ranks(mini, work):
    """Table of ranks: more rank carries more, and each at least its floor."""
    label, gains = mini["name"], []
    base, tuned = mini["loss"](mini["base"]), mini["loss"](mini["tuned"])
    print(f"{label}: loss of base {base:.4f}, of tuned {tuned:.4f}")
    print(f"{label}: rank  loss    gain    error of weights")
    for rank, floor in zip(RANKS, mini["floors"]):
        made = extract(mini["base"], mini["tuned"], work / "adapter.safetensors", "--rank", rank)
        loss = mini["loss"](merged_with(mini, work / "adapter.safetensors", work))
        gains.append((base - loss) / (base - tuned))
        print(f"{label}: {rank:4}  {loss:.4f}  {gains[-1]:.4f}  {made['error']:.4f}", flush=True)
        check(gains[-1] >= floor, f"rank {rank} carries {gains[-1]:.4f}, less than {floor}", label)
    for lower, higher in zip(gains, gains[1:]):
        check(higher >= lower - SLACK, f"a higher rank carries less: {gains}", label)


def ulp(tensor):
    """The distance to the next value of the tensor's dtype."""
    kind = torch.finfo(tensor.dtype)
    exponent = torch.frexp(tensor.double())[1] - 1
    return kind.eps * torch.exp2(exponent.double()).clamp(min=kind.smallest_normal)


def check_full_rank(label, base, tuned, work, noise=0):
    """Full rank gives back every tensor carried: to 1 ulp, and `noise` float32 roundings of the
    change's largest singular value, which show where values are far smaller than that."""
    made = extract(base, tuned, work / "full.safetensors", "--rank", 4096, "--dtype", "f32",
                   "--all-modules")
    merge(base, [work / "full.safetensors"], work / "merged.safetensors")
    before, wanted, found = (load_file(path) for path in (base, tuned, work / "merged.safetensors"))
    unequal, over, total, worst = 0, 0, 0, 0.0
    for name in (module["tensor"] for module in made["modules"]):
        delta = wanted[name].double() - before[name].double()
        error, step = (found[name].double() - wanted[name].double()).abs(), ulp(wanted[name])
        unequal, over = unequal + error.count_nonzero().item(), over + (error > step).sum().item()
        total += error.numel()
        limit = step + noise * ROUNDING * torch.linalg.matrix_norm(delta.flatten(1), 2)
        worst = max(worst, (error / limit).max().item())
    print(f"{label}: full rank, {unequal} of {total} elements unequal, {over} by more than 1 ulp")
    measured(worst, 1, label, "full rank, largest error in bounds")


def cast(path, dtype, output):
    save_file({name: tensor.to(dtype) for name, tensor in load_file(path).items()}, output)
    return output


def test_trained(work):
    check_trained(LLM, work)
    check_trained(SD, work)


def test_ranks(work):
    check_ranks(LLM, work)
    check_ranks(SD, work)


def test_llm_full_rank(work):
    check_full_rank("mini-llm f32", LLM["base"], LLM["tuned"], work, noise=2)
    for name, dtype, noise in (("f16", torch.float16, 0), ("bf16", torch.bfloat16, 2)):
        base = cast(LLM["base"], dtype, work / "base.safetensors")
        tuned = cast(LLM["tuned"], dtype, work / "tuned.safetensors")
        check_full_rank(f"mini-llm {name}", base, tuned, work, noise)


def test_sd_full_rank(work):
    check_full_rank("mini-sd f16", SD["base"], SD["tuned"], work)


if __name__ == "__main__":
    run_tests(test_trained, test_ranks, test_llm_full_rank, test_sd_full_rank)
