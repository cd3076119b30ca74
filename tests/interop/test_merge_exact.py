"""merge against W + sum of weight * scale * up @ down in float64, rounded once."""

import json

from common import (DTYPES, at_most, check, f64, flat, loratool, product, read_modules, report,
                    run_tests, tensor_bytes)
from samples import LINEAR, SD_MODULES, factors, sd_base, write_kohya

import numpy as np
import torch
from safetensors.torch import load_file, save_file

LLAMA = "model.layers.0."
LLAMA_MODULES = {
    f"{LLAMA}self_attn.q_proj.weight": (160, 96), f"{LLAMA}self_attn.v_proj.weight": (32, 96),
    f"{LLAMA}self_attn.o_proj.weight": (96, 160), f"{LLAMA}mlp.down_proj.weight": (96, 512),
    "lm_head.weight": (600, 96),
}
DIGITS = {torch.float16: (11, -13), torch.bfloat16: (8, -125)}  # significant bits, least exponent


# ---- bases and adapters --------------------------------------------------------------

def llama_base(dtype):
    tensors = {name: torch.randn(shape) for name, shape in LLAMA_MODULES.items()}
    tensors[f"{LLAMA}input_layernorm.weight"] = torch.ones(96)
    return {n: t.to(dtype) for n, t in tensors.items()}


def write_peft(folder, dtype, config, ranks):
    folder.mkdir()
    tensors = {}
    for name, shape in LLAMA_MODULES.items():
        module = name[:-len(".weight")]
        parts = factors(shape, LINEAR, ranks[module.split(".")[-1]], dtype, False)
        tensors[f"base_model.model.{module}.lora_A.weight"] = parts["down"]
        tensors[f"base_model.model.{module}.lora_B.weight"] = parts["up"]
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", **config}))
    return folder


def kohya_deltas(path):
    modules = read_modules(path)
    return {name: product(modules[module]) for name, (_, module, _) in SD_MODULES.items()}


def peft_deltas(folder, scales):
    modules = read_modules(folder / "adapter_model.safetensors")
    return {name: product(modules["base_model.model." + name[:-len(".weight")]],
                          scales[name.split(".")[-2]]) for name in LLAMA_MODULES}


# ---- the reference -------------------------------------------------------------------

def round_once(values, dtype):
    """float64 to the nearest value of dtype, ties to even; no step in between."""
    if dtype not in DIGITS:
        return torch.from_numpy(values).to(dtype)
    bits, least = DIGITS[dtype]
    exponent = np.maximum(np.frexp(values)[1], least) - bits
    return torch.from_numpy(np.ldexp(np.rint(np.ldexp(values, -exponent)), exponent)).to(dtype)


def check_tensor(name, got, weight, delta, dtype, group):
    """No other number of the dtype is nearer to the exact sum, but for float64's own noise."""
    what = f"{name} to {dtype}"
    if not check(got.dtype == dtype and got.shape == weight.shape, f"{what}: type", group):
        return
    exact = flat(f64(weight)) + delta
    size = np.abs(flat(f64(weight))) + np.abs(delta) + 1e-300
    away = np.abs(flat(f64(got)) - exact)
    if dtype == torch.float32:
        group, unit = f"{group}, f32, in 2^-22 (|W| + |dW|)", 2.0 ** -22
    else:
        away -= np.abs(f64(round_once(exact, dtype)) - exact)
        group, unit = f"{group}, 16 bits beyond the nearest, in 2^-45 (|W| + |dW|)", 2.0 ** -45
    at_most(float((away / size).max() / unit), 1.0, group, what)


def check_merged(base, out, parts, dtype, group):
    """parts: list of (weight, deltas by tensor).  dtype None: each tensor's own."""
    before, after = load_file(base), load_file(out)
    check(before.keys() == after.keys(), "tensor names changed", group)
    for name, tensor in before.items():
        target = dtype if dtype and tensor.is_floating_point() else tensor.dtype
        if name in parts[0][1]:
            delta = sum(weight * deltas[name] for weight, deltas in parts)
            check_tensor(name, after[name], tensor, delta, target, group)
        else:
            same = tensor_bytes(after[name]) == tensor_bytes(tensor.to(target))
            check(same and after[name].dtype == target, f"{name} is not carried over", group)


def merge(base, out, *operands):
    done = report("merge", "--base", base, *operands, "-o", out, "-f")
    check(done["unmatched"] == [], f"unmatched: {done['unmatched']}")
    return done


# ---- tests ---------------------------------------------------------------------------

def test_kohya(folder):
    """Linear, 1x1, 3x3 and Tucker modules in either storage, each precision and weight."""
    out, a, b = (folder / f"{n}.safetensors" for n in ("out", "a", "b"))
    write_kohya(a, torch.float16, (4, 1, 32, 128), False)
    write_kohya(b, torch.bfloat16, (3, 16, 8), True)
    first, second = kohya_deltas(a), kohya_deltas(b)
    for name, dtype in DTYPES.items():
        base = folder / f"base-{name}.safetensors"
        save_file(sd_base(dtype), base)
        for weight in (1, 0.5, -0.7):
            done = merge(base, out, f"{a}:{weight}")
            check(done["family"] == "sd1" and done["tensors_changed"] == len(SD_MODULES), "family")
            check_merged(base, out, [(weight, first)], None, f"kohya {name}")
        merge(base, out, a, f"{b}:-0.7", f"{a}:0.5")
        check_merged(base, out, [(1.5, first), (-0.7, second)], None, f"several {name}")
        for target, to in DTYPES.items():
            merge(base, out, b, "--dtype", target)
            check_merged(base, out, [(1, second)], to, f"--dtype {target}")


def test_peft(folder):
    """A folder's scale is lora_alpha / r, or / sqrt(r), by module."""
    ranks = {"q_proj": 8, "v_proj": 8, "o_proj": 128, "down_proj": 1, "lm_head": 8}
    config = {"r": 8, "lora_alpha": 20, "rank_pattern": {"o_proj": 128, "mlp.down_proj": 1},
              "alpha_pattern": {r"^model\.layers\.0\.self_attn\.o_proj": 5}}
    for rslora in (False, True):
        lora = write_peft(folder / f"lora-{rslora}", torch.float32,
                          {**config, "use_rslora": rslora}, ranks)
        alphas = {name: 5 if name == "o_proj" else 20 for name in ranks}
        scales = {n: alphas[n] / (r ** 0.5 if rslora else r) for n, r in ranks.items()}
        for name, dtype in DTYPES.items():
            base, out = folder / "base.safetensors", folder / "out.safetensors"
            save_file(llama_base(dtype), base)
            merge(base, out, f"{lora}:0.3")
            check_merged(base, out, [(0.3, peft_deltas(lora, scales))], None, f"PEFT {name}")


def test_unmerge(folder):
    """Merging and taking away again in f32 returns the base up to rounding."""
    base, lora, there, back = (folder / f"{n}.safetensors" for n in "blmu")
    save_file(sd_base(torch.float32), base)
    deltas = kohya_deltas(write_kohya(lora, torch.float32, (4, 32), False))
    merge(base, there, f"{lora}:0.8")
    merge(there, back, f"{lora}:-0.8")
    before, after = load_file(base), load_file(back)
    for name, delta in deltas.items():
        weight = flat(f64(before[name]))
        away = np.abs(flat(f64(after[name])) - weight)
        allowed = 2.0 ** -22 * (np.abs(weight) + np.abs(0.8 * delta))
        at_most(float((away / allowed).max()), 1, "un-merge, in 2^-22 (|W| + |dW|)", name)


def test_ties(folder):
    """Sums halfway between two numbers go to the even one."""
    base, lora, out = (folder / f"{n}.safetensors" for n in ("base", "lora", "out"))
    name, module = f"{LLAMA}self_attn.o_proj.weight", f"base_model.model.{LLAMA}self_attn.o_proj"
    for dtype, (bits, _) in DIGITS.items():
        even = 2 ** bits + 2 * torch.arange(64).reshape(8, 8)  # their distance is 2
        save_file({**llama_base(dtype), name: even.to(dtype)}, base)
        save_file({f"{module}.lora_A.weight": torch.ones(1, 8),
                   f"{module}.lora_B.weight": torch.ones(8, 1)}, lora)
        merge(base, out, lora)
        expected = (even + even % 4).to(dtype)
        check(torch.equal(load_file(out)[name], expected), f"ties in {dtype}")


def test_refusals(folder):
    """Overflow and NaN are errors that name the tensor; no file is left."""
    base, lora, out = (folder / f"{n}.safetensors" for n in ("base", "lora", "out"))
    name, (_, module, _) = next(iter(SD_MODULES.items()))
    tensors = sd_base(torch.float16)
    tensors[name][5, 6] = 65504
    save_file(tensors, base)
    write_kohya(lora, torch.float32, (4,), False)
    factors_of = load_file(lora)
    factors_of[f"{module}.lora_up.weight"][5] = 100
    factors_of[f"{module}.lora_down.weight"][:, 6] = 100
    save_file(factors_of, lora)
    cases = [(["--dtype", "keep"], name), (["--dtype", "bf16"], None)]
    for options, named in cases:
        done = loratool("merge", "--base", base, lora, "-o", out, *options, code=1 if named else 0)
        check(not named or named in done.stderr, f"{options}: {done.stderr}", "overflow")
        check(out.exists() != bool(named), f"{options}: the output", "overflow")
    out.unlink()
    for value in (float("nan"), float("inf")):
        factors_of[f"{module}.lora_down.weight"][1, 2] = value
        save_file(factors_of, lora)
        done = loratool("merge", "--base", base, lora, "-o", out, "--dtype", "f32", code=1)
        check(f"{module}.lora_down.weight" in done.stderr, f"{value}: {done.stderr}", "not finite")
        check(not out.exists(), f"{value}: a file is left", "not finite")


torch.manual_seed(6)
run_tests(test_kohya, test_peft, test_unmerge, test_ties, test_refusals)
