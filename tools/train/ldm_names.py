"""Translate Stable Diffusion 1.x tensor names from diffusers to the LDM layout.

Written from the two layouts alone and used by nothing but the test data, so that
it can serve as an independent check of loratool's own name tables.  The inverse
direction needs no code: name the tensors of a freshly built diffusers model and
look each one up under its LDM name.
"""

import re

UNET_PREFIX = "model.diffusion_model."
TEXT_PREFIX = "cond_stage_model.transformer.text_model."
VAE_PREFIX = "first_stage_model."

UNET_FIXED = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
VAE_MIDDLE = {
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.attentions.0": "mid.attn_1",
    "mid_block.resnets.1": "mid.block_2",
    "conv_norm_out": "norm_out",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def replace_head(name, table):
    """Replace the leading dotted path of `name` found in `table`, if any."""
    for old, new in table.items():
        if name.startswith(old + "."):
            return new + name[len(old) :]
    return name


def unet_level(match):
    """LDM module for `{down,up}_blocks.<level>.<kind>.<index>`."""
    side, level, kind, index = match[1], int(match[2]), match[3], int(match[4])
    if side == "down":
        if kind == "downsamplers":
            return f"input_blocks.{3 * level + 3}.0.op"
        return f"input_blocks.{3 * level + index + 1}.{int(kind == 'attentions')}"
    if kind == "upsamplers":
        # The first up level has no attention, so its upsampler takes slot 1.
        return f"output_blocks.{3 * level + 2}.{1 if level == 0 else 2}.conv"
    return f"output_blocks.{3 * level + index}.{int(kind == 'attentions')}"


def unet(name):
    """LDM name, without prefix, of a diffusers UNet2DConditionModel tensor."""
    module, separator, leaf = name.partition(".resnets.")
    if separator:
        index, _, rest = leaf.partition(".")
        name = f"{module}.resnets.{index}.{replace_head(rest, UNET_RESNET)}"
    name = replace_head(name, UNET_FIXED)
    pattern = (
        r"^(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)(?:\.conv(?=\.))?"
    )
    return re.sub(pattern, unet_level, name)


def vae(name, levels):
    """LDM name, without prefix, of a tensor of an AutoencoderKL with that many levels."""
    name = name.replace("conv_shortcut", "nin_shortcut")
    side, _, rest = name.partition(".")
    if side not in ("encoder", "decoder"):
        return name
    if rest.startswith("mid_block.attentions.0."):
        leaf = rest.removeprefix("mid_block.attentions.0.")
        rest = "mid_block.attentions.0." + replace_head(leaf, VAE_ATTENTION)
    rest = replace_head(rest, VAE_MIDDLE)
    rest = re.sub(r"^down_blocks\.(\d+)\.resnets\.(\d+)", r"down.\1.block.\2", rest)
    rest = re.sub(r"^down_blocks\.(\d+)\.downsamplers\.0\.conv", r"down.\1.downsample.conv", rest)
    rest = re.sub(r"^up_blocks\.(\d+)", lambda m: f"up.{levels - 1 - int(m[1])}", rest)
    rest = re.sub(r"^(up\.\d+)\.resnets\.(\d+)", r"\1.block.\2", rest)
    rest = re.sub(r"^(up\.\d+)\.upsamplers\.0\.conv", r"\1.upsample.conv", rest)
    return f"{side}.{rest}"


def is_vae_attention_weight(name):
    """Whether this LDM VAE tensor is a linear weight that LDM stores as a 1x1 convolution."""
    return re.search(r"mid\.attn_1\.(q|k|v|proj_out)\.weight$", name) is not None


def text(name):
    """LDM name, without prefix, of a CLIPTextModel tensor (with or without `text_model.`)."""
    return name.removeprefix("text_model.")


def checkpoint_tensors(unet_model, text_model, vae_model):
    """Yield (LDM name, tensor) for every tensor of the three models.

    The tensors share memory with the models.
    """
    levels = len(vae_model.config.block_out_channels)
    for name, tensor in unet_model.state_dict().items():
        yield UNET_PREFIX + unet(name), tensor
    for name, tensor in text_model.state_dict().items():
        yield TEXT_PREFIX + text(name), tensor
    for name, tensor in vae_model.state_dict().items():
        yield VAE_PREFIX + vae(name, levels), tensor
