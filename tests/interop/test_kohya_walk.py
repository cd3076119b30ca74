#!/usr/bin/env python3
"""Kohya adapters as trainers read them: by walking the module tree and building each name.

First with a walk of our own that follows the rules of such trainers, then with the lycoris
package, whose merged weights are loratool's.
"""

import sys

from common import check, f64, product, read_modules, run_tests
from consumers import DATA, extract, keys_of, measured, merge, same_set

import torch
from safetensors.torch import load_file

import minis  # makes tools/train importable
import ldm_names

try:
    import lycoris.kohya
except ImportError as absent:
    print(f"skipped: {absent}")
    sys.exit(77)

lycoris.logger.setLevel("WARNING")

BASE, TUNED = DATA / "mini-sd/base.safetensors", DATA / "mini-sd/tuned.safetensors"
TRAINED = DATA / "mini-sd/lora.safetensors"
ROOTS = {  # prefix: the classes inside which a trainer looks for linear layers and convolutions
    "lora_unet": {"Transformer2DModel", "ResnetBlock2D", "Downsample2D", "Upsample2D"},
    "lora_te": {"CLIPAttention", "CLIPSdpaAttention", "CLIPMLP"},
}


class TextEncoder(torch.nn.Module):
    """A CLIP text model under the name `text_model`, as transformers had it before version 5."""

    def __init__(self, model):
        super().__init__()
        self.text_model = getattr(model, "text_model", model)


def components(sd):
    return {"lora_unet": sd.unet, "lora_te": TextEncoder(sd.text_encoder)}


def walk(sd):
    """Kohya's name and the module of everything that a trainer would give a LoRA to."""
    found = {}
    for prefix, model in components(sd).items():
        for path, root in model.named_modules():
            if type(root).__name__ in ROOTS[prefix]:
                for name, module in root.named_modules():
                    if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
                        found[f"{prefix}.{path}.{name}".replace(".", "_")] = module
    return found


def check_shapes(label, name, module, factors):
    """The factors are those that a layer beside this module is made of."""
    rank, weight = factors["down"].shape[0], module.weight
    down, up = [rank, *weight.shape[1:]], [weight.shape[0], rank, *[1] * (weight.ndim - 2)]
    check(list(factors["down"].shape) == down, f"{name}: down {factors['down'].shape}, not {down}", label)
    check(list(factors["up"].shape) == up, f"{name}: up {factors['up'].shape}, not {up}", label)
    check(factors["alpha"].numel() == 1, f"{name}: alpha {factors['alpha'].shape}", label)


def checkpoint_weights(sd, tensors):
    """The checkpoint's tensor of each weight of U-Net and text encoder, by the parameter's identity."""
    for name, parameter in sd.unet.named_parameters():
        yield parameter, tensors[ldm_names.UNET_PREFIX + ldm_names.unet(name)]
    for name, parameter in sd.text_encoder.named_parameters():
        yield parameter, tensors[ldm_names.TEXT_PREFIX + ldm_names.text(name)]


def merged_tensors(adapter, work):
    merge(BASE, [adapter], work / "merged.safetensors", "--dtype", "f32")
    return load_file(work / "merged.safetensors")


def check_walk(label, adapter, work):
    """Every key is consumed, and the walked modules plus their deltas are the merged weights."""
    sd = minis.load_sd(BASE)
    modules, found = walk(sd), read_modules(adapter)
    same_set(found, modules, label, "modules of the file among those walked")
    keys = {f"{name}.{part}" for name in modules for part in ("lora_down.weight", "lora_up.weight", "alpha")}
    same_set(keys_of(adapter), keys, label, "keys")
    merged = {id(key): value for key, value in checkpoint_weights(sd, merged_tensors(adapter, work))}
    worst, scales = 0.0, set()
    for name, module in modules.items():
        check_shapes(label, name, module, found[name])
        scales.add((found[name]["down"].shape[0], float(found[name]["alpha"])))
        expected = f64(module.weight.detach()) + product(found[name]).reshape(module.weight.shape)
        error = abs(f64(merged[id(module.weight)]) - expected).max() / abs(expected).max()
        worst = max(worst, error)
    print(f"{label}: ranks and alphas {sorted(scales)}")
    measured(worst, 2**-24, label, "weights from merged, relative to the tensor's largest")


def check_lycoris(label, adapter, work):
    """lycoris takes every module of the file and merges to the same weights in float32."""
    sd = minis.load_sd(BASE)
    parts = components(sd)
    # lycoris 4.1 lists time_embedding both by name and by class, and stops over the duplicate; what
    # it lists does not matter here, where the file says which modules there are.
    lycoris.kohya.LycorisNetworkKohya.apply_preset({"unet_target_name": []})
    network, weights = lycoris.kohya.create_network_from_weights(
        1.0, str(adapter), None, parts["lora_te"], parts["lora_unet"])
    loras = {lora.lora_name: lora for lora in network.unet_loras + network.text_encoder_loras}
    same_set(loras, read_modules(adapter), label, "modules that lycoris made")
    same_set({type(lora).__name__ for lora in loras.values()}, {"LoConModule"}, label, "lycoris classes")
    network.merge_to(parts["lora_te"], parts["lora_unet"], weights, torch.float32, "cpu")
    unequal, total, worst = 0, 0, 0.0
    for ours, merged in checkpoint_weights(sd, merged_tensors(adapter, work)):
        error = (ours.detach().double() - merged.double()).abs()
        unequal, total = unequal + error.count_nonzero().item(), total + error.numel()
        worst = max(worst, (error.max() / merged.abs().max()).item())
    print(f"{label}: lycoris: {unequal} of {total} weights unequal")
    measured(worst, 2**-22, label, "lycoris from merged, relative to the tensor's largest")


def check_adapter(label, adapter, work):
    check_walk(label, adapter, work)
    check_lycoris(label, adapter, work)


def test_extracted(work):
    made = extract(BASE, TUNED, work / "adapter.safetensors", "--rank", 8)
    print(f"extracted: {made['modules_written']} modules, {made['dialect']}")
    check_adapter("extracted", work / "adapter.safetensors", work)


def test_alpha_and_mixed_ranks(work):
    extract(BASE, TUNED, work / "adapter.safetensors", "--rank", 40, "--conv-rank", 3, "--alpha", 2,
            "--dtype", "f32")
    check_adapter("mixed", work / "adapter.safetensors", work)


def test_trained(work):
    check_adapter("trained", TRAINED, work)


def test_all_modules(work):
    """With --all-modules lycoris, which knows conv_in, conv_out and time_embedding, takes those too."""
    extract(BASE, TUNED, work / "all.safetensors", "--rank", 8, "--all-modules")
    extra = sorted(set(read_modules(work / "all.safetensors")) - set(walk(minis.load_sd(BASE))))
    print(f"all modules: beyond the walk {extra}")
    check_lycoris("all modules", work / "all.safetensors", work)


if __name__ == "__main__":
    run_tests(test_extracted, test_alpha_and_mixed_ranks, test_trained, test_all_modules)
