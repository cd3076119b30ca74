/* SPDX-License-Identifier: MIT */
/* CogVideoX and CogView4 (Zhipu AI), in diffusers' names, the only ones that adapters and
 * most programs know. CogVideoX 1.5 patches in time too; image to video has more channels
 * and learned positions (1.0) or a second embedding of time (1.5). */
#include "model/layouts.h"

#define B LT_ROW_BIAS
#define T LT_ROW_TENSOR

#define ATTENTION                                                                     \
    { "attn1.to_q", NULL, "d,d", B, 0 }, { "attn1.to_k", NULL, "d,d", B, 0 },         \
        { "attn1.to_v", NULL, "d,d", B, 0 }, { "attn1.to_out.0", NULL, "d,d", B, 0 }, \
        { "ff.net.0.proj", NULL, "4d,d", B, 0 },                                      \
    {                                                                                 \
        "ff.net.2", NULL, "d,4d", B, 0                                                \
    }

static const lt_layout_row video_block[] = {
    ATTENTION,
    { "attn1.norm_q", NULL, "64", B, 0 },
    { "attn1.norm_k", NULL, "64", B, 0 },
    { "norm1.linear", NULL, "6d,512", B, 0 },
    { "norm1.norm", NULL, "d", B, 0 },
    { "norm2.linear", NULL, "6d,512", B, 0 },
    { "norm2.norm", NULL, "d", B, 0 },
    { 0 },
};

static const lt_layout_row video_whole[] = {
    { "patch_embed.text_proj", NULL, "d,4096", B, 0 },
    { "time_embedding.linear_1", NULL, "512,d", B, 0 },
    { "time_embedding.linear_2", NULL, "512,512", B, 0 },
    { "norm_final", NULL, "d", B, 0 },
    { "norm_out.linear", NULL, "2d,512", B, 0 },
    { "norm_out.norm", NULL, "d", B, 0 },
    { "proj_out", NULL, "o,d", B, 0 },
    { 0 },
};

static const lt_layout_row flat_patch[] = {
    { "patch_embed.proj", NULL, "d,i,2,2", B, 0 },
    { 0 },
};

static const lt_layout_row deep_patch[] = {
    { "patch_embed.proj", NULL, "d,8i", B, 0 },
    { 0 },
};

static const lt_layout_row positions[] = {
    { "patch_embed.pos_embedding", NULL, "1,17776,d", T, 0 },
    { 0 },
};

static const lt_layout_row second_time[] = {
    { "ofs_embedding.linear_1", NULL, "512,512", B, 0 },
    { "ofs_embedding.linear_2", NULL, "512,512", B, 0 },
    { 0 },
};

#define BLOCKS "transformer_blocks.#.", "transformer_blocks.#."

static const lt_layout_group video_groups[] = {
    { BLOCKS, 'n', 0, LT_SPAN_ALL, video_block, NULL },
    { "", "", 'f', 0, LT_SPAN_ALL, flat_patch, NULL },
    { "", "", 'v', 0, LT_SPAN_ALL, deep_patch, NULL },
    { "", "", 'p', 0, LT_SPAN_ALL, positions, NULL },
    { "", "", 't', 0, LT_SPAN_ALL, second_time, NULL },
    { "", "", 0, 0, LT_SPAN_ALL, video_whole, NULL },
    { 0 },
};

static const lt_layout_variant video_variants[] = {
    { "2B", "d=1920 n=30 i=16 o=64 f=1" },
    { "5B", "d=3072 n=42 i=16 o=64 f=1" },
    { "5B-i2v", "d=3072 n=42 i=32 o=64 f=1 p=1" },
    { "1.5-5B", "d=3072 n=42 i=16 o=128 v=1" },
    { "1.5-5B-i2v", "d=3072 n=42 i=32 o=128 v=1 t=1" },
    { 0 },
};

const lt_layout lt_layout_cogvideox = { video_groups, video_variants, NULL };

static const lt_layout_row image_block[] = {
    ATTENTION,
    { "norm1.linear", NULL, "12d,512", B, 0 },
    { 0 },
};

static const lt_layout_row image_whole[] = {
    { "patch_embed.proj", NULL, "d,64", B, 0 },
    { "patch_embed.text_proj", NULL, "d,4096", B, 0 },
    { "time_condition_embed.timestep_embedder.linear_1", NULL, "512,d", B, 0 },
    { "time_condition_embed.timestep_embedder.linear_2", NULL, "512,512", B, 0 },
    { "time_condition_embed.condition_embedder.linear_1", NULL, "512,1536", B, 0 },
    { "time_condition_embed.condition_embedder.linear_2", NULL, "512,512", B, 0 },
    { "norm_out.linear", NULL, "2d,512", B, 0 },
    { "proj_out", NULL, "64,d", B, 0 },
    { 0 },
};

static const lt_layout_group image_groups[] = {
    { BLOCKS, 'n', 0, LT_SPAN_ALL, image_block, NULL },
    { "", "", 0, 0, LT_SPAN_ALL, image_whole, NULL },
    { 0 },
};

static const lt_layout_variant image_variants[] = {
    { "6B", "d=4096 n=28" },
    { 0 },
};

const lt_layout lt_layout_cogview4 = { image_groups, image_variants, NULL };
