/* SPDX-License-Identifier: MIT */
/* Sana (NVIDIA), its distilled Sprint, which is told the guidance, and SANA-Video. Like
 * PixArt, with convolutions for the MLPs. A file may hold pos_embed too, which programs
 * compute anyway; the embedding of the missing text is not in diffusers. */
#include "model/layouts.h"

#define B LT_ROW_BIAS
#define T LT_ROW_TENSOR

static const lt_layout_row block[] = {
    { "attn.qkv", "attn1.to_q attn1.to_k attn1.to_v", "3d,d", 0, 0 },
    { "attn.proj", "attn1.to_out.0", "d,d", B, 0 },
    { "cross_attn.q_linear", "attn2.to_q", "d,d", B, 0 },
    { "cross_attn.kv_linear", "attn2.to_k attn2.to_v", "2d,d", B, 0 },
    { "cross_attn.proj", "attn2.to_out.0", "d,d", B, 0 },
    { "mlp.inverted_conv.conv", "ff.conv_inverted", "2f,d,1,1", B, 0 },
    { "mlp.depth_conv.conv", "ff.conv_depth", "2f,1,3,3", B, 0 },
    { "mlp.point_conv.conv", "ff.conv_point", "d,f,1,1", 0, 0 },
    { "scale_shift_table", NULL, "6,d", T, 0 },
    { 0 },
};

static const lt_layout_row block_norms[] = {
    { "attn.q_norm.weight", "attn1.norm_q.weight", "d", T, 0 },
    { "attn.k_norm.weight", "attn1.norm_k.weight", "d", T, 0 },
    { "cross_attn.q_norm.weight", "attn2.norm_q.weight", "d", T, 0 },
    { "cross_attn.k_norm.weight", "attn2.norm_k.weight", "d", T, 0 },
    { 0 },
};

static const lt_layout_row block_video[] = {
    { "mlp.t_conv", "ff.conv_temp", "d,d,3,1", 0, 0 },
    { 0 },
};

/* Embeds a scalar. */
static const lt_layout_row scalar[] = {
    { "mlp.0", "linear_1", "d,256", B, 0 },
    { "mlp.2", "linear_2", "d,d", B, 0 },
    { 0 },
};

static const lt_layout_row whole[] = {
    { "t_block.1", "time_embed.linear", "6d,d", B, 0 },
    { "y_embedder.y_embedding", "", "300,c", T, 0 },
    { "y_embedder.y_proj.fc1", "caption_projection.linear_1", "d,c", B, 0 },
    { "y_embedder.y_proj.fc2", "caption_projection.linear_2", "d,d", B, 0 },
    { "attention_y_norm.weight", "caption_norm.weight", "d", T, 0 },
    { "final_layer.scale_shift_table", "scale_shift_table", "2,d", T, 0 },
    { "final_layer.linear", "proj_out", "o,d", B, 0 },
    { 0 },
};

static const lt_layout_row flat_patch[] = {
    { "x_embedder.proj", "patch_embed.proj", "d,32,1,1", B, 0 },
    { 0 },
};

static const lt_layout_row video_patch[] = {
    { "x_embedder.proj", "patch_embedding", "d,16,1,2,2", B, 0 },
    { 0 },
};

#define BLOCKS "blocks.#.", "transformer_blocks.#."
#define COMMON_GROUPS                                       \
    { BLOCKS, 'n', 0, LT_SPAN_ALL, block, NULL },           \
        { BLOCKS, 'q', 0, LT_SPAN_ALL, block_norms, NULL }, \
    {                                                       \
        "", "", 0, 0, LT_SPAN_ALL, whole, NULL              \
    }

#define TIME \
    "t_embedder.", "time_embed.emb.timestep_embedder.", 0, 0, LT_SPAN_ALL, scalar, NULL

static const lt_layout_group groups[] = {
    COMMON_GROUPS,
    { TIME },
    { "", "", 0, 0, LT_SPAN_ALL, flat_patch, NULL },
    { 0 },
};

static const lt_layout_variant variants[] = {
    { "0.6B", "d=1152 f=2880 n=28 q=0 c=2304 o=32" },
    { "1.6B", "d=2240 f=5600 n=20 q=0 c=2304 o=32" },
    { "1.5-1.6B", "d=2240 f=5600 n=20 q=20 c=2304 o=32" },
    { "1.5-4.8B", "d=2240 f=5600 n=60 q=60 c=2304 o=32" },
    { 0 },
};

const lt_layout lt_layout_sana = { groups, variants, NULL };

static const lt_layout_group sprint_groups[] = {
    COMMON_GROUPS,
    { "t_embedder.", "time_embed.timestep_embedder.", 0, 0, LT_SPAN_ALL, scalar, NULL },
    { "cfg_embedder.", "time_embed.guidance_embedder.", 0, 0, LT_SPAN_ALL, scalar, NULL },
    { "", "", 0, 0, LT_SPAN_ALL, flat_patch, NULL },
    { 0 },
};

static const lt_layout_variant sprint_variants[] = {
    { "0.6B", "d=1152 f=2880 n=28 q=28 c=2304 o=32" },
    { "1.6B", "d=2240 f=5600 n=20 q=20 c=2304 o=32" },
    { 0 },
};

const lt_layout lt_layout_sana_sprint = { sprint_groups, sprint_variants, NULL };

static const lt_layout_group video_groups[] = {
    COMMON_GROUPS,
    { BLOCKS, 'n', 0, LT_SPAN_ALL, block_video, NULL },
    { TIME },
    { "", "", 0, 0, LT_SPAN_ALL, video_patch, NULL },
    { 0 },
};

static const lt_layout_variant video_variants[] = {
    { "2B", "d=2240 f=6720 n=20 q=20 c=2304 o=64" },
    { 0 },
};

const lt_layout lt_layout_sana_video = { video_groups, video_variants, NULL };
