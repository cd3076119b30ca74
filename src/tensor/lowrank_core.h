/* SPDX-License-Identifier: MIT */
/* The best rank-k factors of a product of factors. */
#ifndef LT_TENSOR_LOWRANK_CORE_H
#define LT_TENSOR_LOWRANK_CORE_H

#include "tensor/lowrank.h"

/* Factors b (m x r), a (r x n) in double → the best rank-k pair of their product, through
 * the r x r core: QR of both, SVD of the core, never the m x n product. Destroys b and
 * a. sigma gets min(m, n, r) values: the whole spectrum. Uses slots 0..7 of scratch. */
typedef struct lt_core {
    double *b; /* m x r in; holds work data on return */
    double *a; /* r x n in; the same */
    size_t m, n, r, k;
    float *b_out; /* m x k */
    float *a_out; /* k x n */
    double *sigma;
} lt_core;
lt_status lt_lowrank_core(
    const lt_core *core, lt_split split, lt_scratch *scratch, lt_error *err) LT_MUST_USE;

/* || p - q ||^2 and || p ||^2 for p = b1 a1 (rank r1), q = b2 a2 (rank r2), all double,
 * b m x r, a r x n; without the product. Uses slots 0..7 of scratch. */
typedef struct lt_pair {
    const double *b, *a;
    size_t r;
} lt_pair;
lt_status lt_pair_distance(size_t m, size_t n, lt_pair p, lt_pair q, double *distance,
    double *energy, lt_scratch *scratch, lt_error *err) LT_MUST_USE;

#endif
