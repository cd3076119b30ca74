/* SPDX-License-Identifier: MIT */
/* Lumina-Image 2.0 and Z-Image, told apart by what precedes the modulation's layer and,
 * in adapters, by width. */
#include "model/family_dit.h"

static const char *const lumina_blocks[] = { "layers.", "noise_refiner.",
    "context_refiner.", "final_layer.", "norm_out.", NULL };

static bool lumina_standard(const char *path)
{
    return lt_begins_with_any(path, lumina_blocks);
}

static bool zimage_standard(const char *path)
{
    return lumina_standard(path);
}

static const lt_base_sign lumina_native_base[] = {
    { .key = "layers.0.adaLN_modulation.1.weight", .n_dims = 2 },
    { .key = "cap_embedder.1.weight", .n_dims = 2 },
    { .key = "layers.0.attention.qkv.weight", .n_dims = 2 },
    { 0 },
};
static const lt_base_sign lumina_public_base[] = {
    { .key = "time_caption_embed.caption_embedder.1.weight", .n_dims = 2 },
    { .key = "layers.0.attn.to_q.weight", .n_dims = 2 },
    { 0 },
};
static const lt_adapter_sign lumina_adapter[] = {
    { "layers.#.attention.qkv", 2304, 2 },
    { "layers.#.attention.out", 2304, 2 },
    { "layers.#.feed_forward.w", 2304, 2 },
    { "refiner.#.attention.qkv", 2304, 2 },
    { "layers.#.attn.to_q", 2304, 2 },
    { "layers.#.attn.to_v", 2304, 2 },
    { "layers.#.adaLN_modulation.1", 0, 2 },
    { 0 },
};

static const lt_component lumina_native[] = {
    { DIT_NATIVE(&lt_layout_lumina), .is_standard = lumina_standard },
    DIT_ENCODER("te1", "text encoder (Gemma 2)", "text_encoders.gemma2_2b.transformer.",
        "text_encoder.", "lora_te_"),
    DIT_VAE,
    { 0 },
};
static const lt_component lumina_public[] = {
    { DIT_PUBLIC(&lt_layout_lumina), .is_standard = lumina_standard },
    DIT_ENCODER("te1", "text encoder (Gemma 2)", "text_encoders.gemma2_2b.transformer.",
        "text_encoder.", "lora_te_"),
    DIT_VAE,
    { 0 },
};

#define LUMINA_TRAITS                                                        \
    .id = "lumina", .title = "Lumina-Image 2.0", .kohya_version = "lumina2", \
    .architecture = "lumina-2"

const lt_family lt_family_lumina = {
    LUMINA_TRAITS,
    .naming = LT_NAMING_KOHYA,
    .base_signs = lumina_native_base,
    .adapter_signs = lumina_adapter,
    .components = lumina_native,
};
const lt_family lt_family_lumina_diffusers = {
    LUMINA_TRAITS,
    .naming = LT_NAMING_DIFFUSERS,
    .base_signs = lumina_public_base,
    .adapter_signs = lt_no_adapter_signs,
    .components = lumina_public,
};

static const lt_base_sign zimage_native_base[] = {
    { .key = "layers.0.adaLN_modulation.0.weight", .n_dims = 2 },
    { .key = "cap_embedder.1.weight", .n_dims = 2 },
    { .key = "layers.0.attention.qkv.weight", .n_dims = 2 },
    { 0 },
};
static const lt_base_sign zimage_public_base[] = {
    { .key = "layers.0.adaLN_modulation.0.weight", .n_dims = 2 },
    { .key = "cap_embedder.1.weight", .n_dims = 2 },
    { .key = "layers.0.attention.to_q.weight", .n_dims = 2 },
    { 0 },
};
static const lt_adapter_sign zimage_adapter[] = {
    { "layers.#.attention.qkv", 3840, 2 },
    { "layers.#.attention.out", 3840, 2 },
    { "layers.#.attention.to_q", 0, 2 },
    { "layers.#.attention.to_v", 0, 2 },
    { "layers.#.adaLN_modulation.0", 0, 2 },
    { "layers.#.feed_forward.w", 3840, 2 },
    { 0 },
};

static const lt_component zimage_native[] = {
    { DIT_NATIVE(&lt_layout_zimage), .is_standard = zimage_standard },
    DIT_ENCODER("te1", "text encoder (Qwen3)", "text_encoders.qwen3_4b.transformer.",
        "text_encoder.", "lora_te_"),
    DIT_VAE,
    { 0 },
};
static const lt_component zimage_public[] = {
    { DIT_PUBLIC(&lt_layout_zimage), .is_standard = zimage_standard },
    DIT_ENCODER("te1", "text encoder (Qwen3)", "text_encoders.qwen3_4b.transformer.",
        "text_encoder.", "lora_te_"),
    DIT_VAE,
    { 0 },
};

#define ZIMAGE_TRAITS .id = "z-image", .title = "Z-Image"

const lt_family lt_family_zimage = {
    ZIMAGE_TRAITS,
    .naming = LT_NAMING_KOHYA,
    .base_signs = zimage_native_base,
    .adapter_signs = zimage_adapter,
    .components = zimage_native,
};
const lt_family lt_family_zimage_diffusers = {
    ZIMAGE_TRAITS,
    .naming = LT_NAMING_DIFFUSERS,
    .base_signs = zimage_public_base,
    .adapter_signs = lt_no_adapter_signs,
    .components = zimage_public,
};
