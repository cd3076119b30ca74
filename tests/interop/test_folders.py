#!/usr/bin/env python3
"""Sharded models and pipeline folders: merged, they load in transformers and diffusers and do what
the unmerged adapter does; converted, they hold the same tensors."""

import json
import shutil

from common import check, loratool, report, run_tests, tensor_bytes
from consumers import DATA, caught, difference, extract, measured, merge, perturb

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import minis
import test_diffusers as sd1
import test_diffusers_sdxl as sdxl

LLM = DATA / "mini-llm"
TOLERANCE = 1e-5  # float32 arithmetic, relative to the largest output
INDEX = {"safetensors": "model.safetensors.index.json", "bin": "pytorch_model.bin.index.json"}


# ---- sharded language models ---------------------------------------------------------

def names_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def read_shards(folder):
    """All tensors of a folder and the index (None without one), every shard named by it."""
    tensors = {}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".safetensors":
            tensors.update(load_file(path))
        elif path.suffix == ".bin":
            tensors.update(torch.load(path, weights_only=True))
    for name in INDEX.values():
        if (folder / name).exists():
            return tensors, json.loads((folder / name).read_text())
    return tensors, None


def save_sharded(folder, kind, size=700_000):
    """The miniature language model in shards, with files beside it that a model has."""
    model = AutoModelForCausalLM.from_pretrained(LLM / "base")
    model.save_pretrained(folder, max_shard_size=size)
    if kind == "bin":
        index = json.loads((folder / INDEX["safetensors"]).read_text())
        rename = lambda name: name.replace("model-", "pytorch_model-").replace(".safetensors", ".bin")
        for name in set(index["weight_map"].values()):
            torch.save(load_file(folder / name), folder / rename(name))
            (folder / name).unlink()
        index["weight_map"] = {key: rename(name) for key, name in index["weight_map"].items()}
        (folder / INDEX["safetensors"]).unlink()
        (folder / INDEX["bin"]).write_text(json.dumps(index))
    (folder / "tokenizer.json").write_text('{"version": "1.0"}\n')
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text("{}\n")
    (folder / ".cache").mkdir()
    (folder / ".cache/secret").write_text("not for others\n")
    (folder / "model.onnx").write_bytes(b"other weights")


@torch.no_grad()
def logits(model):
    tokens = torch.randint(0, 256, (2, 64), generator=torch.Generator().manual_seed(3))
    return model.eval()(input_ids=tokens).logits


def check_sharded(kind, work):
    base, merged = work / "base", work / "merged"
    save_sharded(base, kind)
    made = report("merge", "--base", base, LLM / "lora", "-o", f"{merged}/")
    print(f"{kind}: {made['modules_applied']} modules, {made['files']} files, "
          f"{made['sidecars']} beside the weights")
    wanted = [name for name in names_in(base) if not name.startswith(".cache") and name != "model.onnx"]
    check(names_in(merged) == wanted, f"files {names_in(merged)}, not {wanted}", kind)
    check(any(note["name"] == "model.onnx" for note in made["dropped"]), "model.onnx is not told", kind)
    check((merged / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes(),
          "the tokenizer changed", kind)
    tensors, index = read_shards(merged)
    old = json.loads((base / INDEX[kind]).read_text())
    check(index["weight_map"] == old["weight_map"], "another sharding", kind)
    check(index["metadata"]["total_size"] == sum(len(tensor_bytes(t)) for t in tensors.values()),
          f"total_size {index['metadata']}", kind)
    with caught() as messages:
        found = logits(AutoModelForCausalLM.from_pretrained(merged))
    check(not messages, f"warnings: {messages}", kind)
    unmerged = AutoModelForCausalLM.from_pretrained(base)
    before = logits(unmerged)
    expected = logits(PeftModel.from_pretrained(unmerged, LLM / "lora"))
    effect = difference(before, expected)
    check(effect > 0.05, f"the adapter moves the outputs by {effect:.3g} only", kind)
    measured(difference(found, expected), TOLERANCE, kind, "logits, merged from unmerged")


def test_safetensors(work):
    check_sharded("safetensors", work)


def test_bin(work):
    check_sharded("bin", work)


def same_tensors(found, wanted, group):
    check(found.keys() == wanted.keys(), f"names {found.keys() ^ wanted.keys()}", group)
    for name in wanted:
        a, b = found[name], wanted[name]
        check(a.dtype == b.dtype and a.shape == b.shape and tensor_bytes(a) == tensor_bytes(b),
              f"{name} differs", group)


def test_conversions(work):
    """Joined, split, divided anew, to pickles and back: the same tensors, and the libraries load them."""
    base = work / "base"
    save_sharded(base, "safetensors")
    wanted, _ = read_shards(base)
    loratool("convert", base, "-o", work / "joined.safetensors")
    same_tensors(load_file(work / "joined.safetensors"), wanted, "joined")
    loratool("convert", work / "joined.safetensors", "-o", f"{work}/split/", "--max-shard-size", "500KB")
    found, index = read_shards(work / "split")
    same_tensors(found, wanted, "split")
    check(index and len(set(index["weight_map"].values())) > 4, f"index {index}", "split")
    sizes = [path.stat().st_size for path in (work / "split").glob("*.safetensors")]
    largest = max(len(tensor_bytes(tensor)) for tensor in wanted.values())
    check(max(sizes) < max(500_000, largest) + 4096, f"sizes {sizes}", "split")
    loratool("convert", base, "-o", f"{work}/bin/", "--format", "torch")
    found, index = read_shards(work / "bin")
    same_tensors(found, wanted, "pickles")
    with caught() as messages:
        model = AutoModelForCausalLM.from_pretrained(work / "bin")
    check(not messages, f"warnings: {messages}", "pickles")
    same_tensors({name: model.state_dict()[name] for name in wanted}, wanted, "transformers")
    loratool("convert", work / "bin", "-o", f"{work}/again/", "--format", "safetensors")
    found, index = read_shards(work / "again")
    same_tensors(found, wanted, "and back")
    check(names_in(work / "again") == [n for n in names_in(base) if n[0] != "." and n != "model.onnx"],
          f"files {names_in(work / 'again')}", "and back")
    loratool("convert", base / INDEX["safetensors"], "-o", work / "by-index.safetensors")
    same_tensors(load_file(work / "by-index.safetensors"), wanted, "by index")
    loratool("convert", LLM / "lora", "-o", f"{work}/adapter/", "--format", "torch")
    check(names_in(work / "adapter") == ["adapter_config.json", "adapter_model.bin"],
          f"files {names_in(work / 'adapter')}", "adapter")
    merge(LLM / "base", [work / "adapter"], work / "a.safetensors")
    merge(LLM / "base", [LLM / "lora"], work / "b.safetensors")
    same_tensors(load_file(work / "a.safetensors"), load_file(work / "b.safetensors"), "adapter_model.bin")


def test_existing_folder(work):
    """-f writes into a folder, but not beside weights that would be taken for the model's."""
    base, out = work / "base", work / "out"
    save_sharded(base, "safetensors")
    out.mkdir()
    (out / "notes.txt").write_text("mine\n")
    loratool("merge", "--base", base, LLM / "lora", "-o", out, code=1)
    check(names_in(out) == ["notes.txt"], f"left {names_in(out)}", "without -f")
    loratool("merge", "--base", base, LLM / "lora", "-o", out, "-f")
    check("notes.txt" in names_in(out) and INDEX["safetensors"] in names_in(out), "files", "with -f")
    before = names_in(out)
    loratool("convert", base, "-o", out, "-f", "--max-shard-size", "1GB", code=1)
    check(names_in(out) == before, f"left {names_in(out)}", "stale")
    loratool("merge", "--base", base, LLM / "lora", "-o", base, "-f")
    same_tensors(read_shards(base)[0], read_shards(out)[0], "in place")


def test_bad_indices(work):
    base = work / "base"
    save_sharded(base, "safetensors")
    path = base / INDEX["safetensors"]
    good = json.loads(path.read_text())
    first, *_, last = good["weight_map"]
    shard = good["weight_map"][first]

    def expect(code, text, **changes):
        index = json.loads(json.dumps(good))
        for name, file in changes.items():
            if file is None:
                del index["weight_map"][name]
            else:
                index["weight_map"][name] = file
        path.write_text(json.dumps(index))
        done = loratool("info", base, code=code)
        check(text in done.stderr, f"{text!r} not in {done.stderr!r}", "bad index")

    (work / "outside.safetensors").write_bytes((base / shard).read_bytes())
    expect(5, "not the name of a file beside it", **{first: "../outside.safetensors"})
    expect(5, "not the name of a file beside it", **{first: str(work / "outside.safetensors")})
    expect(5, "not the name of a file beside it", **{first: ".."})
    expect(5, "which does not hold it", **{"nowhere.weight": shard})
    expect(5, "which it does not list", **{first: None})
    expect(1, "No such file", **{first: "gone.safetensors"})
    for text in ("{}", '{"weight_map": {}}', '{"weight_map": []}', "[]", '{"weight_map": {"a": 1}}', "{"):
        path.write_text(text)
        check("index.json" in loratool("info", base, code=5).stderr, text, "bad index")
    path.unlink()
    found = {t["name"]: t["shape"] for t in report("info", base, "--tensors")["tensors"]}
    wanted = {name: list(tensor.shape) for name, tensor in read_shards(base)[0].items()}
    check(found == wanted, f"tensors {found.keys() ^ wanted.keys()}", "without an index")
    (base / shard).unlink()
    check("is missing and there is no index" in loratool("info", base, code=3).stderr, "missing shard",
          "without an index")


# ---- pipelines -----------------------------------------------------------------------

def check_pipeline(label, kind, outputs, base, adapter, work):
    """The folder, merged, loads and gives what the unmerged adapter gives."""
    merged = work / f"{label}-merged"
    made = report("merge", "--base", base, adapter, "-o", f"{merged}/", "--dtype", "f32")
    print(f"{label}: {made['modules_applied']} modules into a {made['family']} folder, "
          f"{made['files']} files")
    check(not made["unmatched"], f"unmatched {made['unmatched'][:3]}", label)
    check(names_in(merged) == names_in(base), f"files {set(names_in(merged)) ^ set(names_in(base))}", label)
    with caught() as messages:
        found = kind.from_pretrained(merged)
    check(not messages, f"warnings: {messages}", label)
    unmerged = kind.from_pretrained(base)
    before = outputs(unmerged)
    unmerged.load_lora_weights(adapter.parent, weight_name=adapter.name)
    expected, found = outputs(unmerged), outputs(found)
    for part in expected:
        effect = difference(before[part], expected[part])
        check(effect > 0.05, f"{part}: the outputs move by {effect:.3g} only", label)
        measured(difference(found[part], expected[part]), TOLERANCE, label, f"{part}, merged from unmerged")


def test_sd1_pipeline(work):
    base = work / "base"
    minis.load_sd(sd1.BASE).pipeline().save_pretrained(base)
    check_pipeline("sd1-trained", StableDiffusionPipeline, sd1.outputs, base, sd1.TRAINED, work)
    for dialect in ("kohya", "diffusers"):
        adapter = work / f"{dialect}.safetensors"
        extract(sd1.BASE, sd1.TUNED, adapter, "--rank", 8, "--dialect", dialect)
        check_pipeline(f"sd1-{dialect}", StableDiffusionPipeline, sd1.outputs, base, adapter, work)
    # Extracting from two folders gives the modules that two single files give.
    minis.load_sd(sd1.TUNED).pipeline().save_pretrained(work / "tuned")
    made = extract(base, work / "tuned", work / "folders.safetensors", "--rank", 8)
    files = load_file(work / "kohya.safetensors")
    check(load_file(work / "folders.safetensors").keys() == files.keys(), "other modules", "extract")
    check(made["family"] == "sd1", f"family {made['family']}", "extract")
    # One component alone.
    alone = report("info", base / "unet")
    check(alone["family"] == "sd1", f"family {alone['family']}", "U-Net alone")


def test_sdxl_pipeline(work):
    models = sdxl.build()
    base = work / "base"
    sdxl.pipeline_of(models).save_pretrained(base)
    single, tuned = sdxl.make_pair(work)
    for dialect in ("kohya", "diffusers"):
        adapter = work / f"{dialect}.safetensors"
        extract(single, tuned, adapter, "--rank", 12, "--dialect", dialect)
        check_pipeline(f"sdxl-{dialect}", StableDiffusionXLPipeline, sdxl.outputs, base, adapter, work)


def test_variants(work):
    """fp16 variants: the full weights are preferred; alone, the variant is read and written back."""
    base = work / "base"
    pipeline = minis.load_sd(sd1.BASE).pipeline().to(torch.float16)
    pipeline.save_pretrained(base, variant="fp16")
    check("unet/diffusion_pytorch_model.fp16.safetensors" in names_in(base), names_in(base), "variant")
    report("merge", "--base", base, sd1.TRAINED, "-o", f"{work}/merged/")
    check(names_in(work / "merged") == names_in(base), f"files {names_in(work / 'merged')}", "variant")
    StableDiffusionPipeline.from_pretrained(work / "merged", variant="fp16")
    full = base / "unet/diffusion_pytorch_model.safetensors"
    save_file({"only.weight": torch.ones(2, 2)}, full)
    names = [t["name"] for t in report("info", base, "--tensors")["tensors"] if t["name"].startswith("unet.")]
    check(names == ["unet.only.weight"], f"names {names[:3]}", "full weights first")
    full.unlink()
    shutil.copy(base / "unet/diffusion_pytorch_model.fp16.safetensors",
                base / "unet/diffusion_pytorch_model.bf16.safetensors")
    check("several models" in loratool("info", base, code=3).stderr, "two variants", "variant")


if __name__ == "__main__":
    run_tests(test_safetensors, test_bin, test_conversions, test_existing_folder, test_bad_indices,
              test_sd1_pipeline, test_sdxl_pipeline, test_variants)
