/* SPDX-License-Identifier: MIT */
/* Wan 2.1 and 2.2 (Alibaba): text to video, and image to video, which has more input
 * channels and in 2.1 attends to an embedding of the image too, with positions when there
 * are two images (FLF2V). VACE has a second stack of blocks; Animate looks at faces after
 * every fifth block (its motion encoder, which no adapter changes, is not listed). An
 * A14B model of 2.2 is two denoisers of this layout. SkyReels V2 (Skywork) may be told
 * the rate of the frames. The norm that has weights is the third in native names and the
 * second in public ones; the modulations are tables of their own. */
#include "model/layouts.h"

#define B LT_ROW_BIAS
#define T LT_ROW_TENSOR

#define ATTENTION(native, public)                                        \
    { native ".q", public ".to_q", "d,d", B, 0 },                        \
        { native ".k", public ".to_k", "d,d", B, 0 },                    \
        { native ".v", public ".to_v", "d,d", B, 0 },                    \
        { native ".o", public ".to_out.0", "d,d", B, 0 },                \
        { native ".norm_q.weight", public ".norm_q.weight", "d", T, 0 }, \
    {                                                                    \
        native ".norm_k.weight", public ".norm_k.weight", "d", T, 0      \
    }

static const lt_layout_row block[] = {
    ATTENTION("self_attn", "attn1"),
    ATTENTION("cross_attn", "attn2"),
    { "norm3.weight", "norm2.weight", "d", T, 0 },
    { "norm3.bias", "norm2.bias", "d", T, 0 },
    { "ffn.0", "ffn.net.0.proj", "f,d", B, 0 },
    { "ffn.2", "ffn.net.2", "d,f", B, 0 },
    { "modulation", "scale_shift_table", "1,6,d", T, 0 },
    { 0 },
};

static const lt_layout_row block_image[] = {
    { "k_img", "add_k_proj", "d,d", B, 0 },
    { "v_img", "add_v_proj", "d,d", B, 0 },
    { "norm_k_img.weight", "norm_added_k.weight", "d", T, 0 },
    { 0 },
};

static const lt_layout_row image[] = {
    { "0.weight", "norm1.weight", "1280", T, 0 },
    { "0.bias", "norm1.bias", "1280", T, 0 },
    { "1", "ff.net.0.proj", "1280,1280", B, 0 },
    { "3", "ff.net.2", "d,1280", B, 0 },
    { "4.weight", "norm2.weight", "d", T, 0 },
    { "4.bias", "norm2.bias", "d", T, 0 },
    { 0 },
};

static const lt_layout_row positions[] = {
    { "emb_pos", "pos_embed", "1,514,1280", T, 0 },
    { 0 },
};

static const lt_layout_row vace_block[] = {
    { "after_proj", "proj_out", "d,d", B, 0 },
    { 0 },
};

static const lt_layout_row vace_whole[] = {
    { "vace_patch_embedding", NULL, "d,96,1,2,2", B, 0 },
    { "vace_blocks.0.before_proj", "vace_blocks.0.proj_in", "d,d", B, 0 },
    { 0 },
};

static const lt_layout_row rate[] = {
    { "fps_embedding", NULL, "2,d", 0, 0 },
    { "fps_projection.0", "fps_projection.net.0.proj", "d,d", B, 0 },
    { "fps_projection.2", "fps_projection.net.2", "6d,d", B, 0 },
    { 0 },
};

static const lt_layout_row face_block[] = {
    { "linear1_q", "to_q", "d,d", B, 0 },
    { "linear1_kv", "to_k to_v", "2d,d", B, 0 },
    { "linear2", "to_out", "d,d", B, 0 },
    { "q_norm.weight", "norm_q.weight", "h", T, 0 },
    { "k_norm.weight", "norm_k.weight", "h", T, 0 },
    { 0 },
};

static const lt_layout_row face_whole[] = {
    { "pose_patch_embedding", NULL, "d,16,1,2,2", B, 0 },
    { "face_encoder.conv1_local.conv", "face_encoder.conv1_local", "4096,512,3", B, 0 },
    { "face_encoder.conv2.conv", "face_encoder.conv2", "1024,1024,3", B, 0 },
    { "face_encoder.conv3.conv", "face_encoder.conv3", "1024,1024,3", B, 0 },
    { "face_encoder.out_proj", NULL, "d,1024", B, 0 },
    { "face_encoder.padding_tokens", NULL, "1,1,1,d", T, 0 },
    { 0 },
};

#define EMBEDDER "condition_embedder."

static const lt_layout_row whole[] = {
    { "patch_embedding", NULL, "d,i,1,2,2", B, 0 },
    { "text_embedding.0", EMBEDDER "text_embedder.linear_1", "d,4096", B, 0 },
    { "text_embedding.2", EMBEDDER "text_embedder.linear_2", "d,d", B, 0 },
    { "time_embedding.0", EMBEDDER "time_embedder.linear_1", "d,256", B, 0 },
    { "time_embedding.2", EMBEDDER "time_embedder.linear_2", "d,d", B, 0 },
    { "time_projection.1", EMBEDDER "time_proj", "6d,d", B, 0 },
    { "head.head", "proj_out", "4o,d", B, 0 },
    { "head.modulation", "scale_shift_table", "1,2,d", T, 0 },
    { 0 },
};

static const lt_layout_group groups[] = {
    { "blocks.#.", "blocks.#.", 'n', 0, LT_SPAN_ALL, block, NULL },
    { "blocks.#.cross_attn.", "blocks.#.attn2.", 'x', 0, LT_SPAN_ALL, block_image, NULL },
    { "img_emb.proj.", EMBEDDER "image_embedder.", 'e', 0, LT_SPAN_ALL, image, NULL },
    { "img_emb.", EMBEDDER "image_embedder.", 'p', 0, LT_SPAN_ALL, positions, NULL },
    { "vace_blocks.#.", "vace_blocks.#.", 'v', 0, LT_SPAN_ALL, block, NULL },
    { "vace_blocks.#.", "vace_blocks.#.", 'v', 0, LT_SPAN_ALL, vace_block, NULL },
    { "", "", 'w', 0, LT_SPAN_ALL, vace_whole, NULL },
    { "face_adapter.fuser_blocks.#.", "face_adapter.#.", 'a', 0, LT_SPAN_ALL, face_block,
        NULL },
    { "", "", 'b', 0, LT_SPAN_ALL, face_whole, NULL },
    { "", "", 'r', 0, LT_SPAN_ALL, rate, NULL },
    { "", "", 0, 0, LT_SPAN_ALL, whole, NULL },
    { 0 },
};

/* Of what a model has once, a parameter says whether it has it. */

static const lt_layout_variant variants[] = {
    { "2.1-t2v-1.3B", "d=1536 f=8960 n=30 i=16 o=16 x=0 e=0" },
    { "2.1-t2v-14B", "d=5120 f=13824 n=40 i=16 o=16 x=0 e=0" },
    { "2.1-i2v-14B", "d=5120 f=13824 n=40 i=36 o=16 x=40 e=1" },
    { "2.1-flf2v-14B", "d=5120 f=13824 n=40 i=36 o=16 x=40 e=1 p=1" },
    { "2.1-vace-1.3B", "d=1536 f=8960 n=30 i=16 o=16 v=15 w=1" },
    { "2.1-vace-14B", "d=5120 f=13824 n=40 i=16 o=16 v=8 w=1" },
    { "2.2-animate-14B", "d=5120 h=128 f=13824 n=40 i=36 o=16 x=40 e=1 a=8 b=1" },
    { "2.2-i2v-A14B", "d=5120 f=13824 n=40 i=36 o=16 x=0 e=0" },
    { "skyreels-v2-df-1.3B", "d=1536 f=8960 n=30 i=16 o=16 r=1" },
    { "2.2-ti2v-5B", "d=3072 f=14336 n=30 i=48 o=48 x=0 e=0" },
    { 0 },
};

const lt_layout lt_layout_wan = { groups, variants, NULL };
