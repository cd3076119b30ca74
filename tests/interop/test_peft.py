#!/usr/bin/env python3
"""PEFT loads what loratool writes, and loratool merges what PEFT writes, with equal results."""

from common import best_error, check, loratool, product, read_modules, report, run_tests
from consumers import (
    DATA, caught, difference, extract, keys_of, measured, merge, perturb, same_set,
)

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from transformers import (
    AutoModel, AutoModelForCausalLM, BertConfig, BertModel, GPT2Config, GPT2LMHeadModel,
    GPTNeoXConfig, GPTNeoXForCausalLM, Phi3Config, Phi3ForCausalLM, T5Config, T5EncoderModel,
)

MINI = DATA / "mini-llm"
LORA = MINI / "lora"
WEIGHTS = "model.safetensors"
ADAPTER = "adapter_model.safetensors"
OUTPUT_TOLERANCE = 1e-5  # float32 arithmetic, relative to the largest output


def load(folder, auto_class=AutoModelForCausalLM):
    """A model from a folder in float32; its file has to hold exactly its tensors."""
    model, info = auto_class.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        check(not info[kind], f"{folder.name}: {kind} {info[kind]}", "transformers")
    return model.eval()


def load_merged(base, adapters, folder, auto_class=AutoModelForCausalLM):
    """Merge with loratool into a model folder and load it."""
    merge(base / WEIGHTS, adapters, folder / WEIGHTS)
    (folder / "config.json").write_bytes((base / "config.json").read_bytes())
    return load(folder, auto_class)


def load_adapter(model, folder, label):
    """Wrap a model with PEFT; nothing may be missing, unexpected or warned of."""
    with caught() as messages:
        wrapped = PeftModel.from_pretrained(model, folder).eval()
    check(not messages, f"PEFT warns: {messages}", label)
    held = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    same_set(held, keys_of(folder / ADAPTER), label, "tensors of the file that PEFT holds")
    return wrapped


@torch.no_grad()
def outputs(model):
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(model.config.vocab_size, (4, 24), generator=generator)
    return model(input_ids=tokens)[0]


def lora_layers(model):
    return [module for module in model.modules() if isinstance(module, LoraLayer)]


def compare_outputs(label, base, wrapped, merged):
    """PEFT's outputs are the merged model's, and far from the base's."""
    expected = outputs(merged)
    effect = difference(outputs(base), expected)
    print(f"{label}: the adapter moves the outputs by {effect:.3g}")
    check(effect > 0.1, f"the outputs move by {effect:.3g} only", label)
    measured(difference(outputs(wrapped), expected), OUTPUT_TOLERANCE, label, "PEFT from merged")


def rounding_bounds(wrapped):
    """By weight name: (r + 2) * scale * |B| @ |A|, summed over the adapters of each layer."""
    bounds = {}
    for name, layer in wrapped.base_model.model.named_modules():
        if isinstance(layer, LoraLayer):
            total = torch.zeros(())
            for key, down in layer.lora_A.items():
                sizes = layer.lora_B[key].weight.double().abs() @ down.weight.double().abs()
                total = total + (layer.r[key] + 2) * abs(layer.scaling[key]) * sizes
            bounds[name + ".weight"] = (total.T if layer.fan_in_fan_out else total).detach()
    return bounds


def compare_weights(label, ours, theirs, bounds):
    """Tensors equal but for the rounding of PEFT's float32 product and of both float32 sums."""
    same_set(ours, theirs, label, "tensors")
    unequal, worst = 0, 0.0
    for name, tensor in theirs.items():
        error = (ours[name].double() - tensor.double()).abs()
        unequal += error.count_nonzero().item()
        limit = 2**-23 * (tensor.double().abs() + bounds.get(name, torch.zeros(())))
        worst = max(worst, (error / limit.clamp(min=1e-30)).max().item())
    total = sum(tensor.numel() for tensor in theirs.values())
    print(f"{label}: {unequal} of {total} weights unequal to PEFT's")
    measured(worst, 1, label, "error in bounds of float32 rounding")


def compare_merge(label, wrapped, adapters, folder, base=MINI / "base", names=None):
    """loratool merges `adapters` as PEFT merges what is wrapped."""
    merged = load_merged(base, adapters, folder)
    compare_outputs(label, load(base), wrapped, merged)
    bounds = rounding_bounds(wrapped)
    theirs = wrapped.merge_and_unload(adapter_names=names)
    compare_weights(label, merged.state_dict(), theirs.state_dict(), bounds)


def check_extracted(label, base, tuned, rank, work, auto_class=AutoModelForCausalLM):
    """An extracted adapter does in PEFT what it does when merged, and brings the tuned model closer."""
    folder = work / f"{label}-adapter"
    made = extract(base / WEIGHTS, tuned / WEIGHTS, f"{folder}/", "--rank", rank)
    ranks = made["rank"]["min"], made["rank"]["max"]
    print(f"{label}: {made['modules_written']} modules, ranks {ranks}, error {made['error']:.4f}")
    check(ranks[0] < ranks[1], f"ranks are not mixed: {ranks}", label)
    wrapped = load_adapter(load(base, auto_class), folder, label)
    layers = len(lora_layers(wrapped))
    check(layers == made["modules_written"], f"{layers} LoRA layers in PEFT", label)
    merged = load_merged(base, [folder], work / f"{label}-merged", auto_class)
    compare_outputs(label, load(base, auto_class), wrapped, merged)
    wanted = outputs(load(tuned, auto_class))
    gap, left = difference(outputs(load(base, auto_class)), wanted), difference(outputs(merged), wanted)
    measured(left / gap, 0.5, label, f"of the output difference {gap:.3g} to the tuned model is left")


def gpt2():
    torch.manual_seed(3)
    return GPT2LMHeadModel(GPT2Config(
        vocab_size=97, n_positions=32, n_embd=48, n_layer=2, n_head=4, n_inner=24,
        initializer_range=0.2, bos_token_id=0, eos_token_id=0))


def bert():
    torch.manual_seed(3)
    return BertModel(BertConfig(
        vocab_size=97, hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=24, max_position_embeddings=32, initializer_range=0.2))


def neox():
    """q, k and v of each head in one weight, head by head: one module to every tool.

    The head is tied: transformers knows it as lm_head, the file would call it embed_out.
    """
    torch.manual_seed(3)
    return GPTNeoXForCausalLM(GPTNeoXConfig(
        vocab_size=97, hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=24, max_position_embeddings=32, initializer_range=0.2,
        tie_word_embeddings=True))


def phi3():
    """Fused projections that transformers keeps fused."""
    torch.manual_seed(3)
    return Phi3ForCausalLM(Phi3Config(
        vocab_size=97, hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=24, max_position_embeddings=32,
        initializer_range=0.2, pad_token_id=0, bos_token_id=0, eos_token_id=0))


def t5():
    torch.manual_seed(3)
    return T5EncoderModel(T5Config(
        vocab_size=97, d_model=48, d_kv=12, d_ff=24, num_layers=2, num_heads=4,
        feed_forward_proj="gated-gelu", initializer_factor=1.0))


def make_pair(model, work):
    """Save a model and a perturbed copy of it."""
    model.save_pretrained(work / "base")
    perturb(model, 0.5, 7)
    model.save_pretrained(work / "tuned")
    return work / "base", work / "tuned"


def test_extracted_llama(work):
    check_extracted("llama", MINI / "base", MINI / "tuned", 96, work)


def test_extracted_gpt2(work):
    check_extracted("gpt2", *make_pair(gpt2(), work), 32, work)


def test_extracted_bert(work):
    check_extracted("bert", *make_pair(bert(), work), 32, work, AutoModel)


def test_extracted_neox(work):
    check_extracted("neox", *make_pair(neox(), work), 32, work)


def test_extracted_phi3(work):
    check_extracted("phi3", *make_pair(phi3(), work), 32, work)


def test_extracted_t5(work):
    check_extracted("t5", *make_pair(t5(), work), 32, work, T5EncoderModel)


def test_trained(work):
    wrapped = load_adapter(load(MINI / "base"), LORA, "trained")
    compare_merge("trained", wrapped, [LORA], work / "merged")


def test_trained_at_half_weight(work):
    wrapped = load_adapter(load(MINI / "base"), LORA, "half weight")
    for layer in lora_layers(wrapped):
        layer.scale_layer(0.5)
    compare_merge("half weight", wrapped, [f"{LORA}:0.5"], work / "merged")


def test_two_adapters(work):
    second = work / "second"
    extract(MINI / "base" / WEIGHTS, MINI / "tuned" / WEIGHTS, f"{second}/", "--rank", 5)
    wrapped = load_adapter(load(MINI / "base"), LORA, "two adapters")
    wrapped.load_adapter(second, "second")
    wrapped.base_model.set_adapter(["default", "second"])
    compare_merge("two adapters", wrapped, [LORA, second], work / "merged",
                  names=["default", "second"])


def check_made_by_peft(label, work, base=MINI / "base", **options):
    """loratool merges an adapter of random factors that PEFT made."""
    torch.manual_seed(5)
    config = LoraConfig(init_lora_weights=False, task_type="CAUSAL_LM", **options)
    wrapped = get_peft_model(load(base), config).eval()
    wrapped.save_pretrained(work / label)
    compare_merge(label, wrapped, [work / label], work / "merged", base)


def test_made_by_peft(work):
    patterns = {
        "r": 6, "lora_alpha": 4, "target_modules": "all-linear",
        "rank_pattern": {"q_proj": 3, r"layers\.1\.mlp\.(up|down)_proj": 11,
                         "model.layers.0.self_attn.o_proj": 1},
        "alpha_pattern": {"o_proj": 2.5, r".*\.2\.mlp\.gate_proj": 7},
    }
    check_made_by_peft("patterns", work, **patterns)
    check_made_by_peft("patterns rslora", work, use_rslora=True, **patterns)
    check_made_by_peft("rslora", work, r=6, lora_alpha=3, use_rslora=True,
                       target_modules=["q_proj", "up_proj"])
    check_made_by_peft("regex", work, r=4, lora_alpha=8,
                       target_modules=r".*\.1\..*\.(v_proj|down_proj)")


def test_made_by_peft_conv1d(work):
    base, _ = make_pair(gpt2(), work)
    check_made_by_peft("conv1d", work, base, r=5, lora_alpha=9, fan_in_fan_out=True,
                       target_modules=["c_attn", "c_fc"], rank_pattern={"c_fc": 2})


def test_made_by_peft_head(work):
    """For a head or embedding PEFT adds the base's own weight, named `base_layer`."""
    check_made_by_peft("head", work, r=4, lora_alpha=8, target_modules=["lm_head", "q_proj"])


@torch.no_grad()
def check_trained_beside(label, work, base, **options):
    """Adapters whose file also holds biases or whole modules, all of them moved by training."""
    torch.manual_seed(5)
    config = LoraConfig(init_lora_weights=False, task_type="CAUSAL_LM", **options)
    wrapped = get_peft_model(load(base), config).eval()
    moved = 0
    for name, parameter in wrapped.named_parameters():
        if parameter.requires_grad and "lora_A" not in name and "lora_B.default.weight" not in name:
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
            moved += 1
    check(moved > 0, "nothing but factors is trained", label)
    wrapped.save_pretrained(work / label)
    print(f"{label}: {moved} tensors beside the factors")
    compare_merge(label, wrapped, [work / label], work / f"{label}-merged", base)


def test_lora_bias(work):
    base, _ = make_pair(gpt2(), work)
    check_trained_beside("lora-bias", work, base, r=5, lora_alpha=9, lora_bias=True, fan_in_fan_out=True,
                         target_modules=["c_attn", "c_fc"])


def test_biases(work):
    base, _ = make_pair(gpt2(), work)
    for bias in ("all", "lora_only"):
        check_trained_beside(f"bias-{bias}", work, base, r=5, lora_alpha=9, bias=bias, fan_in_fan_out=True,
                             target_modules=["c_attn", "c_fc"])


def test_modules_to_save(work):
    check_trained_beside("modules-to-save", work, MINI / "base", r=4, lora_alpha=8,
                         target_modules=["q_proj", "v_proj"], modules_to_save=["lm_head", "norm"])
    done = loratool("merge", "--base", MINI / "base" / WEIGHTS, f"{work / 'modules-to-save'}:0.5", "-o",
                    work / WEIGHTS, code=3)
    check("no weight other than 1" in done.stderr, f"message: {done.stderr}", "modules-to-save")


def test_pickled(work):
    """adapter_model.bin, as older versions of PEFT write it."""
    torch.manual_seed(5)
    wrapped = get_peft_model(load(MINI / "base"), LoraConfig(
        init_lora_weights=False, task_type="CAUSAL_LM", r=5, lora_alpha=3, target_modules="all-linear"))
    wrapped.eval().save_pretrained(work / "pickled")
    weights = load_file(work / "pickled" / ADAPTER)
    (work / "pickled" / ADAPTER).unlink()
    torch.save(weights, work / "pickled/adapter_model.bin")
    compare_merge("pickled", wrapped, [work / "pickled"], work / "pickled-merged")


def test_layer_replication_is_refused(work):
    config = LoraConfig(init_lora_weights=False, r=4, target_modules=["q_proj"],
                        layer_replication=[[0, 2], [1, 3]])
    get_peft_model(load(MINI / "base"), config).save_pretrained(work / "replicated")
    done = loratool("merge", "--base", MINI / "base" / WEIGHTS, work / "replicated", "-o",
                    work / WEIGHTS, code=1)
    check("layer_replication" in done.stderr, f"message: {done.stderr}", "layer replication")


def test_embedding_is_refused(work):
    """LoRA on an embedding is not merged: said plainly, and nothing is written."""
    config = LoraConfig(init_lora_weights=False, target_modules=["embed_tokens"])
    get_peft_model(load(MINI / "base"), config).save_pretrained(work / "embedding")
    done = loratool("merge", "--base", MINI / "base" / WEIGHTS, work / "embedding", "-o",
                    work / WEIGHTS, code=1)
    check("embedding" in done.stderr, f"message: {done.stderr}", "embedding")
    check(not (work / WEIGHTS).exists(), "wrote a file", "embedding")


def test_resized(work):
    """The trained LoRA at a lower rank loads, and holds the best approximation of that rank."""
    folder, rank = work / "resized", 3
    made = report("resize", LORA, "-o", f"{folder}/", "--rank", rank)
    wrapped = load_adapter(load(MINI / "base"), folder, "resized")
    layers = lora_layers(wrapped)
    check({layer.r["default"] for layer in layers} == {rank}, "ranks in PEFT", "resized")
    check({layer.scaling["default"] for layer in layers} == {2.0}, "scales in PEFT", "resized")
    merged = load_merged(MINI / "base", [folder], work / "merged")
    compare_outputs("resized", load(MINI / "base"), wrapped, merged)
    before, after = read_modules(LORA / ADAPTER), read_modules(folder / ADAPTER)
    same_set(after, before, "resized", "modules")
    ratios = []
    for name, module in before.items():
        wanted = product(module, 2.0)
        left = ((wanted - product(after[name], 2.0)) ** 2).sum() ** 0.5
        ratios.append(left / best_error(wanted, rank))
    print(f"resized: error {made['error']:.4f}; over the best possible: {min(ratios)} to {max(ratios)}")
    measured(max(ratios), 1.001, "resized", "largest error over the best possible")


if __name__ == "__main__":
    run_tests(test_extracted_llama, test_extracted_gpt2, test_extracted_bert, test_extracted_neox,
              test_extracted_phi3, test_extracted_t5, test_trained,
              test_trained_at_half_weight, test_two_adapters, test_made_by_peft,
              test_made_by_peft_conv1d, test_made_by_peft_head, test_lora_bias, test_biases,
              test_modules_to_save, test_pickled, test_layer_replication_is_refused, test_embedding_is_refused,
              test_resized)
