"""Miniatures of further diffusion transformers, for test_dit_relatives.py.

Where diffusers has no single-file converter, or one that knows less than its script, the names are
the facts of that script.
"""

import re

import diffusers
import torch

from dit_minis import GRID, LEVEL, STEP, STREAMS, Mini, by_diffusers, inputs

MASK = torch.tensor([[1, 1, 1, 1, 0]])


def renamed(tensors, names, fused=()):
    """By patterns of whole module paths and bare tensors; fused ones are cut into equal parts."""
    found = {}
    for name, tensor in tensors.items():
        path, _, kind = name.rpartition(".")
        for pattern, others in fused:
            if match := re.fullmatch(pattern, path):
                parts = tensor.chunk(len(others))
                found |= {f"{match.expand(other)}.{kind}": part
                          for other, part in zip(others, parts)}
                break
        else:
            for pattern, other in names:
                if match := re.fullmatch(pattern, path):
                    found[f"{match.expand(other)}.{kind}"] = tensor
                    break
            else:
                found[name] = tensor
    return found


# ---- Tencent -------------------------------------------------------------------------

STREAM = {"img": ("attn.to_", "attn.norm_", "attn.to_out.0", "norm1", "ff"),
          "txt": ("attn.add_", "attn.norm_added_", "attn.to_add_out", "norm1_context",
                  "ff_context")}
REFINER = r"txt_in\.individual_token_refiner\.blocks\.(\d+)\."
REFINED = r"context_embedder.token_refiner.refiner_blocks.\1."
TIME_TEXT = "context_embedder.time_text_embed."
VIDEO_15 = [(REFINER + r"self_attn_proj", REFINED + "attn.to_out.0"),
            (REFINER + r"mlp\.fc1", REFINED + "ff.net.0.proj"),
            (REFINER + r"mlp\.fc2", REFINED + "ff.net.2"),
            (REFINER + r"adaLN_modulation\.1", REFINED + "norm_out.linear"),
            (REFINER + r"(norm\d)", REFINED + r"\2"),
            (r"txt_in\.input_embedder", "context_embedder.proj_in"),
            (r"txt_in\.t_embedder\.mlp\.0", TIME_TEXT + "timestep_embedder.linear_1"),
            (r"txt_in\.t_embedder\.mlp\.2", TIME_TEXT + "timestep_embedder.linear_2"),
            (r"txt_in\.c_embedder\.(.*)", TIME_TEXT + r"text_embedder.\1"),
            (r"time_in\.mlp\.0", "time_embed.timestep_embedder.linear_1"),
            (r"time_in\.mlp\.2", "time_embed.timestep_embedder.linear_2"),
            (r"time_r_in\.mlp\.0", "time_embed.timestep_embedder_r.linear_1"),
            (r"time_r_in\.mlp\.2", "time_embed.timestep_embedder_r.linear_2"),
            (r"byt5_in\.layernorm", "context_embedder_2.norm"),
            (r"byt5_in\.fc(\d)", r"context_embedder_2.linear_\1"),
            (r"vision_in\.proj\.0", "image_embedder.norm_in"),
            (r"vision_in\.proj\.1", "image_embedder.linear_1"),
            (r"vision_in\.proj\.3", "image_embedder.linear_2"),
            (r"vision_in\.proj\.4", "image_embedder.norm_out"),
            (r"img_in\.proj", "x_embedder.proj"),
            (r"cond_type_embedding", "cond_type_embed"),
            (r"final_layer\.linear", "proj_out")]
VIDEO_15_FUSED = [(REFINER + "self_attn_qkv", [f"{REFINED}attn.to_{x}" for x in "qkv"])]
for stream, (apart, norm, out, modulation, mlp) in STREAM.items():
    here, there = rf"double_blocks\.(\d+)\.{stream}_", r"transformer_blocks.\1."
    tail = "" if stream == "img" else "_proj"
    VIDEO_15 += [(here + rf"attn_{x}", f"{there}{apart}{x}{tail}") for x in "qkv"]
    VIDEO_15 += [(here + rf"attn_{x}_norm", f"{there}{norm}{x}") for x in "qk"]
    VIDEO_15 += [(here + "attn_proj", there + out),
                 (here + r"mod\.linear", f"{there}{modulation}.linear"),
                 (here + r"mlp\.fc1", f"{there}{mlp}.net.0.proj"),
                 (here + r"mlp\.fc2", f"{there}{mlp}.net.2")]
    VIDEO_15_FUSED.append((here + "attn_qkv", [f"{there}{apart}{x}{tail}" for x in "qkv"]))


def convert_video15(tensors):
    for kind in "weight", "bias":
        shift, scale = tensors.pop(f"final_layer.adaLN_modulation.1.{kind}").chunk(2)
        tensors[f"norm_out.linear.{kind}"] = torch.cat([scale, shift])
    return renamed(tensors, VIDEO_15, VIDEO_15_FUSED)


def video15(table, name):
    return Mini(table, "d=64 h=16 n=2 r=2 i=65 c=32 b=24 v=20 m=1",
                diffusers.HunyuanVideo15Transformer3DModel,
                {**STREAMS, "text_embed_dim": 32, "text_embed_2_dim": 24, "image_embed_dim": 20,
                 "rope_axes_dim": (4, 6, 6), "use_meanflow": True}, convert_video15,
                inputs({"timestep": STEP, "timestep_r": STEP / 2, "encoder_attention_mask": MASK,
                        "encoder_attention_mask_2": MASK[:, 1:]},
                       hidden_states=(1, 65, 2, 4, 3), encoder_hidden_states=(1, 5, 32),
                       encoder_hidden_states_2=(1, 4, 24), image_embeds=(1, 3, 20)),
                name=name, family="hunyuan-video-1.5")


VIDEO15 = video15("hunyuan-video-1.5", "hunyuan-video-1.5")
VIDEO15_FUSED = video15("hunyuan-video-1.5-fused", "hunyuan-video-1.5-fused")

# ---- Genmo and NVIDIA ----------------------------------------------------------------

MOCHI = Mini("mochi", "d=64 h=16 c=48 f=170 g=128 t=32 n=2 e=4 p=8",
             diffusers.MochiTransformer3DModel,
             {**STREAMS, "pooled_projection_dim": 48, "text_embed_dim": 32},
             by_diffusers("convert_mochi_transformer_checkpoint_to_diffusers",
                          ("num_layers = 48", "num_layers = 2")),
             inputs({"timestep": STEP, "encoder_attention_mask": MASK},
                    hidden_states=(1, 12, 2, 6, 4), encoder_hidden_states=(1, 5, 32)))

SANA_CONFIG = {**STREAMS, "num_cross_attention_heads": 4, "cross_attention_head_dim": 16,
               "cross_attention_dim": 64, "caption_channels": 48}
SANA_INPUTS = {"timestep": STEP, "encoder_attention_mask": MASK}
BY_DIFFUSERS = by_diffusers("convert_sana_transformer_to_diffusers")
SANA_MORE = [(r"blocks\.(\d+)\.attn\.(q|k)_norm", r"transformer_blocks.\1.attn1.norm_\2"),
             (r"blocks\.(\d+)\.cross_attn\.(q|k)_norm", r"transformer_blocks.\1.attn2.norm_\2"),
             (r"blocks\.(\d+)\.mlp\.t_conv", r"transformer_blocks.\1.ff.conv_temp"),
             (r"cfg_embedder\.mlp\.0", "time_embed.guidance_embedder.linear_1"),
             (r"cfg_embedder\.mlp\.2", "time_embed.guidance_embedder.linear_2")]


def convert_sana(tensors):
    """pos_embed is in published files, and diffusers' converter counts on that."""
    more = renamed(tensors, SANA_MORE)
    known = {name: tensor for name, tensor in tensors.items() if name in more}
    return {name: tensor for name, tensor in more.items() if name not in known} | BY_DIFFUSERS(
        known | {"pos_embed": torch.zeros(1)})


def convert_sprint(tensors):
    return {name.replace("time_embed.emb.", "time_embed."): tensor
            for name, tensor in convert_sana(tensors).items()}


def convert_sana_video(tensors):
    return {name.replace("patch_embed.proj.", "patch_embedding."): tensor
            for name, tensor in convert_sana(tensors).items()}


SANA = Mini("sana", "d=64 f=160 n=2 q=0 c=48 o=32", diffusers.SanaTransformer2DModel,
            {**SANA_CONFIG, "sample_size": 8}, convert_sana,
            inputs(SANA_INPUTS, hidden_states=(1, 32, 4, 6), encoder_hidden_states=(1, 5, 48)))
SPRINT = Mini("sana-sprint", "d=64 f=160 n=2 q=2 c=48 o=32", diffusers.SanaTransformer2DModel,
              {**SANA_CONFIG, "sample_size": 8, "guidance_embeds": True,
               "qk_norm": "rms_norm_across_heads"}, convert_sprint,
              inputs({**SANA_INPUTS, "guidance": torch.tensor([0.4])},
                     hidden_states=(1, 32, 4, 6), encoder_hidden_states=(1, 5, 48)), family="sana")
SANA_VIDEO = Mini("sana-video", "d=64 f=192 n=2 q=2 c=48 o=64",
                  diffusers.SanaVideoTransformer3DModel, {**SANA_CONFIG, "mlp_ratio": 3.0},
                  convert_sana_video,
                  inputs(SANA_INPUTS, hidden_states=(1, 16, 2, 6, 4),
                         encoder_hidden_states=(1, 5, 48)))

# ---- one layout ----------------------------------------------------------------------

COGVIDEOX = Mini("cogvideox", "d=128 n=2 i=16 o=128 v=1 t=1", diffusers.CogVideoXTransformer3DModel,
                 {"num_attention_heads": 2, "attention_head_dim": 64, "num_layers": 2,
                  "patch_size_t": 2, "patch_bias": False, "ofs_embed_dim": 512,
                  "sample_width": 4, "sample_height": 6, "sample_frames": 5,
                  "use_rotary_positional_embeddings": True}, dict,
                 inputs({"timestep": STEP, "ofs": torch.tensor([2.0])},
                        hidden_states=(1, 2, 16, 6, 4), encoder_hidden_states=(1, 5, 4096)))
COGVIEW4 = Mini("cogview4", "d=64 n=2", diffusers.CogView4Transformer2DModel,
                {**STREAMS, "rope_axes_dim": (16, 16)}, dict,
                inputs({"timestep": STEP, **{name: torch.tensor([[64.0, 48.0]]) for name in
                                             ("original_size", "target_size", "crop_coords")}},
                       hidden_states=(1, 16, 8, 6), encoder_hidden_states=(1, 5, 4096)))
# At later steps this miniature answers rounding in float32 with 1e-4.
KANDINSKY5 = Mini("kandinsky5", "d=64 h=16 f=96 t=48 c=32 p=24 m=1 n=2 i=132",
                  diffusers.Kandinsky5Transformer3DModel,
                  {"in_visual_dim": 16, "out_visual_dim": 16, "in_text_dim": 32, "in_text_dim2": 24,
                   "time_dim": 48, "model_dim": 64, "ff_dim": 96, "num_text_blocks": 1,
                   "num_visual_blocks": 2, "axes_dims": (4, 6, 6), "visual_cond": True}, dict,
                  inputs({"timestep": torch.tensor([10.0]), "text_rope_pos": torch.arange(5),
                          "visual_rope_pos": [torch.arange(2), torch.arange(3), torch.arange(2)]},
                         hidden_states=(1, 2, 6, 4, 33), encoder_hidden_states=(1, 5, 32),
                         pooled_projections=(1, 24)))

HIDREAM = Mini("hidream", "d=64 f=256 g=256 n=2 s=3 t=6 c=32 p=24",
               diffusers.HiDreamImageTransformer2DModel,
               {**STREAMS, "num_single_layers": 3, "patch_size": 2, "in_channels": 16,
                "out_channels": 16, "caption_channels": [32, 32], "text_emb_dim": 24,
                "axes_dims_rope": (8, 4, 4), "max_resolution": (8, 8),
                "llama_layers": [0, 1, 0, 1, 1], "force_inference_output": True}, dict,
               inputs({"timesteps": STEP}, hidden_states=(1, 16, 8, 8),
                      encoder_hidden_states_t5=(1, 5, 32),
                      encoder_hidden_states_llama3=(2, 1, 5, 32), pooled_embeds=(1, 24)))

KIN = {**STREAMS, "num_single_layers": 3, "axes_dims_rope": (4, 6, 6)}
KIN_INPUTS = {"timestep": LEVEL, "img_ids": GRID, "txt_ids": torch.zeros(5, 3)}
LONGCAT = Mini("longcat-image", "d=64 h=16 n=2 s=3 m=256 i=64 c=3584",
               diffusers.LongCatImageTransformer2DModel, KIN, dict,
               inputs(KIN_INPUTS, hidden_states=(1, 12, 64), encoder_hidden_states=(1, 5, 3584)))
OVIS = Mini("ovis-image", "d=64 h=16 n=2 s=3 m=512 i=64 c=32",
            diffusers.OvisImageTransformer2DModel, {**KIN, "joint_attention_dim": 32}, dict,
            inputs(KIN_INPUTS, hidden_states=(1, 12, 64), encoder_hidden_states=(1, 5, 32)))
BRIA = Mini("bria", "d=64 h=16 n=2 s=3 m=256 i=64 c=4096", diffusers.BriaTransformer2DModel, KIN,
            dict, inputs(KIN_INPUTS, hidden_states=(1, 12, 64), encoder_hidden_states=(1, 5, 4096)))

RELATIVES = (VIDEO15_FUSED, MOCHI, SANA, SPRINT, SANA_VIDEO, COGVIDEOX, COGVIEW4,
             KANDINSKY5, HIDREAM, LONGCAT, OVIS, BRIA)
