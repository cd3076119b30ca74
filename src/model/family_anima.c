/* SPDX-License-Identifier: MIT */
/* Cosmos-Predict2 and 2.5, Cosmos-Transfer2.5, and Anima, which is the same trunk with an
 * adapter for its text encoder. Adapters of the trunk alone are told by its width: 2048
 * is taken for Anima's.
 */
#include "model/family_dit.h"

#include <string.h>

static const char *const anima_blocks[] = { "blocks.", "transformer_blocks.", NULL };

static bool anima_standard(const char *path)
{
    return lt_begins_with_any(path, anima_blocks) && !strstr(path, "adaln_modulation")
        && !strstr(path, ".norm");
}

static bool cosmos_standard(const char *path)
{
    return anima_standard(path);
}

static const lt_base_sign anima_native_base[] = {
    { .key = "llm_adapter.blocks.0.cross_attn.q_proj.weight", .n_dims = 2 },
    { .key = "blocks.0.mlp.layer1.weight", .n_dims = 2 },
    { 0 },
};
static const lt_adapter_sign anima_adapter[] = {
    { "llm_adapter.blocks.#.", 0, 2 },
    { "blocks.#.self_attn.q_proj", 2048, 2 },
    { "blocks.#.cross_attn.q_proj", 2048, 2 },
    { "blocks.#.self_attn.output_proj", 2048, 2 },
    { "blocks.#.mlp.layer1", 2048, 2 },
    { 0 },
};

static const lt_component anima_native[] = {
    { DIT_NATIVE(&lt_layout_anima), .sibling = "text_conditioner.",
        .is_standard = anima_standard },
    DIT_ENCODER("te1", "text encoder (Qwen3)", "text_encoders.qwen3_06b.transformer.",
        "text_encoder.", "lora_te_"),
    DIT_VAE,
    { 0 },
};

/* In a pipeline's folder the trunk is Cosmos-Predict2's and the network before it a
 * component of its own, whose modules keep their names. */
static const lt_base_sign anima_public_base[] = {
    { .key = "transformer_blocks.0.attn1.to_q.weight", .n_dims = 2 },
    { .key = "patch_embed.proj.weight", .n_dims = 2 },
    { .key = "*text_conditioner.blocks.0.cross_attn.q_proj.weight", .n_dims = 2 },
    { 0 },
};

static const lt_component anima_public[] = {
    { DIT_PUBLIC(&lt_layout_cosmos_predict2), .is_standard = anima_standard },
    { .id = "text_conditioner",
        .title = "network before the text",
        .prefixes = { "text_conditioner." },
        .kohya = { "lora_unet_llm_adapter_" },
        .comfyui = "diffusion_model.llm_adapter.",
        .diffusers = { "text_conditioner.", "diffusion_model.llm_adapter.",
            "llm_adapter." } },
    DIT_ENCODER("te1", "text encoder (Qwen3)", "text_encoders.qwen3_06b.transformer.",
        "text_encoder.", "lora_te_"),
    DIT_VAE,
    { 0 },
};

#define ANIMA_TRAITS                                           \
    .id = "anima", .title = "Anima", .kohya_version = "anima", \
    .architecture = "anima-preview"

const lt_family lt_family_anima = {
    ANIMA_TRAITS,
    .naming = LT_NAMING_KOHYA,
    .base_signs = anima_native_base,
    .adapter_signs = anima_adapter,
    .components = anima_native,
};

const lt_family lt_family_anima_diffusers = {
    ANIMA_TRAITS,
    .naming = LT_NAMING_DIFFUSERS,
    .base_signs = anima_public_base,
    .adapter_signs = lt_no_adapter_signs,
    .components = anima_public,
};

static const lt_base_sign cosmos_native_base[] = {
    { .key = "blocks.0.mlp.layer1.weight", .n_dims = 2 },
    { .key = "x_embedder.proj.1.weight", .n_dims = 2 },
    { .key = "llm_adapter.blocks.0.cross_attn.q_proj.weight", .absent = true },
    { 0 },
};
static const lt_base_sign cosmos_public_base[] = {
    { .key = "transformer_blocks.0.attn1.to_q.weight", .n_dims = 2 },
    { .key = "patch_embed.proj.weight", .n_dims = 2 },
    { .key = "time_embed.t_embedder.linear_1.weight", .n_dims = 2 },
    { 0 },
};
static const lt_adapter_sign cosmos_adapter[] = {
    { "transformer_blocks.#.attn2.to_k", 1024, 2 },
    { "blocks.#.self_attn.q_proj", 0, 2 },
    { "blocks.#.cross_attn.q_proj", 0, 2 },
    { "blocks.#.self_attn.output_proj", 0, 2 },
    { "blocks.#.mlp.layer1", 0, 2 },
    { 0 },
};

static const lt_component cosmos_native[] = {
    { DIT_NATIVE(&lt_layout_cosmos_predict2), .is_standard = cosmos_standard },
    DIT_ENCODER("te1", "text encoder (T5)", "text_encoders.oldt5xxl.transformer.",
        "text_encoder.", "lora_te_"),
    DIT_VAE,
    { 0 },
};
static const lt_component cosmos_public[] = {
    { DIT_PUBLIC(&lt_layout_cosmos_predict2), .is_standard = cosmos_standard },
    DIT_ENCODER("te1", "text encoder (T5)", "text_encoders.oldt5xxl.transformer.",
        "text_encoder.", "lora_te_"),
    DIT_VAE,
    { 0 },
};

#define COSMOS_TRAITS .id = "cosmos-predict2", .title = "Cosmos-Predict2 and 2.5"

const lt_family lt_family_cosmos = {
    COSMOS_TRAITS,
    .naming = LT_NAMING_KOHYA,
    .base_signs = cosmos_native_base,
    .adapter_signs = cosmos_adapter,
    .components = cosmos_native,
};
const lt_family lt_family_cosmos_diffusers = {
    COSMOS_TRAITS,
    .naming = LT_NAMING_DIFFUSERS,
    .base_signs = cosmos_public_base,
    .adapter_signs = lt_no_adapter_signs,
    .components = cosmos_public,
};
