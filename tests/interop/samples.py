"""A small Stable Diffusion 1.x checkpoint, and adapters for it in kohya's naming."""

import torch
from safetensors.torch import save_file

UNET, CLIP = "model.diffusion_model.", "cond_stage_model.transformer.text_model.encoder.layers.0."
BLOCK, KOHYA_BLOCK = "transformer_blocks.0.", "attentions_0_transformer_blocks_0_"
LINEAR, CONV1, CONV3, CORE = "linear", "conv 1x1", "conv 3x3", "conv 3x3 with a core"
# Tensor of a Stable Diffusion 1.x checkpoint -> shape, kohya's module name, how it is adapted.
SD_MODULES = {
    f"{UNET}input_blocks.1.1.{BLOCK}attn1.to_q.weight":
        ((64, 64), f"lora_unet_down_blocks_0_{KOHYA_BLOCK}attn1_to_q", LINEAR),
    f"{UNET}input_blocks.1.1.{BLOCK}attn2.to_k.weight":
        ((64, 48), f"lora_unet_down_blocks_0_{KOHYA_BLOCK}attn2_to_k", LINEAR),
    f"{UNET}input_blocks.1.1.proj_in.weight":
        ((64, 64, 1, 1), "lora_unet_down_blocks_0_attentions_0_proj_in", CONV1),
    f"{UNET}middle_block.1.proj_in.weight":
        ((96, 96, 1, 1), "lora_unet_mid_block_attentions_0_proj_in", CONV1),
    f"{UNET}input_blocks.1.0.in_layers.2.weight":
        ((64, 32, 3, 3), "lora_unet_down_blocks_0_resnets_0_conv1", CONV3),
    f"{UNET}input_blocks.3.0.op.weight":
        ((64, 64, 3, 3), "lora_unet_down_blocks_0_downsamplers_0_conv", CORE),
    f"{UNET}middle_block.2.out_layers.3.weight":
        ((40, 72, 3, 3), "lora_unet_mid_block_resnets_1_conv2", CORE),
    f"{UNET}output_blocks.5.2.conv.weight":
        ((50, 30, 3, 3), "lora_unet_up_blocks_1_upsamplers_0_conv", CONV3),
    f"{UNET}output_blocks.9.0.emb_layers.1.weight":
        ((64, 128), "lora_unet_up_blocks_3_resnets_0_time_emb_proj", LINEAR),
    f"{CLIP}mlp.fc1.weight":
        ((192, 48), "lora_te_text_model_encoder_layers_0_mlp_fc1", LINEAR),
}


def sd_base(dtype):
    tensors = {name: torch.randn(shape) for name, (shape, _, _) in SD_MODULES.items()}
    tensors[f"{UNET}input_blocks.0.0.weight"] = torch.randn(64, 4, 3, 3)
    tensors[f"{UNET}input_blocks.0.0.bias"] = torch.randn(64)
    tensors = {n: (0.1 * t).to(dtype) for n, t in tensors.items()}
    tensors["alphas_cumprod"] = torch.rand(10)
    return {**tensors, "cond_stage_model.transformer.text_model.embeddings.position_ids":
            torch.arange(8).reshape(1, 8)}


def factors(shape, how, rank, dtype, stored_flat):
    """Random up, down and mid; stored_flat turns 4-D factors of 1x1 into 2-D and vice versa."""
    out, columns, kernel = shape[0], shape[1], tuple(shape[2:])
    ones = (1,) * len(kernel)
    parts = {"up": torch.randn(out, rank, *ones), "down": torch.randn(rank, columns, *kernel)}
    if how == CORE:
        parts["down"] = torch.randn(rank, columns, *ones)
        parts["mid"] = 0.1 * torch.randn(rank, rank, *kernel)
    elif stored_flat and how == LINEAR:
        parts = {k: t[..., None, None] for k, t in parts.items()}
    elif stored_flat and how == CONV1:
        parts = {k: t[..., 0, 0] for k, t in parts.items()}
    return {k: (0.2 * t / rank ** 0.25).to(dtype) for k, t in parts.items()}


def write_kohya(path, dtype, ranks, stored_flat):
    tensors = {}
    for i, (shape, module, how) in enumerate(SD_MODULES.values()):
        rank = ranks[i % len(ranks)]
        for part, tensor in factors(shape, how, rank, dtype, stored_flat).items():
            tensors[f"{module}.lora_{part}.weight"] = tensor
        tensors[f"{module}.alpha"] = torch.tensor(float(2 * i + 1)).to(dtype)
    save_file(tensors, path)
    return path
