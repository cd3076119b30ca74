/* SPDX-License-Identifier: MIT */
/* The U-Nets of Stable Diffusion 1, 2, XL and XL's refiner: CompVis/Stability ("LDM")
 * names and diffusers'. With two residual blocks a level, input block n >= 1 is level
 * (n-1)/3 and its place there (n-1)%3, 2 being the downsampler; output block n is level
 * n/3, place n%3.
 *
 * Parameters: c width, t of the time embedding, k of the text, l channels in, a of the
 * pooled conditions. In a group: i and o channels in and out of its block, x its
 * transformer blocks. */
#include "model/layouts.h"

#define B LT_ROW_BIAS

#define RESNET                                                                          \
    { "in_layers.0", "norm1", "i", B, 0 }, { "in_layers.2", "conv1", "o,i,3,3", B, 0 }, \
        { "emb_layers.1", "time_emb_proj", "o,t", B, 0 },                               \
        { "out_layers.0", "norm2", "o", B, 0 },                                         \
    {                                                                                   \
        "out_layers.3", "conv2", "o,o,3,3", B, 0                                        \
    }

static const lt_layout_row resnet[] = { RESNET, { 0 } };

/* One that changes the number of channels. */
static const lt_layout_row widening[] = {
    RESNET,
    { "skip_connection", "conv_shortcut", "o,i,1,1", B, 0 },
    { 0 },
};

/* Around the transformer blocks: SD1 projects by 1x1 convolutions, the others do not. */
static const lt_layout_row attention_conv[] = {
    { "norm", NULL, "o", B, 0 },
    { "proj_in", NULL, "o,o,1,1", B, 0 },
    { "proj_out", NULL, "o,o,1,1", B, 0 },
    { 0 },
};
static const lt_layout_row attention_linear[] = {
    { "norm", NULL, "o", B, 0 },
    { "proj_in", NULL, "o,o", B, 0 },
    { "proj_out", NULL, "o,o", B, 0 },
    { 0 },
};

static const lt_layout_row transformer[] = {
    { "attn1.to_q", NULL, "o,o", 0, 0 },
    { "attn1.to_k", NULL, "o,o", 0, 0 },
    { "attn1.to_v", NULL, "o,o", 0, 0 },
    { "attn1.to_out.0", NULL, "o,o", B, 0 },
    { "attn2.to_q", NULL, "o,o", 0, 0 },
    { "attn2.to_k", NULL, "o,k", 0, 0 },
    { "attn2.to_v", NULL, "o,k", 0, 0 },
    { "attn2.to_out.0", NULL, "o,o", B, 0 },
    { "ff.net.0.proj", NULL, "8o,o", B, 0 },
    { "ff.net.2", NULL, "o,4o", B, 0 },
    { "norm1", NULL, "o", B, 0 },
    { "norm2", NULL, "o", B, 0 },
    { "norm3", NULL, "o", B, 0 },
    { 0 },
};

#define ENDS                                                        \
    { "input_blocks.0.0", "conv_in", "c,l,3,3", B, 0 },             \
        { "out.0", "conv_norm_out", "c", B, 0 },                    \
        { "out.2", "conv_out", "4,c,3,3", B, 0 },                   \
        { "time_embed.0", "time_embedding.linear_1", "t,c", B, 0 }, \
    {                                                               \
        "time_embed.2", "time_embedding.linear_2", "t,t", B, 0      \
    }
#define CONDITIONS                                              \
    { "label_emb.0.0", "add_embedding.linear_1", "t,a", B, 0 }, \
    {                                                           \
        "label_emb.0.2", "add_embedding.linear_2", "t,t", B, 0  \
    }

/* A level's sampler: down behind input block n, up behind output block n at place k,
 * which is behind the attention where there is one. */
#define DOWN(n, level, shape)                                                            \
    {                                                                                    \
        "input_blocks." #n ".0.op", "down_blocks." #level ".downsamplers.0.conv", shape, \
            B, 0                                                                         \
    }
#define UP(n, k, level, shape)                                                        \
    {                                                                                 \
        "output_blocks." #n "." #k ".conv", "up_blocks." #level ".upsamplers.0.conv", \
            shape, B, 0                                                               \
    }

/* Four levels of 1, 2, 4 and 4 times the width. */
#define SAMPLERS_OF_4                                                        \
    DOWN(3, 0, "c,c,3,3"), DOWN(6, 1, "2c,2c,3,3"), DOWN(9, 2, "4c,4c,3,3"), \
        UP(5, 2, 1, "4c,4c,3,3"), UP(8, 2, 2, "2c,2c,3,3")

static const lt_layout_row ends[] = { ENDS, SAMPLERS_OF_4, UP(2, 1, 0, "4c,4c,3,3"),
    { 0 } };
static const lt_layout_row ends_refiner[] = { ENDS, CONDITIONS, SAMPLERS_OF_4,
    UP(2, 1, 0, "4c,4c,3,3"), { 0 } };
/* Three levels of 1, 2 and 4. */
static const lt_layout_row ends_xl[] = { ENDS, CONDITIONS, DOWN(3, 0, "c,c,3,3"),
    DOWN(6, 1, "2c,2c,3,3"), UP(2, 2, 0, "4c,4c,3,3"), UP(5, 2, 1, "2c,2c,3,3"), { 0 } };

#define BLOCK(native, public, rows, params)             \
    {                                                   \
        native, public, 0, 0, LT_SPAN_ALL, rows, params \
    }
#define IN(n, level, place, rows, i, o)                                                 \
    BLOCK("input_blocks." #n ".0.", "down_blocks." #level ".resnets." #place ".", rows, \
        "i=" #i "c o=" #o "c")
#define OUT(n, level, place, i, o)                                               \
    BLOCK("output_blocks." #n ".0.", "up_blocks." #level ".resnets." #place ".", \
        widening, "i=" #i "c o=" #o "c")
#define MID                                                                \
    BLOCK("middle_block.0.", "mid_block.resnets.0.", resnet, "i=4c o=4c"), \
        BLOCK("middle_block.2.", "mid_block.resnets.1.", resnet, "i=4c o=4c")

#define ATTENTION(native, public, rows, o, x)                                     \
    BLOCK(native ".", public ".", rows, "o=" #o "c"),                             \
    {                                                                             \
        native ".transformer_blocks.#.", public ".transformer_blocks.#.", 'x', 0, \
            LT_SPAN_ALL, transformer, "o=" #o "c x=" #x                           \
    }
#define ATTENTION_IN(n, level, place, rows, o, x)                                   \
    ATTENTION("input_blocks." #n ".1", "down_blocks." #level ".attentions." #place, \
        rows, o, x)
#define ATTENTION_OUT(n, level, place, rows, o, x) \
    ATTENTION(                                     \
        "output_blocks." #n ".1", "up_blocks." #level ".attentions." #place, rows, o, x)
#define ATTENTION_MID(rows, x) \
    ATTENTION("middle_block.1", "mid_block.attentions.0", rows, 4, x)

#define RESNETS_OF_4                                                                    \
    IN(1, 0, 0, resnet, 1, 1), IN(2, 0, 1, resnet, 1, 1), IN(4, 1, 0, widening, 1, 2),  \
        IN(5, 1, 1, resnet, 2, 2), IN(7, 2, 0, widening, 2, 4),                         \
        IN(8, 2, 1, resnet, 4, 4), IN(10, 3, 0, resnet, 4, 4),                          \
        IN(11, 3, 1, resnet, 4, 4), MID, OUT(0, 0, 0, 8, 4), OUT(1, 0, 1, 8, 4),        \
        OUT(2, 0, 2, 8, 4), OUT(3, 1, 0, 8, 4), OUT(4, 1, 1, 8, 4), OUT(5, 1, 2, 6, 4), \
        OUT(6, 2, 0, 6, 2), OUT(7, 2, 1, 4, 2), OUT(8, 2, 2, 3, 2), OUT(9, 3, 0, 3, 1), \
        OUT(10, 3, 1, 2, 1), OUT(11, 3, 2, 2, 1)

#define ATTENTIONS_OF_4(rows)                                                   \
    ATTENTION_IN(1, 0, 0, rows, 1, 1), ATTENTION_IN(2, 0, 1, rows, 1, 1),       \
        ATTENTION_IN(4, 1, 0, rows, 2, 1), ATTENTION_IN(5, 1, 1, rows, 2, 1),   \
        ATTENTION_IN(7, 2, 0, rows, 4, 1), ATTENTION_IN(8, 2, 1, rows, 4, 1),   \
        ATTENTION_MID(rows, 1), ATTENTION_OUT(3, 1, 0, rows, 4, 1),             \
        ATTENTION_OUT(4, 1, 1, rows, 4, 1), ATTENTION_OUT(5, 1, 2, rows, 4, 1), \
        ATTENTION_OUT(6, 2, 0, rows, 2, 1), ATTENTION_OUT(7, 2, 1, rows, 2, 1), \
        ATTENTION_OUT(8, 2, 2, rows, 2, 1), ATTENTION_OUT(9, 3, 0, rows, 1, 1), \
        ATTENTION_OUT(10, 3, 1, rows, 1, 1), ATTENTION_OUT(11, 3, 2, rows, 1, 1)

static const lt_layout_group sd1_groups[] = {
    RESNETS_OF_4,
    ATTENTIONS_OF_4(attention_conv),
    BLOCK("", "", ends, NULL),
    { 0 },
};
static const lt_layout_variant sd1_variants[] = {
    { "sd1", "c=320 t=1280 k=768 l=4" },
    { "sd1-inpaint", "c=320 t=1280 k=768 l=9" },
    { "sd1-edit", "c=320 t=1280 k=768 l=8" },
    { 0 },
};
const lt_layout lt_layout_unet_sd1 = { sd1_groups, sd1_variants, NULL };

static const lt_layout_group sd2_groups[] = {
    RESNETS_OF_4,
    ATTENTIONS_OF_4(attention_linear),
    BLOCK("", "", ends, NULL),
    { 0 },
};
static const lt_layout_variant sd2_variants[] = {
    { "sd2", "c=320 t=1280 k=1024 l=4" },
    { "sd2-inpaint", "c=320 t=1280 k=1024 l=9" },
    { "sd2-depth", "c=320 t=1280 k=1024 l=5" },
    { 0 },
};
const lt_layout lt_layout_unet_sd2 = { sd2_groups, sd2_variants, NULL };

static const lt_layout_group sdxl_groups[] = {
    IN(1, 0, 0, resnet, 1, 1),
    IN(2, 0, 1, resnet, 1, 1),
    IN(4, 1, 0, widening, 1, 2),
    IN(5, 1, 1, resnet, 2, 2),
    IN(7, 2, 0, widening, 2, 4),
    IN(8, 2, 1, resnet, 4, 4),
    MID,
    OUT(0, 0, 0, 8, 4),
    OUT(1, 0, 1, 8, 4),
    OUT(2, 0, 2, 6, 4),
    OUT(3, 1, 0, 6, 2),
    OUT(4, 1, 1, 4, 2),
    OUT(5, 1, 2, 3, 2),
    OUT(6, 2, 0, 3, 1),
    OUT(7, 2, 1, 2, 1),
    OUT(8, 2, 2, 2, 1),
    ATTENTION_IN(4, 1, 0, attention_linear, 2, 2),
    ATTENTION_IN(5, 1, 1, attention_linear, 2, 2),
    ATTENTION_IN(7, 2, 0, attention_linear, 4, 10),
    ATTENTION_IN(8, 2, 1, attention_linear, 4, 10),
    ATTENTION_MID(attention_linear, 10),
    ATTENTION_OUT(0, 0, 0, attention_linear, 4, 10),
    ATTENTION_OUT(1, 0, 1, attention_linear, 4, 10),
    ATTENTION_OUT(2, 0, 2, attention_linear, 4, 10),
    ATTENTION_OUT(3, 1, 0, attention_linear, 2, 2),
    ATTENTION_OUT(4, 1, 1, attention_linear, 2, 2),
    ATTENTION_OUT(5, 1, 2, attention_linear, 2, 2),
    BLOCK("", "", ends_xl, NULL),
    { 0 },
};
static const lt_layout_variant sdxl_variants[] = {
    { "sdxl", "c=320 t=1280 k=2048 l=4 a=2816" },
    { "sdxl-inpaint", "c=320 t=1280 k=2048 l=9 a=2816" },
    { "sdxl-edit", "c=320 t=1280 k=2048 l=8 a=2816" },
    { 0 },
};
const lt_layout lt_layout_unet_sdxl = { sdxl_groups, sdxl_variants, NULL };

static const lt_layout_group refiner_groups[] = {
    RESNETS_OF_4,
    ATTENTION_IN(4, 1, 0, attention_linear, 2, 4),
    ATTENTION_IN(5, 1, 1, attention_linear, 2, 4),
    ATTENTION_IN(7, 2, 0, attention_linear, 4, 4),
    ATTENTION_IN(8, 2, 1, attention_linear, 4, 4),
    ATTENTION_MID(attention_linear, 4),
    ATTENTION_OUT(3, 1, 0, attention_linear, 4, 4),
    ATTENTION_OUT(4, 1, 1, attention_linear, 4, 4),
    ATTENTION_OUT(5, 1, 2, attention_linear, 4, 4),
    ATTENTION_OUT(6, 2, 0, attention_linear, 2, 4),
    ATTENTION_OUT(7, 2, 1, attention_linear, 2, 4),
    ATTENTION_OUT(8, 2, 2, attention_linear, 2, 4),
    BLOCK("", "", ends_refiner, NULL),
    { 0 },
};
static const lt_layout_variant refiner_variants[] = {
    { "refiner", "c=384 t=1536 k=1280 l=4 a=2560" },
    { 0 },
};
const lt_layout lt_layout_unet_refiner = { refiner_groups, refiner_variants, NULL };
