/* SPDX-License-Identifier: MIT */
/* Stable Diffusion 1.x, 2.x and XL as diffusers keeps them: a pipeline folder with a
 * component in each subfolder, or the U-Net alone. The families are those of
 * family_sd.c; only the names in the files differ. */
#include "model/family_sd.h"

/* Parts of a pipeline that no adapter format names. */
#define PIPELINE_REST                          \
    { SD_VAE, .prefixes = { "vae." } },        \
        { .id = "safety",                      \
            .title = "safety checker",         \
            .prefixes = { "safety_checker." }, \
            .no_adapter = true },              \
    {                                          \
        0                                      \
    }

#define UNET(layout, native_names)                                                    \
    {                                                                                 \
        SD_UNET(layout, native_names), .prefixes = { "unet.", "" }, .is_public = true \
    }
#define ENCODER(id, title, layout, prefix, in_comfyui, ...)             \
    {                                                                   \
        SD_ENCODER(id, title, layout, prefix, in_comfyui, __VA_ARGS__), \
            .prefixes = { prefix }, .is_public = true                   \
    }

static const lt_component sd1_components[] = {
    UNET(&lt_layout_unet_sd1, false),
    ENCODER("te1", "text encoder", &lt_layout_clip, "text_encoder.", "clip_l", "lora_te_",
        "lora_te1_"),
    PIPELINE_REST,
};

static const lt_component sd2_components[] = {
    UNET(&lt_layout_unet_sd2, false),
    ENCODER("te1", "text encoder", &lt_layout_openclip_sd2, "text_encoder.", "clip_h",
        "lora_te_", "lora_te1_"),
    PIPELINE_REST,
};

static const lt_component sdxl_components[] = {
    UNET(&lt_layout_unet_sdxl, true),
    ENCODER(
        "te1", "text encoder 1", &lt_layout_clip, "text_encoder.", "clip_l", "lora_te1_"),
    ENCODER("te2", "text encoder 2", &lt_layout_openclip, "text_encoder_2.", "clip_g",
        "lora_te2_"),
    PIPELINE_REST,
};

static const lt_base_sign sd1_base[] = {
    { .key = "down_blocks.0.attentions.0.proj_in.weight", .n_dims = 4 },
    { .key = "mid_block.attentions.0.proj_in.weight", .n_dims = 4 },
    { .key = "add_embedding.linear_1.weight", .absent = true },
    { 0 },
};

const lt_family lt_family_sd1_diffusers = {
    SD1_TRAITS,
    .base_signs = sd1_base,
    .adapter_signs = lt_no_adapter_signs,
    .components = sd1_components,
};

static const lt_base_sign sd2_base[] = {
    { .key = "down_blocks.0.attentions.0.proj_in.weight", .n_dims = 2 },
    { .key = "mid_block.attentions.0.proj_in.weight", .n_dims = 2 },
    { .key = "add_embedding.linear_1.weight", .absent = true },
    { 0 },
};

const lt_family lt_family_sd2_diffusers = {
    SD2_TRAITS,
    .base_signs = sd2_base,
    .adapter_signs = lt_no_adapter_signs,
    .components = sd2_components,
};

static const lt_base_sign sdxl_base[] = {
    { .key = "add_embedding.linear_1.weight", .n_dims = 2 },
    { .key = "down_blocks.1.attentions.0.proj_in.weight", .n_dims = 2 },
    { .key = "down_blocks.0.attentions.0.proj_in.weight", .absent = true },
    /* The refiner is deeper here. */
    { .key = "down_blocks.1.attentions.0.transformer_blocks.3.attn1.to_q.weight",
        .absent = true },
    { 0 },
};

const lt_family lt_family_sdxl_diffusers = {
    SDXL_TRAITS,
    .base_signs = sdxl_base,
    .adapter_signs = lt_no_adapter_signs,
    .components = sdxl_components,
};

static const lt_component refiner_components[] = {
    UNET(&lt_layout_unet_refiner, true),
    ENCODER("te2", "text encoder", &lt_layout_openclip, "text_encoder_2.", "clip_g",
        "lora_te_", "lora_te2_"),
    PIPELINE_REST,
};

static const lt_base_sign refiner_base[] = {
    { .key = "add_embedding.linear_1.weight", .n_dims = 2 },
    { .key = "down_blocks.1.attentions.0.transformer_blocks.3.attn1.to_q.weight",
        .n_dims = 2 },
    { .key = "down_blocks.0.attentions.0.proj_in.weight", .absent = true },
    { 0 },
};

const lt_family lt_family_refiner_diffusers = {
    REFINER_TRAITS,
    .base_signs = refiner_base,
    .adapter_signs = lt_no_adapter_signs,
    .components = refiner_components,
};
