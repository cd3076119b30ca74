/* SPDX-License-Identifier: MIT */
/* FLUX.1 (Black Forest Labs) and Chroma, which has one modulation network for all blocks.
 * linear1 of a single block holds q, k, v and the first layer of its MLP. */
#include "model/layouts.h"

#define B LT_ROW_BIAS

#define NORMS(native, q, k)                                                         \
    { native "norm.query_norm.scale", "attn." q ".weight", "h", LT_ROW_TENSOR, 0 }, \
    {                                                                               \
        native "norm.key_norm.scale", "attn." k ".weight", "h", LT_ROW_TENSOR, 0    \
    }

#define DOUBLE_STREAMS                                                                  \
    { "img_attn.qkv", "attn.to_q attn.to_k attn.to_v", "3d,d", B, 0 },                  \
        { "img_attn.proj", "attn.to_out.0", "d,d", B, 0 },                              \
        { "img_mlp.0", "ff.net.0.proj", "4d,d", B, 0 },                                 \
        { "img_mlp.2", "ff.net.2", "d,4d", B, 0 },                                      \
        NORMS("img_attn.", "norm_q", "norm_k"),                                         \
        { "txt_attn.qkv", "attn.add_q_proj attn.add_k_proj attn.add_v_proj", "3d,d", B, \
            0 },                                                                        \
        { "txt_attn.proj", "attn.to_add_out", "d,d", B, 0 },                            \
        { "txt_mlp.0", "ff_context.net.0.proj", "4d,d", B, 0 },                         \
        { "txt_mlp.2", "ff_context.net.2", "d,4d", B, 0 },                              \
        NORMS("txt_attn.", "norm_added_q", "norm_added_k")

#define SINGLE_STREAM                                                      \
    { "linear1", "attn.to_q attn.to_k attn.to_v proj_mlp", "7d,d", B, 3 }, \
        { "linear2", "proj_out", "d,5d", B, 0 }, NORMS("", "norm_q", "norm_k")

/* XLabs' adapters, which speak of attention processors (1 is the image's, 2 the text's),
 * and ComfyUI's name for the attention's part of linear1. */
static const lt_layout_alias aliases[] = {
    { "double_blocks.#.processor.qkv_lora1", "double_blocks.#.img_attn.qkv", 0 },
    { "double_blocks.#.processor.qkv_lora2", "double_blocks.#.txt_attn.qkv", 0 },
    { "double_blocks.#.processor.proj_lora1", "double_blocks.#.img_attn.proj", 0 },
    { "double_blocks.#.processor.proj_lora2", "double_blocks.#.txt_attn.proj", 0 },
    { "single_blocks.#.processor.qkv", "single_blocks.#.linear1", 3 },
    { "single_blocks.#.processor.proj", "single_blocks.#.linear2", 0 },
    { "single_blocks.#.linear1_qkv", "single_blocks.#.linear1", 3 },
    { 0 },
};

static const lt_layout_row flux_double[] = {
    DOUBLE_STREAMS,
    { "img_mod.lin", "norm1.linear", "6d,d", B, 0 },
    { "txt_mod.lin", "norm1_context.linear", "6d,d", B, 0 },
    { 0 },
};

static const lt_layout_row flux_single[] = {
    SINGLE_STREAM,
    { "modulation.lin", "norm.linear", "3d,d", B, 0 },
    { 0 },
};

static const lt_layout_row flux_whole[] = {
    { "img_in", "x_embedder", "d,i", B, 0 },
    { "txt_in", "context_embedder", "d,c", B, 0 },
    { "time_in.in_layer", "time_text_embed.timestep_embedder.linear_1", "d,256", B, 0 },
    { "time_in.out_layer", "time_text_embed.timestep_embedder.linear_2", "d,d", B, 0 },
    { "vector_in.in_layer", "time_text_embed.text_embedder.linear_1", "d,p", B, 0 },
    { "vector_in.out_layer", "time_text_embed.text_embedder.linear_2", "d,d", B, 0 },
    { "final_layer.linear", "proj_out", "64,d", B, 0 },
    { "final_layer.adaLN_modulation.1", "norm_out.linear", "2d,d", B | LT_ROW_SWAP, 0 },
    { 0 },
};

static const lt_layout_row flux_guidance[] = {
    { "in_layer", "linear_1", "d,256", B, 0 },
    { "out_layer", "linear_2", "d,d", B, 0 },
    { 0 },
};

static const lt_layout_group flux_groups[] = {
    { "double_blocks.#.", "transformer_blocks.#.", 'n', 0, LT_SPAN_ALL, flux_double,
        NULL },
    { "single_blocks.#.", "single_transformer_blocks.#.", 's', 0, LT_SPAN_ALL,
        flux_single, NULL },
    { "guidance_in.", "time_text_embed.guidance_embedder.", 'g', 0, LT_SPAN_ALL,
        flux_guidance, NULL },
    { "", "", 0, 0, LT_SPAN_ALL, flux_whole, NULL },
    { 0 },
};

static const lt_layout_variant flux_variants[] = {
    { "dev", "d=3072 h=128 n=19 s=38 i=64 c=4096 p=768 g=1" },
    { "schnell", "d=3072 h=128 n=19 s=38 i=64 c=4096 p=768 g=0" },
    { 0 },
};

const lt_layout lt_layout_flux = { flux_groups, flux_variants, aliases };

static const lt_layout_row chroma_double[] = { DOUBLE_STREAMS, { 0 } };
static const lt_layout_row chroma_single[] = { SINGLE_STREAM, { 0 } };

static const lt_layout_row chroma_layers[] = {
    { "in_layer", "linear_1", "g,g", B, 0 },
    { "out_layer", "linear_2", "g,g", B, 0 },
    { 0 },
};

static const lt_layout_row chroma_norms[] = {
    { "scale", "weight", "g", LT_ROW_TENSOR, 0 },
    { 0 },
};

static const lt_layout_row chroma_whole[] = {
    { "img_in", "x_embedder", "d,i", B, 0 },
    { "txt_in", "context_embedder", "d,c", B, 0 },
    { "distilled_guidance_layer.in_proj", NULL, "g,64", B, 0 },
    { "distilled_guidance_layer.out_proj", NULL, "d,g", B, 0 },
    { "final_layer.linear", "proj_out", "64,d", B, 0 },
    { 0 },
};

static const lt_layout_group chroma_groups[] = {
    { "double_blocks.#.", "transformer_blocks.#.", 'n', 0, LT_SPAN_ALL, chroma_double,
        NULL },
    { "single_blocks.#.", "single_transformer_blocks.#.", 's', 0, LT_SPAN_ALL,
        chroma_single, NULL },
    { "distilled_guidance_layer.layers.#.", "distilled_guidance_layer.layers.#.", 'l', 0,
        LT_SPAN_ALL, chroma_layers, NULL },
    { "distilled_guidance_layer.norms.#.", "distilled_guidance_layer.norms.#.", 'l', 0,
        LT_SPAN_ALL, chroma_norms, NULL },
    { "", "", 0, 0, LT_SPAN_ALL, chroma_whole, NULL },
    { 0 },
};

static const lt_layout_variant chroma_variants[] = {
    { "chroma", "d=3072 h=128 n=19 s=38 i=64 c=4096 g=5120 l=5" },
    { 0 },
};

const lt_layout lt_layout_chroma = { chroma_groups, chroma_variants, aliases };
