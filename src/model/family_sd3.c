/* SPDX-License-Identifier: MIT */
/* Stable Diffusion 3 and 3.5. */
#include "model/family_dit.h"

#define ENCODERS               \
    DIT_SD3_ENCODERS, DIT_VAE, \
    {                          \
        0                      \
    }

static const char *const standard[] = { "joint_blocks.", "transformer_blocks.", NULL };

static bool is_standard(const char *path)
{
    return lt_begins_with_any(path, standard);
}

static const lt_component native[] = {
    { DIT_NATIVE(&lt_layout_sd3), .is_standard = is_standard },
    ENCODERS,
};
static const lt_component public[] = {
    { DIT_PUBLIC(&lt_layout_sd3), .is_standard = is_standard },
    ENCODERS,
};

#define SD3_TRAITS                               \
    .id = "sd3", .title = "Stable Diffusion 3",  \
    .architecture = "stable-diffusion-3-medium", \
    .implementation = "https://github.com/Stability-AI/sd3-ref"

static const lt_base_sign native_base[] = {
    { .key = "joint_blocks.0.context_block.attn.qkv.weight", .n_dims = 2 },
    { .key = "x_embedder.proj.weight", .n_dims = 4 },
    { 0 },
};
static const lt_base_sign public_base[] = {
    { .key = "transformer_blocks.0.attn.add_q_proj.weight", .n_dims = 2 },
    { .key = "pos_embed.proj.weight", .n_dims = 4 },
    { .key = "context_embedder.weight", .n_dims = 2 },
    { 0 },
};
static const lt_adapter_sign adapter[] = {
    { "joint_blocks.#.x_block.", 0, 2 },
    { "joint_blocks.#.context_block.", 0, 2 },
    /* Others call them the same; the widths are those of SD3 and 3.5. */
    { "transformer_blocks.#.attn.to_q", 1536, 2 },
    { "transformer_blocks.#.attn.to_q", 2432, 2 },
    { "transformer_blocks.#.attn.add_k_proj", 1536, 2 },
    { "transformer_blocks.#.attn.add_k_proj", 2432, 2 },
    { 0 },
};

const lt_family lt_family_sd3 = {
    SD3_TRAITS,
    .naming = LT_NAMING_KOHYA,
    .base_signs = native_base,
    .adapter_signs = adapter,
    .components = native,
};
const lt_family lt_family_sd3_diffusers = {
    SD3_TRAITS,
    .naming = LT_NAMING_DIFFUSERS,
    .base_signs = public_base,
    .adapter_signs = lt_no_adapter_signs,
    .components = public,
};
