/* SPDX-License-Identifier: MIT */
/* Stable Diffusion 3 and 3.5 (Stability AI). The last block does not continue the text
 * stream; 3.5 normalises queries and keys; the first blocks of 3.5 medium attend to the
 * image once more. */
#include "model/layouts.h"

#define B LT_ROW_BIAS
#define T LT_ROW_TENSOR

static const lt_layout_row image[] = {
    { "attn.qkv", "attn.to_q attn.to_k attn.to_v", "3d,d", B, 0 },
    { "attn.proj", "attn.to_out.0", "d,d", B, 0 },
    { "mlp.fc1", "ff.net.0.proj", "4d,d", B, 0 },
    { "mlp.fc2", "ff.net.2", "d,4d", B, 0 },
    { 0 },
};

static const lt_layout_row image_modulation[] = {
    { "adaLN_modulation.1", "norm1.linear", "6d,d", B, 0 },
    { 0 },
};

static const lt_layout_row image_norms[] = {
    { "ln_q.weight", "norm_q.weight", "64", T, 0 },
    { "ln_k.weight", "norm_k.weight", "64", T, 0 },
    { 0 },
};

static const lt_layout_row image_again[] = {
    { "adaLN_modulation.1", "norm1.linear", "9d,d", B, 0 },
    { "attn2.qkv", "attn2.to_q attn2.to_k attn2.to_v", "3d,d", B, 0 },
    { "attn2.proj", "attn2.to_out.0", "d,d", B, 0 },
    { "attn2.ln_q.weight", "attn2.norm_q.weight", "64", T, 0 },
    { "attn2.ln_k.weight", "attn2.norm_k.weight", "64", T, 0 },
    { 0 },
};

static const lt_layout_row text_input[] = {
    { "attn.qkv", "attn.add_q_proj attn.add_k_proj attn.add_v_proj", "3d,d", B, 0 },
    { 0 },
};

static const lt_layout_row text_norms[] = {
    { "ln_q.weight", "norm_added_q.weight", "64", T, 0 },
    { "ln_k.weight", "norm_added_k.weight", "64", T, 0 },
    { 0 },
};

static const lt_layout_row text_output[] = {
    { "attn.proj", "attn.to_add_out", "d,d", B, 0 },
    { "mlp.fc1", "ff_context.net.0.proj", "4d,d", B, 0 },
    { "mlp.fc2", "ff_context.net.2", "d,4d", B, 0 },
    { "adaLN_modulation.1", "norm1_context.linear", "6d,d", B, 0 },
    { 0 },
};

static const lt_layout_row text_end[] = {
    { "adaLN_modulation.1", "norm1_context.linear", "2d,d", B | LT_ROW_SWAP, 0 },
    { 0 },
};

static const lt_layout_row whole[] = {
    { "pos_embed", "pos_embed.pos_embed", "1,p,d", T, 0 },
    { "x_embedder.proj", "pos_embed.proj", "d,16,2,2", B, 0 },
    { "t_embedder.mlp.0", "time_text_embed.timestep_embedder.linear_1", "d,256", B, 0 },
    { "t_embedder.mlp.2", "time_text_embed.timestep_embedder.linear_2", "d,d", B, 0 },
    { "y_embedder.mlp.0", "time_text_embed.text_embedder.linear_1", "d,2048", B, 0 },
    { "y_embedder.mlp.2", "time_text_embed.text_embedder.linear_2", "d,d", B, 0 },
    { "context_embedder", NULL, "d,4096", B, 0 },
    { "final_layer.linear", "proj_out", "64,d", B, 0 },
    { "final_layer.adaLN_modulation.1", "norm_out.linear", "2d,d", B | LT_ROW_SWAP, 0 },
    { 0 },
};

#define IMAGE "joint_blocks.#.x_block."
#define TEXT "joint_blocks.#.context_block."
#define BLOCK "transformer_blocks.#."

static const lt_layout_group groups[] = {
    { IMAGE, BLOCK, 'n', 0, LT_SPAN_ALL, image, NULL },
    { IMAGE, BLOCK, 'x', 0, LT_SPAN_ALL, image_again, NULL },
    { IMAGE, BLOCK, 'n', 'x', LT_SPAN_ALL, image_modulation, NULL },
    { IMAGE "attn.", BLOCK "attn.", 'q', 0, LT_SPAN_ALL, image_norms, NULL },
    { TEXT, BLOCK, 'n', 0, LT_SPAN_ALL, text_input, NULL },
    { TEXT "attn.", BLOCK "attn.", 'q', 0, LT_SPAN_ALL, text_norms, NULL },
    { TEXT, BLOCK, 'n', 0, LT_SPAN_ALL_BUT_LAST, text_output, NULL },
    { TEXT, BLOCK, 'n', 0, LT_SPAN_LAST, text_end, NULL },
    { "", "", 0, 0, LT_SPAN_ALL, whole, NULL },
    { 0 },
};

static const lt_layout_variant variants[] = {
    { "medium", "d=1536 n=24 x=0 q=0 p=36864" },
    { "3.5-medium", "d=1536 n=24 x=13 q=24 p=147456" },
    { "3.5-large", "d=2432 n=38 x=0 q=38 p=36864" },
    { 0 },
};

const lt_layout lt_layout_sd3 = { groups, variants, NULL };
