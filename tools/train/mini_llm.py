#!/usr/bin/env python3
"""Train the miniature LLaMA test models in testdata/mini-llm.

A byte-level LlamaForCausalLM is trained on the King James Bible (`base`), then
fine-tuned on the Jargon File twice: all weights (`tuned`) and a PEFT LoRA
(`lora`).  Both texts come from Debian packages and are in the public domain.

Needs: torch, transformers, peft, safetensors; apt-get and dpkg-deb; libreadline8
for the program that unpacks the Bible text.
"""

import argparse
import gzip
import subprocess
import tempfile
import unicodedata
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from minimise import minimise

SEED = 20261124
WINDOW = 256
EVAL_BYTES = 24 * 1024
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
RECIPES = {
    "base": {"steps": 1800, "batch": 16, "lr": 3e-3},
    "tuned": {"steps": 450, "batch": 16, "lr": 1e-3},
    "lora": {"steps": 450, "batch": 16, "lr": 4e-3},
}
CONFIG = LlamaConfig(
    vocab_size=256,
    hidden_size=128,
    intermediate_size=344,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=WINDOW,
    tie_word_embeddings=False,
    bos_token_id=None,
    eos_token_id=None,
)


def unpack_packages(names, into):
    """Download the named Debian packages and unpack them below `into`."""
    subprocess.run(["apt-get", "download", "-q", *names], cwd=into, check=True)
    for deb in Path(into).glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", deb, into], check=True)


def to_ascii(text):
    """Reduce typographic quotes and accents to ASCII; drop what has no ASCII form."""
    text = text.translate({0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"', 0x2013: "-", 0x2014: "-"})
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore")


def read_bible(root):
    """The whole King James Bible, wrapped at 80 columns by the packaged program."""
    command = [root / "usr/bin/bible", "-p", f"{root}/usr/lib/", "gen1:1-rev22:21"]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, check=True, env={"COLUMNS": "80"}
    ).stdout


def read_jargon(root):
    """The Jargon File's lexicon without the dictionary server's preamble."""
    text = gzip.decompress((root / "usr/share/dictd/jargon.dict.dz").read_bytes()).decode()
    return to_ascii(text[text.index("\n(TM)\n") + 1 :])


def fetch_texts():
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        unpack_packages(["bible-kjv", "bible-kjv-text", "dict-jargon"], root)
        return {"base": read_bible(root), "tuned": read_jargon(root)}


def split_text(text):
    """Cut a contiguous held-out part, whole lines only, from three fifths of the text."""
    start = text.index(b"\n", len(text) * 3 // 5) + 1
    end = text.index(b"\n", start + EVAL_BYTES - 80) + 1
    return text[:start] + text[end:], text[start:end]


def train(model, text, recipe, label):
    """Train the parameters of `model` that require gradients on next-byte prediction."""
    data = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
    generator = torch.Generator().manual_seed(SEED)

    def loss_of_step():
        starts = torch.randint(len(data) - WINDOW, (recipe["batch"],), generator=generator)
        tokens = torch.stack([data[start : start + WINDOW] for start in starts])
        return model(input_ids=tokens, labels=tokens).loss

    model.train()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    minimise(weights, recipe, label, loss_of_step, betas=(0.9, 0.98))


def save_full(model, folder):
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)


def train_base(text, out):
    model = LlamaForCausalLM(CONFIG)
    train(model, text, RECIPES["base"], "base")
    save_full(model, out / "base")


def train_tuned(text, out):
    model = LlamaForCausalLM.from_pretrained(out / "base", dtype=torch.float32)
    train(model, text, RECIPES["tuned"], "tuned")
    save_full(model, out / "tuned")


def train_lora(text, out):
    base = LlamaForCausalLM.from_pretrained(out / "base", dtype=torch.float32)
    config = LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules=TARGETS)
    model = get_peft_model(base, config)
    train(model, text, RECIPES["lora"], "lora")
    model.peft_config["default"].base_model_name_or_path = "mini-llm/base"
    model.save_pretrained(out / "lora", save_embedding_layers=False)
    (out / "lora/README.md").unlink(missing_ok=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("testdata/mini-llm"))
    parser.add_argument("--stages", nargs="+", default=["base", "tuned", "lora"], choices=list(RECIPES))
    args = parser.parse_args()
    torch.set_num_threads(2)
    args.out.mkdir(parents=True, exist_ok=True)
    training = {}
    for name, text in fetch_texts().items():
        training[name], held_out = split_text(text)
        (args.out / f"eval-{name}.txt").write_bytes(held_out)
    stages = {
        "base": lambda: train_base(training["base"], args.out),
        "tuned": lambda: train_tuned(training["tuned"], args.out),
        "lora": lambda: train_lora(training["tuned"], args.out),
    }
    for stage in args.stages:
        torch.manual_seed(SEED)
        stages[stage]()


if __name__ == "__main__":
    main()
