"""Stable Diffusion's single files and diffusers' pipelines, converted into each other.

Whole models with real topology and small widths come from the generator; diffusers' own
converters say what each of their tensors is called there.
"""

import json
import logging
import math
import os
import shutil
import struct
import subprocess

import torch
from common import check, loratool, report, run_tests
from safetensors import safe_open
from safetensors.torch import load_file, save_file

try:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.loaders import single_file_utils as sfu
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
except ImportError as absent:
    print(f"skipped: {absent}")
    raise SystemExit(77)

logging.getLogger("diffusers").setLevel(logging.ERROR)
SYNTH = os.environ["LORATOOL_SYNTH"]

SD = {"block_out_channels": (32, 64, 128, 128), "attention_head_dim": 4}
XL = {"block_out_channels": (32, 64, 128), "attention_head_dim": 4,
      "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
      "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
      "transformer_layers_per_block": (1, 2, 10), "addition_embed_type": "text_time",
      "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 96}
REFINER = {"block_out_channels": (32, 64, 128, 128), "attention_head_dim": 4,
           "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D",
                                "CrossAttnDownBlock2D", "DownBlock2D"),
           "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D",
                              "UpBlock2D"),
           "transformer_layers_per_block": 4, "addition_embed_type": "text_time",
           "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 96}
LINEAR = {"use_linear_projection": True}
VAE = {"block_out_channels": (32, 64, 128, 128), "layers_per_block": 2,
       "down_block_types": ("DownEncoderBlock2D",) * 4,
       "up_block_types": ("UpDecoderBlock2D",) * 4, "norm_num_groups": 8}

CLIP = "clip:d=64 n=12 v=256 s=77 p=0 i=1"
UNET = "c=32 t=128 k=64 l=4"

# Of each model: its U-Net's table and config, then its text encoders: folder, prefix,
# table, whether OpenCLIP's.
MODELS = {
    "sd1": (f"unet-sd1:{UNET}", SD,
            [("text_encoder", "cond_stage_model.transformer.", CLIP, False)]),
    "sd2": (f"unet-sd2:{UNET}", {**SD, **LINEAR},
            [("text_encoder", "cond_stage_model.model.",
              "openclip-sd2:d=64 n=23 u=1 v=256 s=77 g=1", True)]),
    "sdxl": (f"unet-sdxl:{UNET} a=96", {**XL, **LINEAR},
             [("text_encoder", "conditioner.embedders.0.transformer.", CLIP, False),
              ("text_encoder_2", "conditioner.embedders.1.model.",
               "openclip:d=64 n=32 v=256 s=77 g=1", True)]),
    "sdxl-refiner": (f"unet-refiner:{UNET} a=96", {**REFINER, **LINEAR},
                     [("text_encoder_2", "conditioner.embedders.0.model.",
                       "openclip:d=64 n=32 v=256 s=77 g=1", True)]),
}
# What a pipeline has no tensors for.
LEFT_OUT = ("position_ids", "logit_scale", "betas")


def table(work, name):
    path = work / "part.safetensors"
    subprocess.run([SYNTH, name, "-o", path], check=True, stdout=subprocess.DEVNULL)
    tensors = load_file(path)
    path.unlink()
    return tensors


def make(work, name):
    """The single file's tensors, and by component what diffusers makes of them."""
    unet, config, encoders = MODELS[name]
    single = {"model.diffusion_model." + k: v for k, v in table(work, unet).items()}
    single |= {"first_stage_model." + k: v
               for k, v in table(work, "vae:c=32 z=4 q=1").items()}
    single["betas"] = torch.linspace(0, 1, 10)
    model = UNet2DConditionModel(cross_attention_dim=64, **config)
    vae = AutoencoderKL(**VAE)
    parts = {"unet": (model, sfu.convert_ldm_unet_checkpoint(dict(single), model.config)),
             "vae": (vae, sfu.convert_ldm_vae_checkpoint(dict(single), vae.config))}
    for folder, prefix, rule, is_open in encoders:
        one = {prefix + k: v for k, v in table(work, rule).items()}
        single |= one
        parts[folder] = (None, by_diffusers(one, prefix) if is_open else
                         sfu.convert_ldm_clip_checkpoint(one, prefix))
    return single, parts


def by_diffusers(tensors, prefix):
    layers = 23 if prefix == "cond_stage_model.model." else 32
    text = CLIPTextModel(CLIPTextConfig(hidden_size=64, intermediate_size=256,
                                        num_hidden_layers=layers, num_attention_heads=2,
                                        vocab_size=256))
    return sfu.convert_open_clip_checkpoint(text, dict(tensors), prefix=prefix)


def same_tensors(found, wanted, where):
    wanted = {k: v for k, v in wanted.items() if not k.endswith(LEFT_OUT)}
    check(set(found) == set(wanted),
          f"{where}: {sorted(set(found) ^ set(wanted))[:4]} are in one only")
    for k in set(found) & set(wanted):
        ok = found[k].shape == wanted[k].shape and torch.equal(found[k], wanted[k])
        check(ok, f"{where}: {k} differs")


def test_models(work):
    for name in MODELS:
        single, parts = make(work, name)
        path, folder = work / f"{name}.safetensors", work / name
        save_file({k: v.contiguous() for k, v in single.items()}, path)
        done = report("convert", path, "--to", "diffusers", "-o", f"{folder}/")
        check(done["family"] == name, f"{name} was taken for {done['family']}")
        check(done["unmatched"] == [], f"{name}: {done['unmatched'][:2]}")
        for part, (model, wanted) in parts.items():
            stem = "model" if part.startswith("text") else "diffusion_pytorch_model"
            found = load_file(folder / part / f"{stem}.safetensors")
            if name == "sd2" and part == "text_encoder":  # the projection is not used
                wanted.pop("text_projection.weight", None)
            same_tensors(found, wanted, f"{name} {part}")
            if model is not None:
                model.load_state_dict(found, strict=True)
        back = work / "back.safetensors"
        loratool("convert", folder, "--to", "single", "-o", back, "-f", "-q")
        dropped = {d["name"] for d in done["dropped"]}
        same_tensors(load_file(back), {k: v for k, v in single.items() if k not in dropped},
                     f"{name} back")
        gone = [d for d in dropped if not d.endswith(LEFT_OUT)
                and ".resblocks.23." not in d and name != "sd2"]
        check(not gone, f"{name}: {gone} were dropped")


def published(name):
    """Keys and shapes of a published model."""
    listed = subprocess.run([SYNTH, name, "--list"], check=True, capture_output=True,
                            encoding="utf-8").stdout
    rows = (line.split("\t") for line in listed.splitlines())
    return {k: [int(d) for d in shape.split(",") if d] for k, shape in rows}


def hollow(path, shapes):
    """A file of those shapes whose data are a hole: a byte an element."""
    header, at = {}, 0
    for k, shape in shapes.items():
        size = math.prod(shape)
        header[k] = {"dtype": "F8_E4M3", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        f.truncate(8 + len(text) + at)


def test_configs(work):
    """A model of published size comes with config.json of what diffusers then builds."""
    unet, vae = "model.diffusion_model.", "first_stage_model."
    models = {
        "sd1": {unet: "unet-sd1:sd1-inpaint", vae: "vae:z4",
                "cond_stage_model.transformer.": "clip:l-positions"},
        "sd2": {unet: "unet-sd2:sd2", vae: "vae:z4",
                "cond_stage_model.model.": "openclip-sd2:h"},
        "sdxl": {unet: "unet-sdxl:sdxl", vae: "vae:z4",
                 "conditioner.embedders.0.transformer.": "clip:l",
                 "conditioner.embedders.1.model.": "openclip:g"},
        "sdxl-refiner": {unet: "unet-refiner:refiner", vae: "vae:z4",
                         "conditioner.embedders.0.model.": "openclip:g"},
    }
    classes = {c.__name__: c for c in (UNet2DConditionModel, AutoencoderKL, CLIPTextModel,
                                       CLIPTextModelWithProjection)}
    for name, parts in models.items():
        hollow(work / "in.safetensors", {prefix + k: shape for prefix, part in parts.items()
                                         for k, shape in published(part).items()})
        done = report("convert", work / "in.safetensors", "--to", "diffusers", "-o",
                      f"{work / name}/")
        check([m["name"] for m in done["missing"]] == ["scheduler, tokenizers"],
              f"{name}: {done['missing']}")
        index = json.loads((work / name / "model_index.json").read_text())
        check(len(index) == 1 + len(parts), f"{name}: {index}")
        for folder, (_, kind) in ((k, v) for k, v in index.items() if k[0] != "_"):
            config = json.loads((work / name / folder / "config.json").read_text())
            with torch.device("meta"):
                if kind.startswith("CLIP"):
                    model = classes[kind](CLIPTextConfig(**config))
                else:
                    model = classes[kind].from_config(config)
            path = next((work / name / folder).glob("*.safetensors"))
            with safe_open(path, "pt") as file:
                found = {k: tuple(file.get_slice(k).get_shape()) for k in file.keys()}
            wanted = {text_model(k): tuple(v.shape) for k, v in model.state_dict().items()
                      if not k.endswith("position_ids")}
            check(found == wanted, f"{name} {folder}: {set(found) ^ set(wanted)}")
        shutil.rmtree(work / name)


def text_model(key):
    """transformers 5 leaves a level out that files have."""
    inner = ("encoder.layers.", "embeddings.", "final_layer_norm.")
    return f"text_model.{key}" if key.startswith(inner) else key


def test_one_part(work):
    """A part alone keeps bare names; diffusers' older names of the VAE are known."""
    vae = table(work, "vae:c=32 z=4 q=1")
    save_file(vae, work / "vae.safetensors")
    loratool("convert", work / "vae.safetensors", "--to", "diffusers", "-o",
             work / "new.safetensors", "-q")
    new = load_file(work / "new.safetensors")
    AutoencoderKL(**VAE).load_state_dict(new, strict=True)
    old = {}
    for k, v in new.items():
        for a, b in ((".to_q.", ".query."), (".to_k.", ".key."), (".to_v.", ".value."),
                     (".to_out.0.", ".proj_attn.")):
            k = k.replace(a, b)
        old[k] = v
    check(set(old) != set(new), "no name changed")
    for i, tensors in enumerate((new, old)):
        save_file(tensors, work / f"{i}.safetensors")
        loratool("convert", work / f"{i}.safetensors", "--to", "single", "-o",
                 work / f"back{i}.safetensors", "-q")
        same_tensors(load_file(work / f"back{i}.safetensors"), vae, f"VAE {i}")


def test_refusals(work):
    vae = table(work, "vae:c=32 z=4 q=1")
    vae["decoder.what.weight"] = torch.zeros(2, 2)
    save_file(vae, work / "odd.safetensors")
    out = work / "out.safetensors"
    loratool("convert", work / "odd.safetensors", "--to", "diffusers", "-o", out, code=3)
    check(not out.exists(), "an output appeared")
    done = report("convert", work / "odd.safetensors", "--to", "diffusers", "-o", out,
                  "--allow-unmatched")
    check([u["name"] for u in done["unmatched"]] == ["decoder.what.weight"], str(done))


if __name__ == "__main__":
    run_tests(test_models, test_configs, test_one_part, test_refusals)
