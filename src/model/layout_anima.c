/* SPDX-License-Identifier: MIT */
/* Cosmos-Predict2 and 2.5 and what Cosmos-Transfer2.5 controls (NVIDIA), and Anima
 * (CircleStone Labs), which is the first with a network before it that prepares the text.
 * 2.5 projects longer text states; Transfer also attends to an image, its control blocks
 * being a model of their own in diffusers. In files that network is part of the
 * denoiser; in diffusers it is a component of its own, text_conditioner, whose name
 * stands before its modules here. Modulations are products of two matrices, and only the
 * text network has biases. The buffers that some files carry (pos_embedder.*, accum_*,
 * _extra_state) are not listed. */
#include "model/layouts.h"

#define B LT_ROW_BIAS
#define T LT_ROW_TENSOR

/* columns: of the keys' and values' input */
#define ATTENTION(native, public, columns)                               \
    { native ".q_proj", public ".to_q", "d,d", 0, 0 },                   \
        { native ".k_proj", public ".to_k", "d," columns, 0, 0 },        \
        { native ".v_proj", public ".to_v", "d," columns, 0, 0 },        \
        { native ".output_proj", public ".to_out.0", "d,d", 0, 0 },      \
        { native ".q_norm.weight", public ".norm_q.weight", "h", T, 0 }, \
    {                                                                    \
        native ".k_norm.weight", public ".norm_k.weight", "h", T, 0      \
    }

#define MODULATION(native, public, rows)                 \
    { native ".1", public ".linear_1", "a,d", 0, 0 },    \
    {                                                    \
        native ".2", public ".linear_2", rows ",a", 0, 0 \
    }

static const lt_layout_row block[] = {
    ATTENTION("self_attn", "attn1", "d"),
    ATTENTION("cross_attn", "attn2", "c"),
    { "mlp.layer1", "ff.net.0.proj", "4d,d", 0, 0 },
    { "mlp.layer2", "ff.net.2", "d,4d", 0, 0 },
    MODULATION("adaln_modulation_self_attn", "norm1", "3d"),
    MODULATION("adaln_modulation_cross_attn", "norm2", "3d"),
    MODULATION("adaln_modulation_mlp", "norm3", "3d"),
    { 0 },
};

static const lt_layout_row whole[] = {
    { "x_embedder.proj.1", "patch_embed.proj", "d,4i", 0, 0 },
    { "t_embedder.1.linear_1", "time_embed.t_embedder.linear_1", "d,d", 0, 0 },
    { "t_embedder.1.linear_2", "time_embed.t_embedder.linear_2", "3d,d", 0, 0 },
    { "t_embedding_norm.weight", "time_embed.norm.weight", "d", T, 0 },
    { "final_layer.linear", "proj_out", "64,d", 0, 0 },
    MODULATION("final_layer.adaln_modulation", "norm_out", "2d"),
    { 0 },
};

static const lt_layout_row block_image[] = {
    { "q_img", NULL, "d,d", 0, 0 },
    { "k_img", NULL, "d,d", 0, 0 },
    { "v_img", NULL, "d,d", 0, 0 },
    { "q_img_norm.weight", NULL, "h", T, 0 },
    { "k_img_norm.weight", NULL, "h", T, 0 },
    { 0 },
};

static const lt_layout_row text_projection[] = {
    { "crossattn_proj.0", NULL, "c,100352", B, 0 },
    { 0 },
};

static const lt_layout_row image_projection[] = {
    { "img_context_proj.0", NULL, "d,1152", B, 0 },
    { 0 },
};

static const lt_layout_group groups[] = {
    { "blocks.#.", "transformer_blocks.#.", 'n', 0, LT_SPAN_ALL, block, NULL },
    { "blocks.#.cross_attn.", "transformer_blocks.#.attn2.", 'x', 0, LT_SPAN_ALL,
        block_image, NULL },
    { "", "", 'p', 0, LT_SPAN_ALL, text_projection, NULL },
    { "", "", 'e', 0, LT_SPAN_ALL, image_projection, NULL },
    { "", "", 0, 0, LT_SPAN_ALL, whole, NULL },
    { 0 },
};

/* i counts the mask of padding, and in v2w that of the given frames */
static const lt_layout_variant variants[] = {
    { "2B-t2i", "d=2048 h=128 n=28 i=17 c=1024 a=256" },
    { "2B-v2w", "d=2048 h=128 n=28 i=18 c=1024 a=256" },
    { "14B-t2i", "d=5120 h=128 n=36 i=17 c=1024 a=256" },
    { "14B-v2w", "d=5120 h=128 n=36 i=18 c=1024 a=256" },
    { "2.5-2B", "d=2048 h=128 n=28 i=18 c=1024 a=256 p=1" },
    { "2.5-14B", "d=5120 h=128 n=36 i=18 c=1024 a=256 p=1" },
    { "transfer2.5-2B", "d=2048 h=128 n=28 i=18 c=1024 a=256 p=1 x=28 e=1" },
    { 0 },
};

const lt_layout lt_layout_cosmos_predict2 = { groups, variants, NULL };

#define TEXT_ATTENTION(name)                                                          \
    { name ".q_proj", NULL, "c,c", 0, 0 }, { name ".k_proj", NULL, "c,c", 0, 0 },     \
        { name ".v_proj", NULL, "c,c", 0, 0 }, { name ".o_proj", NULL, "c,c", 0, 0 }, \
        { name ".q_norm.weight", NULL, "64", T, 0 },                                  \
    {                                                                                 \
        name ".k_norm.weight", NULL, "64", T, 0                                       \
    }

static const lt_layout_row text_block[] = {
    TEXT_ATTENTION("self_attn"),
    TEXT_ATTENTION("cross_attn"),
    { "mlp.0", NULL, "4c,c", B, 0 },
    { "mlp.2", NULL, "c,4c", B, 0 },
    { "norm_self_attn.weight", NULL, "c", T, 0 },
    { "norm_cross_attn.weight", NULL, "c", T, 0 },
    { "norm_mlp.weight", NULL, "c", T, 0 },
    { 0 },
};

static const lt_layout_row text_whole[] = {
    { "embed", NULL, "32128,c", 0, 0 },
    { "norm.weight", NULL, "c", T, 0 },
    { "out_proj", NULL, "c,c", B, 0 },
    { 0 },
};

#define NATIVE_TEXT "llm_adapter."
#define PUBLIC_TEXT "text_conditioner."

static const lt_layout_group anima_groups[] = {
    { "blocks.#.", "transformer_blocks.#.", 'n', 0, LT_SPAN_ALL, block, NULL },
    { NATIVE_TEXT "blocks.#.", PUBLIC_TEXT "blocks.#.", 't', 0, LT_SPAN_ALL, text_block,
        NULL },
    { NATIVE_TEXT, PUBLIC_TEXT, 0, 0, LT_SPAN_ALL, text_whole, NULL },
    { "", "", 0, 0, LT_SPAN_ALL, whole, NULL },
    { 0 },
};

static const lt_layout_variant anima_variants[] = {
    { "anima", "d=2048 h=128 n=28 i=17 c=1024 a=256 t=6" },
    { 0 },
};

const lt_layout lt_layout_anima = { anima_groups, anima_variants, NULL };
