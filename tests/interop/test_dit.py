#!/usr/bin/env python3
"""Diffusion transformers in two layouts: adapters of either spelling on models of either layout.

A miniature (dit_minis.py) in the published layout is random, its other form made by a converter
that is not loratool's.  What is merged into either is compared, and diffusers runs it.
"""

import re

from common import at_most, check, loratool, report, run_tests
from consumers import difference, extract, keys_of, merge, same_set
from dit_minis import FLUX, HUNYUAN_VIDEO, MINIS, PIXART

import torch
from safetensors.torch import load_file, save_file

EQUAL = 2e-6  # of the largest element: float32 sums in another order
OUTPUT = 2e-5  # of the largest output


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
    compare(back, merged["public"], f"{mini.name} {label}", "merged in both layouts")
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
        "ai-toolkit": (dotted("diffusion_model."), PEFT_KEYS),
    },
}


# Embeddings that are looked up, convolutions of a channel each, and what picks experts, which is
# no module: nothing adapts them.
NOT_ADAPTED = ("cond_type_embedding", "cond_type_embed", "depth_conv.conv", "conv_depth",
               "ff_i.gate")


def paths_of(model):
    return [name[:-len(".weight")] for name, t in load_file(model).items()
            if name.endswith(".weight") and t.ndim > 1
            and not name.endswith(tuple(f"{path}.weight" for path in NOT_ADAPTED))]


def random_factors(model, paths):
    """Path -> (down, up), of matrices and convolutions, of several ranks."""
    generator = torch.Generator().manual_seed(5)
    tensors, factors = load_file(model), {}
    for i, path in enumerate(paths):
        out, *columns = tensors[f"{path}.weight"].shape
        rank, kernel = 2 + i % 3, [1] * (len(columns) - 1)
        factors[path] = (0.1 * torch.randn(rank, *columns, generator=generator),
                         0.1 * torch.randn(out, rank, *kernel, generator=generator))
    return factors


def spelled(factors, spelling, path):
    spell, (down, up) = spelling
    tensors = {}
    for module, (a, b) in factors.items():
        tensors |= {spell(module) + down: a, spell(module) + up: b}
    save_file(tensors, path)
    return path


def check_spellings(mini, files, work):
    """Every spelling merges to the same bytes, and to the same model in both layouts.

    Gives the adapter of all matrices in diffusers' spelling, and the model with it.
    """
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
                      f"{len(factors)} modules", f"{mini.name} {name} on {target}")
                images[target][name] = out.read_bytes()
        for target, found in images.items():
            check(len(set(found.values())) == 1, f"{layout} spellings differ on {target}: "
                  f"{list(found)}", mini.name)
        adapter = spelled(factors, next(iter(spellings.values())), work / f"{layout}.safetensors")
        merged = both_layouts(mini, adapter, files, work, f"{layout} names")
        some = dict(list(factors.items())[1::3])  # of what is fused, not all parts
        partial = spelled(some, next(iter(spellings.values())), work / "partial.safetensors")
        both_layouts(mini, partial, files, work, f"some {layout} names")
    return adapter, merged


def test_tucker(work):
    """A convolution's factors with a Tucker core, converted: the same merged model."""
    sd3 = next(mini for mini in MINIS if mini.name == "sd3")
    files = sd3.make(work)
    out, *rest = load_file(files["base", "native"])["x_embedder.proj.weight"].shape
    generator = torch.Generator().manual_seed(8)
    stem, r = "lora_unet_x_embedder_proj", 3
    save_file({f"{stem}.lora_down.weight": torch.randn(r, rest[0], 1, 1, generator=generator),
               f"{stem}.lora_mid.weight": torch.randn(r, r, *rest[1:], generator=generator),
               f"{stem}.lora_up.weight": torch.randn(out, r, 1, 1, generator=generator),
               f"{stem}.alpha": torch.tensor(2.0)}, work / "tucker.safetensors")
    merge(files["base", "native"], [work / "tucker.safetensors"], work / "merged.safetensors")
    for to in "diffusers", "kohya", "comfyui":
        report("convert", work / "tucker.safetensors", "--to", to, "--base", files["base", "native"],
               "-f", "-o", work / "converted.safetensors")
        merge(files["base", "native"], [work / "converted.safetensors"], work / "again.safetensors")
        compare(work / "again.safetensors", work / "merged.safetensors", "tucker", to)


def check_relayout(mini, files, work):
    """The model itself in the other layout: what diffusers' converter makes, and back again."""
    there, back = work / "there.safetensors", work / "back.safetensors"
    group = f"{mini.name} relayout"
    native, public = load_file(files["base", "native"]), load_file(files["base", "public"])
    dropped = {note["name"] for note in
               report("convert", files["base", "native"], "--to", "diffusers", "-f", "-o", there)["dropped"]}
    ours = load_file(there)
    same_set(ours, public, mini.table, "tensors of the model in diffusers' layout")
    for name in ours.keys() & public.keys():
        check(torch.equal(ours[name], public[name]), name, group)
    if set(native) == set(public):  # one layout: single is what it is already
        loratool("convert", there, "--to", "single", "-f", "-o", back, code=3)
        return
    report("convert", there, "--to", "single", "-f", "-o", back)
    again = load_file(back)
    same_set(again, set(native) - dropped, mini.table, "tensors of the model as published")
    for name in again.keys() & native.keys():
        check(torch.equal(again[name], native[name]), f"{name} after the way there and back", group)


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
            check(not lost, f"{base} and {other}: {lost[:3]}", f"{mini.name} across")
        check(images[0] == images[1], f"{base} and {tuned}, {dialect}", f"{mini.name} across")


def check_output(mini, adapter, files, merged):
    """The base with the adapter loaded by diffusers gives what the merged model gives."""
    base = mini.model(files["base", "public"])
    expected, unchanged = mini.run(mini.model(merged)), mini.run(base)
    check(difference(unchanged, expected) > 100 * OUTPUT, "the adapter does something", mini.name)
    tensors = load_file(adapter)
    base.load_lora_adapter(tensors, prefix="transformer")
    loaded = sum(hasattr(module, "lora_A") for module in base.modules())
    check(loaded == len(tensors) // 2, f"{loaded} of {len(tensors) // 2} modules loaded", mini.name)
    at_most(difference(mini.run(base), expected), OUTPUT, f"{mini.name}: output", adapter.stem)


def check_converted(mini, adapter, files, merged, work):
    """In diffusers' names the adapter gives the same output, in its own again the same model."""
    there, back, again = (work / f"{name}.safetensors" for name in ("there", "back", "again"))
    for layout in "native", "public":
        base = files["base", layout]
        report("convert", adapter, "--to", "diffusers", "--base", base, "-o", there, "-f")
        check_output(mini, there, files, merged)
        report("convert", there, "--to", "kohya", "--base", base, "-o", back, "-f")
        same_set(keys_of(back), keys_of(adapter), mini.name, "keys converted there and back")
        merge(files["base", "public"], [back], again)
        compare(again, merged, mini.name, "converted there and back")


def test_flux_extras(work):
    """XLabs' names, and ComfyUI's for the attention's part of linear1."""
    files = FLUX.make(work)
    factors = {}
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
            d = a.shape[1]
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
                check(done["modules_applied"] == len(pairs), f"{done['modules_applied']} modules",
                      label)
            check(outs[0].read_bytes() == outs[1].read_bytes(), f"{name} on {target}", "extras")


# How ComfyUI renames HunyuanVideo's modules when it reads a model, in this order.
COMFYUI_HUNYUAN = (("txt_in.t_embedder.mlp.0.", "txt_in.t_embedder.in_layer."),
                   ("txt_in.t_embedder.mlp.2.", "txt_in.t_embedder.out_layer."),
                   ("txt_in.c_embedder.linear_1.", "txt_in.c_embedder.in_layer."),
                   ("txt_in.c_embedder.linear_2.", "txt_in.c_embedder.out_layer."),
                   ("_mod.linear.", "_mod.lin."), ("_attn_qkv.", "_attn.qkv."),
                   ("mlp.fc1.", "mlp.0."), ("mlp.fc2.", "mlp.2."), ("_attn_proj.", "_attn.proj."),
                   (".modulation.linear.", ".modulation.lin."),
                   ("_in.mlp.0.", "_in.in_layer."), ("_in.mlp.2.", "_in.out_layer."))


def renamed(path):
    path += "."
    for old, new in COMFYUI_HUNYUAN:
        path = path.replace(old, new)
    return path[:-1]


def saved_name(name):
    """Of a tensor, as ComfyUI saves it."""
    name = re.sub(r"_attn_([qk])_norm\.weight$", r"_attn.norm.\1_norm.scale", name)
    name = re.sub(r"\.([qk])_norm\.weight$", r".norm.\1_norm.scale", name)
    if name.endswith("_norm.scale"):
        return name.replace(".q_norm.", ".query_norm.").replace(".k_norm.", ".key_norm.")
    path, _, kind = name.rpartition(".")
    return f"{renamed(path)}.{kind}"


def test_hunyuan_extras(work):
    """ComfyUI's names, with dots and with underscores."""
    files = HUNYUAN_VIDEO.make(work)
    published = random_factors(files["base", "native"], paths_of(files["base", "native"]))
    comfyui = {renamed(path): pair for path, pair in published.items()}
    check(len(comfyui.keys() - published.keys()) > 30, "names differ", "extras")
    for target in "native", "public":
        images = set()
        for pairs, how in ((published, "kohya"), (comfyui, "kohya"), (comfyui, "ComfyUI")):
            adapter = spelled(pairs, SPELLINGS["native"][how], work / "spelled.safetensors")
            out = work / "merged.safetensors"
            done = merge(files["base", target], [adapter], out)
            check(done["modules_applied"] == len(pairs), f"{done['modules_applied']} of "
                  f"{len(pairs)} modules of {how} on {target}", "extras")
            images.add(out.read_bytes())
        check(len(images) == 1, f"HunyuanVideo's names in ComfyUI on {target}", "extras")
    check_saved_by_comfyui(files, published, comfyui, work)


def check_saved_by_comfyui(files, published, comfyui, work):
    """A base under ComfyUI's names and prefix is the same model to adapters of any names."""
    names = {name: "model.model." + saved_name(name) for name in load_file(files["base", "native"])}
    saved, out, back = (work / f"{x}.safetensors" for x in ("saved", "out", "back"))
    save_file({names[name]: t for name, t in load_file(files["base", "native"]).items()}, saved)
    check(report("info", saved)["family"] == "hunyuan-video", "family", "saved by ComfyUI")
    for pairs, how in ((published, "native"), (comfyui, "native"), (None, "public")):
        pairs = pairs or random_factors(files["base", "public"], paths_of(files["base", "public"]))
        adapter = spelled(pairs, next(iter(SPELLINGS[how].values())), work / "spelled.safetensors")
        done = merge(saved, [adapter], out)
        check(done["modules_applied"] == len(pairs), f"{done['modules_applied']} of {len(pairs)} "
              f"modules of {how} names", "saved by ComfyUI")
        merge(files["base", "native"], [adapter], work / "merged.safetensors")
        theirs = {names[name]: t for name, t in load_file(work / "merged.safetensors").items()}
        ours = load_file(out)
        same_set(ours, theirs, "saved by ComfyUI", "tensors")
        equal = all(torch.equal(ours[name], t) for name, t in theirs.items())
        check(equal, f"{how} names", "saved by ComfyUI")
    report("convert", saved, "--to", "diffusers", "-o", back)
    public, ours = load_file(files["base", "public"]), load_file(back)
    same_set(ours, public, "saved by ComfyUI", "tensors in diffusers' layout")
    equal = all(torch.equal(ours[name], t) for name, t in public.items())
    check(equal, "relayout", "saved by ComfyUI")


def test_pixart_extras(work):
    """What PixArt's trainer puts before the names."""
    files = PIXART.make(work)
    factors = random_factors(files["base", "public"], paths_of(files["base", "public"]))
    for target in "native", "public":
        images = set()
        for prefix in "transformer.", "unet.base_model.model.":
            adapter = spelled(factors, (dotted(prefix), PEFT_KEYS), work / "spelled.safetensors")
            out = work / "merged.safetensors"
            done = merge(files["base", target], [adapter], out)
            check(done["modules_applied"] == len(factors), f"{prefix} on {target}", "extras")
            images.add(out.read_bytes())
        check(len(images) == 1, f"PixArt's trainer on {target}", "extras")


def check_mini(mini, work):
    files = mini.make(work)

    fused, split = work / "fused.safetensors", work / "split.safetensors"
    fused_report = extract(files["base", "native"], files["tuned", "native"], fused, "-r", "24",
                           "--all-modules", "--dtype", "f32", "--dialect", "kohya")
    # Where the layouts share their names, a file cannot say that diffusers' is wanted.
    same = keys_of(files["base", "native"]) == keys_of(files["base", "public"])
    split_report = extract(files["base", "public"], files["tuned", "public"], split, "-r", "24",
                           "--dtype", "f32", *(["--dialect", "diffusers"] if same else []))
    for done in fused_report, split_report:
        check(done["family"] == mini.family, f"family {done['family']}", mini.name)
    base, tuned = load_file(files["base", "native"]), load_file(files["tuned", "native"])
    changed = [path for path in paths_of(files["base", "native"])
               if not torch.equal(base[f"{path}.weight"], tuned[f"{path}.weight"])]
    same_set({key.partition(".")[0] for key in keys_of(fused)},
             map(flattened("lora_unet_"), changed), mini.name,
             "published names of modules in a fused adapter")

    merged = both_layouts(mini, fused, files, work, "fused")
    check_converted(mini, fused, files, merged, work)
    merged = both_layouts(mini, split, files, work, "split")

    # The same modules from the other layout, cut out of fused weights.
    cut = work / "cut.safetensors"
    extract(files["base", "native"], files["tuned", "native"], cut, "-r", "24", "--dtype", "f32",
            "--dialect", "diffusers")
    same_set(keys_of(cut), keys_of(split), mini.name, "keys of split adapters")
    recut = work / "cut.merged.safetensors"
    merge(files["base", "public"], [cut], recut)
    compare_errors(recut, merged, files["tuned", "public"], mini.name)

    # Factors of full rank hold all of the change, in every module.
    whole = work / "whole.safetensors"
    for layout, other in ("native", "public"), ("public", "native"):
        extract(files["base", layout], files["tuned", layout], whole, "-r", "4096", "--all-modules",
                "--dtype", "f32")
        merge(files["base", other], [whole], work / "tuned.again.safetensors")
        tuned = load_file(files["tuned", other])
        again = load_file(work / "tuned.again.safetensors")
        for path in paths_of(files["tuned", other]):
            name = f"{path}.weight"
            at_most(difference(again[name], tuned[name]), 2e-5, f"{mini.name}: full rank",
                    f"{name} from {layout}")

    check_across(mini, files, work)
    check_relayout(mini, files, work)
    check_output(mini, split, files, merged)
    everything, merged = check_spellings(mini, files, work)
    check_output(mini, everything, files, merged)


def test_of(mini):
    def test(work):
        check_mini(mini, work)
    test.__name__ = f"test of {mini.name}"
    return test


if __name__ == "__main__":
    run_tests(*map(test_of, MINIS), test_flux_extras, test_hunyuan_extras, test_pixart_extras,
              test_tucker)
