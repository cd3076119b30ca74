#!/usr/bin/env python3
"""Language models that transformers has, tiny: an adapter that PEFT made of every linear layer is
merged by loratool, and the merged model answers as PEFT does; loratool's own adapter of a change
loads in PEFT and answers as it merges."""

from common import check, run_tests
from consumers import caught, difference, extract, measured, merge, perturb

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file

WEIGHTS = "model.safetensors"
TOLERANCE = 2e-5  # float32 arithmetic, relative to the largest output
EFFECT = 1e-2
SIZES = {"vocab_size": 97, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
         "intermediate_size": 40, "max_position_embeddings": 64, "initializer_range": 0.2,
         "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GROUPED = {**SIZES, "num_key_value_heads": 2}
GPT2 = {"vocab_size": 97, "n_positions": 64, "n_embd": 48, "n_layer": 2, "n_head": 4, "n_inner": 40,
        "initializer_range": 0.2, "bos_token_id": 1, "eos_token_id": 2}
T5 = {"vocab_size": 97, "d_model": 48, "d_kv": 12, "d_ff": 40, "num_layers": 2, "num_heads": 4,
      "decoder_start_token_id": 0}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 24}
# Models that also see: asked in words only.
VISION = {"hidden_size": 32, "intermediate_size": 24, "num_hidden_layers": 1,
          "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
HEADS = {**GROUPED, "head_dim": 12}
ROPES = {"rope_type": "default", "mrope_section": [2, 2, 2], "rope_theta": 1e4}

# class of the model, family that loratool takes it for, sizes
MODELS = {
    "llama": ("LlamaForCausalLM", "llama", GROUPED),
    "llama tied": ("LlamaForCausalLM", "llama", {**GROUPED, "tie_word_embeddings": True}),
    "llama bias": ("LlamaForCausalLM", "llama", {**GROUPED, "attention_bias": True}),
    "mistral": ("MistralForCausalLM", "llama", {**GROUPED, "head_dim": 12}),
    "qwen2": ("Qwen2ForCausalLM", "llama", GROUPED),
    "qwen3": ("Qwen3ForCausalLM", "llama", {**GROUPED, "head_dim": 16}),
    "gemma": ("GemmaForCausalLM", "llama", {**GROUPED, "head_dim": 12}),
    "gemma2": ("Gemma2ForCausalLM", "llama", {**GROUPED, "head_dim": 12}),
    "gemma3": ("Gemma3ForCausalLM", "llama", {**GROUPED, "head_dim": 12}),
    "phi": ("PhiForCausalLM", "unknown", SIZES),
    "phi3": ("Phi3ForCausalLM", "llama", GROUPED),
    "stablelm": ("StableLmForCausalLM", "llama", {**GROUPED, "partial_rotary_factor": 0.5}),
    "starcoder2": ("Starcoder2ForCausalLM", "llama", GROUPED),
    "olmo2": ("Olmo2ForCausalLM", "unknown", GROUPED),
    "granite": ("GraniteForCausalLM", "llama", GROUPED),
    "cohere": ("CohereForCausalLM", "llama", GROUPED),
    "glm4": ("Glm4ForCausalLM", "llama", {**GROUPED, "head_dim": 12}),
    "smollm3": ("SmolLM3ForCausalLM", "llama", GROUPED),
    "gpt2": ("GPT2LMHeadModel", "gpt2", GPT2),
    "gpt-j": ("GPTJForCausalLM", "unknown", {**GPT2, "rotary_dim": 8}),
    "gpt-bigcode": ("GPTBigCodeForCausalLM", "unknown", GPT2),
    "gpt-neo": ("GPTNeoForCausalLM", "unknown",
                {**SIZES, "num_layers": 2, "num_heads": 4, "attention_types": [[["global"], 2]]}),
    "neox": ("GPTNeoXForCausalLM", "neox", SIZES),
    "neox tied": ("GPTNeoXForCausalLM", "neox", {**SIZES, "tie_word_embeddings": True}),
    "opt": ("OPTForCausalLM", "unknown", {**SIZES, "ffn_dim": 40, "word_embed_proj_dim": 48}),
    "bloom": ("BloomForCausalLM", "unknown", {**SIZES, "n_layer": 2, "n_head": 4}),
    "falcon": ("FalconForCausalLM", "unknown", SIZES),
    "falcon grouped": ("FalconForCausalLM", "unknown",
                       {**SIZES, "num_kv_heads": 2, "new_decoder_architecture": True}),
    "mpt": ("MptForCausalLM", "unknown",
            {"vocab_size": 97, "d_model": 48, "n_layers": 2, "n_heads": 4, "max_seq_len": 64,
             "initializer_range": 0.2}),
    "mamba": ("MambaForCausalLM", "unknown", {**SIZES, "state_size": 8}),
    "mamba2": ("Mamba2ForCausalLM", "unknown",
               {**SIZES, "num_heads": 8, "head_dim": 12, "state_size": 8, "n_groups": 1}),
    "bert": ("BertForMaskedLM", "bert", SIZES),
    "bert classes": ("BertForSequenceClassification", "bert", SIZES),
    "roberta": ("RobertaForMaskedLM", "bert", {**SIZES, "max_position_embeddings": 80}),
    "xlm-roberta": ("XLMRobertaForMaskedLM", "bert", {**SIZES, "max_position_embeddings": 80}),
    "electra": ("ElectraForMaskedLM", "bert", {**SIZES, "embedding_size": 48}),
    "deberta": ("DebertaV2ForMaskedLM", "unknown", SIZES),
    "distilbert": ("DistilBertForMaskedLM", "unknown",
                   {"vocab_size": 97, "dim": 48, "n_layers": 2, "n_heads": 4, "hidden_dim": 40,
                    "max_position_embeddings": 64, "initializer_range": 0.2}),
    "t5": ("T5ForConditionalGeneration", "t5", T5),
    "t5 gated": ("T5ForConditionalGeneration", "t5",
                 {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "umt5": ("UMT5ForConditionalGeneration", "t5", T5),
    "bart": ("BartForConditionalGeneration", "unknown",
             {"vocab_size": 97, "d_model": 48, "encoder_layers": 2, "decoder_layers": 2,
              "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 40,
              "decoder_ffn_dim": 40, "max_position_embeddings": 64, "init_std": 0.2}),
    "gemma3 seeing": ("Gemma3ForConditionalGeneration", "llama",
                      {"text_config": HEADS, "vision_config": VISION}),
    "llava": ("LlavaForConditionalGeneration", "llama",
              {"text_config": {"model_type": "llama", **HEADS},
               "vision_config": {"model_type": "clip_vision_model", **VISION}}),
    "mistral3": ("Mistral3ForConditionalGeneration", "llama",
                 {"text_config": {"model_type": "mistral", **HEADS},
                  "vision_config": {"model_type": "pixtral", **VISION}}),
    "paligemma": ("PaliGemmaForConditionalGeneration", "llama",
                  {"text_config": {"model_type": "gemma", **HEADS}, "projection_dim": 48,
                   "vision_config": {"model_type": "siglip_vision_model", **VISION}}),
    "qwen2 vl": ("Qwen2VLForConditionalGeneration", "llama",
                 {"text_config": {**GROUPED, "rope_parameters": ROPES},
                  "vision_config": {"embed_dim": 32, "depth": 1, "num_heads": 2,
                                    "hidden_size": 48}}),
    "qwen2.5 vl": ("Qwen2_5_VLForConditionalGeneration", "llama",
                   {"text_config": {**GROUPED, "rope_parameters": ROPES},
                    "vision_config": {"hidden_size": 32, "depth": 1, "num_heads": 2,
                                      "out_hidden_size": 48, "intermediate_size": 24}}),
    "mixtral": ("MixtralForCausalLM", "llama", {**GROUPED, "num_local_experts": 4}),
    "qwen3 moe": ("Qwen3MoeForCausalLM", "llama",
                  {**GROUPED, **EXPERTS, "num_experts": 4, "head_dim": 12}),
}

# PEFT refuses some of Mamba's modules, and one whose weight the model reads by itself it would not
# apply; experts it adapts as stacked parameters, which loratool refuses.
TARGETS = {"mamba": ["in_proj", "x_proj"], "mamba2": ["in_proj"],
           "mixtral": ["q_proj", "o_proj"], "qwen3 moe": ["q_proj", "o_proj"]}


def made(name, folder):
    torch.manual_seed(3)
    cls, _, sizes = MODELS[name]
    cls = getattr(transformers, cls)
    model = cls(cls.config_class(**sizes)).eval()
    model.save_pretrained(folder)
    return model


def load(name, folder):
    cls = getattr(transformers, MODELS[name][0])
    model, info = cls.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        check(not info[kind], f"{kind} {info[kind]}", name)
    return model.eval()


@torch.no_grad()
def outputs(model):
    tokens = torch.randint(3, 97, (3, 16), generator=torch.Generator().manual_seed(1))
    tokens[tokens == 10] = 11  # what stands for an image or begins one in some
    given = {"input_ids": tokens}
    if model.config.is_encoder_decoder:
        given["decoder_input_ids"] = tokens.flip(1)
    return model(**given).logits


def merged(name, base, adapter, folder):
    folder.mkdir()
    done = merge(base / WEIGHTS, [adapter], folder / WEIGHTS)
    check(done["family"] == MODELS[name][1], f"family {done['family']}", name)
    (folder / "config.json").write_bytes((base / "config.json").read_bytes())
    return load(name, folder), done


def same_answers(name, base, wrapped, ours, label):
    expected = outputs(ours)
    effect = difference(outputs(load(name, base)), expected)
    check(effect > EFFECT, f"{label} moves the outputs by {effect:.3g} only", name)
    measured(difference(outputs(wrapped), expected), TOLERANCE, name, label)


def check_model(name, work):
    base = work / "base"
    made(name, base)
    torch.manual_seed(5)
    wrapped = get_peft_model(load(name, base), LoraConfig(
        init_lora_weights=False, r=4, lora_alpha=6,
        target_modules=TARGETS.get(name, "all-linear"))).eval()
    wrapped.save_pretrained(work / "adapter")
    layers = sum(isinstance(module, LoraLayer) for module in wrapped.modules())
    ours, done = merged(name, base, work / "adapter", work / "merged")
    check(done["modules_applied"] == layers, f"{done['modules_applied']} of {layers} modules", name)
    same_answers(name, base, wrapped, ours, "made by PEFT")

    if name in TARGETS:
        return
    tuned = load(name, base)
    perturb(tuned, 0.5, 7)
    tuned.save_pretrained(work / "tuned")
    extract(base / WEIGHTS, work / "tuned" / WEIGHTS, f"{work / 'own'}/", "-r", "8")
    with caught() as messages:
        wrapped = PeftModel.from_pretrained(load(name, base), work / "own").eval()
    check(not messages, f"PEFT warns: {messages}", name)
    ours, _ = merged(name, base, work / "own", work / "again")
    same_answers(name, base, wrapped, ours, "made by loratool")


def test_neox_head(work):
    """The head of GPT-NeoX under either name is the one tensor that there is."""
    base = work / "base"
    made("neox", base)
    torch.manual_seed(5)
    wrapped = get_peft_model(load("neox", base), LoraConfig(
        init_lora_weights=False, r=4, lora_alpha=6,
        target_modules=["query_key_value", "lm_head"])).eval()
    wrapped.save_pretrained(work / "adapter", save_embedding_layers=False)
    ours, _ = merged("neox", base, work / "adapter", work / "merged")
    same_answers("neox", base, wrapped, ours, "lm_head")
    (work / "older").mkdir()
    config = (work / "adapter/adapter_config.json").read_text()
    (work / "older/adapter_config.json").write_text(config.replace("lm_head", "embed_out"))
    tensors = load_file(work / "adapter/adapter_model.safetensors")
    save_file({name.replace("lm_head", "embed_out"): t for name, t in tensors.items()},
              work / "older/adapter_model.safetensors")
    merge(base / WEIGHTS, [work / "older"], work / "older.safetensors")
    check((work / "older.safetensors").read_bytes() == (work / "merged" / WEIGHTS).read_bytes(),
          "embed_out and lm_head differ", "neox")


def test_of(name):
    def test(work):
        check_model(name, work)
    test.__name__ = f"test of {name}"
    return test


if __name__ == "__main__":
    run_tests(*map(test_of, MODELS), test_neox_head)
