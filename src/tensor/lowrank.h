/* SPDX-License-Identifier: MIT */
/* The best rank-k factors of a matrix: truncated SVD (Eckart & Young 1936; Mirsky 1960).
 *
 * Method. Let s be the short side of D, L the long one, and read D as s x L (transposed
 * when it is tall). Block Lanczos on D D^T with full orthogonalisation (Golub & Kahan
 * 1965; Golub, Luk & Overton 1981; as a randomised method: Musco & Musco, NIPS 2015):
 *
 *   X_0 = a random sparse combination of D's columns   (Clarkson & Woodruff, STOC 2013)
 *   B_j = X_j D,  Y = B_j D^T                          one pass over D (see panels.h)
 *   X_j+1 = Y without its part in X_0..X_j, orthonormalised through the eigenvectors of
 *           its Gram matrix (Stathopoulos & Wu, SISC 23(6), 2002), whatever has no length
 *           left out; nothing left: a fresh random block
 *
 * until the Rayleigh-Ritz values of H = X D D^T X^T = Y X^T settle. Then D ~ X^T B, and
 * the leading eigenvectors of H rotate both into the factors. A basis of K directions
 * costs 4 s L K flops of matrix products and H's eigenproblem; K is 2 k to 3 k.
 *
 * Settled. With w the part of a Ritz vector in the last block and G = Y Y^T, its squared
 * residual is w^T G w, and what the next block can still capture is near
 *   e = sum over the k leading of  w^T G w / (theta - theta_last)
 * (second order perturbation). With q the ratio to the e of the block before, the
 * iteration stops when e / (1 - q)^2 is below SETTLED of the squared error. Measured
 * against float64 spectra e is 1 to 2.5 times too low for spectra that fall off and 8
 * times in the bulk of pure noise, where q is 0.5 to 0.6.
 *
 * Precision. Bases, H and eigenvectors are double. The passes are float32 products, so
 * B is good to 1e-7 of ||D||: when the rest is below FLOAT_LIMIT of the energy (D is of
 * low rank but for rounding), everything is done again with double products, which
 * resolve it to 1e-15 of the energy (3e-8 of the norm: what float32 factors hold). Small
 * or nearly full-rank problems are solved whole: the Gram matrix of the short side in
 * double, divide and conquer, Rayleigh-Ritz on D itself.
 *
 * Multiple singular values: a block finds at most as many copies as it has rows. Where an
 * iteration runs dry, fresh random blocks go on until they find nothing.
 *
 * The result is measured: captured energy is that of B on the chosen directions, so
 * tail = ||D||^2 - sum of their theta is the squared error of b a before rounding, good
 * to 1e-7 of the energy (1e-14 with double products).
 *
 * The first j columns of b and rows of a are the best rank-j pair, for every j <= k: one
 * factorisation at the largest rank serves every rule that chooses a smaller one.
 *
 * What was tried. One core of an AVX-512 processor, OpenBLAS 0.3.21, float32 input,
 * k = 64, sigma_i = i^-0.7; time in ms and error over the optimum:
 *
 *                                     1280 x 1280     10240 x 1280     1280 x 11520
 *   this                             19  1.00016     122  1.00001     139  1.00020
 *   randomised, 2 power steps        22  1.0074      167  1.0068      189  1.0082
 *   randomised, 7 power steps        54  1.0002      447  1.0003      505  1.0002
 *   Gram matrix of the short side
 *     and subspace iteration, double 125 1.00001     440  1.00001     479  1.00001
 *   LAPACK sgesdd, thin             394  1          2785  1          1961  1
 *
 * By operations the Gram matrix costs s / 4 K of what the basis does, in float32, which
 * for sides below about 500 is less; but there the eigenproblems dominate both. Wide
 * blocks (64) need 192 directions where blocks of 16 need 128; with products that BLAS
 * does not copy first (lt_gemm_f32) they are no faster. A start block of D D^T R instead
 * of the sparse sketch saves half a step and costs a whole one.
 *
 * The start is a fixed pseudo-random one and parts are summed in order: same input, same
 * bits, whoever helps. */
#ifndef LT_TENSOR_LOWRANK_H
#define LT_TENSOR_LOWRANK_H

#include "base/pool.h"
#include "loratool/tensor.h"
#include "tensor/panels.h"

typedef enum lt_split {
    LT_SPLIT_SQRT, /* sqrt(sigma) on both factors */
    LT_SPLIT_UP,   /* all of sigma on b, rows of a orthonormal */
} lt_split;

typedef struct lt_lowrank_job {
    const lt_panels *delta; /* m x n, finite */
    size_t rank;            /* k: 1 to min(m, n) */
    double energy;          /* the sum of delta's squares */
    lt_split split;
    float *b, *a;  /* m x k, k x n */
    double *sigma; /* k values, descending; NULL: not wanted */
    double tail;   /* out: squared error of b a, before b and a are rounded */
    bool exact;    /* out: double products were used */
    /* out: the basis, for lt_lowrank_distance; it lies in scratch */
    size_t count;        /* K */
    const double *basis; /* K x side, orthonormal rows; NULL: none */
    const float *image;  /* K x length: basis times D; NULL where products were double */
    double left;         /* what of the energy lies outside the basis */
    double leak; /* largest squared residual of a direction, as a part of sigma^2 */
    lt_scratch *scratch; /* slots 0..7 */
    lt_worker *worker;   /* who may be helped; NULL: alone */
} lt_lowrank_job;

/* delta ~ b a */
lt_status lt_lowrank(lt_lowrank_job *job, lt_error *err) LT_MUST_USE;

/* || delta - scale b a ||^2 for the job's factors, which the caller has rounded to dtype
 * since and may have multiplied by numbers before; every column of b and row of a keeps
 * its direction but for that. Takes no pass over delta: with s and l the factors of the
 * short and the long side, <delta, s l> is made of the basis and its image. *sure is
 * false when that is not good to 1e-3 of the result or not faster: then the caller goes
 * over delta itself. Before scratch is used again. */
lt_status lt_lowrank_distance(const lt_lowrank_job *job, double scale, lt_dtype dtype,
    double *distance, bool *sure, lt_error *err) LT_MUST_USE;

/* Work memory that rank k of an m x n matrix takes beside the matrix and the factors, as
 * a rule; bytes. */
uint64_t lt_lowrank_need(size_t m, size_t n, size_t k);

#endif
