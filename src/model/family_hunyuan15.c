/* SPDX-License-Identifier: MIT */
/* HunyuanVideo 1.5, as published and as ComfyUI repackaged it, with q, k and v fused.
 * Diffusers' layout is seen from the latter, which knows adapters of both. */
#include "model/family_dit.h"

static const char *const hunyuan15_blocks[] = { "double_blocks.", "transformer_blocks.",
    NULL };

static bool hunyuan15_standard(const char *path)
{
    return lt_begins_with_any(path, hunyuan15_blocks);
}

#define HUNYUAN15_PARTS                                                               \
    DIT_ENCODER("te1", "text encoder (Qwen2.5-VL)",                                   \
        "text_encoders.qwen25_7b.transformer.", "text_encoder.", "lora_te1_"),        \
        DIT_ENCODER("te2", "text encoder 2 (ByT5)",                                   \
            "text_encoders.byt5_small.transformer.", "text_encoder_2.", "lora_te2_"), \
        DIT_VAE

static const lt_base_sign hunyuan_video15_base[] = {
    { .key = "cond_type_embedding.weight", .n_dims = 2 },
    { .key = "txt_in.individual_token_refiner.blocks.0.norm1.weight", .n_dims = 1 },
    { .key = "double_blocks.0.img_attn_q.weight", .n_dims = 2 },
    { 0 },
};
static const lt_adapter_sign hunyuan_video15_adapter[] = {
    { "double_blocks.#.img_attn_q", 2048, 2 },
    { "double_blocks.#.img_attn_k", 2048, 2 },
    { "double_blocks.#.img_attn_v", 2048, 2 },
    { "double_blocks.#.txt_attn_q", 2048, 2 },
    { "double_blocks.#.txt_attn_k", 2048, 2 },
    { "double_blocks.#.txt_attn_v", 2048, 2 },
    { "double_blocks.#.img_mlp.fc1", 2048, 2 },
    { "double_blocks.#.img_mod.linear", 2048, 2 },
    { "double_blocks.#.img_attn_proj", 2048, 2 },
    { "double_blocks.#.img_attn_qkv", 2048, 2 },
    { "double_blocks.#.txt_mlp.fc1", 2048, 2 },
    { "double_blocks.#.txt_mod.linear", 2048, 2 },
    { "double_blocks.#.txt_attn_proj", 2048, 2 },
    { "double_blocks.#.txt_attn_qkv", 2048, 2 },
    { "transformer_blocks.#.attn.to_q", 2048, 2 },
    { "transformer_blocks.#.attn.to_v", 2048, 2 },
    { "transformer_blocks.#.attn.add_q_proj", 2048, 2 },
    { 0 },
};
static const lt_component hunyuan_video15[] = {
    { DIT_NATIVE(&lt_layout_hunyuan_video15), .is_standard = hunyuan15_standard },
    HUNYUAN15_PARTS,
    { 0 },
};

static const lt_base_sign hunyuan_video15_fused_base[] = {
    { .key = "cond_type_embedding.weight", .n_dims = 2 },
    { .key = "txt_in.individual_token_refiner.blocks.0.norm1.weight", .n_dims = 1 },
    { .key = "double_blocks.0.img_attn_q.weight", .absent = true },
    { 0 },
};
static const lt_component hunyuan_video15_fused[] = {
    { DIT_NATIVE(&lt_layout_hunyuan_video15_fused), .is_standard = hunyuan15_standard },
    HUNYUAN15_PARTS,
    { 0 },
};

static const lt_base_sign hunyuan_video15_diffusers_base[] = {
    { .key = "cond_type_embed.weight", .n_dims = 2 },
    { .key = "context_embedder.token_refiner.refiner_blocks.0.attn.to_q.weight",
        .n_dims = 2 },
    { .key = "transformer_blocks.0.attn.add_q_proj.weight", .n_dims = 2 },
    { 0 },
};
static const lt_component hunyuan_video15_diffusers[] = {
    { DIT_PUBLIC(&lt_layout_hunyuan_video15_fused), .is_standard = hunyuan15_standard },
    HUNYUAN15_PARTS,
    { 0 },
};

#define HUNYUAN_VIDEO_1_5_TRAITS .id = "hunyuan-video-1.5", .title = "HunyuanVideo 1.5"

const lt_family lt_family_hunyuan_video15 = {
    HUNYUAN_VIDEO_1_5_TRAITS,
    .naming = LT_NAMING_KOHYA,
    .base_signs = hunyuan_video15_base,
    .adapter_signs = hunyuan_video15_adapter,
    .components = hunyuan_video15,
};
const lt_family lt_family_hunyuan_video15_fused = {
    HUNYUAN_VIDEO_1_5_TRAITS,
    .naming = LT_NAMING_KOHYA,
    .base_signs = hunyuan_video15_fused_base,
    .adapter_signs = lt_no_adapter_signs,
    .components = hunyuan_video15_fused,
};
const lt_family lt_family_hunyuan_video15_diffusers = {
    HUNYUAN_VIDEO_1_5_TRAITS,
    .naming = LT_NAMING_DIFFUSERS,
    .base_signs = hunyuan_video15_diffusers_base,
    .adapter_signs = lt_no_adapter_signs,
    .components = hunyuan_video15_diffusers,
};
