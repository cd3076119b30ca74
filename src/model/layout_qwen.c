/* SPDX-License-Identifier: MIT */
/* Qwen-Image (Alibaba) and its editing models, whose files have the same tensors;
 * Qwen-Image-Layered has one more, an embedding of which layer it is. It was
 * published in diffusers' names: single files differ in the prefix only, and nothing is
 * fused. */
#include "model/layouts.h"

#define B LT_ROW_BIAS
#define T LT_ROW_TENSOR

static const lt_layout_row block[] = {
    { "attn.to_q", NULL, "d,d", B, 0 },
    { "attn.to_k", NULL, "d,d", B, 0 },
    { "attn.to_v", NULL, "d,d", B, 0 },
    { "attn.to_out.0", NULL, "d,d", B, 0 },
    { "attn.add_q_proj", NULL, "d,d", B, 0 },
    { "attn.add_k_proj", NULL, "d,d", B, 0 },
    { "attn.add_v_proj", NULL, "d,d", B, 0 },
    { "attn.to_add_out", NULL, "d,d", B, 0 },
    { "attn.norm_q.weight", NULL, "h", T, 0 },
    { "attn.norm_k.weight", NULL, "h", T, 0 },
    { "attn.norm_added_q.weight", NULL, "h", T, 0 },
    { "attn.norm_added_k.weight", NULL, "h", T, 0 },
    { "img_mlp.net.0.proj", NULL, "4d,d", B, 0 },
    { "img_mlp.net.2", NULL, "d,4d", B, 0 },
    { "txt_mlp.net.0.proj", NULL, "4d,d", B, 0 },
    { "txt_mlp.net.2", NULL, "d,4d", B, 0 },
    { "img_mod.1", NULL, "6d,d", B, 0 },
    { "txt_mod.1", NULL, "6d,d", B, 0 },
    { 0 },
};

static const lt_layout_row whole[] = {
    { "img_in", NULL, "d,64", B, 0 },
    { "txt_in", NULL, "d,c", B, 0 },
    { "txt_norm.weight", NULL, "c", T, 0 },
    { "time_text_embed.timestep_embedder.linear_1", NULL, "d,256", B, 0 },
    { "time_text_embed.timestep_embedder.linear_2", NULL, "d,d", B, 0 },
    { "norm_out.linear", NULL, "2d,d", B, 0 },
    { "proj_out", NULL, "64,d", B, 0 },
    { 0 },
};

static const lt_layout_row layered[] = {
    { "time_text_embed.addition_t_embedding", NULL, "2,d", 0, 0 },
    { 0 },
};

static const lt_layout_group groups[] = {
    { "transformer_blocks.#.", "transformer_blocks.#.", 'n', 0, LT_SPAN_ALL, block,
        NULL },
    { "", "", 0, 0, LT_SPAN_ALL, whole, NULL },
    { "", "", 'l', 0, LT_SPAN_ALL, layered, NULL },
    { 0 },
};

static const lt_layout_variant variants[] = {
    { "qwen-image", "d=3072 h=128 n=60 c=3584" },
    { "layered", "d=3072 h=128 n=60 c=3584 l=1" },
    { 0 },
};

const lt_layout lt_layout_qwen_image = { groups, variants, NULL };
