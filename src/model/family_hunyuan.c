/* SPDX-License-Identifier: MIT */
/* HunyuanVideo and HunyuanImage 2.1. The refiner of the latter patches in three
 * dimensions too: what tells the video model is its vector input. */
#include "model/family_dit.h"

static const char *const hunyuan_video_blocks[] = { "double_blocks.", "single_blocks.",
    "transformer_blocks.", "single_transformer_blocks.", NULL };

static bool hunyuan_video_standard(const char *path)
{
    return lt_begins_with_any(path, hunyuan_video_blocks);
}

static bool hunyuan_image_standard(const char *path)
{
    return hunyuan_video_standard(path);
}

static const lt_base_sign hunyuan_video_native_base[] = {
    { .key = "txt_in.individual_token_refiner.blocks.0.norm1.weight", .n_dims = 1 },
    { .key = "img_in.proj.weight", .n_dims = 5 },
    { .key = "vector_in.in_layer.weight", .n_dims = 2 },
    { 0 },
};
static const lt_base_sign hunyuan_video_public_base[] = {
    { .key = "context_embedder.token_refiner.refiner_blocks.0.attn.to_q.weight",
        .n_dims = 2 },
    { .key = "time_text_embed.text_embedder.linear_1.weight", .n_dims = 2 },
    { .key = "single_transformer_blocks.0.proj_mlp.weight", .n_dims = 2 },
    { 0 },
};
static const lt_adapter_sign hunyuan_video_adapter[] = {
    { "double_blocks.#.img_mlp.fc", 3072, 2 },
    { "double_blocks.#.txt_mlp.fc", 3072, 2 },
    { "double_blocks.#.img_mod.linear", 3072, 2 },
    { "double_blocks.#.txt_mod.linear", 3072, 2 },
    { "single_blocks.#.modulation.linear", 3072, 2 },
    { "txt_in.individual_token_refiner", 3072, 2 },
    { 0 },
};

static const lt_component hunyuan_video_native[] = {
    { DIT_NATIVE(&lt_layout_hunyuan_video), .is_standard = hunyuan_video_standard },
    DIT_ENCODER("te1", "text encoder 1 (LLaMA)", "text_encoders.llama.transformer.",
        "text_encoder.", "lora_te1_"),
    DIT_CLIP("te2", "text encoder 2 (CLIP-L)", "text_encoders.clip_l.transformer.",
        "text_encoder_2.", "lora_te2_"),
    DIT_VAE,
    { 0 },
};
static const lt_component hunyuan_video_public[] = {
    { DIT_PUBLIC(&lt_layout_hunyuan_video), .is_standard = hunyuan_video_standard },
    DIT_ENCODER("te1", "text encoder 1 (LLaMA)", "text_encoders.llama.transformer.",
        "text_encoder.", "lora_te1_"),
    DIT_CLIP("te2", "text encoder 2 (CLIP-L)", "text_encoders.clip_l.transformer.",
        "text_encoder_2.", "lora_te2_"),
    DIT_VAE,
    { 0 },
};

#define HUNYUAN_VIDEO_TRAITS .id = "hunyuan-video", .title = "HunyuanVideo"

const lt_family lt_family_hunyuan_video = {
    HUNYUAN_VIDEO_TRAITS,
    .naming = LT_NAMING_KOHYA,
    .base_signs = hunyuan_video_native_base,
    .adapter_signs = hunyuan_video_adapter,
    .components = hunyuan_video_native,
};
const lt_family lt_family_hunyuan_video_diffusers = {
    HUNYUAN_VIDEO_TRAITS,
    .naming = LT_NAMING_DIFFUSERS,
    .base_signs = hunyuan_video_public_base,
    .adapter_signs = lt_no_adapter_signs,
    .components = hunyuan_video_public,
};

static const lt_base_sign hunyuan_image_native_base[] = {
    { .key = "txt_in.individual_token_refiner.blocks.0.norm1.weight", .n_dims = 1 },
    { .key = "img_in.proj.weight", .n_dims = 0 },
    { .key = "vector_in.in_layer.weight", .absent = true },
    { 0 },
};
static const lt_base_sign hunyuan_image_public_base[] = {
    { .key = "context_embedder.token_refiner.refiner_blocks.0.attn.to_q.weight",
        .n_dims = 2 },
    { .key = "time_guidance_embed.timestep_embedder.linear_1.weight", .n_dims = 2 },
    { 0 },
};
static const lt_adapter_sign hunyuan_image_adapter[] = {
    { "single_transformer_blocks.#.attn.to_", 3584, 2 },
    { "single_transformer_blocks.#.proj_", 3584, 2 },
    { "transformer_blocks.#.attn.to_", 3584, 2 },
    { "double_blocks.#.img_mlp.fc", 0, 2 },
    { "double_blocks.#.txt_mlp.fc", 0, 2 },
    { "double_blocks.#.img_mod.linear", 0, 2 },
    { "double_blocks.#.txt_mod.linear", 0, 2 },
    { "single_blocks.#.modulation.linear", 0, 2 },
    { "txt_in.individual_token_refiner", 0, 2 },
    { 0 },
};

static const lt_component hunyuan_image_native[] = {
    { DIT_NATIVE(&lt_layout_hunyuan_image), .is_standard = hunyuan_image_standard },
    DIT_ENCODER("te1", "text encoder (Qwen2.5-VL)",
        "text_encoders.qwen25_7b.transformer.", "text_encoder.", "lora_te_"),
    DIT_VAE,
    { 0 },
};
static const lt_component hunyuan_image_public[] = {
    { DIT_PUBLIC(&lt_layout_hunyuan_image), .is_standard = hunyuan_image_standard },
    DIT_ENCODER("te1", "text encoder (Qwen2.5-VL)",
        "text_encoders.qwen25_7b.transformer.", "text_encoder.", "lora_te_"),
    DIT_VAE,
    { 0 },
};

#define HUNYUAN_IMAGE_TRAITS                            \
    .id = "hunyuan-image", .title = "HunyuanImage 2.1", \
    .kohya_version = "hunyuan-image-2.1", .architecture = "hunyuan-image-2.1"

const lt_family lt_family_hunyuan_image = {
    HUNYUAN_IMAGE_TRAITS,
    .naming = LT_NAMING_KOHYA,
    .base_signs = hunyuan_image_native_base,
    .adapter_signs = hunyuan_image_adapter,
    .components = hunyuan_image_native,
};
const lt_family lt_family_hunyuan_image_diffusers = {
    HUNYUAN_IMAGE_TRAITS,
    .naming = LT_NAMING_DIFFUSERS,
    .base_signs = hunyuan_image_public_base,
    .adapter_signs = lt_no_adapter_signs,
    .components = hunyuan_image_public,
};
