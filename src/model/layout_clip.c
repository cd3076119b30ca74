/* SPDX-License-Identifier: MIT */
/* CLIP's text encoders: OpenCLIP's names (SD2's, and SDXL's second) and transformers'.
 * OpenCLIP fuses q, k and v in in_proj, rows in that order, and keeps text_projection as
 * a bare (width, projection) parameter used as x * P. CLIP-L has transformers' names
 * everywhere. Parameters: d width, n layers, v words, s positions; p, i, g whether there
 * are a projection, numbered positions, the logit scale. */
#include "model/layouts.h"

#define B LT_ROW_BIAS

/* ---- transformers' names ------------------------------------------------------------
 */

static const lt_layout_row layer[] = {
    { "self_attn.q_proj", NULL, "d,d", B, 0 },
    { "self_attn.k_proj", NULL, "d,d", B, 0 },
    { "self_attn.v_proj", NULL, "d,d", B, 0 },
    { "self_attn.out_proj", NULL, "d,d", B, 0 },
    { "mlp.fc1", NULL, "4d,d", B, 0 },
    { "mlp.fc2", NULL, "d,4d", B, 0 },
    { "layer_norm1", NULL, "d", B, 0 },
    { "layer_norm2", NULL, "d", B, 0 },
    { 0 },
};
static const lt_layout_row around[] = {
    { "embeddings.token_embedding", NULL, "v,d", 0, 0 },
    { "embeddings.position_embedding", NULL, "s,d", 0, 0 },
    { "final_layer_norm", NULL, "d", B, 0 },
    { 0 },
};
/* Old saves number the positions 0, 1, 2, ... */
static const lt_layout_row numbers[] = {
    { "position_ids", "", "1,s", LT_ROW_TENSOR, 0 },
    { 0 },
};
static const lt_layout_row projection[] = {
    { "text_projection", NULL, "d,d", 0, 0 },
    { 0 },
};

static const lt_layout_group clip_groups[] = {
    { "text_model.encoder.layers.#.", "text_model.encoder.layers.#.", 'n', 0, LT_SPAN_ALL,
        layer, NULL },
    { "text_model.", "text_model.", 0, 0, LT_SPAN_ALL, around, NULL },
    { "text_model.embeddings.", "text_model.embeddings.", 'i', 0, LT_SPAN_ALL, numbers,
        NULL },
    { "", "", 'p', 0, LT_SPAN_ALL, projection, NULL },
    { 0 },
};
static const lt_layout_variant clip_variants[] = {
    { "l", "d=768 n=12 v=49408 s=77 p=0 i=0" },
    { "l-projection", "d=768 n=12 v=49408 s=77 p=1 i=0" },
    { "l-positions", "d=768 n=12 v=49408 s=77 p=0 i=1" },
    { 0 },
};
const lt_layout lt_layout_clip = { clip_groups, clip_variants, NULL };

/* ---- OpenCLIP's ---------------------------------------------------------------------
 */

#define ATTENTION_PARTS "self_attn.q_proj self_attn.k_proj self_attn.v_proj"

static const lt_layout_row block[] = {
    { "attn.in_proj", ATTENTION_PARTS, "3d,d", B | LT_ROW_UNDERSCORE, 0 },
    { "attn.out_proj", "self_attn.out_proj", "d,d", B, 0 },
    { "mlp.c_fc", "mlp.fc1", "4d,d", B, 0 },
    { "mlp.c_proj", "mlp.fc2", "d,4d", B, 0 },
    { "ln_1", "layer_norm1", "d", B, 0 },
    { "ln_2", "layer_norm2", "d", B, 0 },
    { 0 },
};
/* SD2 conditions on the last block but one: diffusers' form ends there, and no loader has
 * a module name for the last. */
static const lt_layout_row unused_block[] = {
    { "attn.in_proj", "", "3d,d", B | LT_ROW_UNDERSCORE, 0 },
    { "attn.out_proj", "", "d,d", B, 0 },
    { "mlp.c_fc", "", "4d,d", B, 0 },
    { "mlp.c_proj", "", "d,4d", B, 0 },
    { "ln_1", "", "d", B, 0 },
    { "ln_2", "", "d", B, 0 },
    { 0 },
};

#define AROUND                                                                       \
    { "token_embedding", "text_model.embeddings.token_embedding", "v,d", 0, 0 },     \
        { "positional_embedding", "text_model.embeddings.position_embedding.weight", \
            "s,d", LT_ROW_TENSOR, 0 },                                               \
    {                                                                                \
        "ln_final", "text_model.final_layer_norm", "d", B, 0                         \
    }

static const lt_layout_row open_around[] = {
    AROUND,
    { "text_projection", NULL, "d,d", LT_ROW_TRANSPOSED, 0 },
    { 0 },
};
static const lt_layout_row sd2_around[] = {
    AROUND,
    { "text_projection", "", "d,d", LT_ROW_TENSOR, 0 },
    { 0 },
};
static const lt_layout_row scale[] = {
    { "logit_scale", "", "", LT_ROW_TENSOR, 0 },
    { 0 },
};

#define OPEN_BLOCKS                                                                      \
    {                                                                                    \
        "transformer.resblocks.#.", "text_model.encoder.layers.#.", 'n', 0, LT_SPAN_ALL, \
            block, NULL                                                                  \
    }
#define OPEN_SCALE                               \
    {                                            \
        "", "", 'g', 0, LT_SPAN_ALL, scale, NULL \
    }

static const lt_layout_group open_groups[] = {
    OPEN_BLOCKS,
    { "", "", 0, 0, LT_SPAN_ALL, open_around, NULL },
    OPEN_SCALE,
    { 0 },
};
static const lt_layout_variant open_variants[] = {
    { "g", "d=1280 n=32 v=49408 s=77 g=1" },
    { 0 },
};
const lt_layout lt_layout_openclip = { open_groups, open_variants, NULL };

static const lt_layout_group sd2_groups[] = {
    { "transformer.resblocks.23.", "", 'u', 0, LT_SPAN_ALL, unused_block, NULL },
    OPEN_BLOCKS,
    { "", "", 0, 0, LT_SPAN_ALL, sd2_around, NULL },
    OPEN_SCALE,
    { 0 },
};
static const lt_layout_variant sd2_variants[] = {
    { "h", "d=1024 n=23 u=1 v=49408 s=77 g=1" },
    { 0 },
};
const lt_layout lt_layout_openclip_sd2 = { sd2_groups, sd2_variants, NULL };
