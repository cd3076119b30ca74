/* SPDX-License-Identifier: MIT */
/* The rules by which the architectures name and shape their tensors. A rule takes a
 * builder, which keeps the first error, and the parameters of one model. */
#ifndef SYNTH_RULES_H
#define SYNTH_RULES_H

#include "layouts.h"
#include "model/layouts.h"

typedef struct synth_builder {
    synth_layout *layout;
    const char *prefix; /* of every key */
    lt_dtype dtype;
    lt_status status;
    lt_error *err;
} synth_builder;

/* openaimodel.UNetModel as CompVis and Stability name it, two residual blocks a level. */
typedef struct synth_unet {
    unsigned width, levels, mult[4];
    unsigned depth[4], mid_depth; /* transformer blocks of an attention site */
    unsigned context, adm, in_channels;
    bool linear; /* proj_in and proj_out are matrices, not 1x1 convolutions */
} synth_unet;

/* CLIP's text model as transformers names it. */
typedef struct synth_clip {
    unsigned width, layers;
    bool projection, position_ids;
} synth_clip;

/* CLIP's text model as OpenCLIP names it. */
typedef struct synth_openclip {
    unsigned width, layers;
} synth_openclip;

/* AutoencoderKL. */
typedef struct synth_vae {
    unsigned width, mult[4], latent;
} synth_vae;

/* A LLaMA-like language model with tied embeddings. */
typedef struct synth_llama {
    unsigned vocab, width, inner, layers, kv_width;
} synth_llama;

/* A denoiser of one of the library's layout tables. */
typedef struct synth_table {
    const lt_layout *layout;
    const char *params;
    bool is_public;
} synth_table;

typedef void (*synth_rule)(synth_builder *b, const void *params);

void synth_rule_unet(synth_builder *b, const void *params);
void synth_rule_clip(synth_builder *b, const void *params);
void synth_rule_openclip(synth_builder *b, const void *params);
void synth_rule_vae(synth_builder *b, const void *params);
void synth_rule_table(synth_builder *b, const void *params);
void synth_rule_llama(synth_builder *b, const void *params);

#endif
