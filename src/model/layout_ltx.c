/* SPDX-License-Identifier: MIT */
/* LTX-Video (Lightricks), 2B of 0.9 to 0.9.8 and 13B from 0.9.7 on. It came from
 * diffusers' classes, and a few names differ. Keys and queries are normalised over all
 * heads at once; the modulations are tables of their own. */
#include "model/layouts.h"

#define B LT_ROW_BIAS
#define T LT_ROW_TENSOR

#define ATTENTION(name)                                                               \
    { name ".to_q", NULL, "d,d", B, 0 }, { name ".to_k", NULL, "d,d", B, 0 },         \
        { name ".to_v", NULL, "d,d", B, 0 }, { name ".to_out.0", NULL, "d,d", B, 0 }, \
        { name ".q_norm.weight", name ".norm_q.weight", "d", T, 0 },                  \
    {                                                                                 \
        name ".k_norm.weight", name ".norm_k.weight", "d", T, 0                       \
    }

static const lt_layout_row block[] = {
    ATTENTION("attn1"),
    ATTENTION("attn2"),
    { "ff.net.0.proj", NULL, "4d,d", B, 0 },
    { "ff.net.2", NULL, "d,4d", B, 0 },
    { "scale_shift_table", NULL, "6,d", T, 0 },
    { 0 },
};

static const lt_layout_row timestep[] = {
    { "emb.timestep_embedder.linear_1", NULL, "d,256", B, 0 },
    { "emb.timestep_embedder.linear_2", NULL, "d,d", B, 0 },
    { "linear", NULL, "6d,d", B, 0 },
    { 0 },
};

static const lt_layout_row whole[] = {
    { "patchify_proj", "proj_in", "d,128", B, 0 },
    { "caption_projection.linear_1", NULL, "d,4096", B, 0 },
    { "caption_projection.linear_2", NULL, "d,d", B, 0 },
    { "proj_out", NULL, "128,d", B, 0 },
    { "scale_shift_table", NULL, "2,d", T, 0 },
    { 0 },
};

static const lt_layout_group groups[] = {
    { "transformer_blocks.#.", "transformer_blocks.#.", 'n', 0, LT_SPAN_ALL, block,
        NULL },
    { "adaln_single.", "time_embed.", 0, 0, LT_SPAN_ALL, timestep, NULL },
    { "", "", 0, 0, LT_SPAN_ALL, whole, NULL },
    { 0 },
};

static const lt_layout_variant variants[] = {
    { "2B", "d=2048 n=28" },
    { "13B", "d=4096 n=48" },
    { 0 },
};

const lt_layout lt_layout_ltx = { groups, variants, NULL };
