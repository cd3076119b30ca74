#!/usr/bin/env python3
"""Stable Diffusion XL at tiny widths: diffusers and loratool agree on SGM names and fused weights.

The checkpoint has the topology and the tensor names of the real one, random weights, and the second
text encoder in OpenCLIP's layout.  It is read back with diffusers' own converters.
"""

from types import SimpleNamespace

from common import check, f64, product, read_modules, run_tests
from consumers import DATA, caught, difference, extract, measured, merge, perturb, same_set

import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.loaders import single_file_utils
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

import minis  # makes tools/train importable
import ldm_names
import sd_checkpoint

TOLERANCE = 1e-5  # float32 arithmetic, relative to the largest output
PARTS = {"unet": "model.diffusion_model.", "text_encoder": "conditioner.embedders.0.transformer.",
         "text_encoder_2": "conditioner.embedders.1.model."}
OPENCLIP = {"embeddings.token_embedding.weight": "token_embedding.weight",
            "embeddings.position_embedding.weight": "positional_embedding",
            "final_layer_norm.weight": "ln_final.weight", "final_layer_norm.bias": "ln_final.bias"}
OPENCLIP_LAYER = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc",
                  "mlp.fc2": "mlp.c_proj", "self_attn.out_proj": "attn.out_proj"}


def text_config(width, layers):
    return CLIPTextConfig(vocab_size=89, max_position_embeddings=8, hidden_size=width, projection_dim=width,
                          intermediate_size=2 * width, num_hidden_layers=layers, num_attention_heads=4,
                          bos_token_id=87, eos_token_id=88, pad_token_id=88, initializer_range=0.2)


def build():
    """U-Net and text encoders with the blocks of Stable Diffusion XL."""
    torch.manual_seed(11)
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(16, 32, 48), layers_per_block=2, norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10), attention_head_dim=(2, 4, 4), cross_attention_dim=40,
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24 + 6 * 8)
    return SimpleNamespace(
        unet=unet.eval(), text_encoder=CLIPTextModel(text_config(16, 2)).eval(),
        text_encoder_2=CLIPTextModelWithProjection(text_config(24, 3)).eval())


def states(models):
    """By part, the tensors of each model; text encoders without the `text_model.` of some versions."""
    return {part: {name.removeprefix("text_model."): tensor for name, tensor in
                   getattr(models, part).state_dict().items()} for part in PARTS}


def sgm_name(name):
    """The SGM name of a U-Net tensor: as in Stable Diffusion 1, but for two places."""
    name = ldm_names.unet(name).replace("output_blocks.2.1.conv.", "output_blocks.2.2.conv.")
    name = name.replace("add_embedding.linear_1.", "label_emb.0.0.")
    return name.replace("add_embedding.linear_2.", "label_emb.0.2.")


def openclip(state):
    """A text encoder's tensors in OpenCLIP's layout: fused projections, transposed text projection."""
    result = {OPENCLIP[name]: state[name] for name in OPENCLIP}
    result["text_projection"] = state["text_projection.weight"].T.contiguous()
    for name, tensor in state.items():
        if name.startswith("encoder.layers."):
            _, _, index, rest = name.split(".", 3)
            module, leaf = rest.rsplit(".", 1)
            block = f"transformer.resblocks.{index}."
            if module in OPENCLIP_LAYER:
                result[f"{block}{OPENCLIP_LAYER[module]}.{leaf}"] = tensor
            elif module == "self_attn.q_proj":
                parts = [state[name.replace("q_proj", f"{which}_proj")] for which in "qkv"]
                result[f"{block}attn.in_proj_{leaf}"] = torch.cat(parts)
    return result


def save(models, path):
    """Save as one checkpoint in float16."""
    state = states(models)
    named = {"unet": {sgm_name(name): tensor for name, tensor in state["unet"].items()},
             "text_encoder": {f"text_model.{name}": tensor for name, tensor in state["text_encoder"].items()},
             "text_encoder_2": openclip(state["text_encoder_2"])}
    save_file({PARTS[part] + name: tensor.half().contiguous()
               for part in PARTS for name, tensor in named[part].items()}, path, {"format": "pt"})


def read(path):
    """Models with the weights of a checkpoint, converted by diffusers, in float32."""
    models, tensors = build(), load_file(path)
    converted = {
        "unet": single_file_utils.convert_ldm_unet_checkpoint(tensors, models.unet.config),
        "text_encoder": single_file_utils.convert_ldm_clip_checkpoint(tensors),
        "text_encoder_2": single_file_utils.convert_open_clip_checkpoint(
            models.text_encoder_2, tensors, prefix=PARTS["text_encoder_2"]),
    }
    for part, targets in states(models).items():
        found = {name.removeprefix("text_model."): tensor for name, tensor in converted[part].items()}
        check(found.keys() == targets.keys(), f"{part}: {found.keys() ^ targets.keys()}", "converters")
        for name, target in targets.items():
            target.copy_(found[name])
    return models


def module_names(models):
    """By every name that an adapter may use: (part, tensor name)."""
    names = {}
    for part, state in states(models).items():
        for tensor in state:
            module = tensor.removesuffix(".weight")
            bare = part == "unet" or module == "text_projection"
            path = module if bare else f"text_model.{module}"
            names[f"{part}.{path}"] = (part, tensor)
            kohya = {"unet": f"unet.{sgm_name(tensor).removesuffix('.weight')}",
                     "text_encoder": f"te1.{path}", "text_encoder_2": f"te2.{path}"}[part]
            names["lora_" + kohya.replace(".", "_")] = (part, tensor)
    return names


def make_pair(work):
    """The paths of a base and of a perturbed copy."""
    models = build()
    save(models, work / "base.safetensors")
    for index, part in enumerate(PARTS):
        perturb(getattr(models, part), 0.3, index)
    save(models, work / "tuned.safetensors")
    return work / "base.safetensors", work / "tuned.safetensors"


def pipeline_of(models):
    """A pipeline; the autoencoder and the tokenizers are the miniature model's."""
    mini = sd_checkpoint.build(DATA / "mini-sd")
    return StableDiffusionXLPipeline(
        **vars(models), vae=mini.vae, tokenizer=mini.tokenizer, tokenizer_2=mini.tokenizer,
        scheduler=mini.scheduler, add_watermarker=False)


def installed(pipeline):
    for part in PARTS:
        for name, module in getattr(pipeline, part).named_modules():
            if isinstance(module, LoraLayer) and module.lora_A:
                yield part, name.removeprefix("text_model.") + ".weight"


@torch.no_grad()
def outputs(models):
    generator = torch.Generator().manual_seed(2)
    random = lambda *shape: torch.randn(shape, generator=generator)
    added = {"text_embeds": random(2, 24), "time_ids": 10 * random(2, 6)}
    tokens = torch.randint(86, (2, 8), generator=generator)
    second = models.text_encoder_2(tokens)
    return {
        "unet": models.unet(random(2, 4, 8, 8), torch.tensor([100, 700]), random(2, 8, 40),
                            added_cond_kwargs=added).sample,
        "text_encoder": models.text_encoder(tokens).last_hidden_state,
        "text_encoder_2": second.last_hidden_state,
        "text projection": second.text_embeds,
    }


def check_weights(label, base, merged, adapter):
    """Merging adds each module's delta to the tensor of its name, and nothing else anywhere."""
    names, expected, worst = module_names(base), states(base), 0.0
    for name, module in read_modules(adapter).items():
        part, tensor = names[name]
        delta = torch.from_numpy(product(module)).view(expected[part][tensor].shape)
        expected[part][tensor] = expected[part][tensor].double() + delta
    for part, found in states(merged).items():
        for name, tensor in found.items():
            wanted = f64(expected[part][name])
            worst = max(worst, abs(f64(tensor) - wanted).max() / abs(wanted).max().clip(1e-30))
    measured(worst, 2**-24, label, "weights, relative to the tensor's largest")


def check_dialect(dialect, work):
    base, tuned = make_pair(work)
    adapter = work / "adapter.safetensors"
    made = extract(base, tuned, adapter, "--rank", 12, "--dialect", dialect)
    print(f"{dialect}: {made['family']}, {made['modules_written']} modules, error {made['error']:.4f}, "
          f"skipped {[note['name'] for note in made['modules_skipped']]}")
    check(made["family"] == "sdxl", f"family {made['family']}", dialect)
    merge(base, [adapter], work / "merged.safetensors", "--dtype", "f32")
    merged = read(work / "merged.safetensors")
    check_weights(dialect, read(base), merged, adapter)
    pipeline = pipeline_of(read(base))
    with caught() as messages:
        pipeline.load_lora_weights(work, weight_name=adapter.name)
    check(not messages, f"warnings: {messages}", dialect)
    names = module_names(merged)
    same_set(installed(pipeline), {names[name] for name in read_modules(adapter)}, dialect, "LoRA layers")
    before, expected, found = outputs(read(base)), outputs(merged), outputs(pipeline)
    for part in expected:
        effect = difference(before[part], expected[part])
        print(f"{dialect}: {part}: the adapter moves the outputs by {effect:.3g}")
        check(effect > 0.05, f"{part}: the outputs move by {effect:.3g} only", dialect)
        measured(difference(found[part], expected[part]), TOLERANCE, dialect,
                 f"{part}, diffusers from merged")


def test_converters(work):
    """The checkpoint that this test writes is what diffusers' converters expect."""
    models = build()
    save(models, work / "base.safetensors")
    for part, state in states(read(work / "base.safetensors")).items():
        wanted = states(models)[part]
        check(all(torch.equal(state[name], wanted[name].half().float()) for name in wanted),
              f"{part}: other values", "converters")


def test_kohya(work):
    check_dialect("kohya", work)


def test_diffusers(work):
    check_dialect("diffusers", work)


if __name__ == "__main__":
    run_tests(test_converters, test_kohya, test_diffusers)
