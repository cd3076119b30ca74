#!/usr/bin/env python3
"""Load the miniature test models and measure how well they do their job.

Run as a program it prints the loss table of testdata/README.md.
"""

import sys
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools/train"))

import digits
import sd_checkpoint

LLM = ROOT / "testdata/mini-llm"
SD = ROOT / "testdata/mini-sd"
STYLES = ("base", "tuned")


def load_llm(path):
    """The mini LLM with the weights of a safetensors file, in float32."""
    model = LlamaForCausalLM(LlamaConfig.from_pretrained(LLM / "base"))
    weights = {name: tensor.float() for name, tensor in load_file(path).items()}
    model.load_state_dict(weights, strict=True)
    return model.eval()


@torch.no_grad()
def llm_loss(model, which):
    """Mean nats per byte on the held-out 'base' or 'tuned' text, in windows of 256 bytes."""
    text = torch.tensor(list((LLM / f"eval-{which}.txt").read_bytes()))
    size = model.config.max_position_embeddings
    windows = text[: len(text) // size * size].view(-1, size)
    return model(input_ids=windows, labels=windows).loss.item()


def load_sd(path):
    """The mini Stable Diffusion with the weights of an LDM-named checkpoint, in float32.

    Has .unet, .text_encoder, .vae, .tokenizer, .scheduler and .pipeline().
    """
    return sd_checkpoint.load(path, SD)


@torch.no_grad()
def sd_loss(sd, style="base", count=96, levels=8):
    """Mean squared error of the predicted noise on held-out digits of one style.

    The same `count` images, noise and `levels` evenly spaced timesteps every time.
    """
    images, labels = digits.load(style, "test")
    latents = sd.encode_images(images[:count])
    context = sd.encode_prompts([digits.prompt(label) for label in labels[:count]])
    generator = torch.Generator().manual_seed(0)
    spacing = sd.scheduler.config.num_train_timesteps // levels
    total = 0.0
    for level in range(levels):
        noise = torch.randn(latents.shape, generator=generator)
        steps = torch.full((count,), level * spacing + spacing // 2)
        noisy = sd.scheduler.add_noise(latents, noise, steps)
        total += torch.nn.functional.mse_loss(sd.unet(noisy, steps, context).sample, noise).item()
    return total / levels


def sd_grid(sd, path_png, guidance=3.0, steps=30):
    """Sample the digits 0 to 9 and save them as a PNG of two rows of five."""
    pipeline = sd.pipeline()
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        [digits.prompt(label) for label in range(10)],
        guidance_scale=guidance,
        num_inference_steps=steps,
        generator=torch.Generator().manual_seed(0),
        output_type="pt",
    ).images
    rows = [torch.cat(list(images[i : i + 5]), dim=2) for i in (0, 5)]
    grid = torch.cat(rows, dim=1).clamp(0, 1)
    pipeline.numpy_to_pil(grid.permute(1, 2, 0).numpy())[0].save(path_png)


def print_row(name, loss, model):
    print(name, *(f"{loss(model, style):.4f}" for style in STYLES), sep="\t", flush=True)


def main():
    print("model", *STYLES, sep="\t")
    for name in STYLES:
        print_row(f"mini-llm {name}", llm_loss, load_llm(LLM / name / "model.safetensors"))
    llm = PeftModel.from_pretrained(load_llm(LLM / "base/model.safetensors"), LLM / "lora").eval()
    print_row("mini-llm base + lora", llm_loss, llm)
    for name in STYLES:
        print_row(f"mini-sd {name}", sd_loss, load_sd(SD / f"{name}.safetensors"))
    sd = load_sd(SD / "base.safetensors")
    sd.pipeline().load_lora_weights(SD, weight_name="lora.safetensors")
    print_row("mini-sd base + lora", sd_loss, sd)


if __name__ == "__main__":
    main()
