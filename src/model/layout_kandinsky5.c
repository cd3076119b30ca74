/* SPDX-License-Identifier: MIT */
/* Kandinsky 5.0 (Sber), Lite and Pro: the text passes blocks of its own. One layout. */
#include "model/layouts.h"

#define B LT_ROW_BIAS
#define T LT_ROW_TENSOR

#define ATTENTION(name)                                                             \
    { name ".to_query", NULL, "d,d", B, 0 }, { name ".to_key", NULL, "d,d", B, 0 }, \
        { name ".to_value", NULL, "d,d", B, 0 },                                    \
        { name ".out_layer", NULL, "d,d", B, 0 },                                   \
        { name ".query_norm.weight", NULL, "h", T, 0 },                             \
    {                                                                               \
        name ".key_norm.weight", NULL, "h", T, 0                                    \
    }

#define MLP                                         \
    { "feed_forward.in_layer", NULL, "f,d", 0, 0 }, \
    {                                               \
        "feed_forward.out_layer", NULL, "d,f", 0, 0 \
    }

static const lt_layout_row text_block[] = {
    { "text_modulation.out_layer", NULL, "6d,t", B, 0 },
    ATTENTION("self_attention"),
    MLP,
    { 0 },
};

static const lt_layout_row visual_block[] = {
    { "visual_modulation.out_layer", NULL, "9d,t", B, 0 },
    ATTENTION("self_attention"),
    ATTENTION("cross_attention"),
    MLP,
    { 0 },
};

static const lt_layout_row whole[] = {
    { "time_embeddings.in_layer", NULL, "t,d", B, 0 },
    { "time_embeddings.out_layer", NULL, "t,t", B, 0 },
    { "text_embeddings.in_layer", NULL, "d,c", B, 0 },
    { "text_embeddings.norm", NULL, "d", B, 0 },
    { "pooled_text_embeddings.in_layer", NULL, "t,p", B, 0 },
    { "pooled_text_embeddings.norm", NULL, "t", B, 0 },
    { "visual_embeddings.in_layer", NULL, "d,i", B, 0 },
    { "out_layer.modulation.out_layer", NULL, "2d,t", B, 0 },
    { "out_layer.out_layer", NULL, "64,d", B, 0 },
    { 0 },
};

#define SAME(name) name, name

static const lt_layout_group groups[] = {
    { SAME("text_transformer_blocks.#."), 'm', 0, LT_SPAN_ALL, text_block, NULL },
    { SAME("visual_transformer_blocks.#."), 'n', 0, LT_SPAN_ALL, visual_block, NULL },
    { "", "", 0, 0, LT_SPAN_ALL, whole, NULL },
    { 0 },
};

/* i: of latents, and for video those of the given frames and their mask */
static const lt_layout_variant variants[] = {
    { "lite-video", "d=1792 h=64 f=7168 t=512 c=3584 p=768 m=2 n=32 i=132" },
    { "pro-video", "d=4096 h=128 f=16384 t=1024 c=3584 p=768 m=4 n=60 i=132" },
    { "lite-image", "d=2560 h=128 f=10240 t=512 c=3584 p=768 m=2 n=50 i=64" },
    { 0 },
};

const lt_layout lt_layout_kandinsky5 = { groups, variants, NULL };
