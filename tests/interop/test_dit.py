#!/usr/bin/env python3
"""Diffusion transformers in two layouts: adapters of either spelling on models of either layout.

A miniature in the published layout is random; diffusers' own converter makes its other form, so
that no name and no row is told by loratool's tables alone.  diffusers then runs what was merged.
"""

import inspect
import os
import subprocess

from common import at_most, check, run_tests
from consumers import difference, extract, keys_of, merge, same_set

import diffusers
import diffusers.loaders.single_file_utils as single_file
import torch
from safetensors.torch import load_file, save_file

EQUAL = 2e-6  # of the largest element: float32 sums in another order
OUTPUT = 2e-5  # of the largest output


class Mini:
    """One architecture at a small size."""

    def __init__(self, table, params, cls, config, converter, width, inputs):
        self.table, self.params, self.cls, self.config = table, params, cls, config
        self.converter, self.width, self.inputs = converter, width, inputs

    def convert(self, native, public):
        """The published layout to diffusers', by diffusers."""
        source = inspect.getsource(getattr(single_file, self.converter))
        # The converter of FLUX.1 knows one width only.
        space = dict(vars(single_file))
        exec(source.replace("inner_dim = 3072", f"inner_dim = {self.width}"), space)
        tensors = space[self.converter](load_file(native))
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
        names = set(model.state_dict())
        same_set(load_file(path), names, self.table, "tensors of diffusers' model")
        model.load_state_dict(load_file(path), assign=True)
        return model.eval()

    @torch.no_grad()
    def run(self, model):
        torch.manual_seed(3)
        return model(**self.inputs(), return_dict=False)[0]


def flux_inputs(text, pooled=None, guidance=True):
    def make():
        values = {"hidden_states": torch.randn(1, 12, 16), "timestep": torch.tensor([0.7]),
                  "encoder_hidden_states": torch.randn(1, 5, text),
                  "img_ids": torch.randint(0, 9, (12, 3)).float(), "txt_ids": torch.zeros(5, 3)}
        if pooled:
            values |= {"pooled_projections": torch.randn(1, pooled)}
        if guidance:
            values |= {"guidance": torch.tensor([3.5])}
        return values
    return make


def sd3_inputs():
    return {"hidden_states": torch.randn(1, 16, 8, 8), "encoder_hidden_states": torch.randn(1, 5, 4096),
            "pooled_projections": torch.randn(1, 2048), "timestep": torch.tensor([700.0])}


FLUX = Mini("flux", "d=64 h=16 n=2 s=3 i=16 c=32 p=24 g=1", diffusers.FluxTransformer2DModel,
            {"patch_size": 1, "in_channels": 16, "out_channels": 64, "num_layers": 2,
             "num_single_layers": 3, "attention_head_dim": 16, "num_attention_heads": 4,
             "joint_attention_dim": 32, "pooled_projection_dim": 24, "guidance_embeds": True,
             "axes_dims_rope": (4, 6, 6)},
            "convert_flux_transformer_checkpoint_to_diffusers", 64, flux_inputs(32, pooled=24))
CHROMA = Mini("chroma", "d=64 h=16 n=2 s=3 i=16 c=32 g=48 l=2", diffusers.ChromaTransformer2DModel,
              {"patch_size": 1, "in_channels": 16, "out_channels": 64, "num_layers": 2,
               "num_single_layers": 3, "attention_head_dim": 16, "num_attention_heads": 4,
               "joint_attention_dim": 32, "axes_dims_rope": (4, 6, 6),
               "approximator_num_channels": 64, "approximator_hidden_dim": 48,
               "approximator_layers": 2},
              "convert_chroma_transformer_checkpoint_to_diffusers", 64,
              flux_inputs(32, guidance=False))
SD3 = Mini("sd3", "d=128 n=3 x=2 q=3 p=64", diffusers.SD3Transformer2DModel,
           {"sample_size": 16, "patch_size": 2, "in_channels": 16, "num_layers": 3,
            "attention_head_dim": 64, "num_attention_heads": 2, "joint_attention_dim": 4096,
            "caption_projection_dim": 128, "pooled_projection_dim": 2048, "out_channels": 16,
            "pos_embed_max_size": 8, "dual_attention_layers": (0, 1), "qk_norm": "rms_norm"},
           "convert_sd3_transformer_checkpoint_to_diffusers", 128, sd3_inputs)


def compare(ours, theirs, group, what):
    """Two files hold the same tensors, nearly."""
    a, b = load_file(ours), load_file(theirs)
    same_set(a, b, group, what)
    for name in a.keys() & b.keys():
        at_most(difference(a[name], b[name]), EQUAL, f"{group}: {what}", name)


def compare_errors(ours, theirs, tuned, group):
    """Both are as near to the tuned model: rows in another order give other factors."""
    a, b, goal = load_file(ours), load_file(theirs), load_file(tuned)
    same_set(a, b, group, "tensors merged from what was cut out of fused weights")
    for name, tensor in goal.items():
        ours, theirs = ((x[name] - tensor).double().norm().item() for x in (a, b))
        limit = 1e-3 * theirs + EQUAL * tensor.double().norm().item()
        at_most(abs(ours - theirs), limit, f"{group}: cut out of fused weights", name)


def both_layouts(mini, adapter, files, work, label):
    """The adapter merged into either layout is the same model; gives it in diffusers' layout."""
    merged = {}
    for layout in "native", "public":
        merged[layout] = work / f"{label}.{layout}.safetensors"
        merge(files["base", layout], [adapter], merged[layout])
    back = mini.convert(merged["native"], work / f"{label}.back.safetensors")
    compare(back, merged["public"], f"{mini.table} {label}", "merged in both layouts")
    return merged["public"]


# ---- spellings -----------------------------------------------------------------------

def flattened(prefix):
    return lambda path: prefix + path.replace(".", "_")


def dotted(prefix):
    return lambda path: prefix + path


KOHYA_KEYS = ".lora_down.weight", ".lora_up.weight"
PEFT_KEYS = ".lora_A.weight", ".lora_B.weight"
RAW_KEYS = ".lora_A.default.weight", ".lora_B.default.weight"

# How programs spell a module path of the published layout, or of diffusers'.
SPELLINGS = {
    "native": {
        "kohya": (flattened("lora_unet_"), KOHYA_KEYS),
        "ComfyUI": (dotted("diffusion_model."), KOHYA_KEYS),
        "ai-toolkit": (dotted("diffusion_model."), PEFT_KEYS),
        "fal": (dotted("base_model.model."), PEFT_KEYS),
        "BFL": (dotted(""), PEFT_KEYS),
    },
    "public": {
        "diffusers": (dotted("transformer."), PEFT_KEYS),
        "PEFT": (dotted("base_model.model."), PEFT_KEYS),
        "raw PEFT": (dotted("transformer."), RAW_KEYS),
        "OneTrainer": (flattened("lora_transformer_"), KOHYA_KEYS),
        "SimpleTuner": (flattened("lycoris_"), KOHYA_KEYS),
        "bare": (dotted(""), PEFT_KEYS),
        "musubi": (flattened("lora_unet_"), KOHYA_KEYS),
    },
}


def paths_of(model):
    return [name[:-len(".weight")] for name, t in load_file(model).items()
            if name.endswith(".weight") and t.ndim > 1]


def random_factors(model, paths, rank=3):
    """Path -> (down, up), of matrices only."""
    generator = torch.Generator().manual_seed(5)
    tensors, factors = load_file(model), {}
    for path in paths:
        out, columns = tensors[f"{path}.weight"].flatten(1).shape
        if tensors[f"{path}.weight"].ndim == 2:
            factors[path] = (0.1 * torch.randn(rank, columns, generator=generator),
                             0.1 * torch.randn(out, rank, generator=generator))
    return factors


def spelled(factors, spelling, path):
    spell, (down, up) = spelling
    tensors = {}
    for module, (a, b) in factors.items():
        tensors |= {spell(module) + down: a, spell(module) + up: b}
    save_file(tensors, path)
    return path


def check_spellings(mini, files, work):
    """Every spelling merges to the same bytes, in both layouts of the model."""
    for layout, spellings in SPELLINGS.items():
        model = files["base", layout]
        factors = random_factors(model, paths_of(model))
        images = {target: {} for target in ("native", "public")}
        for name, spelling in spellings.items():
            adapter = spelled(factors, spelling, work / "spelled.safetensors")
            for target in images:
                out = work / "spelled.merged.safetensors"
                done = merge(files["base", target], [adapter], out)
                check(done["modules_applied"] == len(factors), f"{done['modules_applied']} of "
                      f"{len(factors)} modules", f"{mini.table} {name} on {target}")
                images[target][name] = out.read_bytes()
        for target, found in images.items():
            check(len(set(found.values())) == 1, f"{layout} spellings differ on {target}: "
                  f"{list(found)}", mini.table)


def check_across(mini, files, work):
    """Base and tuned model in different layouts give what two of one layout give, byte for byte."""
    for base, tuned, dialect in (("native", "public", "kohya"), ("native", "public", "diffusers"),
                                 ("public", "native", "diffusers")):
        images = []
        for other in tuned, base:
            out = work / "across.safetensors"
            done = extract(files["base", base], files["tuned", other], out, "-r", "6",
                           "--all-modules", "--dialect", dialect)
            images.append(out.read_bytes())
            lost = [n["name"] for n in done["modules_skipped"] if "no tensor for it" in n["reason"]
                    or n["reason"].startswith("only in")]
            check(not lost, f"{base} and {other}: {lost[:3]}", f"{mini.table} across")
        check(images[0] == images[1], f"{base} and {tuned}, {dialect}", f"{mini.table} across")


def test_flux_extras(work):
    """XLabs' names, and ComfyUI's for the attention's part of linear1."""
    files = FLUX.make(work)
    d, factors = FLUX.width, {}
    everything = random_factors(files["base", "native"], paths_of(files["base", "native"]))
    wanted, xlabs = {}, {}
    for path, (a, b) in everything.items():
        kind, _, rest = path.partition(".")
        block = rest.partition(".")[0]
        stem = f"{kind}.{block}.processor."
        if path.endswith(("_attn.qkv", "_attn.proj")):
            stream = 1 if ".img_attn." in path else 2
            xlabs[f"{stem}{path.rpartition('.')[2]}_lora{stream}"] = a, b
        elif path.endswith(".linear1"):
            b = torch.cat([b[:3 * d], torch.zeros_like(b[3 * d:])])
            xlabs[f"{stem}qkv_lora"] = a, b[:3 * d].contiguous()
            factors[path + "_qkv"] = a, b[:3 * d].contiguous()
        elif path.endswith(".linear2"):
            xlabs[f"{stem}proj_lora"] = a, b
        else:
            continue
        wanted[path] = a, b
    only = {path: pair for path, pair in wanted.items() if path.endswith("linear1")}
    cases = (("XLabs", xlabs, (dotted(""), (".down.weight", ".up.weight")), wanted),
             ("linear1_qkv", factors, SPELLINGS["native"]["ComfyUI"], only))
    for name, given, spelling, same in cases:
        for target in "native", "public":
            outs = []
            for label, pairs, how in ((name, given, spelling),
                                      ("plain", same, SPELLINGS["native"]["kohya"])):
                adapter = spelled(pairs, how, work / f"{label}.safetensors")
                outs.append(work / f"{label}.{target}.safetensors")
                done = merge(files["base", target], [adapter], outs[-1])
                check(done["modules_applied"] == len(pairs), f"{done['modules_applied']} modules", label)
            check(outs[0].read_bytes() == outs[1].read_bytes(), f"{name} on {target}", "extras")


def check_mini(mini, work):
    files = mini.make(work)
    base = mini.model(files["base", "public"])

    fused, split = work / "fused.safetensors", work / "split.safetensors"
    fused_report = extract(files["base", "native"], files["tuned", "native"], fused, "-r", "24",
                           "--all-modules", "--dtype", "f32", "--dialect", "kohya")
    split_report = extract(files["base", "public"], files["tuned", "public"], split, "-r", "24",
                           "--dtype", "f32")
    for report in fused_report, split_report:
        check(report["family"] == mini.table, f"family {report['family']}", mini.table)
    check(any("double_blocks" in k or "joint_blocks" in k for k in keys_of(fused)),
          "a fused adapter keeps the published names", mini.table)

    both_layouts(mini, fused, files, work, "fused")
    merged = both_layouts(mini, split, files, work, "split")

    # The same modules from the other layout, cut out of fused weights.
    cut = work / "cut.safetensors"
    extract(files["base", "native"], files["tuned", "native"], cut, "-r", "24", "--dtype", "f32",
            "--dialect", "diffusers")
    same_set(keys_of(cut), keys_of(split), mini.table, "keys of split adapters")
    recut = work / "cut.merged.safetensors"
    merge(files["base", "public"], [cut], recut)
    compare_errors(recut, merged, files["tuned", "public"], mini.table)

    # Factors of full rank hold all of the change, in every module.
    whole = work / "whole.safetensors"
    extract(files["base", "native"], files["tuned", "native"], whole, "-r", "4096", "--all-modules",
            "--dtype", "f32")
    merge(files["base", "public"], [whole], work / "tuned.again.safetensors")
    tuned, again = load_file(files["tuned", "public"]), load_file(work / "tuned.again.safetensors")
    for name, tensor in tuned.items():
        if tensor.ndim > 1 and name != "pos_embed.pos_embed":
            at_most(difference(again[name], tensor), 2e-5, f"{mini.table}: full rank", name)

    check_spellings(mini, files, work)
    check_across(mini, files, work)

    expected = mini.run(mini.model(merged))
    unchanged = mini.run(base)
    check(difference(unchanged, expected) > 100 * OUTPUT, "the adapter changes the output", mini.table)
    base.load_lora_adapter(load_file(split), prefix="transformer")
    at_most(difference(mini.run(base), expected), OUTPUT, f"{mini.table}: output", "loaded by diffusers")


def test_flux(work):
    check_mini(FLUX, work)


def test_chroma(work):
    check_mini(CHROMA, work)


def test_sd3(work):
    check_mini(SD3, work)


if __name__ == "__main__":
    run_tests(test_flux, test_chroma, test_sd3, test_flux_extras)
