"""resize against the best possible: the singular value decomposition in float64."""

import json
import sys

from common import RawFile, at_most, check, product, read_modules, report, run_tests
from samples import SD_MODULES, write_kohya

import numpy as np
import torch
from safetensors.torch import load_file, save_file

try:
    from peft import LoraConfig
    from peft.utils.other import get_pattern_key
except ImportError as absent:
    print(f"skipped: {absent}")
    sys.exit(77)

PREFIX = "base_model.model."
LLAMA = {"model.layers.0.self_attn.q_proj": (160, 96), "model.layers.1.self_attn.q_proj": (160, 96),
         "model.layers.11.self_attn.q_proj": (96, 160), "model.layers.1.mlp.down_proj": (96, 300),
         "lm_head": (400, 96)}
METADATA = {"ss_network_dim": "64", "ss_network_alpha": "9.0", "ss_network_module": "networks.lora",
            "ss_network_args": '{"conv_dim": "64", "conv_alpha": "9", "preset": "full"}',
            "ss_seed": "42", "ss_tag_frequency": '{"a/b": {"naïve \\"x\\"": 3}}', "other": "kept"}


# ---- what is required of every module ------------------------------------------------

class Adapter:
    """The modules of a file with their products and spectra in float64."""

    def __init__(self, modules, scale):
        self.modules, self.scale = modules, scale
        self.matrices = {name: product(m, scale(name)) for name, m in modules.items()}
        self.sigma = {name: np.linalg.svd(m, compute_uv=False)
                      for name, m in self.matrices.items()}

    def rank(self, name):
        return self.modules[name]["down"].shape[0]

    def highest_rank(self, name):
        return min(self.rank(name), *self.matrices[name].shape)


class Measured:
    """One module before and after; after is its stored product in float64."""

    def __init__(self, before, name, after, rank):
        sigma = before.sigma[name]
        self.norm = np.linalg.norm(sigma)
        self.error = np.linalg.norm(before.matrices[name] - after)
        self.best = np.linalg.norm(sigma[rank:])
        self.retained = np.sum(sigma[:rank] ** 2) / self.norm ** 2


def check_module(name, module, measured, group, is_f32):
    relative = measured.error / measured.norm
    at_most(abs(module["error"] - relative), 0.01 * relative + 1e-6, "reported module error", name)
    at_most(abs(module["retained"] - measured.retained), 1e-9, "reported retained", name)
    at_most(abs(module["norm"] / measured.norm - 1), 1e-9, "reported norm", name)
    if is_f32:
        at_most(measured.error - measured.best, 0.001 * measured.best + 2e-6 * measured.norm,
                group, f"excess over the best, {name}")


def check_totals(done, measured):
    norm = np.linalg.norm([m.norm for m in measured.values()])
    error = np.linalg.norm([m.error for m in measured.values()]) / norm
    retained = sum(m.retained * m.norm ** 2 for m in measured.values()) / norm ** 2
    worst = max(m.error / m.norm for m in measured.values())
    at_most(abs(done["error"] - error), 0.01 * error + 1e-6, "reported total error", "total")
    at_most(abs(done["retained"] - retained), 1e-9, "reported total retained", "total")
    at_most(abs(done["worst"]["error"] - worst), 0.01 * worst + 1e-6, "reported worst", "worst")
    ranks = [m["rank"] for m in done["modules"]]
    check(done["rank"] == {"min": min(ranks), "max": max(ranks)}, f"rank {done['rank']}")


def check_resized(done, before, after, scale, rank_of, group):
    """before: an Adapter; after: stored modules, with their scale by name."""
    names = {m["name"] for m in done["modules"]}
    check(before.modules.keys() == after.keys() == names, "modules differ", group)
    results = {}
    for module in done["modules"]:
        name, stored = module["name"], after[module["name"]]
        rank = min(rank_of(name), before.highest_rank(name))
        check(stored["down"].shape[0] == module["rank"] == rank, f"{name}: rank {module['rank']}",
              group)
        check(module["rank_before"] == before.rank(name), f"{name}: rank before", group)
        results[name] = Measured(before, name, product(stored, scale(name)), rank)
        check_module(name, module, results[name], group, stored["down"].dtype == torch.float32)
    check_totals(done, results)


def stored_scale(modules):
    return lambda name: float(modules[name]["alpha"]) / modules[name]["down"].shape[0]


def decay(path, metadata):
    """Give the modules of a file a decaying spectrum, and the file metadata."""
    tensors = load_file(path)
    for name, tensor in tensors.items():
        if name.endswith((".lora_down.weight", ".lora_A.weight")):
            weights = 0.85 ** torch.arange(len(tensor), dtype=torch.float64)
            shaped = weights.reshape(-1, *[1] * (tensor.ndim - 1))
            tensors[name] = (tensor.double() * shaped).to(tensor.dtype)
    save_file(tensors, path, metadata)


# ---- kohya files ---------------------------------------------------------------------

def kohya_file(path, dtype, ranks, stored_flat=False):
    decay(write_kohya(path, dtype, ranks, stored_flat), METADATA)
    modules = read_modules(path)
    return Adapter(modules, stored_scale(modules))


def test_kohya(folder):
    """Linear, 1x1, 3x3 and Tucker modules; each module's scale is kept."""
    lora, out = folder / "lora.safetensors", folder / "out.safetensors"
    for dtype in (torch.float32, torch.float16):
        for stored_flat in (False, True):
            before = kohya_file(lora, dtype, (64, 40, 100), stored_flat)
            for options in ([], ["--dtype", "f32"], ["--dtype", "bf16"], ["--split", "up"]):
                for rank in (1, 8, 32):
                    done = report("resize", lora, "-r", rank, "-o", out, "-f", "-v", *options)
                    after = read_modules(out)
                    scale = stored_scale(after)
                    check_resized(done, before, after, scale, lambda name: rank, "kohya")
                    for name in after:
                        at_most(abs(scale(name) / before.scale(name) - 1), 2e-7, "scale is kept",
                                name)


def test_conv_rank_and_alpha(folder):
    """--conv-rank is for kernels larger than one; --alpha is what every module then has."""
    lora, out = folder / "lora.safetensors", folder / "out.safetensors"
    before = kohya_file(lora, torch.float32, (64, 40))
    kernels = {module for shape, module, _ in SD_MODULES.values() if shape[2:] == (3, 3)}
    done = report("resize", lora, "-r", 20, "--conv-rank", 6, "--alpha", "2.5", "-o", out, "-v")
    after = read_modules(out)
    check_resized(done, before, after, stored_scale(after),
                  lambda name: 6 if name in kernels else 20, "conv rank and alpha")
    check({float(m["alpha"]) for m in after.values()} == {2.5}, "--alpha is not stored")
    meta = RawFile(out).metadata
    check(float(meta["ss_network_alpha"]) == 2.5 and meta["ss_network_dim"] == "20", f"{meta}")
    arguments = json.loads(meta["ss_network_args"])
    check(float(arguments["conv_dim"]) == 6 and float(arguments["conv_alpha"]) == 2.5
          and arguments["preset"] == "full", f"{arguments}")
    # Modules below the rank keep it, but get the alpha too.
    done = report("resize", lora, "-r", 50, "--alpha", "2.5", "-o", out, "-v", "-f")
    after = read_modules(out)
    check_resized(done, before, after, stored_scale(after),
                  lambda name: 50, "alpha of all")
    check({float(m["alpha"]) for m in after.values()} == {2.5}, "--alpha is not stored everywhere")


def test_kept_modules(folder):
    """Modules not above the rank are carried over byte for byte, a Tucker core included."""
    lora, out = folder / "lora.safetensors", folder / "out.safetensors"
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        before = kohya_file(lora, dtype, (4, 16, 8))
        raw = RawFile(lora)
        for rank in (4, 8, 16, 99):
            done = report("resize", lora, "-r", rank, "-o", out, "-f", "-v")
            kept = {name for name in before.modules if before.rank(name) <= rank}
            check(done["modules_unchanged"] == len(kept), f"{done['modules_unchanged']} unchanged")
            check(done["modules_written"] == len(before.modules) - len(kept), "modules written")
            for name in raw.entries:
                if name.split(".")[0] in kept:
                    check(RawFile(out).bytes_of(name) == raw.bytes_of(name), f"{name} changed",
                          "carried over")
            check_dim(RawFile(out).metadata, out)


def check_dim(meta, path):
    """ss_network_dim and _alpha are those of the linear modules, everything else is kept."""
    kernels = {module for shape, module, _ in SD_MODULES.values() if shape[2:] == (3, 3)}
    linear = [m for n, m in read_modules(path).items() if n not in kernels]
    dims, alphas = {m["down"].shape[0] for m in linear}, {float(m["alpha"]) for m in linear}
    dim = str(*dims) if len(dims) == 1 else "Dynamic"
    check(meta["ss_network_dim"] == dim, f"ss_network_dim {meta['ss_network_dim']}, not {dim}")
    check(len(alphas) > 1 and meta["ss_network_alpha"] == "Dynamic", "ss_network_alpha")
    kept = {k: v for k, v in METADATA.items() if not k.startswith("ss_network_")}
    check(kept.items() <= meta.items(), f"metadata lost: {kept.items() - meta.items()}")


# ---- PEFT folders --------------------------------------------------------------------

def peft_folder(folder, config, ranks, dtype):
    folder.mkdir()
    tensors = {}
    for (path, (out, columns)), rank in zip(LLAMA.items(), ranks):
        tensors[f"{PREFIX}{path}.lora_A.weight"] = torch.randn(rank, columns).to(dtype)
        tensors[f"{PREFIX}{path}.lora_B.weight"] = torch.randn(out, rank).to(dtype)
    save_file(tensors, folder / "adapter_model.safetensors")
    decay(folder / "adapter_model.safetensors", {"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(config))
    modules = read_modules(folder / "adapter_model.safetensors")
    return Adapter(modules, peft_scale(folder, modules))


def peft_scale(folder, modules):
    """Scale of each module as PEFT works it out from the configuration."""
    config = LoraConfig.from_pretrained(folder)

    def scale(name):
        path = name[len(PREFIX):]
        rank = config.rank_pattern.get(get_pattern_key(config.rank_pattern, path), config.r)
        alpha = config.alpha_pattern.get(get_pattern_key(config.alpha_pattern, path),
                                         config.lora_alpha)
        check(rank == modules[name]["down"].shape[0], f"{path}: the config says {rank}", "config")
        return alpha / (rank ** 0.5 if config.use_rslora else rank)
    return scale


def test_peft(folder):
    """The configuration written gives each module its old scale at its new rank."""
    for rslora in (False, True):
        for dtype in (torch.float32, torch.float16):
            config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 32, "lora_alpha": 12,
                      "rank_pattern": {"layers.1.self_attn.q_proj": 6, "lm_head": 80},
                      "alpha_pattern": {"down_proj": 5}, "use_rslora": rslora,
                      "target_modules": ["q_proj", "down_proj", "lm_head"], "lora_dropout": 0.05}
            lora = folder / f"lora-{rslora}-{dtype}"
            before = peft_folder(lora, config, (32, 6, 32, 32, 80), dtype)
            for rank in (2, 6, 16, 50, 200):
                check_peft(lora, folder / f"out-{rslora}-{dtype}-{rank}", before, rank)
                plain = folder / "plain.safetensors"  # has no alpha: the factors take the scale
                done = report("resize", lora, "-o", plain, "-r", rank, "-v", "-f")
                check_resized(done, before, read_modules(plain), lambda name: 1,
                              lambda name: rank, "PEFT factors in a plain file")


def check_peft(lora, out, before, rank):
    done = report("resize", lora, "-o", f"{out}/", "-r", rank, "-v")
    after = read_modules(out / "adapter_model.safetensors")
    check_resized(done, before, after, peft_scale(out, after), lambda name: rank, "PEFT")
    config = LoraConfig.from_pretrained(out)
    check(config.lora_dropout == 0.05 and config.task_type == "CAUSAL_LM", "config fields lost")
    for path in LLAMA:
        check(any(f".{path}".endswith(f".{target}") for target in config.target_modules),
              f"{path} is no target", "config")


torch.manual_seed(7)
run_tests(test_kohya, test_conv_rank_and_alpha, test_kept_modules, test_peft)
