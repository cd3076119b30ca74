/* SPDX-License-Identifier: MIT */
/* Mochi 1 (Genmo): a wide stream of video and a narrow one of text, which the last block
 * ends. The halves of what gates the MLPs stand in the other order in diffusers. */
#include "model/layouts.h"

#define B LT_ROW_BIAS
#define T LT_ROW_TENSOR
#define SWAP LT_ROW_SWAP

static const lt_layout_row block[] = {
    { "mod_x", "norm1.linear", "4d,d", B, 0 },
    { "attn.qkv_x", "attn1.to_q attn1.to_k attn1.to_v", "3d,d", 0, 0 },
    { "attn.q_norm_x.weight", "attn1.norm_q.weight", "h", T, 0 },
    { "attn.k_norm_x.weight", "attn1.norm_k.weight", "h", T, 0 },
    { "attn.proj_x", "attn1.to_out.0", "d,d", B, 0 },
    { "attn.qkv_y", "attn1.add_q_proj attn1.add_k_proj attn1.add_v_proj", "3d,c", 0, 0 },
    { "attn.q_norm_y.weight", "attn1.norm_added_q.weight", "h", T, 0 },
    { "attn.k_norm_y.weight", "attn1.norm_added_k.weight", "h", T, 0 },
    { "mlp_x.w1", "ff.net.0.proj", "2f,d", SWAP, 0 },
    { "mlp_x.w2", "ff.net.2", "d,f", 0, 0 },
    { 0 },
};

static const lt_layout_row block_text[] = {
    { "mod_y", "norm1_context.linear", "4c,d", B, 0 },
    { "attn.proj_y", "attn1.to_add_out", "c,d", B, 0 },
    { "mlp_y.w1", "ff_context.net.0.proj", "2g,c", SWAP, 0 },
    { "mlp_y.w2", "ff_context.net.2", "c,g", 0, 0 },
    { 0 },
};

static const lt_layout_row last_text[] = {
    { "mod_y", "norm1_context.linear_1", "c,d", B, 0 },
    { 0 },
};

static const lt_layout_row whole[] = {
    { "x_embedder.proj", "patch_embed.proj", "d,12,2,2", B, 0 },
    { "pos_frequencies", NULL, "3,e,p", T, 0 },
    { "t_embedder.mlp.0", "time_embed.timestep_embedder.linear_1", "d,256", B, 0 },
    { "t_embedder.mlp.2", "time_embed.timestep_embedder.linear_2", "d,d", B, 0 },
    { "t5_y_embedder.to_kv", "time_embed.pooler.to_kv", "2t,t", B, 0 },
    { "t5_y_embedder.to_q", "time_embed.pooler.to_q", "t,t", B, 0 },
    { "t5_y_embedder.to_out", "time_embed.pooler.to_out", "d,t", B, 0 },
    { "t5_yproj", "time_embed.caption_proj", "c,t", B, 0 },
    { "final_layer.mod", "norm_out.linear", "2d,d", B | SWAP, 0 },
    { "final_layer.linear", "proj_out", "48,d", B, 0 },
    { 0 },
};

#define BLOCKS "blocks.#.", "transformer_blocks.#."

static const lt_layout_group groups[] = {
    { BLOCKS, 'n', 0, LT_SPAN_ALL, block, NULL },
    { BLOCKS, 'n', 0, LT_SPAN_ALL_BUT_LAST, block_text, NULL },
    { BLOCKS, 'n', 0, LT_SPAN_LAST, last_text, NULL },
    { "", "", 0, 0, LT_SPAN_ALL, whole, NULL },
    { 0 },
};

/* e: heads; p: half the width of one */
static const lt_layout_variant variants[] = {
    { "1-preview", "d=3072 h=128 c=1536 f=8192 g=4096 t=4096 n=48 e=24 p=64" },
    { 0 },
};

const lt_layout lt_layout_mochi = { groups, variants, NULL };
