/* SPDX-License-Identifier: MIT */
/* Stable Diffusion 1.x, 2.x and XL single-file checkpoints. SD1 and SD2 have the same key
 * set and differ in shapes: SD1's proj_in is a 1x1 convolution, SD2's a linear layer. */
#include "model/family_sd.h"

#define UNET(layout, native_names)                   \
    {                                                \
        SD_UNET(layout, native_names), .prefixes = { \
            "model.diffusion_model.",                \
            "diffusion_model.",                      \
            ""                                       \
        }                                            \
    }
#define VAE                                                  \
    {                                                        \
        SD_VAE, .prefixes = { "first_stage_model.", "vae." } \
    }

/* ---- 1.x ----------------------------------------------------------------------------
 */

static const lt_component sd1_components[] = {
    UNET(&lt_layout_unet_sd1, false),
    { SD_ENCODER("te1", "text encoder", &lt_layout_clip, "text_encoder.", "clip_l",
          "lora_te_", "lora_te1_"),
        .prefixes = { "cond_stage_model.transformer." } },
    VAE,
    { 0 },
};

static const lt_base_sign sd1_base[] = {
    { .key = "input_blocks.0.0.weight", .n_dims = 4 },
    { .key = "input_blocks.1.1.proj_in.weight", .n_dims = 4 },
    { .key = "middle_block.1.proj_in.weight", .n_dims = 4 },
    { .key = "label_emb.0.0.weight", .absent = true },
    { 0 },
};

static const lt_adapter_sign sd1_adapter[] = {
    { ".#.transformer_blocks.#.attn2.to_k", 768, 0 },
    { "down_blocks_0_attentions_0_proj_in", 0, 4 },
    { "down_blocks.0.attentions.0.proj_in", 0, 4 },
    { 0 },
};

const lt_family lt_family_sd1 = {
    SD1_TRAITS,
    .base_signs = sd1_base,
    .adapter_signs = sd1_adapter,
    .components = sd1_components,
};

/* ---- 2.x ----------------------------------------------------------------------------
 */

static const lt_component sd2_components[] = {
    UNET(&lt_layout_unet_sd2, false),
    { SD_ENCODER("te1", "text encoder", &lt_layout_openclip_sd2, "text_encoder.",
          "clip_h", "lora_te_", "lora_te1_"),
        .prefixes = { "cond_stage_model.model.", "conditioner.embedders.0.model." } },
    VAE,
    { 0 },
};

static const lt_base_sign sd2_base[] = {
    { .key = "input_blocks.0.0.weight", .n_dims = 4 },
    { .key = "input_blocks.1.1.proj_in.weight", .n_dims = 2 },
    { .key = "middle_block.1.proj_in.weight", .n_dims = 2 },
    { .key = "label_emb.0.0.weight", .absent = true },
    { 0 },
};

static const lt_adapter_sign sd2_adapter[] = {
    { ".#.transformer_blocks.#.attn2.to_k", 1024, 0 },
    { 0 },
};

const lt_family lt_family_sd2 = {
    SD2_TRAITS,
    .base_signs = sd2_base,
    .adapter_signs = sd2_adapter,
    .components = sd2_components,
};

/* ---- XL -----------------------------------------------------------------------------
 */

static const lt_component sdxl_components[] = {
    UNET(&lt_layout_unet_sdxl, true),
    { SD_ENCODER("te1", "text encoder 1", &lt_layout_clip, "text_encoder.", "clip_l",
          "lora_te1_"),
        .prefixes = { "conditioner.embedders.0.transformer." } },
    { SD_ENCODER("te2", "text encoder 2", &lt_layout_openclip, "text_encoder_2.",
          "clip_g", "lora_te2_"),
        .prefixes = { "conditioner.embedders.1.model." } },
    VAE,
    { 0 },
};

static const lt_base_sign sdxl_base[] = {
    { .key = "input_blocks.0.0.weight", .n_dims = 4 },
    { .key = "label_emb.0.0.weight", .n_dims = 2 },
    { .key = "input_blocks.4.1.proj_in.weight", .n_dims = 2 },
    { .key = "input_blocks.1.1.proj_in.weight", .absent = true },
    /* The refiner is deeper here, and its text encoder stands elsewhere. */
    { .key = "input_blocks.4.1.transformer_blocks.3.attn1.to_q.weight", .absent = true },
    { 0 },
};

static const lt_adapter_sign sdxl_adapter[] = {
    { ".#.transformer_blocks.#.attn2.to_k", 2048, 0 },
    { "lora_unet_input_blocks_4_1_transformer_blocks_", 0, 0 },
    { "lora_unet_input_blocks_7_1_transformer_blocks_", 0, 0 },
    { "lora_unet_middle_block_1_transformer_blocks_", 0, 0 },
    { "down_blocks_2_attentions_1_transformer_blocks_9", 0, 0 },
    { "down_blocks.2.attentions.1.transformer_blocks.9", 0, 0 },
    { 0 },
};

const lt_family lt_family_sdxl = {
    SDXL_TRAITS,
    .base_signs = sdxl_base,
    .adapter_signs = sdxl_adapter,
    .components = sdxl_components,
};

/* ---- the refiner of XL: deeper where XL's first attention is -------------------------
 */

static const lt_component refiner_components[] = {
    UNET(&lt_layout_unet_refiner, true),
    { SD_ENCODER("te2", "text encoder", &lt_layout_openclip, "text_encoder_2.", "clip_g",
          "lora_te_", "lora_te2_"),
        .prefixes = { "conditioner.embedders.0.model." } },
    VAE,
    { 0 },
};

static const lt_base_sign refiner_base[] = {
    { .key = "label_emb.0.0.weight", .n_dims = 2 },
    { .key = "input_blocks.4.1.transformer_blocks.3.attn1.to_q.weight", .n_dims = 2 },
    { .key = "input_blocks.1.1.proj_in.weight", .absent = true },
    { .key = "input_blocks.4.1.transformer_blocks.4.attn1.to_q.weight", .absent = true },
    { 0 },
};

static const lt_adapter_sign refiner_adapter[] = {
    { "input_blocks.4.1.transformer_blocks.3.", 0, 0 },
    { "down_blocks.1.attentions.0.transformer_blocks.3.", 0, 0 },
    { 0 },
};

const lt_family lt_family_refiner = {
    REFINER_TRAITS,
    .base_signs = refiner_base,
    .adapter_signs = refiner_adapter,
    .components = refiner_components,
};
