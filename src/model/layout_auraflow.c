/* SPDX-License-Identifier: MIT */
/* AuraFlow (fal). Nothing is fused and blocks have no biases. In a double block w1 is the
 * text and w2 the image; a single block has w1 only. The last modulation gives shift and
 * scale, in diffusers scale and shift. */
#include "model/layouts.h"

#define B LT_ROW_BIAS
#define T LT_ROW_TENSOR

#define FEED_FORWARD(native, public)                            \
    { native ".c_fc1", public ".linear_1", "f,d", 0, 0 },       \
        { native ".c_fc2", public ".linear_2", "f,d", 0, 0 },   \
    {                                                           \
        native ".c_proj", public ".out_projection", "d,f", 0, 0 \
    }

static const lt_layout_row joint[] = {
    { "attn.w1q", "attn.add_q_proj", "d,d", 0, 0 },
    { "attn.w1k", "attn.add_k_proj", "d,d", 0, 0 },
    { "attn.w1v", "attn.add_v_proj", "d,d", 0, 0 },
    { "attn.w1o", "attn.to_add_out", "d,d", 0, 0 },
    { "attn.w2q", "attn.to_q", "d,d", 0, 0 },
    { "attn.w2k", "attn.to_k", "d,d", 0, 0 },
    { "attn.w2v", "attn.to_v", "d,d", 0, 0 },
    { "attn.w2o", "attn.to_out.0", "d,d", 0, 0 },
    FEED_FORWARD("mlpX", "ff"),
    FEED_FORWARD("mlpC", "ff_context"),
    { "modX.1", "norm1.linear", "6d,d", 0, 0 },
    { "modC.1", "norm1_context.linear", "6d,d", 0, 0 },
    { 0 },
};

static const lt_layout_row single[] = {
    { "attn.w1q", "attn.to_q", "d,d", 0, 0 },
    { "attn.w1k", "attn.to_k", "d,d", 0, 0 },
    { "attn.w1v", "attn.to_v", "d,d", 0, 0 },
    { "attn.w1o", "attn.to_out.0", "d,d", 0, 0 },
    FEED_FORWARD("mlp", "ff"),
    { "modCX.1", "norm1.linear", "6d,d", 0, 0 },
    { 0 },
};

static const lt_layout_row whole[] = {
    { "positional_encoding", "pos_embed.pos_embed", "1,p,d", T, 0 },
    { "register_tokens", NULL, "1,8,d", T, 0 },
    { "init_x_linear", "pos_embed.proj", "d,16", B, 0 },
    { "cond_seq_linear", "context_embedder", "d,c", 0, 0 },
    { "t_embedder.mlp.0", "time_step_proj.linear_1", "d,256", B, 0 },
    { "t_embedder.mlp.2", "time_step_proj.linear_2", "d,d", B, 0 },
    { "modF.1", "norm_out.linear", "2d,d", LT_ROW_SWAP, 0 },
    { "final_linear", "proj_out", "16,d", 0, 0 },
    { 0 },
};

static const lt_layout_group groups[] = {
    { "double_layers.#.", "joint_transformer_blocks.#.", 'n', 0, LT_SPAN_ALL, joint,
        NULL },
    { "single_layers.#.", "single_transformer_blocks.#.", 's', 0, LT_SPAN_ALL, single,
        NULL },
    { "", "", 0, 0, LT_SPAN_ALL, whole, NULL },
    { 0 },
};

static const lt_layout_variant variants[] = {
    { "v0.1", "d=3072 f=8192 n=4 s=32 c=2048 p=1024" },
    { "v0.3", "d=3072 f=8192 n=4 s=32 c=2048 p=9216" },
    { 0 },
};

const lt_layout lt_layout_auraflow = { groups, variants, NULL };
