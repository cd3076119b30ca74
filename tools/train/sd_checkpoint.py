"""Write and read the miniature Stable Diffusion as one LDM-named checkpoint."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import ldm_names


@dataclass
class MiniSD:
    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    tokenizer: CLIPTokenizer
    scheduler: DDIMScheduler

    def pipeline(self):
        return StableDiffusionPipeline(
            unet=self.unet,
            text_encoder=self.text_encoder,
            vae=self.vae,
            tokenizer=self.tokenizer,
            scheduler=self.scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )

    def encode_prompts(self, prompts):
        """Text encoder output [n, max_position, hidden] for a list of prompts."""
        tokens = self.tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt")
        return self.text_encoder(tokens.input_ids).last_hidden_state

    @torch.no_grad()
    def encode_images(self, images):
        """Scaled latent means of a batch of images."""
        return self.vae.encode(images).latent_dist.mean * self.vae.config.scaling_factor


def build(configs):
    """Models with fresh weights, tokenizer and scheduler from a folder of configurations."""
    configs = Path(configs)
    read = lambda name: json.loads((configs / f"{name}.json").read_text())
    return MiniSD(
        UNet2DConditionModel.from_config(read("unet")),
        CLIPTextModel(CLIPTextConfig.from_dict(read("text_encoder"))),
        AutoencoderKL.from_config(read("vae")),
        CLIPTokenizer.from_pretrained(configs / "tokenizer"),
        DDIMScheduler.from_config(read("scheduler")),
    )


def schedule_buffers(scheduler):
    """The float32 buffers that an LDM training run stores next to the weights."""
    config = scheduler.config
    ends = config.beta_start**0.5, config.beta_end**0.5
    betas = torch.linspace(*ends, config.num_train_timesteps, dtype=torch.float64) ** 2
    alphas = 1 - betas
    product = alphas.cumprod(0)
    previous = torch.cat([torch.ones(1, dtype=torch.float64), product[:-1]])
    variance = betas * (1 - previous) / (1 - product)
    buffers = {
        "betas": betas,
        "alphas_cumprod": product,
        "alphas_cumprod_prev": previous,
        "sqrt_alphas_cumprod": product.sqrt(),
        "sqrt_one_minus_alphas_cumprod": (1 - product).sqrt(),
        "log_one_minus_alphas_cumprod": (1 - product).log(),
        "sqrt_recip_alphas_cumprod": (1 / product).sqrt(),
        "sqrt_recipm1_alphas_cumprod": (1 / product - 1).sqrt(),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": variance.clamp(min=1e-20).log(),
        "posterior_mean_coef1": betas * previous.sqrt() / (1 - product),
        "posterior_mean_coef2": (1 - previous) * alphas.sqrt() / (1 - product),
    }
    return {name: value.float() for name, value in buffers.items()}


def save(sd, path):
    """Save all weights in float16, LDM-named, with position ids and schedule buffers."""
    tensors = schedule_buffers(sd.scheduler)
    positions = torch.arange(sd.text_encoder.config.max_position_embeddings)[None]
    for name, tensor in ldm_names.checkpoint_tensors(sd.unet, sd.text_encoder, sd.vae):
        if ldm_names.is_vae_attention_weight(name):
            tensor = tensor[:, :, None, None]
        tensors[name] = tensor.half().contiguous()
    tensors[ldm_names.TEXT_PREFIX + "embeddings.position_ids"] = positions
    save_file(tensors, path, metadata={"format": "pt"})


def load(path, configs):
    """Load an LDM-named checkpoint into float32 models; every weight must be present."""
    sd = build(configs)
    tensors = load_file(path)
    for name, target in ldm_names.checkpoint_tensors(sd.unet, sd.text_encoder, sd.vae):
        target.copy_(tensors[name].reshape(target.shape))
    for model in (sd.unet, sd.text_encoder, sd.vae):
        model.eval()
    return sd
