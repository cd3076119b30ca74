/* SPDX-License-Identifier: MIT */
/* AutoencoderKL: CompVis names and diffusers'. The decoder's levels are counted from the
 * other end. Parameters: c width, z channels of the latent, q whether the latent passes
 * 1x1 convolutions. */
#include "model/layouts.h"

#define B LT_ROW_BIAS

#define RESNET                                                        \
    { "norm1", NULL, "i", B, 0 }, { "conv1", NULL, "o,i,3,3", B, 0 }, \
        { "norm2", NULL, "o", B, 0 },                                 \
    {                                                                 \
        "conv2", NULL, "o,o,3,3", B, 0                                \
    }

static const lt_layout_row resnet[] = { RESNET, { 0 } };
static const lt_layout_row widening[] = {
    RESNET,
    { "nin_shortcut", "conv_shortcut", "o,i,1,1", B, 0 },
    { 0 },
};

static const lt_layout_row attention[] = {
    { "norm", "group_norm", "4c", B, 0 },
    { "q", "to_q", "4c,4c,1,1", B | LT_ROW_POINTWISE, 0 },
    { "k", "to_k", "4c,4c,1,1", B | LT_ROW_POINTWISE, 0 },
    { "v", "to_v", "4c,4c,1,1", B | LT_ROW_POINTWISE, 0 },
    { "proj_out", "to_out.0", "4c,4c,1,1", B | LT_ROW_POINTWISE, 0 },
    { 0 },
};

#define DOWN(level, shape)                                                               \
    {                                                                                    \
        "down." #level ".downsample.conv", "down_blocks." #level ".downsamplers.0.conv", \
            shape, B, 0                                                                  \
    }
#define UP(level, in_diffusers, shape)                                                  \
    {                                                                                   \
        "up." #level ".upsample.conv", "up_blocks." #in_diffusers ".upsamplers.0.conv", \
            shape, B, 0                                                                 \
    }

static const lt_layout_row encoder_ends[] = {
    { "conv_in", NULL, "c,3,3,3", B, 0 },
    { "norm_out", "conv_norm_out", "4c", B, 0 },
    { "conv_out", NULL, "2z,4c,3,3", B, 0 },
    DOWN(0, "c,c,3,3"),
    DOWN(1, "2c,2c,3,3"),
    DOWN(2, "4c,4c,3,3"),
    { 0 },
};
static const lt_layout_row decoder_ends[] = {
    { "conv_in", NULL, "4c,z,3,3", B, 0 },
    { "norm_out", "conv_norm_out", "c", B, 0 },
    { "conv_out", NULL, "3,c,3,3", B, 0 },
    UP(3, 0, "4c,4c,3,3"),
    UP(2, 1, "4c,4c,3,3"),
    UP(1, 2, "2c,2c,3,3"),
    { 0 },
};

static const lt_layout_row quant_encoder[] = {
    { "conv", NULL, "2z,2z,1,1", B, 0 },
    { 0 },
};
static const lt_layout_row quant_decoder[] = {
    { "conv", NULL, "z,z,1,1", B, 0 },
    { 0 },
};

#define BLOCK(native, public, rows, params)             \
    {                                                   \
        native, public, 0, 0, LT_SPAN_ALL, rows, params \
    }
#define IN(level, place, rows, i, o)                                \
    BLOCK("encoder.down." #level ".block." #place ".",              \
        "encoder.down_blocks." #level ".resnets." #place ".", rows, \
        "i=" #i "c o=" #o "c")
#define OUT(level, in_diffusers, place, rows, i, o)                      \
    BLOCK("decoder.up." #level ".block." #place ".",                     \
        "decoder.up_blocks." #in_diffusers ".resnets." #place ".", rows, \
        "i=" #i "c o=" #o "c")
#define MID(side)                                                                       \
    BLOCK(side ".mid.block_1.", side ".mid_block.resnets.0.", resnet, "i=4c o=4c"),     \
        BLOCK(side ".mid.block_2.", side ".mid_block.resnets.1.", resnet, "i=4c o=4c"), \
        BLOCK(side ".mid.attn_1.", side ".mid_block.attentions.0.", attention, NULL)

static const lt_layout_group groups[] = {
    IN(0, 0, resnet, 1, 1),
    IN(0, 1, resnet, 1, 1),
    IN(1, 0, widening, 1, 2),
    IN(1, 1, resnet, 2, 2),
    IN(2, 0, widening, 2, 4),
    IN(2, 1, resnet, 4, 4),
    IN(3, 0, resnet, 4, 4),
    IN(3, 1, resnet, 4, 4),
    MID("encoder"),
    BLOCK("encoder.", "encoder.", encoder_ends, NULL),
    OUT(3, 0, 0, resnet, 4, 4),
    OUT(3, 0, 1, resnet, 4, 4),
    OUT(3, 0, 2, resnet, 4, 4),
    OUT(2, 1, 0, resnet, 4, 4),
    OUT(2, 1, 1, resnet, 4, 4),
    OUT(2, 1, 2, resnet, 4, 4),
    OUT(1, 2, 0, widening, 4, 2),
    OUT(1, 2, 1, resnet, 2, 2),
    OUT(1, 2, 2, resnet, 2, 2),
    OUT(0, 3, 0, widening, 2, 1),
    OUT(0, 3, 1, resnet, 1, 1),
    OUT(0, 3, 2, resnet, 1, 1),
    MID("decoder"),
    BLOCK("decoder.", "decoder.", decoder_ends, NULL),
    { "quant_", "quant_", 'q', 0, LT_SPAN_ALL, quant_encoder, NULL },
    { "post_quant_", "post_quant_", 'q', 0, LT_SPAN_ALL, quant_decoder, NULL },
    { 0 },
};

static const lt_layout_variant variants[] = {
    { "z4", "c=128 z=4 q=1" },
    { "z16", "c=128 z=16 q=0" },
    { 0 },
};

const lt_layout lt_layout_vae = { groups, variants, NULL };
