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

/* A LLaMA-like language model with tied embeddings. */
typedef struct synth_llama {
    unsigned vocab, width, inner, layers, kv_width;
} synth_llama;

/* One of the library's layout tables. */
typedef struct synth_table {
    const lt_layout *layout;
    const char *params; /* the variant's name, or the parameters themselves */
    bool is_public;
} synth_table;

typedef void (*synth_rule)(synth_builder *b, const void *params);

void synth_rule_table(synth_builder *b, const void *params);
void synth_rule_llama(synth_builder *b, const void *params);

#endif
