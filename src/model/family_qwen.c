/* SPDX-License-Identifier: MIT */
/* Qwen-Image, whose single files have diffusers' names. */
#include "model/family_dit.h"

static const char *const qwen_blocks[] = { "transformer_blocks.", NULL };

static bool qwen_standard(const char *path)
{
    return lt_begins_with_any(path, qwen_blocks);
}

static const lt_base_sign qwen_native_base[] = {
    { .key = "txt_norm.weight", .n_dims = 1 },
    { .key = "transformer_blocks.0.img_mod.1.weight", .n_dims = 2 },
    { 0 },
};
static const lt_adapter_sign qwen_adapter[] = {
    { "transformer_blocks.#.img_mod.1", 0, 2 },
    { "transformer_blocks.#.img_mlp.", 0, 2 },
    { "transformer_blocks.#.txt_mlp.", 0, 2 },
    { "transformer_blocks.#.txt_mod.1", 0, 2 },
    { 0 },
};

static const lt_component qwen_native[] = {
    { DIT_NATIVE(&lt_layout_qwen_image), .is_standard = qwen_standard },
    DIT_ENCODER("te1", "text encoder (Qwen2.5-VL)",
        "text_encoders.qwen25_7b.transformer.", "text_encoder.", "lora_te_"),
    DIT_VAE,
    { 0 },
};

#define QWEN_TRAITS .id = "qwen-image", .title = "Qwen-Image"

const lt_family lt_family_qwen = {
    QWEN_TRAITS,
    .naming = LT_NAMING_KOHYA,
    .base_signs = qwen_native_base,
    .adapter_signs = qwen_adapter,
    .components = qwen_native,
};
