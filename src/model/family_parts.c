/* SPDX-License-Identifier: MIT */
/* Files that hold one part of a model: text encoders, VAEs, ControlNets. Adapters are
 * made for the first; the others are recognised so that nobody takes them for a base. */
#include "model/family_sd.h"

/* ---- CLIP and T5 text encoders ------------------------------------------------------
 */

static const lt_component clip_components[] = {
    { .id = "model",
        .title = "text encoder",
        .prefixes = { "text_encoder.", "" },
        .kohya = { "lora_te_", "lora_te1_", "lora_te2_" },
        .diffusers = { "text_encoder.", "text_encoder_2." },
        .is_main = true,
        .layout = &lt_layout_openclip,
        .is_public = true,
        .rename = lt_rename_clip,
        .respellings = lt_respellings_clip,
        .is_standard = lt_standard_clip },
    { 0 },
};

static const lt_component openclip_components[] = {
    { .id = "model",
        .title = "text encoder",
        .prefixes = { "" },
        .kohya = { "lora_te_", "lora_te1_", "lora_te2_" },
        .diffusers = { "text_encoder.", "text_encoder_2." },
        .is_main = true,
        .layout = &lt_layout_openclip,
        .respellings = lt_respellings_clip,
        .is_standard = lt_standard_clip },
    { 0 },
};

static const lt_base_sign clip_base[] = {
    { .key = "*text_model.encoder.layers.0.mlp.fc1.weight", .n_dims = 2 },
    { .key = "*text_model.embeddings.token_embedding.weight", .n_dims = 2 },
    { .key = "*vision_model.embeddings.class_embedding", .absent = true },
    { 0 },
};
static const lt_base_sign openclip_base[] = {
    { .key = "transformer.resblocks.0.attn.in_proj_weight", .n_dims = 2 },
    { .key = "token_embedding.weight", .n_dims = 2 },
    { 0 },
};

const lt_family lt_family_clip = {
    .id = "clip",
    .title = "CLIP text encoder",
    .naming = LT_NAMING_PEFT,
    .base_signs = clip_base,
    .adapter_signs = lt_no_adapter_signs,
    .components = clip_components,
};
const lt_family lt_family_openclip = {
    .id = "clip",
    .title = "OpenCLIP text encoder",
    .naming = LT_NAMING_PEFT,
    .base_signs = openclip_base,
    .adapter_signs = lt_no_adapter_signs,
    .components = openclip_components,
};

/* ---- parts that no adapter format names ---------------------------------------------
 */

static const lt_component vae_components[] = {
    { SD_VAE, .prefixes = { "" } },
    { 0 },
};
static const lt_component vae_diffusers_components[] = {
    { SD_VAE, .prefixes = { "" }, .is_public = true },
    { 0 },
};
static const lt_component controlnet_components[] = {
    { .id = "controlnet", .title = "ControlNet", .prefixes = { "" }, .no_adapter = true },
    { 0 },
};

static const lt_base_sign vae_base[] = {
    { .key = "decoder.mid.block_1.conv1.weight", .n_dims = 4 },
    { .key = "encoder.down.0.block.0.conv1.weight", .n_dims = 4 },
    { 0 },
};
static const lt_base_sign vae_diffusers_base[] = {
    { .key = "decoder.mid_block.resnets.0.conv1.weight", .n_dims = 4 },
    { .key = "encoder.down_blocks.0.resnets.0.conv1.weight", .n_dims = 4 },
    { 0 },
};
static const lt_base_sign controlnet_base[] = {
    { .key = "input_hint_block.0.weight", .n_dims = 4 },
    { .key = "zero_convs.0.0.weight", .n_dims = 4 },
    { 0 },
};
static const lt_base_sign controlnet_diffusers_base[] = {
    { .key = "controlnet_cond_embedding.conv_in.weight", .n_dims = 4 },
    { .key = "controlnet_down_blocks.0.weight", .n_dims = 4 },
    { 0 },
};

#define PART(symbol, id_, title_, signs, parts) \
    const lt_family symbol = {                  \
        .id = id_,                              \
        .title = title_,                        \
        .naming = LT_NAMING_KOHYA,              \
        .base_signs = signs,                    \
        .adapter_signs = lt_no_adapter_signs,   \
        .components = parts,                    \
    }

PART(lt_family_vae, "vae", "VAE", vae_base, vae_components);
PART(lt_family_vae_diffusers, "vae", "VAE", vae_diffusers_base, vae_diffusers_components);
PART(lt_family_controlnet, "controlnet", "ControlNet", controlnet_base,
    controlnet_components);
PART(lt_family_controlnet_diffusers, "controlnet", "ControlNet",
    controlnet_diffusers_base, controlnet_components);
