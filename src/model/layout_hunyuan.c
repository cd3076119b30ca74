/* SPDX-License-Identifier: MIT */
/* HunyuanVideo, HunyuanImage 2.1 with its refiner, and HunyuanVideo 1.5 (Tencent).
 * linear1 of a single block holds q, k, v and the first layer of its MLP, as that of
 * FLUX.1. The text first passes blocks of its own, the halves of whose modulation stay in
 * order; those of the last layer's do not. Image models may read letters (byt5_in) and be
 * told a guidance and a second time. HunyuanVideo 1.5 has no single blocks and was
 * published with q, k and v apart; ComfyUI's files of it have them fused like its
 * relatives. */
#include "model/layouts.h"

#define B LT_ROW_BIAS
#define T LT_ROW_TENSOR

static const lt_layout_row two_streams[] = {
    { "img_mod.linear", "norm1.linear", "6d,d", B, 0 },
    { "img_attn_qkv", "attn.to_q attn.to_k attn.to_v", "3d,d", B, 0 },
    { "img_attn_q_norm.weight", "attn.norm_q.weight", "h", T, 0 },
    { "img_attn_k_norm.weight", "attn.norm_k.weight", "h", T, 0 },
    { "img_attn_proj", "attn.to_out.0", "d,d", B, 0 },
    { "img_mlp.fc1", "ff.net.0.proj", "4d,d", B, 0 },
    { "img_mlp.fc2", "ff.net.2", "d,4d", B, 0 },
    { "txt_mod.linear", "norm1_context.linear", "6d,d", B, 0 },
    { "txt_attn_qkv", "attn.add_q_proj attn.add_k_proj attn.add_v_proj", "3d,d", B, 0 },
    { "txt_attn_q_norm.weight", "attn.norm_added_q.weight", "h", T, 0 },
    { "txt_attn_k_norm.weight", "attn.norm_added_k.weight", "h", T, 0 },
    { "txt_attn_proj", "attn.to_add_out", "d,d", B, 0 },
    { "txt_mlp.fc1", "ff_context.net.0.proj", "4d,d", B, 0 },
    { "txt_mlp.fc2", "ff_context.net.2", "d,4d", B, 0 },
    { 0 },
};

static const lt_layout_row one_stream[] = {
    { "modulation.linear", "norm.linear", "3d,d", B, 0 },
    { "linear1", "attn.to_q attn.to_k attn.to_v proj_mlp", "7d,d", B, 3 },
    { "linear2", "proj_out", "d,5d", B, 0 },
    { "q_norm.weight", "attn.norm_q.weight", "h", T, 0 },
    { "k_norm.weight", "attn.norm_k.weight", "h", T, 0 },
    { 0 },
};

static const lt_layout_row text_block[] = {
    { "norm1", NULL, "d", B, 0 },
    { "norm2", NULL, "d", B, 0 },
    { "self_attn_qkv", "attn.to_q attn.to_k attn.to_v", "3d,d", B, 0 },
    { "self_attn_proj", "attn.to_out.0", "d,d", B, 0 },
    { "mlp.fc1", "ff.net.0.proj", "4d,d", B, 0 },
    { "mlp.fc2", "ff.net.2", "d,4d", B, 0 },
    { "adaLN_modulation.1", "norm_out.linear", "2d,d", B, 0 },
    { 0 },
};

/* Embeds a scalar. */
static const lt_layout_row scalar[] = {
    { "mlp.0", "linear_1", "d,256", B, 0 },
    { "mlp.2", "linear_2", "d,d", B, 0 },
    { 0 },
};

static const lt_layout_row text_ends[] = {
    { "txt_in.input_embedder", "context_embedder.proj_in", "d,c", B, 0 },
    { "txt_in.c_embedder.linear_1",
        "context_embedder.time_text_embed.text_embedder.linear_1", "d,c", B, 0 },
    { "txt_in.c_embedder.linear_2",
        "context_embedder.time_text_embed.text_embedder.linear_2", "d,d", B, 0 },
    { 0 },
};

static const lt_layout_row last[] = {
    { "final_layer.linear", "proj_out", "64,d", B, 0 },
    { "final_layer.adaLN_modulation.1", "norm_out.linear", "2d,d", B | LT_ROW_SWAP, 0 },
    { 0 },
};

#define TEXT_GROUPS                                                                    \
    { "txt_in.individual_token_refiner.blocks.#.",                                     \
        "context_embedder.token_refiner.refiner_blocks.#.", 'r', 0, LT_SPAN_ALL,       \
        text_block, NULL },                                                            \
        { "txt_in.t_embedder.", "context_embedder.time_text_embed.timestep_embedder.", \
            0, 0, LT_SPAN_ALL, scalar, NULL },                                         \
    {                                                                                  \
        "", "", 0, 0, LT_SPAN_ALL, text_ends, NULL                                     \
    }

#define COMMON_GROUPS                                                                \
    { "double_blocks.#.", "transformer_blocks.#.", 'n', 0, LT_SPAN_ALL, two_streams, \
        NULL },                                                                      \
        { "single_blocks.#.", "single_transformer_blocks.#.", 's', 0, LT_SPAN_ALL,   \
            one_stream, NULL },                                                      \
        TEXT_GROUPS,                                                                 \
    {                                                                                \
        "", "", 0, 0, LT_SPAN_ALL, last, NULL                                        \
    }

static const lt_layout_row video_whole[] = {
    { "img_in.proj", "x_embedder.proj", "d,i,1,2,2", B, 0 },
    { "vector_in.in_layer", "time_text_embed.text_embedder.linear_1", "d,p", B, 0 },
    { "vector_in.out_layer", "time_text_embed.text_embedder.linear_2", "d,d", B, 0 },
    { 0 },
};

#define DOUBLE "double_blocks.#."
#define REFINER "txt_in.individual_token_refiner.blocks.#."

/* ComfyUI calls these like FLUX.1's, and what embeds a vector or a scalar like its
 * relatives there; it also saves models like that. */
#define NORM_ALIASES(stream)                                                            \
    { DOUBLE stream "_attn.norm.query_norm.scale", DOUBLE stream "_attn_q_norm.weight", \
        0 },                                                                            \
    {                                                                                   \
        DOUBLE stream "_attn.norm.key_norm.scale", DOUBLE stream "_attn_k_norm.weight", \
            0                                                                           \
    }

#define TWO_STREAMS_ALIASES                                                 \
    NORM_ALIASES("img"), NORM_ALIASES("txt"),                               \
        { DOUBLE "img_attn.proj", DOUBLE "img_attn_proj", 0 },              \
        { DOUBLE "img_mlp.0", DOUBLE "img_mlp.fc1", 0 },                    \
        { DOUBLE "img_mlp.2", DOUBLE "img_mlp.fc2", 0 },                    \
        { DOUBLE "img_mod.lin", DOUBLE "img_mod.linear", 0 },               \
        { DOUBLE "txt_attn.proj", DOUBLE "txt_attn_proj", 0 },              \
        { DOUBLE "txt_mlp.0", DOUBLE "txt_mlp.fc1", 0 },                    \
        { DOUBLE "txt_mlp.2", DOUBLE "txt_mlp.fc2", 0 },                    \
        { DOUBLE "txt_mod.lin", DOUBLE "txt_mod.linear", 0 },               \
        { REFINER "self_attn.qkv", REFINER "self_attn_qkv", 0 },            \
        { REFINER "self_attn.proj", REFINER "self_attn_proj", 0 },          \
        { REFINER "mlp.0", REFINER "mlp.fc1", 0 },                          \
        { REFINER "mlp.2", REFINER "mlp.fc2", 0 },                          \
        { "txt_in.t_embedder.in_layer", "txt_in.t_embedder.mlp.0", 0 },     \
        { "txt_in.t_embedder.out_layer", "txt_in.t_embedder.mlp.2", 0 },    \
        { "txt_in.c_embedder.in_layer", "txt_in.c_embedder.linear_1", 0 },  \
        { "txt_in.c_embedder.out_layer", "txt_in.c_embedder.linear_2", 0 }, \
        { "time_in.in_layer", "time_in.mlp.0", 0 },                         \
    {                                                                       \
        "time_in.out_layer", "time_in.mlp.2", 0                             \
    }

#define FUSED_ALIASES                                    \
    { DOUBLE "img_attn.qkv", DOUBLE "img_attn_qkv", 0 }, \
    {                                                    \
        DOUBLE "txt_attn.qkv", DOUBLE "txt_attn_qkv", 0  \
    }

#define COMMON_ALIASES                                                                   \
    TWO_STREAMS_ALIASES, FUSED_ALIASES,                                                  \
        { "single_blocks.#.modulation.lin", "single_blocks.#.modulation.linear", 0 },    \
        { "single_blocks.#.norm.query_norm.scale", "single_blocks.#.q_norm.weight", 0 }, \
        { "single_blocks.#.norm.key_norm.scale", "single_blocks.#.k_norm.weight", 0 },   \
        { "guidance_in.in_layer", "guidance_in.mlp.0", 0 },                              \
    {                                                                                    \
        "guidance_in.out_layer", "guidance_in.mlp.2", 0                                  \
    }

static const lt_layout_alias video_aliases[] = { COMMON_ALIASES, { 0 } };

static const lt_layout_group video_groups[] = {
    COMMON_GROUPS,
    { "time_in.", "time_text_embed.timestep_embedder.", 0, 0, LT_SPAN_ALL, scalar, NULL },
    { "guidance_in.", "time_text_embed.guidance_embedder.", 'g', 0, LT_SPAN_ALL, scalar,
        NULL },
    { "", "", 0, 0, LT_SPAN_ALL, video_whole, NULL },
    { 0 },
};

static const lt_layout_variant video_variants[] = {
    { "hunyuan-video", "d=3072 h=128 n=20 s=40 r=2 i=16 c=4096 p=768 g=1" },
    { 0 },
};

const lt_layout lt_layout_hunyuan_video = { video_groups, video_variants, video_aliases };

static const lt_layout_row letters[] = {
    { "layernorm", "norm", "b", B, 0 },
    { "fc1", "linear_1", "2048,b", B, 0 },
    { "fc2", "linear_2", "2048,2048", B, 0 },
    { "fc3", "linear_3", "d,2048", B, 0 },
    { 0 },
};

static const lt_layout_row flat_patch[] = {
    { "img_in.proj", "x_embedder.proj", "d,i,1,1", B, 0 },
    { 0 },
};

static const lt_layout_row deep_patch[] = {
    { "img_in.proj", "x_embedder.proj", "d,i,1,1,1", B, 0 },
    { 0 },
};

static const lt_layout_group image_groups[] = {
    COMMON_GROUPS,
    { "time_in.", "time_guidance_embed.timestep_embedder.", 0, 0, LT_SPAN_ALL, scalar,
        NULL },
    { "time_r_in.", "time_guidance_embed.timestep_embedder_r.", 'm', 0, LT_SPAN_ALL,
        scalar, NULL },
    { "guidance_in.", "time_guidance_embed.guidance_embedder.", 'g', 0, LT_SPAN_ALL,
        scalar, NULL },
    { "byt5_in.", "context_embedder_2.", 'l', 0, LT_SPAN_ALL, letters, NULL },
    { "", "", 'v', 0, LT_SPAN_ALL, deep_patch, NULL },
    { "", "", 'f', 0, LT_SPAN_ALL, flat_patch, NULL },
    { 0 },
};

#define BASE "d=3584 h=128 n=20 s=40 r=2 i=64 c=3584 f=1 l=1 b=1472"

static const lt_layout_variant image_variants[] = {
    { "2.1", BASE },
    { "2.1-distilled", BASE " m=1 g=1" },
    { "refiner", "d=3328 h=128 n=20 s=40 r=2 i=128 c=3584 v=1 g=1" },
    { 0 },
};

static const lt_layout_alias image_aliases[] = {
    COMMON_ALIASES,
    { "time_r_in.in_layer", "time_r_in.mlp.0", 0 },
    { "time_r_in.out_layer", "time_r_in.mlp.2", 0 },
    { 0 },
};

const lt_layout lt_layout_hunyuan_image = { image_groups, image_variants, image_aliases };

static const lt_layout_row two_streams_apart[] = {
    { "img_mod.linear", "norm1.linear", "6d,d", B, 0 },
    { "img_attn_q", "attn.to_q", "d,d", B, 0 },
    { "img_attn_k", "attn.to_k", "d,d", B, 0 },
    { "img_attn_v", "attn.to_v", "d,d", B, 0 },
    { "img_attn_q_norm.weight", "attn.norm_q.weight", "h", T, 0 },
    { "img_attn_k_norm.weight", "attn.norm_k.weight", "h", T, 0 },
    { "img_attn_proj", "attn.to_out.0", "d,d", B, 0 },
    { "img_mlp.fc1", "ff.net.0.proj", "4d,d", B, 0 },
    { "img_mlp.fc2", "ff.net.2", "d,4d", B, 0 },
    { "txt_mod.linear", "norm1_context.linear", "6d,d", B, 0 },
    { "txt_attn_q", "attn.add_q_proj", "d,d", B, 0 },
    { "txt_attn_k", "attn.add_k_proj", "d,d", B, 0 },
    { "txt_attn_v", "attn.add_v_proj", "d,d", B, 0 },
    { "txt_attn_q_norm.weight", "attn.norm_added_q.weight", "h", T, 0 },
    { "txt_attn_k_norm.weight", "attn.norm_added_k.weight", "h", T, 0 },
    { "txt_attn_proj", "attn.to_add_out", "d,d", B, 0 },
    { "txt_mlp.fc1", "ff_context.net.0.proj", "4d,d", B, 0 },
    { "txt_mlp.fc2", "ff_context.net.2", "d,4d", B, 0 },
    { 0 },
};

static const lt_layout_row vision[] = {
    { "0", "norm_in", "v", B, 0 },
    { "1", "linear_1", "v,v", B, 0 },
    { "3", "linear_2", "d,v", B, 0 },
    { "4", "norm_out", "d", B, 0 },
    { 0 },
};

static const lt_layout_row video15_whole[] = {
    { "img_in.proj", "x_embedder.proj", "d,i,1,1,1", B, 0 },
    { "cond_type_embedding", "cond_type_embed", "3,d", 0, 0 },
    { "final_layer.linear", "proj_out", "32,d", B, 0 },
    { "final_layer.adaLN_modulation.1", "norm_out.linear", "2d,d", B | LT_ROW_SWAP, 0 },
    { 0 },
};

#define VIDEO15_GROUPS(rows)                                                            \
    { "double_blocks.#.", "transformer_blocks.#.", 'n', 0, LT_SPAN_ALL, rows, NULL },   \
        TEXT_GROUPS,                                                                    \
        { "time_in.", "time_embed.timestep_embedder.", 0, 0, LT_SPAN_ALL, scalar,       \
            NULL },                                                                     \
        { "time_r_in.", "time_embed.timestep_embedder_r.", 'm', 0, LT_SPAN_ALL, scalar, \
            NULL },                                                                     \
        { "byt5_in.", "context_embedder_2.", 0, 0, LT_SPAN_ALL, letters, NULL },        \
        { "vision_in.proj.", "image_embedder.", 0, 0, LT_SPAN_ALL, vision, NULL },      \
        { "", "", 0, 0, LT_SPAN_ALL, video15_whole, NULL },                             \
    {                                                                                   \
        0                                                                               \
    }

static const lt_layout_group video15_groups[] = { VIDEO15_GROUPS(two_streams_apart) };
static const lt_layout_group video15_fused_groups[] = { VIDEO15_GROUPS(two_streams) };

#define BASE_15 "d=2048 h=128 n=54 r=2 i=65 c=3584 b=1472 v=1152"

static const lt_layout_variant video15_variants[] = {
    { "1.5", BASE_15 },
    { "1.5-step-distilled", BASE_15 " m=1" },
    { 0 },
};

#define ALIASES_15                                  \
    { "time_r_in.in_layer", "time_r_in.mlp.0", 0 }, \
    {                                               \
        "time_r_in.out_layer", "time_r_in.mlp.2", 0 \
    }

static const lt_layout_alias video15_aliases[] = { TWO_STREAMS_ALIASES, ALIASES_15,
    { 0 } };
/* and of what was published apart */
#define PARTS(stream)                                                              \
    {                                                                              \
        DOUBLE stream "_attn_q " DOUBLE stream "_attn_k " DOUBLE stream "_attn_v", \
            DOUBLE stream "_attn_qkv", 1                                           \
    }

static const lt_layout_alias video15_fused_aliases[] = { TWO_STREAMS_ALIASES,
    FUSED_ALIASES, ALIASES_15, PARTS("img"), PARTS("txt"), { 0 } };

const lt_layout lt_layout_hunyuan_video15 = { video15_groups, video15_variants,
    video15_aliases };
const lt_layout lt_layout_hunyuan_video15_fused = { video15_fused_groups,
    video15_variants, video15_fused_aliases };
