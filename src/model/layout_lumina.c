/* SPDX-License-Identifier: MIT */
/* Lumina-Image 2.0 (Alpha-VLLM) and Z-Image (Alibaba Tongyi), which descends from it: one
 * stream of blocks, and before it blocks of the same make for the noise and for the text.
 * Lumina has fewer keys and values than queries, in one weight, and a last norm that
 * nothing uses. Z-Image was published in diffusers' layout; native is that of its single
 * files. The public names of its ends contain the patch size. */
#include "model/layouts.h"

#define B LT_ROW_BIAS
#define T LT_ROW_TENSOR

#define LUMINA_BLOCK(norm1)                                             \
    { "attention.qkv", "attn.to_q attn.to_k attn.to_v", "q,d", 0, 1 },  \
        { "attention.out", "attn.to_out.0", "d,d", 0, 0 },              \
        { "attention.q_norm.weight", "attn.norm_q.weight", "h", T, 0 }, \
        { "attention.k_norm.weight", "attn.norm_k.weight", "h", T, 0 }, \
        { "feed_forward.w1", "feed_forward.linear_1", "f,d", 0, 0 },    \
        { "feed_forward.w2", "feed_forward.linear_2", "d,f", 0, 0 },    \
        { "feed_forward.w3", "feed_forward.linear_3", "f,d", 0, 0 },    \
        { "attention_norm1.weight", norm1 ".weight", "d", T, 0 },       \
        { "attention_norm2.weight", "norm2.weight", "d", T, 0 },        \
        { "ffn_norm1.weight", NULL, "d", T, 0 },                        \
    {                                                                   \
        "ffn_norm2.weight", NULL, "d", T, 0                             \
    }

static const lt_layout_row lumina_block[] = {
    LUMINA_BLOCK("norm1.norm"),
    { "adaLN_modulation.1", "norm1.linear", "4d,e", B, 0 },
    { 0 },
};

static const lt_layout_row lumina_context[] = { LUMINA_BLOCK("norm1"), { 0 } };

#define TIME "time_caption_embed."

static const lt_layout_row lumina_whole[] = {
    { "x_embedder", NULL, "d,64", B, 0 },
    { "cap_embedder.0.weight", TIME "caption_embedder.0.weight", "c", T, 0 },
    { "cap_embedder.1", TIME "caption_embedder.1", "d,c", B, 0 },
    { "t_embedder.mlp.0", TIME "timestep_embedder.linear_1", "e,256", B, 0 },
    { "t_embedder.mlp.2", TIME "timestep_embedder.linear_2", "e,e", B, 0 },
    { "norm_final.weight", "", "d", T, 0 },
    { "final_layer.adaLN_modulation.1", "norm_out.linear_1", "d,e", B, 0 },
    { "final_layer.linear", "norm_out.linear_2", "64,d", B, 0 },
    { 0 },
};

static const lt_layout_group lumina_groups[] = {
    { "layers.#.", "layers.#.", 'n', 0, LT_SPAN_ALL, lumina_block, NULL },
    { "noise_refiner.#.", "noise_refiner.#.", 'r', 0, LT_SPAN_ALL, lumina_block, NULL },
    { "context_refiner.#.", "context_refiner.#.", 'r', 0, LT_SPAN_ALL, lumina_context,
        NULL },
    { "", "", 0, 0, LT_SPAN_ALL, lumina_whole, NULL },
    { 0 },
};

static const lt_layout_variant lumina_variants[] = {
    { "image-2.0", "d=2304 q=3840 h=96 f=9216 e=1024 n=26 r=2 c=2304" },
    { 0 },
};

const lt_layout lt_layout_lumina = { lumina_groups, lumina_variants, NULL };

#define ZIMAGE_BLOCK                                                                   \
    { "attention.qkv", "attention.to_q attention.to_k attention.to_v", "3d,d", 0, 0 }, \
        { "attention.out", "attention.to_out.0", "d,d", 0, 0 },                        \
        { "attention.q_norm.weight", "attention.norm_q.weight", "h", T, 0 },           \
        { "attention.k_norm.weight", "attention.norm_k.weight", "h", T, 0 },           \
        { "feed_forward.w1", NULL, "f,d", 0, 0 },                                      \
        { "feed_forward.w2", NULL, "d,f", 0, 0 },                                      \
        { "feed_forward.w3", NULL, "f,d", 0, 0 },                                      \
        { "attention_norm1.weight", NULL, "d", T, 0 },                                 \
        { "attention_norm2.weight", NULL, "d", T, 0 },                                 \
        { "ffn_norm1.weight", NULL, "d", T, 0 },                                       \
    {                                                                                  \
        "ffn_norm2.weight", NULL, "d", T, 0                                            \
    }

static const lt_layout_row zimage_block[] = {
    ZIMAGE_BLOCK,
    { "adaLN_modulation.0", NULL, "4d,e", B, 0 },
    { 0 },
};

static const lt_layout_row zimage_context[] = { ZIMAGE_BLOCK, { 0 } };

static const lt_layout_row zimage_whole[] = {
    { "x_embedder", "all_x_embedder.2-1", "d,64", B, 0 },
    { "x_pad_token", NULL, "1,d", T, 0 },
    { "cap_pad_token", NULL, "1,d", T, 0 },
    { "cap_embedder.0.weight", NULL, "c", T, 0 },
    { "cap_embedder.1", NULL, "d,c", B, 0 },
    { "t_embedder.mlp.0", NULL, "1024,256", B, 0 },
    { "t_embedder.mlp.2", NULL, "e,1024", B, 0 },
    { "final_layer.adaLN_modulation.1", "all_final_layer.2-1.adaLN_modulation.1", "d,e",
        B, 0 },
    { "final_layer.linear", "all_final_layer.2-1.linear", "64,d", B, 0 },
    { 0 },
};

static const lt_layout_group zimage_groups[] = {
    { "layers.#.", "layers.#.", 'n', 0, LT_SPAN_ALL, zimage_block, NULL },
    { "noise_refiner.#.", "noise_refiner.#.", 'r', 0, LT_SPAN_ALL, zimage_block, NULL },
    { "context_refiner.#.", "context_refiner.#.", 'r', 0, LT_SPAN_ALL, zimage_context,
        NULL },
    { "", "", 0, 0, LT_SPAN_ALL, zimage_whole, NULL },
    { 0 },
};

static const lt_layout_variant zimage_variants[] = {
    { "z-image", "d=3840 h=128 f=10240 e=256 n=30 r=2 c=2560" },
    { 0 },
};

const lt_layout lt_layout_zimage = { zimage_groups, zimage_variants, NULL };
