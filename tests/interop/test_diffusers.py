#!/usr/bin/env python3
"""diffusers loads what loratool writes for Stable Diffusion 1.x, and runs it as the merged model."""

from common import check, report, run_tests
from consumers import DATA, caught, difference, extract, keys_of, measured, merge, same_set

import torch
from peft.tuners.lora import LoraLayer

import minis

BASE, TUNED = DATA / "mini-sd/base.safetensors", DATA / "mini-sd/tuned.safetensors"
TRAINED = DATA / "mini-sd/lora.safetensors"
TOLERANCE = 1e-5  # float32 arithmetic, relative to the largest output
SUFFIXES = ".lora_down", ".lora_up", ".lora_A", ".lora_B", ".alpha"


def modules_of(path):
    """The modules of an adapter file, spelled with underscores and without `lora_`."""
    names = keys_of(path)
    for suffix in SUFFIXES:
        names = {name.partition(suffix)[0] for name in names}
    names = {name.replace(".", "_").removeprefix("lora_") for name in names}
    return {name.replace("text_encoder_", "te_", 1) for name in names}


def installed(pipeline):
    """The modules that carry a LoRA layer, spelled the same way."""
    for prefix, model in (("unet", pipeline.unet), ("te_text_model", pipeline.text_encoder)):
        for name, module in model.named_modules():
            if isinstance(module, LoraLayer) and module.lora_A:
                yield f"{prefix}_{name.removeprefix('text_model.')}".replace(".", "_")


def load_lora(path):
    """A pipeline of the base with an adapter loaded, and what the libraries complained of."""
    pipeline = minis.load_sd(BASE).pipeline()
    with caught() as messages:
        pipeline.load_lora_weights(path.parent, weight_name=path.name)
    return pipeline, messages


@torch.no_grad()
def outputs(sd):
    """U-Net and text encoder outputs on fixed inputs; the U-Net's context is not the encoder's."""
    generator = torch.Generator().manual_seed(2)
    config = sd.unet.config
    latents = torch.randn(2, config.in_channels, config.sample_size, config.sample_size, generator=generator)
    context = torch.randn(2, 8, config.cross_attention_dim, generator=generator)
    tokens = sd.tokenizer(["a photo of three", "a photo of nine"], padding="max_length", return_tensors="pt")
    return {
        "U-Net": sd.unet(latents, torch.tensor([100, 700]), context).sample,
        "text encoder": sd.text_encoder(tokens.input_ids).last_hidden_state,
    }


def compare(label, adapter, work):
    """diffusers with the adapter gives the outputs of the base merged with it."""
    pipeline, messages = load_lora(adapter)
    check(not messages, f"warnings: {messages}", label)
    same_set(installed(pipeline), modules_of(adapter), label, "LoRA layers of modules in the file")
    merge(BASE, [adapter], work / "merged.safetensors", "--dtype", "f32")
    base, merged = (outputs(minis.load_sd(path)) for path in (BASE, work / "merged.safetensors"))
    found = outputs(pipeline)
    for part, expected in merged.items():
        effect = difference(base[part], expected)
        print(f"{label}: {part}: the adapter moves the outputs by {effect:.3g}")
        check(effect > 0.05, f"{part}: the outputs move by {effect:.3g} only", label)
        measured(difference(found[part], expected), TOLERANCE, label, f"{part}, diffusers from merged")


def check_extracted(label, work, *options):
    made = extract(BASE, TUNED, work / "adapter.safetensors", *options)
    print(f"{label}: {made['modules_written']} modules, {made['dialect']}, ranks {made['rank']}")
    compare(label, work / "adapter.safetensors", work)


def test_kohya(work):
    check_extracted("kohya", work, "--rank", 8)


def test_kohya_alpha(work):
    """Mixed ranks and a scale that is not 1."""
    check_extracted("kohya alpha", work, "--rank", 24, "--conv-rank", 6, "--alpha", 4, "--dtype", "bf16")


def test_diffusers(work):
    check_extracted("diffusers", work, "--rank", 8, "--dialect", "diffusers")


def test_diffusers_mixed(work):
    check_extracted("diffusers mixed", work, "--rank", 24, "--conv-rank", 6, "--dialect", "diffusers",
                    "--dtype", "f32")


def test_trained(work):
    compare("trained", TRAINED, work)


def test_converted(work):
    """The trained adapter in diffusers' names, and back in kohya's: diffusers runs both alike."""
    there, back = work / "there.safetensors", work / "back.safetensors"
    report("convert", TRAINED, "--to", "diffusers", "--base", BASE, "-o", there)
    report("convert", there, "--to", "kohya", "--base", BASE, "-o", back)
    check(not any(key.startswith("lora_") for key in keys_of(there)), "kohya keys are left", "converted")
    check(keys_of(back) == keys_of(TRAINED), "keys after the way there and back", "converted")
    compare("converted", there, work)
    compare("converted back", back, work)


def test_pipeline(work):
    """The whole way to the picture: the samples of the merged model."""
    merge(BASE, [TRAINED], work / "merged.safetensors", "--dtype", "f32")
    pipelines = {"diffusers": load_lora(TRAINED)[0], "base": minis.load_sd(BASE).pipeline(),
                 "merged": minis.load_sd(work / "merged.safetensors").pipeline()}
    images = {}
    for name, pipeline in pipelines.items():
        pipeline.set_progress_bar_config(disable=True)
        images[name] = pipeline("a photo of three", num_inference_steps=8, output_type="pt",
                                generator=torch.Generator().manual_seed(0)).images
    print(f"pipeline: images of base differ by {difference(images['base'], images['merged']):.3g}")
    measured(difference(images["diffusers"], images["merged"]), 1e-4, "pipeline",
             "images, diffusers from merged")


def test_all_modules(work):
    """For information: what diffusers does with kohya names outside the usual modules."""
    adapter = work / "all.safetensors"
    extract(BASE, TUNED, adapter, "--rank", 8, "--all-modules")
    try:
        pipeline, messages = load_lora(adapter)
    except Exception as refusal:
        print(f"--all-modules: diffusers refuses: {refusal}")
        return
    lost = sorted(modules_of(adapter) - set(installed(pipeline)))
    print(f"--all-modules: {len(modules_of(adapter))} modules, not installed {lost}, warnings {messages}")


if __name__ == "__main__":
    run_tests(test_kohya, test_kohya_alpha, test_diffusers, test_diffusers_mixed, test_trained,
              test_converted, test_pipeline, test_all_modules)
