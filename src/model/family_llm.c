/* SPDX-License-Identifier: MIT */
/* Language models in the layouts of transformers. One component, the whole model; the
 * wrappers are what a task head puts in front of the bare model's names or drops. */
#include "model/family.h"

#include <string.h>

static const char *const llama_wrappers[] = { "model.", "language_model.", NULL };
/* Of the text in models that also see: in files, in transformers from 4.52 on, and where
 * it is called as in models that do not. */
static const char *const llama_stems[] = { "language_model.model.",
    "model.language_model.", "model.", NULL };
static const char *const gpt2_wrappers[] = { "transformer.", NULL };
static const char *const bert_wrappers[] = { "bert.", "roberta.", "model.", "electra.",
    "deberta.", NULL };
static const char *const neox_wrappers[] = { "gpt_neox.", NULL };
static const char *const t5_wrappers[] = { "transformer.", NULL };

#define LLM_COMPONENT(wrap, how)                                                 \
    .id = "model", .title = "language model", .prefixes = { "" },                \
    .kohya = { "lora_te_" }, .diffusers = { "text_encoder." }, .wrappers = wrap, \
    .is_main = true, .rename = how

/* transformers' Conv1D (GPT-2) stores (in, out). */
static bool rename_gpt2(const char *name, lt_rename *out)
{
    size_t n = lt_stem_size(name, ".weight");
    if (!n || !lt_rename_to(out, "%.*s", (int)n, name)) return false;
    static const char *const conv1d[] = { "c_attn.weight", "c_proj.weight", "c_fc.weight",
        "q_attn.weight" };
    for (size_t i = 0; i < sizeof conv1d / sizeof *conv1d; i++)
        if (lt_stem_size(name, conv1d[i])) out->transposed = true;
    return true;
}

/* The first of the pairs whose beginning the name has, the other in its place; the names
 * as they are without one. */
static bool rename_moved(const char *name, const lt_respelling *moved, lt_rename *out)
{
    size_t n = lt_stem_size(name, ".weight");
    for (; n && moved->end; moved++) {
        const char *rest = lt_behind(name, moved->end);
        int left = (int)(n - strlen(moved->end));
        if (rest) return lt_rename_to(out, "%s%.*s", moved->instead, left, rest);
    }
    return n && lt_rename_to(out, "%.*s", (int)n, name);
}

/* Files of models that also see keep names that transformers' modules had before 4.52:
 * Gemma 3, LLaVA, Mistral 3, PaliGemma, */
static bool rename_llama(const char *name, lt_rename *out)
{
    static const lt_respelling moved[] = {
        { "language_model.model.", "model.language_model." },
        { "language_model.lm_head", "lm_head" },
        { "vision_tower.", "model.vision_tower." },
        { "multi_modal_projector.", "model.multi_modal_projector." },
        { 0 },
    };
    return rename_moved(name, moved, out);
}

/* and Qwen2-VL and 2.5-VL. */
static bool rename_qwen_vl(const char *name, lt_rename *out)
{
    static const lt_respelling moved[] = {
        { "visual.", "model.visual." },
        { "model.visual.", "model.visual." },
        { "model.language_model.", "model.language_model." },
        { "model.", "model.language_model." },
        { 0 },
    };
    return rename_moved(name, moved, out);
}

/* Files of GPT-NeoX call the head embed_out, and so did transformers before 5. */
static bool rename_neox(const char *name, lt_rename *out)
{
    size_t n = lt_stem_size(name, ".weight");
    if (!strcmp(name, "embed_out.weight")) return lt_rename_to(out, "lm_head");
    return n && lt_rename_to(out, "%.*s", (int)n, name);
}

static const lt_component gpt2_components[] = {
    { LLM_COMPONENT(gpt2_wrappers, rename_gpt2) },
    { 0 },
};
static const lt_component bert_components[] = {
    { LLM_COMPONENT(bert_wrappers, NULL) },
    { 0 },
};
static const lt_component llama_components[] = {
    { LLM_COMPONENT(llama_wrappers, rename_llama), .stems = llama_stems },
    { 0 },
};
static const lt_component qwen_vl_components[] = {
    { LLM_COMPONENT(llama_wrappers, rename_qwen_vl), .stems = llama_stems },
    { 0 },
};
static const lt_component neox_components[] = {
    { LLM_COMPONENT(neox_wrappers, rename_neox) },
    { 0 },
};
static const lt_component t5_components[] = {
    { LLM_COMPONENT(t5_wrappers, NULL) },
    { 0 },
};

/* The fused projection is stored (in, 3 in); the same names with (out, in) belong to
 * other models. */
static const lt_base_sign gpt2_base[] = {
    { .key = "*h.0.attn.c_attn.weight", .n_dims = 2, .widening = 3 },
    { .key = "*wpe.weight", .n_dims = 2 },
    { .key = "*h.0.ln_1.weight", .n_dims = 1 },
    { 0 },
};
static const lt_adapter_sign gpt2_adapter[] = { { ".attn.c_attn", 0, 2 }, { 0 } };

const lt_family lt_family_gpt2 = {
    .id = "gpt2",
    .title = "GPT-2 language model",
    .naming = LT_NAMING_PEFT,
    .causal_lm = true,
    .base_signs = gpt2_base,
    .adapter_signs = gpt2_adapter,
    .components = gpt2_components,
};

static const lt_base_sign bert_base[] = {
    { .key = "*encoder.layer.0.attention.self.query.weight", .n_dims = 2 }, { 0 }
};
static const lt_adapter_sign bert_adapter[] = { { ".attention.self.query", 0, 2 },
    { ".attention.self.value", 0, 2 }, { 0 } };

const lt_family lt_family_bert = {
    .id = "bert",
    .title = "BERT-like language model",
    .naming = LT_NAMING_PEFT,
    .base_signs = bert_base,
    .adapter_signs = bert_adapter,
    .components = bert_components,
};

/* LLaMA, Mistral, Qwen, Gemma, Phi and everything else that follows their names. */
static const lt_base_sign llama_base[] = {
    { .key = "*layers.0.self_attn.o_proj.weight", .n_dims = 2 },
    { .key = "*layers.0.input_layernorm.weight", .n_dims = 1 },
    { 0 },
};
static const lt_adapter_sign llama_adapter[] = {
    { "lora_te_model_layers_0_", 0, 2 },
    { "layers.0.self_attn.q_proj", 0, 2 },
    { "layers.0.self_attn.v_proj", 0, 2 },
    { "layers.0.self_attn.o_proj", 0, 2 },
    { "layers.0.self_attn.qkv_proj", 0, 2 },
    { "layers.0.mlp.gate_proj", 0, 2 },
    { "layers.0.mlp.down_proj", 0, 2 },
    { 0 },
};

#define LLAMA_TRAITS .id = "llama", .title = "LLaMA-like language model"

const lt_family lt_family_llama = {
    LLAMA_TRAITS,
    .naming = LT_NAMING_PEFT,
    .causal_lm = true,
    .base_signs = llama_base,
    .adapter_signs = llama_adapter,
    .components = llama_components,
};

static const lt_base_sign qwen_vl_base[] = {
    { .key = "*layers.0.self_attn.o_proj.weight", .n_dims = 2 },
    { .key = "*layers.0.input_layernorm.weight", .n_dims = 1 },
    { .key = "*visual.patch_embed.proj.weight", .n_dims = 5 },
    { 0 },
};

const lt_family lt_family_qwen_vl = {
    LLAMA_TRAITS,
    .naming = LT_NAMING_PEFT,
    .causal_lm = true,
    .base_signs = qwen_vl_base,
    .adapter_signs = lt_no_adapter_signs,
    .components = qwen_vl_components,
};

static const lt_base_sign neox_base[] = {
    { .key = "*layers.0.attention.query_key_value.weight", .n_dims = 2 },
    { .key = "*layers.0.mlp.dense_h_to_4h.weight", .n_dims = 2 },
    { 0 },
};
static const lt_adapter_sign neox_adapter[] = { { ".attention.query_key_value", 0, 2 },
    { 0 } };

const lt_family lt_family_neox = {
    .id = "neox",
    .title = "GPT-NeoX language model",
    .naming = LT_NAMING_PEFT,
    .causal_lm = true,
    .base_signs = neox_base,
    .adapter_signs = neox_adapter,
    .components = neox_components,
};

static const lt_base_sign t5_base[] = {
    { .key = "*encoder.block.0.layer.0.SelfAttention.q.weight", .n_dims = 2 }, { 0 }
};
static const lt_adapter_sign t5_adapter[] = { { ".layer.0.SelfAttention.", 0, 2 },
    { 0 } };

const lt_family lt_family_t5 = {
    .id = "t5",
    .title = "T5 language model",
    .naming = LT_NAMING_PEFT,
    .base_signs = t5_base,
    .adapter_signs = t5_adapter,
    .components = t5_components,
};
