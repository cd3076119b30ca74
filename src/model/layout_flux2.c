/* SPDX-License-Identifier: MIT */
/* FLUX.2 dev and Klein (Black Forest Labs). There are no biases, the blocks of a kind
 * share one modulation, and MLPs are gated: their first layer has 2 * 3d rows. In single
 * blocks q, k, v and that layer are one weight in diffusers too. */
#include "model/layouts.h"

#define T LT_ROW_TENSOR

#define NORMS(native, q, k)                                             \
    { native "norm.query_norm.scale", "attn." q ".weight", "h", T, 0 }, \
    {                                                                   \
        native "norm.key_norm.scale", "attn." k ".weight", "h", T, 0    \
    }

static const lt_layout_row double_stream[] = {
    { "img_attn.qkv", "attn.to_q attn.to_k attn.to_v", "3d,d", 0, 0 },
    { "img_attn.proj", "attn.to_out.0", "d,d", 0, 0 },
    { "img_mlp.0", "ff.linear_in", "6d,d", 0, 0 },
    { "img_mlp.2", "ff.linear_out", "d,3d", 0, 0 },
    NORMS("img_attn.", "norm_q", "norm_k"),
    { "txt_attn.qkv", "attn.add_q_proj attn.add_k_proj attn.add_v_proj", "3d,d", 0, 0 },
    { "txt_attn.proj", "attn.to_add_out", "d,d", 0, 0 },
    { "txt_mlp.0", "ff_context.linear_in", "6d,d", 0, 0 },
    { "txt_mlp.2", "ff_context.linear_out", "d,3d", 0, 0 },
    NORMS("txt_attn.", "norm_added_q", "norm_added_k"),
    { 0 },
};

static const lt_layout_row single_stream[] = {
    { "linear1", "attn.to_qkv_mlp_proj", "9d,d", 0, 0 },
    { "linear2", "attn.to_out", "d,4d", 0, 0 },
    NORMS("", "norm_q", "norm_k"),
    { 0 },
};

static const lt_layout_row embedder[] = {
    { "in_layer", "linear_1", "d,256", 0, 0 },
    { "out_layer", "linear_2", "d,d", 0, 0 },
    { 0 },
};

static const lt_layout_row whole[] = {
    { "img_in", "x_embedder", "d,128", 0, 0 },
    { "txt_in", "context_embedder", "d,c", 0, 0 },
    { "double_stream_modulation_img.lin", "double_stream_modulation_img.linear", "6d,d",
        0, 0 },
    { "double_stream_modulation_txt.lin", "double_stream_modulation_txt.linear", "6d,d",
        0, 0 },
    { "single_stream_modulation.lin", "single_stream_modulation.linear", "3d,d", 0, 0 },
    { "final_layer.linear", "proj_out", "128,d", 0, 0 },
    { "final_layer.adaLN_modulation.1", "norm_out.linear", "2d,d", LT_ROW_SWAP, 0 },
    { 0 },
};

static const lt_layout_group groups[] = {
    { "double_blocks.#.", "transformer_blocks.#.", 'n', 0, LT_SPAN_ALL, double_stream,
        NULL },
    { "single_blocks.#.", "single_transformer_blocks.#.", 's', 0, LT_SPAN_ALL,
        single_stream, NULL },
    { "time_in.", "time_guidance_embed.timestep_embedder.", 0, 0, LT_SPAN_ALL, embedder,
        NULL },
    { "guidance_in.", "time_guidance_embed.guidance_embedder.", 'g', 0, LT_SPAN_ALL,
        embedder, NULL },
    { "", "", 0, 0, LT_SPAN_ALL, whole, NULL },
    { 0 },
};

static const lt_layout_variant variants[] = {
    { "dev", "d=6144 h=128 n=8 s=48 c=15360 g=1" },
    { "klein-4B", "d=3072 h=128 n=5 s=20 c=7680 g=0" },
    { "klein-9B", "d=4096 h=128 n=8 s=24 c=12288 g=0" },
    { 0 },
};

const lt_layout lt_layout_flux2 = { groups, variants, NULL };
