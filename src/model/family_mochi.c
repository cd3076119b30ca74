/* SPDX-License-Identifier: MIT */
/* Mochi 1. */
#include "model/family_dit.h"

static const char *const mochi_blocks[] = { "blocks.", "transformer_blocks.", NULL };

static bool mochi_standard(const char *path)
{
    return lt_begins_with_any(path, mochi_blocks);
}

#define MOCHI_PARTS                                                             \
    DIT_ENCODER("te1", "text encoder (T5)", "text_encoders.t5xxl.transformer.", \
        "text_encoder.", "lora_te_"),                                           \
        DIT_VAE

static const lt_base_sign mochi_base[] = {
    { .key = "blocks.0.attn.qkv_x.weight", .n_dims = 2 },
    { .key = "t5_y_embedder.to_kv.weight", .n_dims = 2 },
    { .key = "x_embedder.proj.weight", .n_dims = 4 },
    { 0 },
};
static const lt_adapter_sign mochi_adapter[] = {
    { "blocks.#.attn.qkv_x", 0, 2 },
    { "blocks.#.attn.qkv_y", 0, 2 },
    { "blocks.#.attn.proj_x", 0, 2 },
    { "blocks.#.mlp_x.w", 0, 2 },
    { "blocks.#.mlp_y.w", 0, 2 },
    { "blocks.#.mod_x", 0, 2 },
    { "transformer_blocks.#.attn1.add_q_proj", 1536, 2 },
    { "transformer_blocks.#.attn1.add_k_proj", 1536, 2 },
    { "transformer_blocks.#.attn1.add_v_proj", 1536, 2 },
    { "transformer_blocks.#.attn1.to_add_out", 3072, 2 },
    { 0 },
};
static const lt_component mochi[] = {
    { DIT_NATIVE(&lt_layout_mochi), .is_standard = mochi_standard },
    MOCHI_PARTS,
    { 0 },
};

static const lt_base_sign mochi_diffusers_base[] = {
    { .key = "time_embed.pooler.to_kv.weight", .n_dims = 2 },
    { .key = "transformer_blocks.0.attn1.add_q_proj.weight", .n_dims = 2 },
    { .key = "patch_embed.proj.weight", .n_dims = 4 },
    { 0 },
};
static const lt_component mochi_diffusers[] = {
    { DIT_PUBLIC(&lt_layout_mochi), .is_standard = mochi_standard },
    MOCHI_PARTS,
    { 0 },
};

#define MOCHI_TRAITS .id = "mochi", .title = "Mochi 1"

const lt_family lt_family_mochi = {
    MOCHI_TRAITS,
    .naming = LT_NAMING_KOHYA,
    .base_signs = mochi_base,
    .adapter_signs = mochi_adapter,
    .components = mochi,
};
const lt_family lt_family_mochi_diffusers = {
    MOCHI_TRAITS,
    .naming = LT_NAMING_DIFFUSERS,
    .base_signs = mochi_diffusers_base,
    .adapter_signs = lt_no_adapter_signs,
    .components = mochi_diffusers,
};
