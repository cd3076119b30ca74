/* SPDX-License-Identifier: MIT */
/* What the program can write. */
#ifndef SYNTH_SYNTH_H
#define SYNTH_SYNTH_H

#include "layouts.h"
#include "noise.h"

typedef struct synth_job {
    const synth_layout *layout;
    const synth_noise *noise;
    const char *output;
    const char *base; /* of a fine-tune, or of an adapter; NULL: the layout alone */
    lt_dtype dtype;
    bool has_dtype;  /* else a fine-tune keeps the base's dtypes */
    double strength; /* norm of a change relative to that of the weight */
    uint64_t rank, conv_rank;
    int threads;
} synth_job;

/* Random weights in every tensor of the layout. */
lt_status synth_write_base(const synth_job *job, lt_error *err) LT_MUST_USE;

/* The weights of job->base, changed. The same bytes for any number of threads, but not on
 * machines whose BLAS sums in another order. */
lt_status synth_write_tuned(const synth_job *job, lt_error *err) LT_MUST_USE;

/* A random adapter for the modules that loratool finds in the base or the layout. */
lt_status synth_write_adapter(const synth_job *job, lt_error *err) LT_MUST_USE;

/* The standard deviation of a tensor's random weights. */
double synth_deviation(const lt_tensor *tensor);

#endif
