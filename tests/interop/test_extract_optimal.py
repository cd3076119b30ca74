"""extract against the best possible: the singular value decomposition in float64."""

import json

from common import (DTYPES, SOURCE, at_most, check, f64, flat, product, read_modules, report,
                    run_tests)

import numpy as np
import torch
from safetensors.torch import load_file, save_file

ROOT = "base_model.model."


# ---- pairs of models -----------------------------------------------------------------

def with_spectrum(rows, columns, sigma):
    """A random matrix with these singular values."""
    u = np.linalg.qr(np.random.randn(rows, len(sigma)))[0]
    v = np.linalg.qr(np.random.randn(columns, len(sigma)))[0]
    return (u * sigma) @ v.T


def whole_numbers(rows, columns, rank):
    """Of exactly that rank in every dtype."""
    return (np.random.randint(-2, 3, (rows, rank)) @ np.random.randint(-2, 3, (rank, columns)))


def zero_rows():
    delta = np.random.randn(90, 70)
    delta[10:75] = 0
    return delta


def generated_deltas():
    """Name -> (delta, size of the base's weights)."""
    normal = np.random.randn
    deltas = {
        "tall": normal(700, 60), "wide": normal(50, 900), "square": normal(256, 256),
        "one": normal(1, 1), "tiny": normal(3, 5), "row": normal(1, 40),
        "column": normal(40, 1), "big": normal(1500, 600) * 0.01,
        "big_wide": with_spectrum(300, 1500, 0.9 ** np.arange(300)),
        "big_tall": with_spectrum(900, 400, 1 / (1 + np.arange(400.0))),
        "conv1x1": normal(64, 48, 1, 1), "conv3x3": normal(40, 24, 3, 3),
        "conv1d": normal(48, 20, 5), "conv3d": normal(16, 12, 3, 3, 3),
        "exact": whole_numbers(200, 150, 5), "exact_wide": whole_numbers(100, 400, 3),
        "flat": with_spectrum(160, 160, np.ones(160)),
        "flat_tall": with_spectrum(600, 500, np.ones(500)),
        "steep": with_spectrum(200, 180, np.logspace(0, -6, 180)),
        "steep_wide": with_spectrum(450, 900, np.logspace(0, -6, 450)), "zeros": zero_rows(),
    }
    sizes = {name: 0 if name.startswith("exact") else 0.5 for name in deltas}
    deltas.update(small=1e-6 * normal(120, 80), large=1e3 * normal(120, 80))
    sizes.update(small=5e-7, large=500)
    return {f"blocks.{name}.weight": (delta, sizes[name]) for name, delta in deltas.items()}


def write_generated(folder, base_dtype, tuned_dtype):
    base, tuned = {}, {}
    for name, (delta, size) in generated_deltas().items():
        weight = size * np.random.randn(*delta.shape)
        base[name] = torch.from_numpy(weight).to(base_dtype)
        tuned[name] = torch.from_numpy(f64(base[name]) + delta).to(tuned_dtype)
    paths = folder / "base.safetensors", folder / "tuned.safetensors"
    save_file(base, paths[0])
    save_file(tuned, paths[1])
    return paths


class Pair:
    """A base and a tuned file; the change of each tensor as stored, and its spectrum."""

    def __init__(self, base, tuned, transposed=()):
        self.base, self.tuned = base, tuned
        old, new = load_file(base), load_file(tuned)
        self.deltas = {n: flat(f64(new[n]) - f64(old[n])) for n in old if old[n].ndim > 1}
        self.kernels = {n for n, t in old.items() if t.ndim > 2 and t[0, 0].numel() > 1}
        for name in transposed:
            self.deltas[name] = self.deltas[name].T
        self.sigma = {}

    def best(self, name, rank):
        if name not in self.sigma:
            self.sigma[name] = np.linalg.svd(self.deltas[name], compute_uv=False)
        return np.linalg.norm(self.sigma[name][rank:])

    def extract(self, out, *options):
        return report("extract", "--base", self.base, "--tuned", self.tuned, "-o", out, "-f",
                      "-v", *options)


# ---- what is required of every adapter -----------------------------------------------

def check_reported(done, errors, norms, what):
    """The report's figures are those of the factors in the file."""
    for module in done["modules"]:
        name, measured = module["tensor"], errors[module["tensor"]] / norms[module["tensor"]]
        at_most(abs(module["error"] - measured), 0.01 * measured + 1e-6, "reported module error",
                f"{name} {what}")
        at_most(abs(module["norm"] / norms[name] - 1), 1e-6, "reported norm", f"{name} {what}")
    measured = np.linalg.norm(list(errors.values())) / np.linalg.norm(list(norms.values()))
    at_most(abs(done["error"] - measured), 0.01 * measured + 1e-6, "reported total error", what)
    worst = max(errors[n] / norms[n] for n in errors)
    at_most(abs(done["worst"]["error"] - worst), 0.01 * worst + 1e-6, "reported worst", what)
    listed = {m["name"]: m["error"] for m in done["modules"]}
    check(listed[done["worst"]["module"]] == max(listed.values()), f"worst module, {what}")


def check_adapter(pair, path, done, rank, what, group=None):
    """Reported errors are true; with a group, every module is as good as its rank allows."""
    modules = read_modules(path)
    errors, norms = {}, {}
    check(len(done["modules"]) == len(modules) == done["modules_written"], f"{what}: modules")
    for module in done["modules"]:
        name, stored = module["tensor"], modules[module["name"]]
        delta = pair.deltas[name]
        wanted = min(rank, *delta.shape)
        check(stored["down"].shape[0] == module["rank"] == wanted, f"{name} {what}: rank")
        norms[name] = np.linalg.norm(delta)
        errors[name] = np.linalg.norm(delta - product(stored))
        if group:
            best = pair.best(name, wanted)
            at_most(errors[name] - best, 0.001 * best + 2e-6 * norms[name], group,
                    f"excess over the best, {name} {what}")
    check_reported(done, errors, norms, what)
    check(done["rank"] == {"min": min(m["rank"] for m in done["modules"]),
                           "max": max(m["rank"] for m in done["modules"])}, f"{what}: rank")


def check_pair(pair, folder, ranks, group, dialects):
    path = folder / "lora.safetensors"
    for rank in ranks:
        for dialect in dialects:
            for dtype in DTYPES:
                done = pair.extract(path, "-r", rank, "--dtype", dtype, "--dialect", dialect)
                check(done["dtype"] == dtype.upper(), "dtype")
                check_adapter(pair, path, done, rank, f"(rank {rank}, {dialect}, {dtype})",
                              group if dtype == "f32" else None)


# ---- tests ---------------------------------------------------------------------------

def test_mini_llm(folder):
    """A really trained language model."""
    llm = SOURCE / "testdata/mini-llm"
    pair = Pair(llm / "base/model.safetensors", llm / "tuned/model.safetensors")
    check_pair(pair, folder, (1, 16, 1000), "mini-llm", ("auto",))


def test_mini_sd(folder):
    """A really trained Stable Diffusion, with convolutions and a text encoder."""
    sd = SOURCE / "testdata/mini-sd"
    if not (sd / "tuned.safetensors").exists():
        print("mini-sd is absent: its pair is not tested")
        return
    pair = Pair(sd / "base.safetensors", sd / "tuned.safetensors")
    check_pair(pair, folder, (4,), "mini-sd", ("auto", "diffusers"))
    path = folder / "conv.safetensors"
    done = pair.extract(path, "-r", 6, "--conv-rank", 2)
    for module in done["modules"]:
        wanted = 2 if module["tensor"] in pair.kernels else 6
        wanted = min(wanted, *pair.deltas[module["tensor"]].shape)
        check(module["rank"] == wanted, f"{module['tensor']}: rank {module['rank']}", "conv rank")


def test_generated(folder):
    """Awkward shapes and spectra in each precision."""
    dtypes = [(torch.float32, torch.float32), (torch.float16, torch.float16),
              (torch.bfloat16, torch.bfloat16), (torch.float16, torch.float32)]
    for base_dtype, tuned_dtype in dtypes:
        np.random.seed(3)
        pair = Pair(*write_generated(folder, base_dtype, tuned_dtype))
        dialects = ("peft", "kohya") if base_dtype == torch.float32 else ("peft",)
        ranks = (1, 24) if base_dtype == torch.float32 else (24,)
        group = f"generated {base_dtype} to {tuned_dtype}".replace("torch.", "")
        check_pair(pair, folder, ranks, group, dialects)
        path = folder / "full.safetensors"
        done = pair.extract(path, "-r", 5000, "--dtype", "f32")
        check_adapter(pair, path, done, 5000, "(full rank)", group + ", full rank")


def test_alpha_and_split(folder):
    """Alpha changes how a product is stored, not what it is; split up keeps down orthonormal."""
    np.random.seed(4)
    pair = Pair(*write_generated(folder, torch.float32, torch.float32))
    path = folder / "lora.safetensors"
    for options in (["--alpha", "3"], ["--split", "up"], ["--alpha", "0.3", "--split", "up"]):
        done = pair.extract(path, "-r", 8, "--dtype", "f32", "--dialect", "kohya", *options)
        check_adapter(pair, path, done, 8, " ".join(options), " ".join(options))
        for name, module in read_modules(path).items():
            rank = module["down"].shape[0]
            alpha = float(options[1]) if "--alpha" in options else rank
            at_most(abs(float(module["alpha"]) / alpha - 1), 1e-7, "stored alpha", name)
            if "--split" in options:
                down = flat(f64(module["down"]))[:3]  # further rows may be zero: 'exact' has rank 3
                away = np.abs(down @ down.T - np.eye(len(down))).max()
                at_most(away, 1e-5, "down factor is orthonormal", f"{name} {options}")


def test_gpt2(folder):
    """Transposed weights: the adapter is for the product as the layer computes it."""
    shapes = {"attn.c_attn": (32, 96), "attn.c_proj": (32, 32), "mlp.c_fc": (32, 128),
              "mlp.c_proj": (128, 32)}
    base = {f"h.0.{name}.weight": torch.randn(shape) for name, shape in shapes.items()}
    names = list(base)
    base.update({"wpe.weight": torch.randn(16, 32), "h.0.ln_1.weight": torch.ones(32)})
    tuned = {n: t + torch.randn(t.shape) if n in names else t for n, t in base.items()}
    files = folder / "base.safetensors", folder / "tuned.safetensors"
    save_file(base, files[0])
    save_file(tuned, files[1])
    pair = Pair(*files, transposed=names)
    done = pair.extract(str(folder / "peft") + "/", "-r", 7, "--dtype", "f32")
    check(done["family"] == "gpt2" and done["modules_written"] == 4, "GPT-2 is recognised")
    check_adapter(pair, folder / "peft/adapter_model.safetensors", done, 7, "(GPT-2)", "GPT-2")
    config = json.loads((folder / "peft/adapter_config.json").read_text())
    check(config["fan_in_fan_out"] is True, "fan_in_fan_out is not set")


torch.manual_seed(2)
run_tests(test_mini_llm, test_mini_sd, test_generated, test_alpha_and_split, test_gpt2)
