#!/usr/bin/env python3
"""Train the miniature Stable Diffusion test models in testdata/mini-sd.

A VAE, then a U-Net and a text encoder with the topology of Stable Diffusion 1.x
at small widths, trained on scikit-learn's handwritten digits (`base`).  A second
drawing style is then learnt twice: by all weights of U-Net and text encoder
(`tuned`) and by a LoRA with the module set and names of kohya's sd-scripts
(`lora`).

Needs: torch, diffusers, transformers, safetensors, scikit-learn.
"""

import argparse
import hashlib
import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import save, save_file
from torch import nn
from transformers import CLIPTextConfig

import digits
import ldm_names
import sd_checkpoint
from minimise import minimise

SEED = 20261124
MAX_TOKENS = 8
HIDDEN = 32
NO_PROMPT = 0.1
RANK, ALPHA = 4, 2.0
CONV_RANK, CONV_ALPHA = 4, 1.0
RECIPES = {
    "vae": {"steps": 400, "batch": 32, "lr": 3e-3},
    "shapes": {"steps": 850, "batch": 48, "lr": 2e-3, "noise_weight": 0},
    "prompts": {"steps": 520, "batch": 48, "lr": 2e-3, "noise_weight": 20},
    "tuned": {"steps": 220, "batch": 48, "lr": 1e-3, "noise_weight": 20},
    "lora": {"steps": 220, "batch": 48, "lr": 5e-3, "noise_weight": 20},
}
UNET = {
    "sample_size": 16,
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 2,
    "block_out_channels": (16, 32, 64, 64),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "norm_num_groups": 8,
    "cross_attention_dim": HIDDEN,
    "attention_head_dim": 4,
}
VAE = {
    "sample_size": 32,
    "latent_channels": 4,
    "layers_per_block": 2,
    "block_out_channels": (8, 16),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "norm_num_groups": 8,
}
SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
START, END = "<|startoftext|>", "<|endoftext|>"


def word_merges(word):
    """Byte-pair merges that join the letters of a word from left to right."""
    letters = list(word[:-1]) + [word[-1] + "</w>"]
    return [("".join(letters[:i]), letters[i]) for i in range(1, len(letters))]


def write_tokenizer(folder):
    """A CLIP tokenizer that knows each word of the prompts as one token."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["a", "photo", "of", *digits.WORDS]
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    merges = list(dict.fromkeys(pair for word in words for pair in word_merges(word)))
    tokens = [*letters, *(c + "</w>" for c in letters), *("".join(pair) for pair in merges), START, END]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": MAX_TOKENS,
        "bos_token": START,
        "eos_token": END,
        "pad_token": END,
        "unk_token": END,
    }
    (folder / "vocab.json").write_text(json.dumps(vocabulary, indent=1) + "\n")
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")
    return vocabulary


def text_config(vocabulary):
    return CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=HIDDEN,
        intermediate_size=4 * HIDDEN,
        projection_dim=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=vocabulary[START],
        eos_token_id=vocabulary[END],
        pad_token_id=vocabulary[END],
    )


def train_vae(recipe):
    """Train on both styles and set the scaling factor that makes latents unit variance."""
    vae = AutoencoderKL(**VAE)
    images = torch.cat([digits.load(style, "train")[0] for style in ("base", "tuned")])

    def loss_of_step():
        batch = images[torch.randint(len(images), (recipe["batch"],))]
        latents = vae.encode(batch).latent_dist
        return F.mse_loss(vae.decode(latents.sample()).sample, batch) + 1e-5 * latents.kl().mean()

    minimise(vae.parameters(), recipe, "vae", loss_of_step)
    with torch.no_grad():
        deviation = vae.encode(images[::8]).latent_dist.mean.std().item()
    vae.register_to_config(scaling_factor=round(1 / deviation, 5))
    return vae


def write_configs(out, vae):
    """Everything that `sd_checkpoint.build` needs, the VAE's scaling factor included."""
    vocabulary = write_tokenizer(out / "tokenizer")
    UNet2DConditionModel(**UNET).to_json_file(out / "unet.json")
    vae.to_json_file(out / "vae.json")
    DDIMScheduler(**SCHEDULER).to_json_file(out / "scheduler.json")
    text_config(vocabulary).to_json_file(out / "text_encoder.json", use_diff=False)


def train_denoiser(sd, style, weights, recipe, label):
    """Epsilon prediction on one style; a tenth of the prompts is left empty.

    Each error is weighted by 1 + min(1/SNR, noise_weight): the prompt matters most
    where noise hides the image, and there the plain error is smallest.
    """
    images, labels = digits.load(style, "train")
    latents = sd.encode_images(images)
    prompts = ["", *(digits.prompt(label) for label in range(10))]
    signal = sd.scheduler.alphas_cumprod
    error_weights = 1 + ((1 - signal) / signal).clamp(max=recipe["noise_weight"])

    def loss_of_step():
        pick = torch.randint(len(latents), (recipe["batch"],))
        keep = torch.rand(recipe["batch"]) >= NO_PROMPT
        noise = torch.randn_like(latents[pick])
        steps = torch.randint(SCHEDULER["num_train_timesteps"], (recipe["batch"],))
        noisy = sd.scheduler.add_noise(latents[pick], noise, steps)
        context = sd.encode_prompts(prompts)[(labels[pick] + 1) * keep]
        errors = (sd.unet(noisy, steps, context).sample - noise).square().mean(dim=(1, 2, 3))
        return (error_weights[steps] * errors).mean()

    minimise(weights, recipe, label, loss_of_step)


def train_all_weights(sd, style, recipe):
    weights = [*sd.unet.parameters(), *sd.text_encoder.parameters()]
    train_denoiser(sd, style, weights, RECIPES[recipe], recipe)


def train_base(out):
    vae = train_vae(RECIPES["vae"])
    write_configs(out, vae)
    sd = sd_checkpoint.build(out)
    sd.vae.load_state_dict(vae.half().float().state_dict())
    # CLIP's own initialisation (0.02) leaves the words of short prompts almost indistinguishable.
    nn.init.normal_(sd.text_encoder.get_input_embeddings().weight)
    train_all_weights(sd, "base", "shapes")
    sd_checkpoint.save(sd, out / "base.safetensors")
    continue_base(out)


def continue_base(out):
    """Second part of the base training, from the saved first part: learn to obey the prompt."""
    torch.manual_seed(SEED)
    sd = sd_checkpoint.load(out / "base.safetensors", out)
    train_all_weights(sd, "base", "prompts")
    sd_checkpoint.save(sd, out / "base.safetensors")


def train_tuned(out):
    sd = sd_checkpoint.load(out / "base.safetensors", out)
    train_all_weights(sd, "tuned", "tuned")
    sd_checkpoint.save(sd, out / "tuned.safetensors")


class LoraModule(nn.Module):
    """A low-rank side path added to the output of one Linear or Conv2d."""

    def __init__(self, target):
        super().__init__()
        if isinstance(target, nn.Linear):
            rank, self.alpha = RANK, ALPHA
            self.lora_down = nn.Linear(target.in_features, rank, bias=False)
            self.lora_up = nn.Linear(rank, target.out_features, bias=False)
        else:
            pointwise = target.kernel_size == (1, 1)
            rank, self.alpha = (RANK, ALPHA) if pointwise else (CONV_RANK, CONV_ALPHA)
            shape = target.kernel_size, target.stride, target.padding
            self.lora_down = nn.Conv2d(target.in_channels, rank, *shape, bias=False)
            self.lora_up = nn.Conv2d(rank, target.out_channels, 1, bias=False)
        nn.init.kaiming_uniform_(self.lora_down.weight, a=math.sqrt(5))
        nn.init.zeros_(self.lora_up.weight)
        self.scale = self.alpha / rank
        target.register_forward_hook(self.add_to_output)

    def add_to_output(self, _module, inputs, output):
        return output + self.scale * self.lora_up(self.lora_down(inputs[0]))


def lora_targets(model, containers):
    """Names and modules of each Linear and Conv2d inside modules of the given classes."""
    for outer_name, outer in model.named_modules():
        if type(outer).__name__ in containers:
            for name, module in outer.named_modules(prefix=outer_name):
                if isinstance(module, (nn.Linear, nn.Conv2d)):
                    yield name, module


def add_lora(sd):
    """Freeze U-Net and text encoder and attach LoRA modules, keyed by their file names."""
    sd.unet.requires_grad_(False)
    sd.text_encoder.requires_grad_(False)
    unet = lora_targets(sd.unet, {"Transformer2DModel", "ResnetBlock2D", "Downsample2D", "Upsample2D"})
    text = lora_targets(sd.text_encoder, {"CLIPAttention", "CLIPMLP"})
    modules = {f"lora_unet_{name}": LoraModule(target) for name, target in unet}
    modules |= {f"lora_te_text_model_{ldm_names.text(name)}": LoraModule(target) for name, target in text}
    return {name.replace(".", "_"): module for name, module in modules.items()}


def lora_metadata(recipe):
    return {
        "ss_base_model_version": "sd_v1",
        "ss_learning_rate": str(recipe["lr"]),
        "ss_max_train_steps": str(recipe["steps"]),
        "ss_network_alpha": str(ALPHA),
        "ss_network_args": json.dumps({"conv_dim": str(CONV_RANK), "conv_alpha": str(CONV_ALPHA)}),
        "ss_network_dim": str(RANK),
        "ss_network_module": "networks.lora",
        "ss_output_name": "mini-sd-lora",
        "ss_seed": str(SEED),
        "ss_v2": "False",
    }


def model_hashes(tensors, metadata):
    """The two hashes that sd-scripts records: over the tensor data and over a 64 KiB slice."""
    image = save(tensors, metadata)
    data = image[8 + int.from_bytes(image[:8], "little") :]
    return {
        "sshs_legacy_hash": hashlib.sha256(image[0x100000:0x110000]).hexdigest()[:8],
        "sshs_model_hash": hashlib.sha256(data).hexdigest(),
    }


def save_lora(modules, path, metadata):
    tensors = {}
    for name, module in modules.items():
        tensors[f"{name}.alpha"] = torch.tensor(module.alpha).half()
        tensors[f"{name}.lora_down.weight"] = module.lora_down.weight.detach().half()
        tensors[f"{name}.lora_up.weight"] = module.lora_up.weight.detach().half()
    save_file(tensors, path, metadata=metadata | model_hashes(tensors, metadata))


def train_lora(out):
    sd = sd_checkpoint.load(out / "base.safetensors", out)
    modules = add_lora(sd)
    weights = [weight for module in modules.values() for weight in module.parameters()]
    train_denoiser(sd, "tuned", weights, RECIPES["lora"], "lora")
    save_lora(modules, out / "lora.safetensors", lora_metadata(RECIPES["lora"]))


def main():
    stages = {"base": train_base, "tuned": train_tuned, "lora": train_lora}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("testdata/mini-sd"))
    parser.add_argument("--stages", nargs="+", default=list(stages), choices=list(stages))
    args = parser.parse_args()
    torch.set_num_threads(2)
    args.out.mkdir(parents=True, exist_ok=True)
    for stage in args.stages:
        torch.manual_seed(SEED)
        stages[stage](args.out)


if __name__ == "__main__":
    main()
