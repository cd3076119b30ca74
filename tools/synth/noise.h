/* SPDX-License-Identifier: MIT */
/* Pseudo-random numbers that are addressed by position: any part of a stream can be had
 * without the part before it, so tensors are made in tiles and by several threads. */
#ifndef SYNTH_NOISE_H
#define SYNTH_NOISE_H

#include "loratool/error.h"

typedef struct synth_noise {
    float *block; /* of numbers that are near enough to Gaussian: mean 0, variance 1 */
    uint64_t seed;
} synth_noise;

lt_status synth_noise_init(synth_noise *noise, uint64_t seed, lt_error *err) LT_MUST_USE;
void synth_noise_release(synth_noise *noise);

/* The stream of a name; purpose tells several streams of one name apart. */
uint64_t synth_noise_stream(const synth_noise *noise, const char *name, unsigned purpose);

/* dst = mean + deviation * numbers [first, first + n) of the stream; or dst += them. */
void synth_noise_fill(const synth_noise *noise, uint64_t stream, uint64_t first, size_t n,
    float mean, float deviation, float *dst);
void synth_noise_add(const synth_noise *noise, uint64_t stream, uint64_t first, size_t n,
    float deviation, float *dst);

#endif
