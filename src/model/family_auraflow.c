/* SPDX-License-Identifier: MIT */
/* AuraFlow. */
#include "model/family_dit.h"

static const char *const auraflow_blocks[] = { "double_layers.", "single_layers.",
    "joint_transformer_blocks.", "single_transformer_blocks.", NULL };

static bool auraflow_standard(const char *path)
{
    return lt_begins_with_any(path, auraflow_blocks);
}

static const lt_base_sign auraflow_native_base[] = {
    { .key = "double_layers.0.attn.w1q.weight", .n_dims = 2 },
    { .key = "init_x_linear.weight", .n_dims = 2 },
    { 0 },
};
static const lt_base_sign auraflow_public_base[] = {
    { .key = "joint_transformer_blocks.0.attn.to_q.weight", .n_dims = 2 },
    { .key = "context_embedder.weight", .n_dims = 2 },
    { 0 },
};
static const lt_adapter_sign auraflow_adapter[] = {
    { "double_layers.#.attn.", 0, 2 },
    { "double_layers.#.mlp", 0, 2 },
    { "single_layers.#.attn.", 0, 2 },
    { "single_layers.#.mlp", 0, 2 },
    { "joint_transformer_blocks.#.", 0, 2 },
    { 0 },
};

static const lt_component auraflow_native[] = {
    { DIT_NATIVE(&lt_layout_auraflow), .is_standard = auraflow_standard },
    DIT_ENCODER("te1", "text encoder (T5)", "text_encoders.pile_t5xl.transformer.",
        "text_encoder.", "lora_te_"),
    DIT_VAE,
    { 0 },
};
static const lt_component auraflow_public[] = {
    { DIT_PUBLIC(&lt_layout_auraflow), .is_standard = auraflow_standard },
    DIT_ENCODER("te1", "text encoder (T5)", "text_encoders.pile_t5xl.transformer.",
        "text_encoder.", "lora_te_"),
    DIT_VAE,
    { 0 },
};

#define AURAFLOW_TRAITS .id = "auraflow", .title = "AuraFlow"

const lt_family lt_family_auraflow = {
    AURAFLOW_TRAITS,
    .naming = LT_NAMING_KOHYA,
    .base_signs = auraflow_native_base,
    .adapter_signs = auraflow_adapter,
    .components = auraflow_native,
};
const lt_family lt_family_auraflow_diffusers = {
    AURAFLOW_TRAITS,
    .naming = LT_NAMING_DIFFUSERS,
    .base_signs = auraflow_public_base,
    .adapter_signs = lt_no_adapter_signs,
    .components = auraflow_public,
};
