/* SPDX-License-Identifier: MIT */
/* Kandinsky 5.0. */
#include "model/family_dit.h"

static const char *const kandinsky5_blocks[] = { "visual_transformer_blocks.",
    "text_transformer_blocks.", NULL };

static bool kandinsky5_standard(const char *path)
{
    return lt_begins_with_any(path, kandinsky5_blocks);
}

#define KANDINSKY5_PARTS                                                                \
    DIT_ENCODER("te1", "text encoder (Qwen2.5-VL)",                                     \
        "text_encoders.qwen25_7b.transformer.", "text_encoder.", "lora_te1_"),          \
        DIT_CLIP("te2", "text encoder 2 (CLIP-L)", "text_encoders.clip_l.transformer.", \
            "text_encoder_2.", "lora_te2_"),                                            \
        DIT_VAE

static const lt_base_sign kandinsky5_base[] = {
    { .key = "visual_transformer_blocks.0.self_attention.to_query.weight", .n_dims = 2 },
    { .key = "text_transformer_blocks.0.self_attention.to_query.weight", .n_dims = 2 },
    { .key = "visual_embeddings.in_layer.weight", .n_dims = 2 },
    { 0 },
};
static const lt_adapter_sign kandinsky5_adapter[] = {
    { "visual_transformer_blocks.#.", 0, 2 },
    { "text_transformer_blocks.#.self_attention.", 0, 2 },
    { 0 },
};
static const lt_component kandinsky5[] = {
    { DIT_NATIVE(&lt_layout_kandinsky5), .is_standard = kandinsky5_standard },
    KANDINSKY5_PARTS,
    { 0 },
};

#define KANDINSKY5_TRAITS .id = "kandinsky5", .title = "Kandinsky 5.0"

const lt_family lt_family_kandinsky5 = {
    KANDINSKY5_TRAITS,
    .naming = LT_NAMING_KOHYA,
    .base_signs = kandinsky5_base,
    .adapter_signs = kandinsky5_adapter,
    .components = kandinsky5,
};
