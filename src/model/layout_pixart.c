/* SPDX-License-Identifier: MIT */
/* PixArt alpha and sigma (PixArt team, Huawei Noah's Ark Lab). One modulation for all
 * blocks, which only add a table to it; alpha of 1024 pixels is also told the size and
 * the aspect ratio. Diffusers has no embedding of the missing text. A file may hold
 * pos_embed too, which programs compute anyway. */
#include "model/layouts.h"

#define B LT_ROW_BIAS
#define T LT_ROW_TENSOR

static const lt_layout_row block[] = {
    { "attn.qkv", "attn1.to_q attn1.to_k attn1.to_v", "3d,d", B, 0 },
    { "attn.proj", "attn1.to_out.0", "d,d", B, 0 },
    { "cross_attn.q_linear", "attn2.to_q", "d,d", B, 0 },
    { "cross_attn.kv_linear", "attn2.to_k attn2.to_v", "2d,d", B, 0 },
    { "cross_attn.proj", "attn2.to_out.0", "d,d", B, 0 },
    { "mlp.fc1", "ff.net.0.proj", "4d,d", B, 0 },
    { "mlp.fc2", "ff.net.2", "d,4d", B, 0 },
    { "scale_shift_table", NULL, "6,d", T, 0 },
    { 0 },
};

static const lt_layout_row sizes[] = {
    { "csize_embedder.mlp.0", "resolution_embedder.linear_1", "e,256", B, 0 },
    { "csize_embedder.mlp.2", "resolution_embedder.linear_2", "e,e", B, 0 },
    { "ar_embedder.mlp.0", "aspect_ratio_embedder.linear_1", "e,256", B, 0 },
    { "ar_embedder.mlp.2", "aspect_ratio_embedder.linear_2", "e,e", B, 0 },
    { 0 },
};

static const lt_layout_row whole[] = {
    { "x_embedder.proj", "pos_embed.proj", "d,4,2,2", B, 0 },
    { "t_embedder.mlp.0", "adaln_single.emb.timestep_embedder.linear_1", "d,256", B, 0 },
    { "t_embedder.mlp.2", "adaln_single.emb.timestep_embedder.linear_2", "d,d", B, 0 },
    { "t_block.1", "adaln_single.linear", "6d,d", B, 0 },
    { "y_embedder.y_embedding", "", "t,c", T, 0 },
    { "y_embedder.y_proj.fc1", "caption_projection.linear_1", "d,c", B, 0 },
    { "y_embedder.y_proj.fc2", "caption_projection.linear_2", "d,d", B, 0 },
    { "final_layer.scale_shift_table", "scale_shift_table", "2,d", T, 0 },
    { "final_layer.linear", "proj_out", "32,d", B, 0 },
    { 0 },
};

static const lt_layout_group groups[] = {
    { "blocks.#.", "transformer_blocks.#.", 'n', 0, LT_SPAN_ALL, block, NULL },
    { "", "adaln_single.emb.", 'm', 0, LT_SPAN_ALL, sizes, NULL },
    { "", "", 0, 0, LT_SPAN_ALL, whole, NULL },
    { 0 },
};

static const lt_layout_variant variants[] = {
    { "alpha", "d=1152 n=28 c=4096 t=120 m=1 e=384" },
    { "alpha-512", "d=1152 n=28 c=4096 t=120 m=0" },
    { "sigma", "d=1152 n=28 c=4096 t=300 m=0" },
    { 0 },
};

const lt_layout lt_layout_pixart = { groups, variants, NULL };
