/* SPDX-License-Identifier: MIT */
/* HiDream-I1 and E1 (HiDream.ai), published in the names that diffusers kept. The image's
 * MLPs are four experts of which a gate picks, beside one that is always used; each block
 * reads its own projection of the text. */
#include "model/layouts.h"

#define B LT_ROW_BIAS
#define T LT_ROW_TENSOR

#define MLP(name, rows)                                                           \
    { name ".w1", NULL, rows ",d", 0, 0 }, { name ".w2", NULL, "d," rows, 0, 0 }, \
    {                                                                             \
        name ".w3", NULL, rows ",d", 0, 0                                         \
    }

/* of the image; what ends in _t is the text's */
#define ATTENTION(end)                                                                \
    { "attn1.to_q" end, NULL, "d,d", B, 0 }, { "attn1.to_k" end, NULL, "d,d", B, 0 }, \
        { "attn1.to_v" end, NULL, "d,d", B, 0 },                                      \
        { "attn1.to_out" end, NULL, "d,d", B, 0 },                                    \
        { "attn1.q_rms_norm" end ".weight", NULL, "d", T, 0 },                        \
    {                                                                                 \
        "attn1.k_rms_norm" end ".weight", NULL, "d", T, 0                             \
    }

#define IMAGE                                                                      \
    ATTENTION(""), { "ff_i.gate", NULL, "4,d", 0, 0 }, MLP("ff_i.experts.0", "f"), \
        MLP("ff_i.experts.1", "f"), MLP("ff_i.experts.2", "f"),                    \
        MLP("ff_i.experts.3", "f"), MLP("ff_i.shared_experts", "g")

static const lt_layout_row two_streams[] = {
    { "adaLN_modulation.1", NULL, "12d,d", B, 0 },
    IMAGE,
    ATTENTION("_t"),
    MLP("ff_t", "f"),
    { 0 },
};

static const lt_layout_row one_stream[] = {
    { "adaLN_modulation.1", NULL, "6d,d", B, 0 },
    IMAGE,
    { 0 },
};

static const lt_layout_row caption[] = {
    { "linear", NULL, "d,c", 0, 0 },
    { 0 },
};

static const lt_layout_row whole[] = {
    { "x_embedder.proj", NULL, "d,64", B, 0 },
    { "t_embedder.timestep_embedder.linear_1", NULL, "d,256", B, 0 },
    { "t_embedder.timestep_embedder.linear_2", NULL, "d,d", B, 0 },
    { "p_embedder.pooled_embedder.linear_1", NULL, "d,p", B, 0 },
    { "p_embedder.pooled_embedder.linear_2", NULL, "d,d", B, 0 },
    { "final_layer.adaLN_modulation.1", NULL, "2d,d", B, 0 },
    { "final_layer.linear", NULL, "64,d", B, 0 },
    { 0 },
};

#define SAME(name) name, name

static const lt_layout_group groups[] = {
    { SAME("double_stream_blocks.#.block."), 'n', 0, LT_SPAN_ALL, two_streams, NULL },
    { SAME("single_stream_blocks.#.block."), 's', 0, LT_SPAN_ALL, one_stream, NULL },
    { SAME("caption_projection.#."), 't', 0, LT_SPAN_ALL, caption, NULL },
    { "", "", 0, 0, LT_SPAN_ALL, whole, NULL },
    { 0 },
};

/* t: one projection a block and one more */
static const lt_layout_variant variants[] = {
    { "I1", "d=2560 f=6912 g=3584 n=16 s=32 t=49 c=4096 p=2048" },
    { 0 },
};

const lt_layout lt_layout_hidream = { groups, variants, NULL };
