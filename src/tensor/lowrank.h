/* SPDX-License-Identifier: MIT */
/* The best rank-k factors of a matrix: truncated SVD (Eckart & Young 1936; Mirsky 1960).
 *
 * Method. With s = min(m, n): the Gram matrix G of the short side in double (its
 * eigenvalues are the squared singular values; float32 input times float32 input is exact
 * in double, so squaring the condition number costs nothing above 1e-8 of sigma_1); its
 * leading eigenspace by block subspace iteration with a Rayleigh-Ritz step each round
 * (Halko, Martinsson & Tropp, SIAM Review 53(2), 2011), stopped when the captured energy
 * stands still; then a Rayleigh-Ritz step on the matrix itself, so that the small end of
 * a steep spectrum is resolved too. When the iteration does not settle, or k is a large
 * part of s, or s is small, the whole eigenproblem is solved by divide and conquer.
 * The start block is a fixed pseudo-random one: same input, same bits.
 *
 * Measured (one AVX-512 core, OpenBLAS 0.3.21, float32 input, k = 64, spectrum
 * sigma_i = i^-0.7, error against a float64 SVD): see tests/unit/test_lowrank.c for the
 * accuracy table that is checked. */
#ifndef LT_TENSOR_LOWRANK_H
#define LT_TENSOR_LOWRANK_H

#include "base/mem.h"

typedef enum lt_split {
    LT_SPLIT_SQRT, /* sqrt(sigma) on both factors */
    LT_SPLIT_UP,   /* all of sigma on b, rows of a orthonormal */
} lt_split;

/* delta (m x n, finite) ~ b (m x k) a (k x n), 1 <= k <= min(m, n). energy is the sum of
 * delta's squares. sigma (k values, descending) may be NULL. Uses slots 0..7 of scratch.
 */
lt_status lt_lowrank(const float *delta, size_t m, size_t n, size_t k, double energy,
    lt_split split, float *b, float *a, double *sigma, lt_scratch *scratch,
    lt_error *err) LT_MUST_USE;

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
