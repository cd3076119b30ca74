/* SPDX-License-Identifier: MIT */
/* Bria 3.2 and FIBO, LongCat-Image (Meituan) and Ovis-Image (Alibaba), in diffusers'
 * names: FLUX.1's blocks with less around them. FIBO gives each block a projection of the
 * text of its own; Ovis-Image has gated MLPs. */
#include "model/layouts.h"

#define B LT_ROW_BIAS
#define T LT_ROW_TENSOR

/* m: rows of an MLP's first layer */
static const lt_layout_row two_streams[] = {
    { "norm1.linear", NULL, "6d,d", B, 0 },
    { "norm1_context.linear", NULL, "6d,d", B, 0 },
    { "attn.to_q", NULL, "d,d", B, 0 },
    { "attn.to_k", NULL, "d,d", B, 0 },
    { "attn.to_v", NULL, "d,d", B, 0 },
    { "attn.to_out.0", NULL, "d,d", B, 0 },
    { "attn.norm_q.weight", NULL, "h", T, 0 },
    { "attn.norm_k.weight", NULL, "h", T, 0 },
    { "attn.add_q_proj", NULL, "d,d", B, 0 },
    { "attn.add_k_proj", NULL, "d,d", B, 0 },
    { "attn.add_v_proj", NULL, "d,d", B, 0 },
    { "attn.to_add_out", NULL, "d,d", B, 0 },
    { "attn.norm_added_q.weight", NULL, "h", T, 0 },
    { "attn.norm_added_k.weight", NULL, "h", T, 0 },
    { "ff.net.0.proj", NULL, "m,d", B, 0 },
    { "ff.net.2", NULL, "d,4d", B, 0 },
    { "ff_context.net.0.proj", NULL, "m,d", B, 0 },
    { "ff_context.net.2", NULL, "d,4d", B, 0 },
    { 0 },
};

static const lt_layout_row one_stream[] = {
    { "norm.linear", NULL, "3d,d", B, 0 },
    { "attn.to_q", NULL, "d,d", B, 0 },
    { "attn.to_k", NULL, "d,d", B, 0 },
    { "attn.to_v", NULL, "d,d", B, 0 },
    { "attn.norm_q.weight", NULL, "h", T, 0 },
    { "attn.norm_k.weight", NULL, "h", T, 0 },
    { "proj_mlp", NULL, "m,d", B, 0 },
    { "proj_out", NULL, "d,5d", B, 0 },
    { 0 },
};

static const lt_layout_row caption[] = {
    { "linear", NULL, "1536,2048", 0, 0 },
    { 0 },
};

/* Embeds a scalar. */
static const lt_layout_row scalar[] = {
    { "linear_1", NULL, "d,256", B, 0 },
    { "linear_2", NULL, "d,d", B, 0 },
    { 0 },
};

static const lt_layout_row text_norm[] = {
    { "context_embedder_norm.weight", NULL, "c", T, 0 },
    { 0 },
};

static const lt_layout_row whole[] = {
    { "x_embedder", NULL, "d,i", B, 0 },
    { "context_embedder", NULL, "d,c", B, 0 },
    { "norm_out.linear", NULL, "2d,d", B, 0 },
    { "proj_out", NULL, "i,d", B, 0 },
    { 0 },
};

#define SAME(name) name, name
#define BLOCKS                                                                           \
    { SAME("transformer_blocks.#."), 'n', 0, LT_SPAN_ALL, two_streams, NULL },           \
        { SAME("single_transformer_blocks.#."), 's', 0, LT_SPAN_ALL, one_stream, NULL }, \
    {                                                                                    \
        "", "", 0, 0, LT_SPAN_ALL, whole, NULL                                           \
    }

static const lt_layout_group bria_groups[] = {
    BLOCKS,
    { SAME("time_embed.timestep_embedder."), 0, 0, LT_SPAN_ALL, scalar, NULL },
    { SAME("caption_projection.#."), 't', 0, LT_SPAN_ALL, caption, NULL },
    { 0 },
};

static const lt_layout_variant bria_variants[] = {
    { "fibo", "d=3072 h=128 n=8 s=38 m=12288 i=48 c=4096 t=46" },
    { 0 },
};

const lt_layout lt_layout_bria = { bria_groups, bria_variants, NULL };

static const lt_layout_variant longcat_variants[] = {
    { "longcat-image", "d=3072 h=128 n=10 s=20 m=12288 i=64 c=3584" },
    { 0 },
};

const lt_layout lt_layout_longcat_image = { bria_groups, longcat_variants, NULL };

static const lt_layout_group ovis_groups[] = {
    BLOCKS,
    { SAME("timestep_embedder."), 0, 0, LT_SPAN_ALL, scalar, NULL },
    { "", "", 0, 0, LT_SPAN_ALL, text_norm, NULL },
    { 0 },
};

static const lt_layout_variant ovis_variants[] = {
    { "7B", "d=3072 h=128 n=6 s=27 m=24576 i=64 c=2048" },
    { 0 },
};

const lt_layout lt_layout_ovis_image = { ovis_groups, ovis_variants, NULL };
