/* SPDX-License-Identifier: MIT */
/* PixArt alpha and sigma. */
#include "model/family_dit.h"

static const char *const pixart_blocks[] = { "blocks.", "transformer_blocks.", NULL };

static bool pixart_standard(const char *path)
{
    return lt_begins_with_any(path, pixart_blocks);
}

static const lt_base_sign pixart_native_base[] = {
    { .key = "t_block.1.weight", .n_dims = 2 },
    { .key = "blocks.0.cross_attn.kv_linear.weight", .n_dims = 2 },
    { 0 },
};
static const lt_base_sign pixart_public_base[] = {
    { .key = "adaln_single.emb.timestep_embedder.linear_1.weight", .n_dims = 2 },
    { .key = "pos_embed.proj.weight", .n_dims = 4 },
    { .key = "transformer_blocks.0.attn1.to_q.weight", .n_dims = 2 },
    { 0 },
};
static const lt_adapter_sign pixart_adapter[] = {
    { "blocks.#.cross_attn.kv_linear", 0, 2 },
    { "blocks.#.cross_attn.q_linear", 0, 2 },
    { "blocks.#.attn.qkv", 1152, 2 },
    { "transformer_blocks.#.attn#.to_q", 1152, 2 },
    { "transformer_blocks.#.attn#.to_v", 1152, 2 },
    { 0 },
};

/* The second is what the published trainer writes. */
#define PIXART_NAMES "transformer.", "unet.base_model.model."

static const lt_component pixart_native[] = {
    { DIT_NATIVE_NAMED(&lt_layout_pixart, PIXART_NAMES), .is_standard = pixart_standard },
    DIT_ENCODER("te1", "text encoder (T5)", "text_encoders.t5xxl.transformer.",
        "text_encoder.", "lora_te_"),
    DIT_VAE,
    { 0 },
};
static const lt_component pixart_public[] = {
    { DIT_PUBLIC_NAMED(&lt_layout_pixart, PIXART_NAMES), .is_standard = pixart_standard },
    DIT_ENCODER("te1", "text encoder (T5)", "text_encoders.t5xxl.transformer.",
        "text_encoder.", "lora_te_"),
    DIT_VAE,
    { 0 },
};

#define PIXART_TRAITS .id = "pixart", .title = "PixArt"

const lt_family lt_family_pixart = {
    PIXART_TRAITS,
    .naming = LT_NAMING_KOHYA,
    .base_signs = pixart_native_base,
    .adapter_signs = pixart_adapter,
    .components = pixart_native,
};
const lt_family lt_family_pixart_diffusers = {
    PIXART_TRAITS,
    .naming = LT_NAMING_DIFFUSERS,
    .base_signs = pixart_public_base,
    .adapter_signs = lt_no_adapter_signs,
    .components = pixart_public,
};
