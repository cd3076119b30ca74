/* SPDX-License-Identifier: MIT */
/* Wan 2.1 and 2.2. The second expert of Wan 2.2 is a file, and has adapters, of its own.
 */
#include "model/family_dit.h"

static const char *const wan_blocks[] = { "blocks.", "vace_blocks.", "face_adapter.",
    NULL };

static bool wan_standard(const char *path)
{
    return lt_begins_with_any(path, wan_blocks);
}

static const lt_base_sign wan_native_base[] = {
    { .key = "blocks.0.self_attn.q.weight", .n_dims = 2 },
    { .key = "head.modulation", .n_dims = 3 },
    { .key = "patch_embedding.weight", .n_dims = 5 },
    { 0 },
};
static const lt_base_sign wan_public_base[] = {
    { .key = "blocks.0.attn1.to_q.weight", .n_dims = 2 },
    { .key = "condition_embedder.time_embedder.linear_1.weight", .n_dims = 2 },
    { .key = "patch_embedding.weight", .n_dims = 5 },
    { 0 },
};
static const lt_adapter_sign wan_adapter[] = {
    { "blocks.#.self_attn.q", 0, 2 },
    { "blocks.#.self_attn.v", 0, 2 },
    { "blocks.#.cross_attn.q", 0, 2 },
    { "blocks.#.cross_attn.v", 0, 2 },
    { "transformer:blocks.#.attn#.", 0, 2 },
    { "transformer_2:blocks.#.attn#.", 0, 2 },
    { "lora_transformer_blocks.#.attn#.", 0, 2 },
    { "blocks.#.ffn.", 0, 2 },
    { 0 },
};

static const lt_component wan_native[] = {
    { DIT_NATIVE(&lt_layout_wan), .is_standard = wan_standard },
    DIT_ENCODER("te1", "text encoder (UMT5)", "text_encoders.umt5xxl.transformer.",
        "text_encoder.", "lora_te_"),
    DIT_VAE,
    { 0 },
};
static const lt_component wan_public[] = {
    { DIT_PUBLIC(&lt_layout_wan), .is_standard = wan_standard },
    DIT_ENCODER("te1", "text encoder (UMT5)", "text_encoders.umt5xxl.transformer.",
        "text_encoder.", "lora_te_"),
    DIT_VAE,
    { 0 },
};

#define WAN_TRAITS .id = "wan", .title = "Wan"

const lt_family lt_family_wan = {
    WAN_TRAITS,
    .naming = LT_NAMING_KOHYA,
    .base_signs = wan_native_base,
    .adapter_signs = wan_adapter,
    .components = wan_native,
};
const lt_family lt_family_wan_diffusers = {
    WAN_TRAITS,
    .naming = LT_NAMING_DIFFUSERS,
    .base_signs = wan_public_base,
    .adapter_signs = lt_no_adapter_signs,
    .components = wan_public,
};
