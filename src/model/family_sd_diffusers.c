/* SPDX-License-Identifier: MIT */
/* Stable Diffusion 1.x, 2.x and XL as diffusers keeps them: a pipeline folder with a
 * component in each subfolder, or the U-Net alone. The families are those of
 * family_sd.c; only the names in the files differ. */
#include "model/family_sd.h"

/* Parts of a pipeline that no adapter format names. */
#define PIPELINE_REST                                                            \
    { .id = "vae", .title = "VAE", .prefixes = { "vae." }, .no_adapter = true }, \
        { .id = "safety",                                                        \
            .title = "safety checker",                                           \
            .prefixes = { "safety_checker." },                                   \
            .no_adapter = true },                                                \
    {                                                                            \
        0                                                                        \
    }

#define UNET(how, native)                                                  \
    {                                                                      \
        .id = "unet", .title = "U-Net", .prefixes = { "unet.", "" },       \
        .kohya = { "lora_unet_" }, .comfyui = "diffusion_model.",          \
        .diffusers = { "unet." }, .is_main = true, .kohya_native = native, \
        .rename = how, .respellings = lt_respellings_unet,                 \
        .is_standard = lt_standard_unet                                    \
    }

#define TEXT_ENCODER(id_, title_, prefix, in_comfyui, ...)                            \
    {                                                                                 \
        .id = id_, .title = title_, .prefixes = { prefix }, .kohya = { __VA_ARGS__ }, \
        .diffusers = { prefix, "text_encoders." in_comfyui ".transformer." },         \
        .comfyui = "text_encoders." in_comfyui ".transformer.",                       \
        .rename = lt_rename_clip, .respellings = lt_respellings_clip,                 \
        .is_standard = lt_standard_clip                                               \
    }

static const lt_component sd1_components[] = {
    UNET(lt_rename_unet_diffusers, false),
    TEXT_ENCODER(
        "te1", "text encoder", "text_encoder.", "clip_l", "lora_te_", "lora_te1_"),
    PIPELINE_REST,
};

static const lt_component sd2_components[] = {
    UNET(lt_rename_unet_diffusers, false),
    TEXT_ENCODER(
        "te1", "text encoder", "text_encoder.", "clip_h", "lora_te_", "lora_te1_"),
    PIPELINE_REST,
};

static const lt_component sdxl_components[] = {
    UNET(lt_rename_unet_diffusers_xl, true),
    TEXT_ENCODER("te1", "text encoder 1", "text_encoder.", "clip_l", "lora_te1_"),
    TEXT_ENCODER("te2", "text encoder 2", "text_encoder_2.", "clip_g", "lora_te2_"),
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
    UNET(lt_rename_unet_diffusers, true),
    TEXT_ENCODER(
        "te2", "text encoder", "text_encoder_2.", "clip_g", "lora_te_", "lora_te2_"),
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
