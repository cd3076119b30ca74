/* SPDX-License-Identifier: MIT */
/* LTX-2 (Lightricks): a wide stream of video and a narrow one of audio, each attending to
 * itself, the text and the other. 2.3 gates its attentions and modulates the text; 2.5
 * drops two biases. The connectors that prepare the text stand beside the transformer in
 * published files and are a component of their own in diffusers; they are not listed. */
#include "model/layouts.h"

#define B LT_ROW_BIAS
#define T LT_ROW_TENSOR

/* inner: as wide as keys and queries are */
#define ATTENTION(name, inner, out, from)                              \
    { name ".to_q", NULL, inner "," out, B, 0 },                       \
        { name ".to_k", NULL, inner "," from, B, 0 },                  \
        { name ".to_v", NULL, inner "," from, B, 0 },                  \
        { name ".to_out.0", NULL, out "," inner, B, 0 },               \
        { name ".q_norm.weight", name ".norm_q.weight", inner, T, 0 }, \
    {                                                                  \
        name ".k_norm.weight", name ".norm_k.weight", inner, T, 0      \
    }

static const lt_layout_row block[] = {
    ATTENTION("attn1", "d", "d", "d"),
    ATTENTION("attn2", "d", "d", "d"),
    ATTENTION("audio_attn1", "a", "a", "a"),
    ATTENTION("audio_attn2", "a", "a", "a"),
    ATTENTION("audio_to_video_attn", "a", "d", "a"),
    ATTENTION("video_to_audio_attn", "a", "a", "d"),
    { "audio_ff.net.0.proj", NULL, "4a,a", B, 0 },
    { "audio_ff.net.2", NULL, "a,4a", B, 0 },
    { "scale_shift_table", NULL, "m,d", T, 0 },
    { "audio_scale_shift_table", NULL, "m,a", T, 0 },
    { "scale_shift_table_a2v_ca_video", "video_a2v_cross_attn_scale_shift_table", "5,d",
        T, 0 },
    { "scale_shift_table_a2v_ca_audio", "audio_a2v_cross_attn_scale_shift_table", "5,a",
        T, 0 },
    { 0 },
};

static const lt_layout_row block_gates[] = {
    { "attn1.to_gate_logits", NULL, "h,d", B, 0 },
    { "attn2.to_gate_logits", NULL, "h,d", B, 0 },
    { "audio_attn1.to_gate_logits", NULL, "h,a", B, 0 },
    { "audio_attn2.to_gate_logits", NULL, "h,a", B, 0 },
    { "audio_to_video_attn.to_gate_logits", NULL, "h,d", B, 0 },
    { "video_to_audio_attn.to_gate_logits", NULL, "h,a", B, 0 },
    { "prompt_scale_shift_table", NULL, "2,d", T, 0 },
    { "audio_prompt_scale_shift_table", NULL, "2,a", T, 0 },
    { 0 },
};

static const lt_layout_row mlp[] = {
    { "ff.net.0.proj", NULL, "4d,d", B, 0 },
    { "ff.net.2", NULL, "d,4d", B, 0 },
    { 0 },
};

static const lt_layout_row mlp_without_bias[] = {
    { "ff.net.0.proj", NULL, "4d,d", 0, 0 },
    { "ff.net.2", NULL, "d,4d", 0, 0 },
    { 0 },
};

/* A modulation that a time is embedded for. */
#define MODULATION(native, public, rows, width)                                \
    { native ".emb.timestep_embedder.linear_1",                                \
        public ".emb.timestep_embedder.linear_1", width ",256", B, 0 },        \
        { native ".emb.timestep_embedder.linear_2",                            \
            public ".emb.timestep_embedder.linear_2", width "," width, B, 0 }, \
    {                                                                          \
        native ".linear", public ".linear", rows "," width, B, 0               \
    }

static const lt_layout_row whole[] = {
    { "patchify_proj", "proj_in", "d,128", B, 0 },
    { "audio_patchify_proj", "audio_proj_in", "a,128", B, 0 },
    MODULATION("adaln_single", "time_embed", "v", "d"),
    MODULATION("audio_adaln_single", "audio_time_embed", "u", "a"),
    MODULATION("av_ca_video_scale_shift_adaln_single", "av_cross_attn_video_scale_shift",
        "4d", "d"),
    MODULATION("av_ca_audio_scale_shift_adaln_single", "av_cross_attn_audio_scale_shift",
        "4a", "a"),
    MODULATION("av_ca_a2v_gate_adaln_single", "av_cross_attn_video_a2v_gate", "d", "d"),
    MODULATION("av_ca_v2a_gate_adaln_single", "av_cross_attn_audio_v2a_gate", "a", "a"),
    { "proj_out", NULL, "128,d", B, 0 },
    { "audio_proj_out", NULL, "128,a", B, 0 },
    { "scale_shift_table", NULL, "2,d", T, 0 },
    { "audio_scale_shift_table", NULL, "2,a", T, 0 },
    { 0 },
};

static const lt_layout_row captions[] = {
    { "caption_projection.linear_1", NULL, "d,c", B, 0 },
    { "caption_projection.linear_2", NULL, "d,d", B, 0 },
    { "audio_caption_projection.linear_1", NULL, "a,c", B, 0 },
    { "audio_caption_projection.linear_2", NULL, "a,a", B, 0 },
    { 0 },
};

static const lt_layout_row prompts[] = {
    MODULATION("prompt_adaln_single", "prompt_adaln", "2d", "d"),
    MODULATION("audio_prompt_adaln_single", "audio_prompt_adaln", "2a", "a"),
    { 0 },
};

static const lt_layout_row keyframes[] = {
    { "keyframes_abs_pos_embedding", NULL, "1,d", T, 0 },
    { 0 },
};

#define BLOCKS "transformer_blocks.#."

static const lt_layout_group groups[] = {
    { BLOCKS, BLOCKS, 'n', 0, LT_SPAN_ALL, block, NULL },
    { BLOCKS, BLOCKS, 'g', 0, LT_SPAN_ALL, block_gates, NULL },
    { BLOCKS, BLOCKS, 'f', 0, LT_SPAN_ALL, mlp, NULL },
    { BLOCKS, BLOCKS, 'w', 0, LT_SPAN_ALL, mlp_without_bias, NULL },
    { "", "", 'p', 0, LT_SPAN_ALL, captions, NULL },
    { "", "", 'q', 0, LT_SPAN_ALL, prompts, NULL },
    { "", "", 'k', 0, LT_SPAN_ALL, keyframes, NULL },
    { "", "", 0, 0, LT_SPAN_ALL, whole, NULL },
    { 0 },
};

#define SIZES "d=4096 a=2048 h=32 n=48 "

/* m: modulations of a block; v and u are as many rows of either stream */
static const lt_layout_variant variants[] = {
    { "2.0", SIZES "m=6 v=24576 u=12288 f=48 p=1 c=3840" },
    { "2.3", SIZES "m=9 v=36864 u=18432 f=48 g=48 q=1" },
    { "2.5", SIZES "m=9 v=36864 u=18432 w=48 g=48 q=1 k=1" },
    { 0 },
};

const lt_layout lt_layout_ltx2 = { groups, variants, NULL };
