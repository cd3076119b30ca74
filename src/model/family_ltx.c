/* SPDX-License-Identifier: MIT */
/* LTX-Video. */
#include "model/family_dit.h"

static const char *const ltx_blocks[] = { "transformer_blocks.", NULL };

static bool ltx_standard(const char *path)
{
    return lt_begins_with_any(path, ltx_blocks);
}

static const lt_base_sign ltx_native_base[] = {
    { .key = "patchify_proj.weight", .n_dims = 2 },
    { .key = "adaln_single.emb.timestep_embedder.linear_1.weight", .n_dims = 2 },
    { .key = "transformer_blocks.0.attn1.to_q.weight", .n_dims = 2 },
    { .key = "av_ca_a2v_gate_adaln_single.linear.weight", .absent = true },
    { 0 },
};
static const lt_base_sign ltx_public_base[] = {
    { .key = "time_embed.emb.timestep_embedder.linear_1.weight", .n_dims = 2 },
    { .key = "caption_projection.linear_1.weight", .n_dims = 2 },
    { .key = "transformer_blocks.0.attn1.to_q.weight", .n_dims = 2 },
    { .key = "proj_in.weight", .n_dims = 2 },
    { .key = "av_cross_attn_video_a2v_gate.linear.weight", .absent = true },
    { 0 },
};
static const lt_adapter_sign ltx_adapter[] = {
    { "diffusion_model.transformer_blocks.#.attn#.to_", 2048, 2 },
    { "transformer.transformer_blocks.#.attn#.to_", 2048, 2 },
    { "lora_unet_transformer_blocks.#.attn#.to_", 2048, 2 },
    { "diffusion_model.transformer_blocks.#.attn2.to_", 4096, 2 },
    { "transformer.transformer_blocks.#.attn2.to_", 4096, 2 },
    { "lora_unet_transformer_blocks.#.attn2.to_", 4096, 2 },
    { 0 },
};

static const lt_component ltx_native[] = {
    { DIT_NATIVE(&lt_layout_ltx), .is_standard = ltx_standard },
    DIT_ENCODER("te1", "text encoder (T5)", "text_encoders.t5xxl.transformer.",
        "text_encoder.", "lora_te_"),
    DIT_VAE,
    { 0 },
};
static const lt_component ltx_public[] = {
    { DIT_PUBLIC(&lt_layout_ltx), .is_standard = ltx_standard },
    DIT_ENCODER("te1", "text encoder (T5)", "text_encoders.t5xxl.transformer.",
        "text_encoder.", "lora_te_"),
    DIT_VAE,
    { 0 },
};

#define LTX_TRAITS .id = "ltx", .title = "LTX-Video"

const lt_family lt_family_ltx = {
    LTX_TRAITS,
    .naming = LT_NAMING_KOHYA,
    .base_signs = ltx_native_base,
    .adapter_signs = ltx_adapter,
    .components = ltx_native,
};
const lt_family lt_family_ltx_diffusers = {
    LTX_TRAITS,
    .naming = LT_NAMING_DIFFUSERS,
    .base_signs = ltx_public_base,
    .adapter_signs = lt_no_adapter_signs,
    .components = ltx_public,
};
