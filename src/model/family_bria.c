/* SPDX-License-Identifier: MIT */
/* Bria, LongCat-Image and Ovis-Image. Their adapters have the names and sizes of
 * FLUX.1's. */
#include "model/family_dit.h"

static const char *const bria_blocks[] = { "transformer_blocks.",
    "single_transformer_blocks.", NULL };

static bool bria_standard(const char *path)
{
    return lt_begins_with_any(path, bria_blocks);
}

#define BRIA_PARTS                                                                     \
    DIT_ENCODER("te1", "text encoder", "text_encoders.", "text_encoder.", "lora_te_"), \
        DIT_VAE

static const lt_base_sign bria_base[] = {
    { .key = "single_transformer_blocks.0.proj_mlp.weight", .n_dims = 2 },
    { .key = "transformer_blocks.0.attn.add_q_proj.weight", .n_dims = 2 },
    { .key = "x_embedder.weight", .n_dims = 2 },
    { .key = "time_embed.timestep_embedder.linear_1.weight", .n_dims = 2 },
    { .key = "context_embedder.weight", .columns = 4096 },
    { 0 },
};
static const lt_component bria[] = {
    { DIT_NATIVE(&lt_layout_bria), .is_standard = bria_standard },
    BRIA_PARTS,
    { 0 },
};

static const lt_base_sign longcat_image_base[] = {
    { .key = "single_transformer_blocks.0.proj_mlp.weight", .n_dims = 2 },
    { .key = "transformer_blocks.0.attn.add_q_proj.weight", .n_dims = 2 },
    { .key = "x_embedder.weight", .n_dims = 2 },
    { .key = "time_embed.timestep_embedder.linear_1.weight", .n_dims = 2 },
    { .key = "context_embedder.weight", .columns = 3584 },
    { 0 },
};
static const lt_component longcat_image[] = {
    { DIT_NATIVE(&lt_layout_longcat_image), .is_standard = bria_standard },
    BRIA_PARTS,
    { 0 },
};

static const lt_base_sign ovis_image_base[] = {
    { .key = "single_transformer_blocks.0.proj_mlp.weight", .n_dims = 2 },
    { .key = "transformer_blocks.0.attn.add_q_proj.weight", .n_dims = 2 },
    { .key = "x_embedder.weight", .n_dims = 2 },
    { .key = "timestep_embedder.linear_1.weight", .n_dims = 2 },
    { .key = "context_embedder_norm.weight", .n_dims = 1 },
    { 0 },
};
static const lt_component ovis_image[] = {
    { DIT_NATIVE(&lt_layout_ovis_image), .is_standard = bria_standard },
    BRIA_PARTS,
    { 0 },
};

#define BRIA_TRAITS .id = "bria", .title = "Bria"

const lt_family lt_family_bria = {
    BRIA_TRAITS,
    .naming = LT_NAMING_DIFFUSERS,
    .base_signs = bria_base,
    .adapter_signs = lt_no_adapter_signs,
    .components = bria,
};
#define LONGCAT_IMAGE_TRAITS .id = "longcat-image", .title = "LongCat-Image"

const lt_family lt_family_longcat_image = {
    LONGCAT_IMAGE_TRAITS,
    .naming = LT_NAMING_DIFFUSERS,
    .base_signs = longcat_image_base,
    .adapter_signs = lt_no_adapter_signs,
    .components = longcat_image,
};
#define OVIS_IMAGE_TRAITS .id = "ovis-image", .title = "Ovis-Image"

const lt_family lt_family_ovis_image = {
    OVIS_IMAGE_TRAITS,
    .naming = LT_NAMING_DIFFUSERS,
    .base_signs = ovis_image_base,
    .adapter_signs = lt_no_adapter_signs,
    .components = ovis_image,
};
