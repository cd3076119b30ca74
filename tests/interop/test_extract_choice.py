"""What extract carries, what it leaves out, and what it says about that."""

import re

from common import at_most, check, f64, loratool, read_modules, report, run_tests

import numpy as np
import torch
from safetensors.torch import load_file, save_file

LAYER = "model.layers.{}."
MATRICES = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.o_proj", "mlp.down_proj"]
LEFT_OUT = {  # tensors of the tuned model that change, and the reason to be given
    "model.layers.0.self_attn.q_proj.bias": "bias",
    "model.layers.1.input_layernorm.weight": "norm or vector",
    "model.embed_tokens.weight": "embedding",
    "model.position_ids": "not floating point",
    "model.old.weight": "only in the base",
    "model.new.weight": "only in the tuned model",
    "lm_head.weight": "shape changes from [40, 24] to [41, 24]",
}


def base_model():
    tensors = {LAYER.format(i) + f"{name}.weight": torch.randn(24, 24)
               for i in range(12) for name in MATRICES}
    for i in range(12):
        tensors[LAYER.format(i) + "input_layernorm.weight"] = torch.randn(24)
        tensors[LAYER.format(i) + "self_attn.q_proj.bias"] = torch.randn(24)
    tensors["model.embed_tokens.weight"] = torch.randn(40, 24)
    tensors["lm_head.weight"] = torch.randn(40, 24)
    tensors["model.position_ids"] = torch.arange(16).reshape(1, 16)
    tensors["model.old.weight"] = torch.randn(8, 8)
    return tensors


def changed_model(base):
    """All of LEFT_OUT changes, and the matrices of every even layer."""
    tuned = dict(base)
    for i in range(0, 12, 2):
        for name in MATRICES:
            key = LAYER.format(i) + f"{name}.weight"
            tuned[key] = base[key] + torch.randn(24, 24)
    for key in list(LEFT_OUT)[:3]:
        tuned[key] = base[key] + 3 * torch.randn(base[key].shape)
    tuned["model.position_ids"] = base["model.position_ids"] + 1
    tuned["model.new.weight"] = tuned.pop("model.old.weight")
    tuned["lm_head.weight"] = torch.randn(41, 24)
    return tuned


class Models:
    def __init__(self, folder):
        self.base = base_model()
        self.tuned = changed_model(self.base)
        self.paths = folder / "base.safetensors", folder / "tuned.safetensors"
        self.out = folder / "lora.safetensors"
        save_file(self.base, self.paths[0])
        save_file(self.tuned, self.paths[1])

    def arguments(self, *options):
        return ["extract", "--base", self.paths[0], "--tuned", self.paths[1], "-o", self.out,
                "-r", "4", *options]

    def extract(self, *options):
        return report(*self.arguments("-v", "-f", *options))

    def changed_matrices(self):
        return [LAYER.format(i) + f"{name}.weight" for i in range(0, 12, 2) for name in MATRICES]

    def energy(self, names):
        return sum(np.sum((f64(self.tuned[n]) - f64(self.base[n])) ** 2) for n in names)


def check_written(models, done, expected, what):
    """The report and the file both hold the expected modules and no others."""
    listed = {module["tensor"] for module in done["modules"]}
    check(listed == set(expected), f"{what}: wrote {sorted(listed ^ set(expected))} wrongly")
    stored = set(read_modules(models.out))
    names = {"base_model.model." + name[:-len(".weight")] for name in expected}
    check(stored == names, f"{what}: the file holds {sorted(stored ^ names)} wrongly")
    check(done["modules_written"] == len(names), f"{what}: count of written modules")


def check_share(models, done, carried, left, what):
    expected = models.energy(left) / (models.energy(carried) + models.energy(left))
    at_most(abs(done["skipped_share"] / expected - 1), 1e-6, "skipped_share", what)


def test_left_out(folder):
    """Changes that an adapter cannot carry are listed with a reason and weighed."""
    models = Models(folder)
    done = models.extract()
    carried = models.changed_matrices()
    check_written(models, done, carried, "all")
    reasons = {note["name"]: note["reason"] for note in done["modules_skipped"]}
    check(reasons == LEFT_OUT, f"reasons: {set(reasons.items()) ^ set(LEFT_OUT.items())}")
    check(len(reasons) == len(done["modules_skipped"]), "a tensor is listed twice")
    check(done["modules_unchanged"] == 24, f"{done['modules_unchanged']} unchanged, not 24")
    check_share(models, done, carried, list(LEFT_OUT)[:3], "all")
    shown = models.arguments("-v", "-f")
    text = loratool(*shown).stdout
    for name, reason in LEFT_OUT.items():
        check(f"{name}: {reason}" in text, f"{name} is not in the text report")


def check_filtered(models, options, keep):
    done = models.extract(*options)
    carried = [n for n in models.changed_matrices() if keep(n)]
    filtered = [n for n in models.changed_matrices() if not keep(n)]
    check_written(models, done, carried, " ".join(options))
    listed = {n["name"] for n in done["modules_skipped"] if n["reason"] == "filtered out"}
    check(listed == set(filtered), f"{options}: {sorted(listed ^ set(filtered))}", "filtered out")
    check_share(models, done, carried, filtered + list(LEFT_OUT)[:3], " ".join(options))


def test_filters(folder):
    """Regular expressions choose modules; several includes are alternatives."""
    models = Models(folder)
    for pattern in ("q_proj", r"layers\.1", r"layers\.(2|10)\..*_proj\.weight$", "^model", "mlp"):
        check_filtered(models, ["--include", pattern], lambda n: re.search(pattern, n))
        if pattern != "^model":
            check_filtered(models, ["--exclude", pattern], lambda n: not re.search(pattern, n))
    check_filtered(models, ["--include", "q_proj", "--include", "mlp", "--exclude", r"\.0\."],
                   lambda n: ("q_proj" in n or "mlp" in n) and ".0." not in n)
    check_filtered(models, ["--include", r"^base_model\..*o_proj$"], lambda n: "o_proj" in n)
    models.out.unlink()
    for options in (["--include", "no such module"], ["--exclude", "."]):
        loratool(*models.arguments(*options), code=3)
        check(not models.out.exists(), f"{options} left a file")
    loratool(*models.arguments("--include", "("), code=2)


def test_min_diff(folder):
    """A module whose largest change is not above the limit counts as unchanged."""
    models = Models(folder)
    steps = dict(zip(MATRICES, (0.125, 0.25, 0.5, 1.0)))
    base = {f"model.layers.0.{name}.weight": torch.randint(-4, 5, (24, 24)).float()
            for name in MATRICES}
    tuned = {n: t.clone() for n, t in base.items()}
    for name, step in steps.items():
        tuned[f"model.layers.0.{name}.weight"][5, 7] -= step
    models.base, models.tuned = base, tuned
    save_file(base, models.paths[0])
    save_file(tuned, models.paths[1])
    for limit in (0, 0.1249, 0.125, 0.3, 0.5, 0.9999):
        done = models.extract("--min-diff", str(limit))
        expected = [f"model.layers.0.{n}.weight" for n, step in steps.items() if step > limit]
        check_written(models, done, expected, f"min-diff {limit}")
        check(done["modules_unchanged"] == 4 - len(expected), f"min-diff {limit}: unchanged")
        check(done["skipped_share"] == 0, f"min-diff {limit}: share {done['skipped_share']}")
    models.out.unlink()
    loratool(*models.arguments("--min-diff", "1"), code=3)
    check(not models.out.exists(), "a file without modules was written")


def test_refusals(folder):
    """Equal models, too large an error and numbers that are none: no file is left."""
    models = Models(folder)
    same = models.arguments()
    same[4] = models.paths[0]
    done = loratool(*same, code=3)
    check("equal" in done.stderr, f"equal models: {done.stderr}")
    done = models.extract()
    loratool(*models.arguments("-f", "--max-error", str(done["error"] * 1.001)))
    models.out.unlink()
    loratool(*models.arguments("--max-error", str(done["error"] * 0.999)), code=4)
    for value in (float("nan"), float("inf")):
        tensors = load_file(models.paths[1])
        name = models.changed_matrices()[3]
        tensors[name][2, 3] = value
        save_file(tensors, models.paths[1])
        done = loratool(*models.arguments(), code=1)
        check(name in done.stderr, f"{value}: the message does not name the tensor")
    check(not models.out.exists(), "a refused extraction left a file")


torch.manual_seed(5)
run_tests(test_left_out, test_filters, test_min_diff, test_refusals)
