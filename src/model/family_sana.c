/* SPDX-License-Identifier: MIT */
/* Sana, its Sprint and SANA-Video. Adapters of the smallest have the names and sizes of
 * PixArt's unless they change a convolution, those of SANA-Video Sana's. */
#include "model/family_dit.h"

#include <string.h>

static const char *const sana_blocks[] = { "blocks.", "transformer_blocks.", NULL };

static bool sana_standard(const char *path)
{
    return lt_begins_with_any(path, sana_blocks);
}

/* Nothing adapts the convolutions of a channel each: LoRA of them needs a rank of as many
 * channels. */
static bool sana_rename(const char *name, lt_rename *out)
{
    size_t n = lt_stem_size(name, ".weight");
    bool depthwise = strstr(name, ".depth_conv.") || strstr(name, ".conv_depth.");
    return n && !depthwise && lt_rename_to(out, "%.*s", (int)n, name);
}

#define SANA_PARTS                                                                       \
    DIT_ENCODER("te1", "text encoder (Gemma 2)", "text_encoders.gemma2_2b.transformer.", \
        "text_encoder.", "lora_te_"),                                                    \
        DIT_VAE

static const lt_base_sign sana_video_base[] = {
    { .key = "blocks.0.mlp.inverted_conv.conv.weight", .n_dims = 4 },
    { .key = "blocks.0.cross_attn.kv_linear.weight", .n_dims = 2 },
    { .key = "blocks.0.mlp.t_conv.weight", .n_dims = 4 },
    { 0 },
};
static const lt_component sana_video[] = {
    { DIT_NATIVE(&lt_layout_sana_video), .rename = sana_rename,
        .is_standard = sana_standard },
    SANA_PARTS,
    { 0 },
};

static const lt_base_sign sana_video_diffusers_base[] = {
    { .key = "transformer_blocks.0.ff.conv_inverted.weight", .n_dims = 4 },
    { .key = "caption_norm.weight", .n_dims = 1 },
    { .key = "transformer_blocks.0.ff.conv_temp.weight", .n_dims = 4 },
    { 0 },
};
static const lt_component sana_video_diffusers[] = {
    { DIT_PUBLIC(&lt_layout_sana_video), .rename = sana_rename,
        .is_standard = sana_standard },
    SANA_PARTS,
    { 0 },
};

static const lt_base_sign sana_sprint_base[] = {
    { .key = "blocks.0.mlp.inverted_conv.conv.weight", .n_dims = 4 },
    { .key = "blocks.0.cross_attn.kv_linear.weight", .n_dims = 2 },
    { .key = "cfg_embedder.mlp.0.weight", .n_dims = 2 },
    { .key = "x_embedder.proj.weight", .n_dims = 4 },
    { 0 },
};
static const lt_component sana_sprint[] = {
    { DIT_NATIVE(&lt_layout_sana_sprint), .rename = sana_rename,
        .is_standard = sana_standard },
    SANA_PARTS,
    { 0 },
};

static const lt_base_sign sana_sprint_diffusers_base[] = {
    { .key = "transformer_blocks.0.ff.conv_inverted.weight", .n_dims = 4 },
    { .key = "caption_norm.weight", .n_dims = 1 },
    { .key = "time_embed.guidance_embedder.linear_1.weight", .n_dims = 2 },
    { .key = "patch_embed.proj.weight", .n_dims = 4 },
    { 0 },
};
static const lt_component sana_sprint_diffusers[] = {
    { DIT_PUBLIC(&lt_layout_sana_sprint), .rename = sana_rename,
        .is_standard = sana_standard },
    SANA_PARTS,
    { 0 },
};

static const lt_base_sign sana_base[] = {
    { .key = "blocks.0.mlp.inverted_conv.conv.weight", .n_dims = 4 },
    { .key = "blocks.0.cross_attn.kv_linear.weight", .n_dims = 2 },
    { .key = "cfg_embedder.mlp.0.weight", .absent = true },
    { .key = "x_embedder.proj.weight", .n_dims = 4 },
    { 0 },
};
static const lt_adapter_sign sana_adapter[] = {
    { "blocks.#.mlp.inverted_conv", 0, 0 },
    { "transformer_blocks.#.ff.conv_inverted", 0, 0 },
    { "blocks.#.cross_attn.kv_linear", 2240, 2 },
    { "blocks.#.cross_attn.q_linear", 2240, 2 },
    { "blocks.#.attn.qkv", 2240, 2 },
    { "transformer_blocks.#.attn1.to_", 2240, 2 },
    { "transformer_blocks.#.attn2.to_", 2240, 2 },
    { 0 },
};
static const lt_component sana[] = {
    { DIT_NATIVE(&lt_layout_sana), .rename = sana_rename, .is_standard = sana_standard },
    SANA_PARTS,
    { 0 },
};

static const lt_base_sign sana_diffusers_base[] = {
    { .key = "transformer_blocks.0.ff.conv_inverted.weight", .n_dims = 4 },
    { .key = "caption_norm.weight", .n_dims = 1 },
    { .key = "time_embed.emb.timestep_embedder.linear_1.weight", .n_dims = 2 },
    { .key = "patch_embed.proj.weight", .n_dims = 4 },
    { 0 },
};
static const lt_component sana_diffusers[] = {
    { DIT_PUBLIC(&lt_layout_sana), .rename = sana_rename, .is_standard = sana_standard },
    SANA_PARTS,
    { 0 },
};

#define SANA_VIDEO_TRAITS .id = "sana-video", .title = "SANA-Video"

const lt_family lt_family_sana_video = {
    SANA_VIDEO_TRAITS,
    .naming = LT_NAMING_KOHYA,
    .base_signs = sana_video_base,
    .adapter_signs = lt_no_adapter_signs,
    .components = sana_video,
};
const lt_family lt_family_sana_video_diffusers = {
    SANA_VIDEO_TRAITS,
    .naming = LT_NAMING_DIFFUSERS,
    .base_signs = sana_video_diffusers_base,
    .adapter_signs = lt_no_adapter_signs,
    .components = sana_video_diffusers,
};
#define SANA_TRAITS .id = "sana", .title = "Sana"

const lt_family lt_family_sana_sprint = {
    SANA_TRAITS,
    .naming = LT_NAMING_KOHYA,
    .base_signs = sana_sprint_base,
    .adapter_signs = lt_no_adapter_signs,
    .components = sana_sprint,
};
const lt_family lt_family_sana_sprint_diffusers = {
    SANA_TRAITS,
    .naming = LT_NAMING_DIFFUSERS,
    .base_signs = sana_sprint_diffusers_base,
    .adapter_signs = lt_no_adapter_signs,
    .components = sana_sprint_diffusers,
};
const lt_family lt_family_sana = {
    SANA_TRAITS,
    .naming = LT_NAMING_KOHYA,
    .base_signs = sana_base,
    .adapter_signs = sana_adapter,
    .components = sana,
};
const lt_family lt_family_sana_diffusers = {
    SANA_TRAITS,
    .naming = LT_NAMING_DIFFUSERS,
    .base_signs = sana_diffusers_base,
    .adapter_signs = lt_no_adapter_signs,
    .components = sana_diffusers,
};
