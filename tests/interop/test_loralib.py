#!/usr/bin/env python3
"""loralib's adapters: merged by loratool as loralib merges them itself."""

from common import check, loratool, report, run_tests
from consumers import at_most, measured, skip

import torch
from safetensors.torch import load_file, save_file

try:
    import loralib
except ImportError as absent:
    skip(absent)

ALPHA, RANK = 6, 3


class Block(torch.nn.Module):
    """A fused projection as in GPT-2 (transposed or not), and two plain layers."""

    def __init__(self, enable, transposed):
        super().__init__()
        options = {"r": RANK, "lora_alpha": ALPHA}
        self.c_attn = loralib.MergedLinear(
            24, 24 * len(enable), enable_lora=enable, fan_in_fan_out=transposed, **options)
        self.c_fc = loralib.Linear(24, 40, fan_in_fan_out=transposed, **options)
        self.head = loralib.Linear(40, 10, **options)


class Model(torch.nn.Module):
    def __init__(self, enable, transposed):
        super().__init__()
        self.transformer = torch.nn.ModuleDict({
            "wpe": torch.nn.Embedding(8, 24),
            "h": torch.nn.ModuleList(torch.nn.ModuleDict({"attn": Block(enable, transposed),
                                                          "ln_1": torch.nn.LayerNorm(24)})
                                     for _ in range(2))})


@torch.no_grad()
def build(enable, transposed):
    torch.manual_seed(4)
    model = Model(enable, transposed).train()
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.copy_(torch.randn(parameter.shape))
    return model


def base_of(model):
    return {name: tensor.clone().contiguous() for name, tensor in model.state_dict().items()
            if "lora_" not in name}


def check_merge(label, model, base, adapter, work, *options):
    """loralib's own merge: the model in evaluation mode."""
    loratool("merge", "--base", base, adapter, "-o", work / "merged.safetensors", "-f",
             "--alpha", ALPHA, *options)
    found = load_file(work / "merged.safetensors")
    before, after = base_of(model.train()), base_of(model.eval())
    moved = worst = 0
    for name, wanted in after.items():
        moved += not torch.equal(wanted, before[name])
        # float32: one product of length RANK and two sums
        limit = 2**-22 * (wanted.abs() + before[name].abs() + 8 * RANK)
        worst = max(worst, ((found[name] - wanted).abs() / limit).max().item())
    model.train()
    check(moved == 6, f"{moved} weights move", label)
    measured(worst, 1, label, "error in bounds of float32 rounding")


def check_layer_kinds(label, enable, transposed, work):
    model = build(enable, transposed)
    base, adapter, whole = work / "base.safetensors", work / "adapter.pt", work / "whole.pt"
    save_file(base_of(model), base)
    torch.save(loralib.lora_state_dict(model), adapter)
    torch.save(model.state_dict(), whole)
    blocks = ",".join(str(int(on)) for on in enable)
    options = () if all(enable) else ("--enable-lora", blocks)
    info = report("info", adapter)
    print(f"{label}: {info['kind']}, ranks {sorted({m['rank'] for m in info['modules']})}")
    check_merge(label, model, base, adapter, work, *options)
    # With the base's own weights beside the factors.
    check_merge(f"{label}, whole state", model, base, whole, work, *options)
    # Without what the file does not say.
    done = loratool("merge", "--base", base, adapter, "-o", work / "no.safetensors", *options, code=2)
    check("--alpha" in done.stderr, f"message: {done.stderr}", label)
    if not all(enable):
        done = loratool("merge", "--base", base, adapter, "-o", work / "no.safetensors",
                        "--alpha", ALPHA, code=3)
        check("--enable-lora" in done.stderr, f"message: {done.stderr}", label)
    check(not (work / "no.safetensors").exists(), "wrote a file", label)


def test_all_parts(work):
    check_layer_kinds("all parts", [True, True, True], False, work)


def test_query_and_value(work):
    check_layer_kinds("q and v", [True, False, True], False, work)


def test_one_part(work):
    check_layer_kinds("v alone", [False, False, True], False, work)


def test_gpt2(work):
    """Weights stored (in, out), as loralib's GPT-2 has them."""
    check_layer_kinds("transposed", [True, False, True], True, work)


def test_merged_state_is_refused(work):
    """A state saved in evaluation mode holds merged weights: they are not the base's."""
    model = build([True, False, True], False)
    save_file(base_of(model), work / "base.safetensors")
    torch.save(model.eval().state_dict(), work / "merged.pt")
    done = loratool("merge", "--base", work / "base.safetensors", work / "merged.pt", "-o",
                    work / "no.safetensors", "--alpha", ALPHA, "--enable-lora", "1,0,1", code=3)
    check("replace a tensor of the base" in done.stderr, f"message: {done.stderr}", "merged state")


if __name__ == "__main__":
    run_tests(test_all_parts, test_query_and_value, test_one_part, test_gpt2, test_merged_state_is_refused)
