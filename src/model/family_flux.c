/* SPDX-License-Identifier: MIT */
/* FLUX.1 and Chroma. Their adapters differ in the modulations, which Chroma has not: an
 * adapter that leaves those alone fits both and is called FLUX.1's. */
#include "model/family_dit.h"

#define ENCODERS                                                                      \
    DIT_CLIP("te1", "text encoder 1 (CLIP-L)", "text_encoders.clip_l.transformer.",   \
        "text_encoder.", "lora_te1_"),                                                \
        DIT_ENCODER("te2", "text encoder 2 (T5)", "text_encoders.t5xxl.transformer.", \
            "text_encoder_2.", "lora_te3_", "lora_te2_"),                             \
        DIT_VAE,                                                                      \
    {                                                                                 \
        0                                                                             \
    }

static const char *const standard[] = { "double_blocks.", "single_blocks.",
    "transformer_blocks.", "single_transformer_blocks.", NULL };

static bool is_standard(const char *path)
{
    return lt_begins_with_any(path, standard);
}

static const lt_component flux_native[] = {
    { DIT_NATIVE(&lt_layout_flux), .is_standard = is_standard },
    ENCODERS,
};
static const lt_component flux_public[] = {
    { DIT_PUBLIC(&lt_layout_flux), .is_standard = is_standard },
    ENCODERS,
};
static const lt_component chroma_native[] = {
    { DIT_NATIVE(&lt_layout_chroma), .is_standard = is_standard },
    ENCODERS,
};
static const lt_component chroma_public[] = {
    { DIT_PUBLIC(&lt_layout_chroma), .is_standard = is_standard },
    ENCODERS,
};

#define FLUX_TRAITS                                            \
    .id = "flux", .title = "FLUX.1", .kohya_version = "flux1", \
    .architecture = "flux-1-dev",                              \
    .implementation = "https://github.com/black-forest-labs/flux"
#define CHROMA_TRAITS                                             \
    .id = "chroma", .title = "Chroma", .kohya_version = "chroma", \
    .architecture = "chroma",                                     \
    .implementation = "https://huggingface.co/lodestones/Chroma"

static const lt_base_sign flux_native_base[] = {
    { .key = "double_blocks.0.img_attn.norm.key_norm.scale", .n_dims = 1 },
    { .key = "img_in.weight", .n_dims = 2 },
    { .key = "double_blocks.0.img_mod.lin.weight", .n_dims = 2 },
    { 0 },
};
static const lt_base_sign flux_public_base[] = {
    { .key = "transformer_blocks.0.attn.add_q_proj.weight", .n_dims = 2 },
    { .key = "single_transformer_blocks.0.proj_mlp.weight", .n_dims = 2 },
    { .key = "x_embedder.weight", .n_dims = 2 },
    { .key = "transformer_blocks.0.norm1.linear.weight", .n_dims = 2 },
    { .key = "time_text_embed.timestep_embedder.linear_1.weight", .n_dims = 2 },
    { 0 },
};
static const lt_base_sign chroma_native_base[] = {
    { .key = "distilled_guidance_layer.in_proj.weight", .n_dims = 2 },
    { .key = "double_blocks.0.img_attn.norm.key_norm.scale", .n_dims = 1 },
    { .key = "img_in.weight", .n_dims = 2 },
    { 0 },
};
static const lt_base_sign chroma_public_base[] = {
    { .key = "distilled_guidance_layer.in_proj.weight", .n_dims = 2 },
    { .key = "transformer_blocks.0.attn.add_q_proj.weight", .n_dims = 2 },
    { .key = "x_embedder.weight", .n_dims = 2 },
    { 0 },
};

/* Modules of its blocks that no relative has; # is any number, and a dot fits an
 * underscore. */
static const lt_adapter_sign flux_adapter[] = {
    { "double_blocks.#.img_mod.lin", 0, 2 },
    { "double_blocks.#.img_attn.", 0, 2 },
    { "double_blocks.#.txt_attn.", 0, 2 },
    { "double_blocks.#.img_mlp.#", 0, 2 },
    { "double_blocks.#.processor.", 0, 2 },
    { "single_blocks.#.linear1", 0, 2 },
    { "single_blocks.#.linear2", 0, 2 },
    { "single_transformer_blocks.#.proj_mlp", 0, 2 },
    { "single_transformer_blocks.#.proj_out", 0, 2 },
    { "single_transformer_blocks.#.attn.to_", 0, 2 },
    { 0 },
};
static const lt_adapter_sign chroma_adapter[] = {
    { "distilled_guidance_layer.", 0, 2 },
    { 0 },
};

const lt_family lt_family_flux = {
    FLUX_TRAITS,
    .naming = LT_NAMING_KOHYA,
    .base_signs = flux_native_base,
    .adapter_signs = flux_adapter,
    .components = flux_native,
};
const lt_family lt_family_flux_diffusers = {
    FLUX_TRAITS,
    .naming = LT_NAMING_DIFFUSERS,
    .base_signs = flux_public_base,
    .adapter_signs = lt_no_adapter_signs,
    .components = flux_public,
};
const lt_family lt_family_chroma = {
    CHROMA_TRAITS,
    .naming = LT_NAMING_KOHYA,
    .base_signs = chroma_native_base,
    .adapter_signs = chroma_adapter,
    .components = chroma_native,
};
const lt_family lt_family_chroma_diffusers = {
    CHROMA_TRAITS,
    .naming = LT_NAMING_DIFFUSERS,
    .base_signs = chroma_public_base,
    .adapter_signs = lt_no_adapter_signs,
    .components = chroma_public,
};
