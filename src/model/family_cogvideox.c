/* SPDX-License-Identifier: MIT */
/* CogVideoX and CogView4, whose adapters are told by the width of their blocks. */
#include "model/family_dit.h"

static const char *const cogvideox_blocks[] = { "transformer_blocks.", NULL };

static bool cogvideox_standard(const char *path)
{
    return lt_begins_with_any(path, cogvideox_blocks);
}

#define COGVIDEOX_PARTS                                                         \
    DIT_ENCODER("te1", "text encoder (T5)", "text_encoders.t5xxl.transformer.", \
        "text_encoder.", "lora_te_"),                                           \
        DIT_VAE

static const lt_base_sign cogvideox_base[] = {
    { .key = "transformer_blocks.0.norm1.linear.weight", .n_dims = 2 },
    { .key = "transformer_blocks.0.attn1.norm_q.bias", .n_dims = 1 },
    { .key = "patch_embed.text_proj.weight", .n_dims = 2 },
    { .key = "time_embedding.linear_1.weight", .n_dims = 2 },
    { 0 },
};
static const lt_adapter_sign cogvideox_adapter[] = {
    { "transformer_blocks.#.attn1.to_", 1920, 2 },
    { "transformer_blocks.#.attn1.to_", 3072, 2 },
    { "transformer_blocks.#.ff.net.0", 1920, 2 },
    { 0 },
};
static const lt_component cogvideox[] = {
    { DIT_NATIVE(&lt_layout_cogvideox), .is_standard = cogvideox_standard },
    COGVIDEOX_PARTS,
    { 0 },
};

static const lt_base_sign cogview4_base[] = {
    { .key = "time_condition_embed.condition_embedder.linear_1.weight", .n_dims = 2 },
    { .key = "transformer_blocks.0.attn1.to_q.weight", .n_dims = 2 },
    { .key = "patch_embed.text_proj.weight", .n_dims = 2 },
    { 0 },
};
static const lt_adapter_sign cogview4_adapter[] = {
    { "transformer_blocks.#.attn1.to_", 4096, 2 },
    { 0 },
};
static const lt_component cogview4[] = {
    { DIT_NATIVE(&lt_layout_cogview4), .is_standard = cogvideox_standard },
    COGVIDEOX_PARTS,
    { 0 },
};

#define COGVIDEOX_TRAITS .id = "cogvideox", .title = "CogVideoX"

const lt_family lt_family_cogvideox = {
    COGVIDEOX_TRAITS,
    .naming = LT_NAMING_DIFFUSERS,
    .base_signs = cogvideox_base,
    .adapter_signs = cogvideox_adapter,
    .components = cogvideox,
};
#define COGVIEW4_TRAITS .id = "cogview4", .title = "CogView4"

const lt_family lt_family_cogview4 = {
    COGVIEW4_TRAITS,
    .naming = LT_NAMING_DIFFUSERS,
    .base_signs = cogview4_base,
    .adapter_signs = cogview4_adapter,
    .components = cogview4,
};
