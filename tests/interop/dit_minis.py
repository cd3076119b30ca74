"""Miniatures of the diffusion transformers that test_dit.py makes, converts and runs.

Each is its published topology at a small width.  What its table has as plain numbers stays as
large as published.  loratool_synth makes the published ("native") layout; diffusers' own converter
makes the other one, so that no name and no row is told by loratool's tables alone.
"""

import inspect
import os
import re
import subprocess

import diffusers
import diffusers.loaders.single_file_utils as single_file
import torch
from diffusers.loaders import PeftAdapterMixin
from safetensors.torch import load_file, save_file

from consumers import same_set


def by_diffusers(name, *edits):
    """A converter of diffusers' single-file loader.

    Some know the published width only: `edits` are (text, other text) pairs that replace such a
    constant, and nothing else, in the converter's source before it is run.
    """
    source = inspect.getsource(getattr(single_file, name))
    for old, new in edits:
        if source.count(old) != 1:
            raise ValueError(f"{name} has {source.count(old)} times {old!r}")
        source = source.replace(old, new)
    space = dict(vars(single_file))
    exec(source, space)
    return space[name]


class Mini:
    """One architecture at a small size."""

    def __init__(self, table, params, cls, config, convert, inputs, name=None, family=None):
        self.table, self.params, self.cls, self.config = table, params, cls, config
        self.converter, self.inputs = convert, inputs
        self.name, self.family = name or table, family or table

    def convert(self, native, public):
        """The published layout to diffusers'."""
        tensors = self.converter(load_file(native))
        save_file({name: t.contiguous() for name, t in tensors.items()}, public)
        return public

    def make(self, work):
        """Base and tuned model in both layouts."""
        files = {}
        for kind, options in ("base", []), ("tuned", ["--tune-of", work / "base.native.safetensors",
                                                      "--strength", "0.2"]):
            native = work / f"{kind}.native.safetensors"
            words = [os.environ["LORATOOL_SYNTH"], f"{self.table}:{self.params}", *options,
                     "-o", native, "--dtype", "f32"]
            subprocess.run([str(w) for w in words], check=True)
            files[kind, "native"] = native
            files[kind, "public"] = self.convert(native, work / f"{kind}.public.safetensors")
        return files

    def model(self, path):
        model = self.cls(**self.config)
        same_set(load_file(path), set(model.state_dict()), self.name, "tensors of diffusers' model")
        model.load_state_dict(load_file(path), assign=True)
        return model.eval()

    @torch.no_grad()
    def run(self, model):
        torch.manual_seed(3)
        output = model(**self.inputs(), return_dict=False)[0]
        return output[0] if isinstance(output, list) else output  # Z-Image has one for each image


def inputs(fixed, **shapes):
    """What a model is given: fixed values, and random tensors of these shapes."""
    return lambda: {name: torch.randn(shape) for name, shape in shapes.items()} | fixed


GRID = torch.cartesian_prod(torch.arange(1.0), torch.arange(3.0), torch.arange(4.0))
LEVEL, STEP = torch.tensor([0.7]), torch.tensor([700.0])
STREAMS = {"attention_head_dim": 16, "num_attention_heads": 4, "num_layers": 2}

# ---- Black Forest Labs and its relatives ---------------------------------------------

FLUX_IDS = {"timestep": LEVEL, "img_ids": GRID, "txt_ids": torch.zeros(5, 3)}
FLUX_CONFIG = {**STREAMS, "patch_size": 1, "in_channels": 16, "out_channels": 64,
               "num_single_layers": 3, "joint_attention_dim": 32, "axes_dims_rope": (4, 6, 6)}

FLUX = Mini("flux", "d=64 h=16 n=2 s=3 i=16 c=32 p=24 g=1", diffusers.FluxTransformer2DModel,
            {**FLUX_CONFIG, "pooled_projection_dim": 24, "guidance_embeds": True},
            by_diffusers("convert_flux_transformer_checkpoint_to_diffusers",
                         ("inner_dim = 3072", "inner_dim = 64")),
            inputs({**FLUX_IDS, "guidance": torch.tensor([3.5])}, hidden_states=(1, 12, 16),
                   encoder_hidden_states=(1, 5, 32), pooled_projections=(1, 24)))

CHROMA = Mini("chroma", "d=64 h=16 n=2 s=3 i=16 c=32 g=48 l=2", diffusers.ChromaTransformer2DModel,
              {**FLUX_CONFIG, "approximator_num_channels": 64, "approximator_hidden_dim": 48,
               "approximator_layers": 2},
              by_diffusers("convert_chroma_transformer_checkpoint_to_diffusers",
                           ("inner_dim = 3072", "inner_dim = 64")),
              inputs(FLUX_IDS, hidden_states=(1, 12, 16), encoder_hidden_states=(1, 5, 32)))

FLUX2 = Mini("flux2", "d=64 h=16 n=2 s=3 c=96 g=1", diffusers.Flux2Transformer2DModel,
             {**STREAMS, "num_single_layers": 3, "joint_attention_dim": 96,
              "axes_dims_rope": (4, 4, 4, 4), "guidance_embeds": True},
             by_diffusers("convert_flux2_transformer_checkpoint_to_diffusers"),
             inputs({"timestep": LEVEL, "guidance": torch.tensor([3.5]),
                     "img_ids": torch.cat([GRID, torch.zeros(12, 1)], dim=1),
                     "txt_ids": torch.cartesian_prod(*[torch.arange(1.0)] * 3, torch.arange(5.0))},
                    hidden_states=(1, 12, 128), encoder_hidden_states=(1, 5, 96)))

HUNYUAN_VIDEO = Mini(
    "hunyuan-video", "d=64 h=16 n=2 s=3 r=2 i=16 c=32 p=24 g=1",
    diffusers.HunyuanVideoTransformer3DModel,
    {**STREAMS, "num_single_layers": 3, "text_embed_dim": 32, "pooled_projection_dim": 24,
     "rope_axes_dim": (4, 6, 6), "guidance_embeds": True},
    by_diffusers("convert_hunyuan_video_transformer_to_diffusers",
                 ("hidden_size = 3072", "hidden_size = 64")),
    inputs({"timestep": STEP, "guidance": torch.tensor([6000.0]),
            "encoder_attention_mask": torch.tensor([[1, 1, 1, 1, 0]])},
           hidden_states=(1, 16, 2, 6, 4), encoder_hidden_states=(1, 5, 32),
           pooled_projections=(1, 24)))

# ---- Stability AI, fal, PixArt -------------------------------------------------------

SD3 = Mini("sd3", "d=128 n=3 x=2 q=3 p=64", diffusers.SD3Transformer2DModel,
           {"sample_size": 16, "patch_size": 2, "in_channels": 16, "num_layers": 3,
            "attention_head_dim": 64, "num_attention_heads": 2, "joint_attention_dim": 4096,
            "caption_projection_dim": 128, "pooled_projection_dim": 2048, "out_channels": 16,
            "pos_embed_max_size": 8, "dual_attention_layers": (0, 1), "qk_norm": "rms_norm"},
           by_diffusers("convert_sd3_transformer_checkpoint_to_diffusers"),
           inputs({"timestep": STEP}, hidden_states=(1, 16, 8, 8),
                  encoder_hidden_states=(1, 5, 4096), pooled_projections=(1, 2048)))

AURAFLOW = Mini("auraflow", "d=64 f=256 n=2 s=3 c=32 p=64", diffusers.AuraFlowTransformer2DModel,
                {"sample_size": 8, "num_mmdit_layers": 2, "num_single_dit_layers": 3,
                 "attention_head_dim": 16, "num_attention_heads": 4, "joint_attention_dim": 32,
                 "caption_projection_dim": 64, "pos_embed_max_size": 64},
                by_diffusers("convert_auraflow_transformer_checkpoint_to_diffusers"),
                inputs({"timestep": LEVEL}, hidden_states=(1, 4, 8, 8),
                       encoder_hidden_states=(1, 5, 32)))

# diffusers has no single-file converter of PixArt: these are the facts of its script
# convert_pixart_sigma_to_diffusers.py.
PIXART_MODULES = {
    r"x_embedder\.proj": "pos_embed.proj",
    r"y_embedder\.y_proj\.fc([12])": r"caption_projection.linear_\1",
    r"t_embedder\.mlp\.([02])": "adaln_single.emb.timestep_embedder",
    r"csize_embedder\.mlp\.([02])": "adaln_single.emb.resolution_embedder",
    r"ar_embedder\.mlp\.([02])": "adaln_single.emb.aspect_ratio_embedder",
    r"t_block\.1": "adaln_single.linear",
    r"final_layer\.linear": "proj_out",
    r"blocks\.(\d+)\.attn\.proj": r"transformer_blocks.\1.attn1.to_out.0",
    r"blocks\.(\d+)\.cross_attn\.proj": r"transformer_blocks.\1.attn2.to_out.0",
    r"blocks\.(\d+)\.cross_attn\.q_linear": r"transformer_blocks.\1.attn2.to_q",
    r"blocks\.(\d+)\.mlp\.fc1": r"transformer_blocks.\1.ff.net.0.proj",
    r"blocks\.(\d+)\.mlp\.fc2": r"transformer_blocks.\1.ff.net.2",
}
PIXART_FUSED = {r"blocks\.(\d+)\.attn\.qkv": (r"transformer_blocks.\1.attn1.to_", "qkv"),
                r"blocks\.(\d+)\.cross_attn\.kv_linear": (r"transformer_blocks.\1.attn2.to_", "kv")}


def convert_pixart(tensors):
    tensors.pop("y_embedder.y_embedding")  # of the missing text, which diffusers does not keep
    found = {}
    for name in [n for n in tensors if n.endswith("scale_shift_table")]:
        other = name.replace("final_layer.", "").replace("blocks.", "transformer_blocks.")
        found[other] = tensors.pop(name)
    for name, tensor in tensors.items():
        path, _, kind = name.rpartition(".")
        for pattern, (stem, letters) in PIXART_FUSED.items():
            if match := re.fullmatch(pattern, path):
                for letter, part in zip(letters, tensor.chunk(len(letters))):
                    found[f"{match.expand(stem)}{letter}.{kind}"] = part
        for pattern, other in PIXART_MODULES.items():
            if match := re.fullmatch(pattern, path):
                layer = {"0": ".linear_1", "2": ".linear_2"}[match[1]] if ".emb." in other else ""
                found[f"{match.expand(other)}{layer}.{kind}"] = tensor
    return found


class PixArt(PeftAdapterMixin, diffusers.PixArtTransformer2DModel):
    """diffusers' class, with diffusers' loader of adapters, which it alone does not inherit."""


PIXART = Mini("pixart", "d=96 n=2 c=48 t=7 m=1 e=32", PixArt,
              {"attention_head_dim": 24, "num_attention_heads": 4, "num_layers": 2,
               "sample_size": 8, "cross_attention_dim": 96, "caption_channels": 48,
               "use_additional_conditions": True},
              convert_pixart,
              inputs({"timestep": STEP,
                      "added_cond_kwargs": {"resolution": torch.tensor([[64.0, 96.0]]),
                                            "aspect_ratio": torch.tensor([[0.7]])}},
                     hidden_states=(1, 4, 8, 8), encoder_hidden_states=(1, 5, 48)))

# ---- Alpha-VLLM and Alibaba ----------------------------------------------------------

# Two heads of keys and values for four of queries.
LUMINA = Mini("lumina", "d=96 q=192 h=24 f=384 e=96 n=2 r=2 c=48",
              diffusers.Lumina2Transformer2DModel,
              {"sample_size": 8, "hidden_size": 96, "num_layers": 2, "num_attention_heads": 4,
               "num_kv_heads": 2, "multiple_of": 32, "axes_dim_rope": (8, 8, 8),
               "axes_lens": (30, 20, 20), "cap_feat_dim": 48},
              by_diffusers("convert_lumina2_to_diffusers", ("q_dim = 2304", "q_dim = 96"),
                           ("k_dim = v_dim = 768", "k_dim = v_dim = 48")),
              inputs({"timestep": LEVEL, "encoder_attention_mask": torch.ones(1, 5).bool()},
                     hidden_states=(1, 16, 8, 6), encoder_hidden_states=(1, 5, 48)))

ZIMAGE = Mini("zimage", "d=64 h=16 f=170 e=64 n=2 r=2 c=48", diffusers.ZImageTransformer2DModel,
              {"dim": 64, "n_layers": 2, "n_heads": 4, "n_kv_heads": 4, "cap_feat_dim": 48,
               "axes_dims": [4, 6, 6], "axes_lens": [64, 20, 20]},
              by_diffusers("convert_z_image_transformer_checkpoint_to_diffusers"),
              lambda: {"x": [torch.randn(16, 1, 8, 6)], "t": LEVEL,
                       "cap_feats": [torch.randn(5, 48)]},
              family="z-image")

# The same names in both layouts.
QWEN = Mini("qwen-image", "d=64 h=16 n=2 c=48", diffusers.QwenImageTransformer2DModel,
            {**STREAMS, "joint_attention_dim": 48, "axes_dims_rope": (4, 6, 6)}, dict,
            inputs({"timestep": LEVEL, "img_shapes": [[(1, 3, 4)]],
                    "encoder_hidden_states_mask": torch.ones(1, 5)},
                   hidden_states=(1, 12, 64), encoder_hidden_states=(1, 5, 48)))

WAN_CONFIG = {**STREAMS, "ffn_dim": 96, "out_channels": 16, "rope_max_seq_len": 32}
WAN = by_diffusers("convert_wan_transformer_to_diffusers")

WAN_T2V = Mini("wan", "d=64 f=96 n=2 i=16 o=16 x=0 e=0", diffusers.WanTransformer3DModel,
               {**WAN_CONFIG, "in_channels": 16}, WAN,
               inputs({"timestep": STEP}, hidden_states=(1, 16, 2, 6, 4),
                      encoder_hidden_states=(1, 5, 4096)), name="wan-t2v")
WAN_I2V = Mini("wan", "d=64 f=96 n=2 i=36 o=16 x=2 e=1", diffusers.WanTransformer3DModel,
               {**WAN_CONFIG, "in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 64}, WAN,
               # The model takes all but the last 512 states for those of the image.
               inputs({"timestep": STEP}, hidden_states=(1, 36, 2, 6, 4),
                      encoder_hidden_states=(1, 512, 4096),
                      encoder_hidden_states_image=(1, 7, 1280)), name="wan-i2v")



def convert_flf2v(tensors):
    """The positions are not among what diffusers' loader renames, only in its script."""
    positions = tensors.pop("img_emb.emb_pos")
    return WAN(tensors) | {"condition_embedder.image_embedder.pos_embed": positions}


WAN_FLF2V = Mini("wan", "d=64 f=96 n=2 i=36 o=16 x=2 e=1 p=1", diffusers.WanTransformer3DModel,
                 {**WAN_CONFIG, "in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 64,
                  "pos_embed_seq_len": 514}, convert_flf2v,
                 inputs({"timestep": STEP}, hidden_states=(1, 36, 2, 6, 4),
                        encoder_hidden_states=(1, 512, 4096),
                        encoder_hidden_states_image=(2, 257, 1280)), name="wan-flf2v")
WAN_VACE = Mini("wan", "d=64 f=96 n=3 i=16 o=16 v=2 w=1", diffusers.WanVACETransformer3DModel,
                {**WAN_CONFIG, "num_layers": 3, "in_channels": 16, "vace_layers": [0, 2]}, WAN,
                inputs({"timestep": STEP}, hidden_states=(1, 16, 2, 6, 4),
                       encoder_hidden_states=(1, 5, 4096), control_hidden_states=(1, 96, 2, 6, 4)),
                name="wan-vace")

# ---- Lightricks and NVIDIA -----------------------------------------------------------

LTX = Mini("ltx", "d=64 n=2", diffusers.LTXVideoTransformer3DModel,
           {**STREAMS, "cross_attention_dim": 64},
           by_diffusers("convert_ltx_transformer_checkpoint_to_diffusers"),
           inputs({"timestep": STEP, "encoder_attention_mask": torch.tensor([[1, 1, 1, 1, 0]]),
                   "num_frames": 2, "height": 3, "width": 2},
                  hidden_states=(1, 12, 128), encoder_hidden_states=(1, 5, 4096)))

LTX2_CONFIG = {**STREAMS, "cross_attention_dim": 64, "audio_num_attention_heads": 4,
               "audio_attention_head_dim": 8, "audio_cross_attention_dim": 32,
               "rope_type": "split", "cross_attn_timestep_scale_multiplier": 1}


def ltx2_inputs(text, audio_text):
    return inputs({"timestep": STEP[None], "sigma": STEP, "num_frames": 2, "height": 3, "width": 2,
                   "audio_num_frames": 4, "encoder_attention_mask": torch.tensor([[1, 1, 1, 1, 0]]),
                   "audio_encoder_attention_mask": torch.tensor([[1, 1, 1, 1, 0]])},
                  hidden_states=(1, 12, 128), audio_hidden_states=(1, 4, 128),
                  encoder_hidden_states=(1, 5, text),
                  audio_encoder_hidden_states=(1, 5, audio_text))


LTX2 = Mini("ltx2", "d=64 a=32 h=4 n=2 m=6 v=384 u=192 f=2 p=1 c=48",
            diffusers.LTX2VideoTransformer3DModel, {**LTX2_CONFIG, "caption_channels": 48},
            by_diffusers("convert_ltx2_transformer_to_diffusers"), ltx2_inputs(48, 48))


def convert_ltx25(tensors):
    """What 2.3 and 2.5 have more is renamed by diffusers' script, not by its loader."""
    return LTX2.converter({name.replace("prompt_adaln_single", "prompt_adaln"): tensor
                           for name, tensor in tensors.items()})


LTX25 = Mini("ltx2", "d=64 a=32 h=4 n=2 m=9 v=576 u=288 w=2 g=2 q=1 k=1",
             diffusers.LTX2VideoTransformer3DModel,
             {**LTX2_CONFIG, "gated_attn": True, "audio_gated_attn": True, "cross_attn_mod": True,
              "audio_cross_attn_mod": True, "use_prompt_embeddings": False, "perturbed_attn": True,
              "ff_bias": False, "use_keyframes_abs_pos_embedding": True},
             convert_ltx25, ltx2_inputs(64, 32), name="ltx2.5")

# diffusers appends the mask of padding, a channel, with torchvision, which is not needed elsewhere:
# here the input has it already.
COSMOS = Mini("cosmos-predict2", "d=64 h=16 n=2 i=17 c=32 a=24", diffusers.CosmosTransformer3DModel,
              {**STREAMS, "in_channels": 17, "text_embed_dim": 32, "adaln_lora_dim": 24,
               "max_size": (8, 16, 16), "extra_pos_embed_type": None, "concat_padding_mask": False},
              by_diffusers("convert_cosmos_transformer_checkpoint_to_diffusers"),
              inputs({"timestep": LEVEL}, hidden_states=(1, 17, 2, 6, 4),
                     encoder_hidden_states=(1, 5, 32)))


class CosmosTransfer(diffusers.CosmosTransformer3DModel):
    """Given text and image beside each other, which the model takes as a pair."""

    def forward(self, encoder_hidden_states, image, **others):
        return super().forward(encoder_hidden_states=(encoder_hidden_states, image), **others)


COSMOS_25 = Mini("cosmos-predict2", "d=64 h=16 n=2 i=17 c=32 a=24 p=1 x=2 e=1", CosmosTransfer,
                 {**COSMOS.config, "use_crossattn_projection": True,
                  "crossattn_proj_in_channels": 100352, "encoder_hidden_states_channels": 32,
                  "img_context_dim_in": 1152, "img_context_dim_out": 64},
                 COSMOS.converter,
                 inputs({"timestep": LEVEL}, hidden_states=(1, 17, 2, 6, 4),
                        encoder_hidden_states=(1, 5, 100352), image=(1, 7, 1152)),
                 name="cosmos-transfer2.5")

MINIS = (FLUX, CHROMA, FLUX2, HUNYUAN_VIDEO, SD3, AURAFLOW, PIXART, LUMINA, ZIMAGE, QWEN, WAN_T2V,
         WAN_I2V, WAN_FLF2V, WAN_VACE, LTX, LTX2, LTX25, COSMOS, COSMOS_25)
