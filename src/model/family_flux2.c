/* SPDX-License-Identifier: MIT */
/* FLUX.2 dev and Klein: modulations are shared by all blocks. Adapters in its published
 * names are told from FLUX.1's by width. */
#include "model/family_dit.h"

static const char *const flux2_blocks[] = { "double_blocks.", "single_blocks.",
    "transformer_blocks.", "single_transformer_blocks.", NULL };

static bool flux2_standard(const char *path)
{
    return lt_begins_with_any(path, flux2_blocks);
}

static const lt_base_sign flux2_native_base[] = {
    { .key = "double_stream_modulation_img.lin.weight", .n_dims = 2 },
    { .key = "double_blocks.0.img_attn.qkv.weight", .n_dims = 2 },
    { 0 },
};
static const lt_base_sign flux2_public_base[] = {
    { .key = "double_stream_modulation_img.linear.weight", .n_dims = 2 },
    { .key = "single_transformer_blocks.0.attn.to_qkv_mlp_proj.weight", .n_dims = 2 },
    { 0 },
};
static const lt_adapter_sign flux2_adapter[] = {
    { "double_stream_modulation", 0, 2 },
    { "single_transformer_blocks.#.attn.to_qkv_mlp_proj", 0, 2 },
    { "single_blocks.#.linear2", 12288, 2 },
    { "single_blocks.#.linear2", 16384, 2 },
    { "single_blocks.#.linear2", 24576, 2 },
    { "double_blocks.#.img_attn.", 6144, 2 },
    { "double_blocks.#.txt_attn.", 6144, 2 },
    { "single_blocks.#.linear1", 6144, 2 },
    { "double_blocks.#.img_attn.", 4096, 2 },
    { "double_blocks.#.txt_attn.", 4096, 2 },
    { "single_blocks.#.linear1", 4096, 2 },
    { 0 },
};

static const lt_component flux2_native[] = {
    { DIT_NATIVE(&lt_layout_flux2), .is_standard = flux2_standard },
    DIT_ENCODER("te1", "text encoder", "text_encoders.mistral3_24b.transformer.",
        "text_encoder.", "lora_te_"),
    DIT_VAE,
    { 0 },
};
static const lt_component flux2_public[] = {
    { DIT_PUBLIC(&lt_layout_flux2), .is_standard = flux2_standard },
    DIT_ENCODER("te1", "text encoder", "text_encoders.mistral3_24b.transformer.",
        "text_encoder.", "lora_te_"),
    DIT_VAE,
    { 0 },
};

#define FLUX2_TRAITS                  \
    .id = "flux2", .title = "FLUX.2", \
    .implementation = "https://github.com/black-forest-labs/flux2"

const lt_family lt_family_flux2 = {
    FLUX2_TRAITS,
    .naming = LT_NAMING_KOHYA,
    .base_signs = flux2_native_base,
    .adapter_signs = flux2_adapter,
    .components = flux2_native,
};
const lt_family lt_family_flux2_diffusers = {
    FLUX2_TRAITS,
    .naming = LT_NAMING_DIFFUSERS,
    .base_signs = flux2_public_base,
    .adapter_signs = lt_no_adapter_signs,
    .components = flux2_public,
};
