/* SPDX-License-Identifier: MIT */
/* The best rank-k factors of a product of factors, b (m x r) times a (r x n), and how far
 * two such products lie apart, through r x r matrices; through the m x n product only
 * where that is the smaller one.
 *
 * The fast way works on the Gram matrices Gb = b^T b and Ga = a a^T, summed in double
 * from float32 factors, whose products are exact there. With Ga = L L^T (Cholesky) a = L
 * q, q having orthonormal rows, so H = L^T Gb L has the squared singular values of b a as
 * eigenvalues; for its leading eigenvectors V, u = b L V / sigma are the left singular
 * vectors, and u (u^T b a) is the best approximation, where u^T b a = (Gb L V)^T a /
 * sigma. Nothing is divided by L: a may be as badly conditioned as Cholesky bears. Energy
 * and distance are traces: |b a|^2 = tr(Gb Ga), and so on.
 *
 * What squaring costs is known in advance. All roundings together change H by at most
 * E = eps sqrt(m + n + r) S^2, S = sum_i |b_i| |a_i| over columns of b and rows of a (for
 * all of Gb, L and their products are bounded by |b_i| |b_j| and |a_i|; the root for sums
 * of random roundings, Higham & Mary, SIAM J. Sci. Comput. 41(5), 2019). Then, to first
 * order, no more than 2 sqrt(k) E of energy is lost against the optimum (Ky Fan), and u
 * is orthonormal up to E / sigma_k^2, which moves the product by sqrt(k) E / sigma_k.
 * Where the one is not small against the discarded energy, or the other not against the
 * product itself, the caller is told and takes the careful way, QR of both factors and
 * the SVD of the core, backward stable and several times slower: zero and exactly
 * low-rank factors, spectra steeper than about 1e-6. A rank above a side is for the
 * careful way alone, which takes the SVD of the product then: memory follows the sides
 * and the factors, whatever the rank.
 *
 * A rough start costs half: Gram matrices from runs of 128 products in float32, doubles
 * taking the sums of runs, and eigenvectors in float32, with Rayleigh quotients in double
 * for eigenvalues. An element of Gb is then off by e |b_i| |b_j|, e = 2^-23 sqrt(128),
 * and the bound above would be 1e-3 of the energy. But no more is lost than what such an
 * error mixes of the discarded into the kept, and those of different elements are either
 * independent, their squares then adding up, or follow Gb itself, which mixes nothing. So
 * the bound is F = e sqrt(T_kept T_discarded), T = sum_i |b_i|^2 |a_i|^2 in the basis of
 * the eigenvectors, with the energy beside T for the second case, and to it the measured
 * residual |H V - V Lambda| is added. It stays below what 1.001 of the optimum allows
 * down to errors of about a tenth of the product; then everything is done again in
 * double, which makes such a module a third slower than it would be without the attempt.
 * Where the sums do not cancel, the energy is exact to about 1e-7 of itself.
 *
 * Measured, milliseconds of one core of an AVX-512 processor, OpenBLAS 0.3.21, uniform
 * random factors, truncation and distance together; grams, truncate and distance are the
 * three functions of the fast way, begun roughly, and double is the sum of them where
 * that is not tried:
 *
 *   m x n          r    k   grams truncate distance    fast  double  careful
 *   640 x 640     128   32    0.3      1.1      0.1     1.5     2.1      8.2
 *   1280 x 1280   128   32    0.5      1.2      0.3     2.0     2.8     15.7
 *   10240 x 1280  128   32    2.3      2.0      2.1     6.3     8.6     97.4
 *   1280 x 11520  128   32    2.8      2.2      1.4     6.4     9.2     85.3
 *   1280 x 1280    64   16    0.2      0.3      0.1     0.5     0.7      4.1
 *   1280 x 1280   256   64    2.1      6.1      1.0     9.2    13.0     46.8
 *
 * Half of truncate is ssyevd (two thirds dsyevd, in double); syevr, syevx and stemr for
 * the k leading pairs alone were no faster. The new factors, and their inner products
 * with the old ones, are float32 products where what those round away vanishes beside
 * what was discarded, and doubles otherwise. */
#ifndef LT_TENSOR_LOWRANK_CORE_H
#define LT_TENSOR_LOWRANK_CORE_H

#include "tensor/lowrank.h"

#include <stdbool.h>

/* scale * b a, with finite factors. The functions for it need r x r matrices: r should
 * not be above min(m, n). */
typedef struct lt_product {
    const float *b, *a; /* m x r and r x n */
    size_t m, n, r;
    double scale;
} lt_product;

/* What lt_grams_make leaves in slots 0 and 1 of scratch for the two functions below it.
 */
typedef struct lt_grams {
    double *b, *a; /* Gb and Ga, r x r */
    double energy; /* || scale b a ||^2 */
    double reach;  /* scale^2 S^2: what roundings are relative to */
    double doubt;  /* what roundings may have done to the energy: scale^2 E, in double */
    bool floats;   /* summed in runs of float32 */
    bool sure;     /* the energy is well above what roundings may have done */
} lt_grams;

/* rough: float32 sums will do for the time being, lt_grams_truncate decides. Without it
 * they are not tried. */
lt_status lt_grams_make(lt_grams *g, const lt_product *p, bool rough, lt_scratch *scratch,
    lt_error *err) LT_MUST_USE;

/* The best rank-k pair of the product, 1 <= k <= min(m, n, r), b times b_times and a
 * times a_times; sigma gets k values. g is made again in double where float32 sums are
 * not good enough. *sure is false when the fast way is not: then nothing is written. Uses
 * slots 2..7 of scratch. */
typedef struct lt_truncation {
    size_t k;
    lt_split split;
    double b_times, a_times;
    float *b, *a; /* m x k and k x n */
    double *sigma;
} lt_truncation;
lt_status lt_grams_truncate(lt_grams *g, const lt_product *p, const lt_truncation *t,
    bool *sure, lt_scratch *scratch, lt_error *err) LT_MUST_USE;

/* || p - q ||^2, where g belongs to p; *sure as above. Uses slots 2..7 of scratch. */
lt_status lt_grams_distance(const lt_grams *g, const lt_product *p, const lt_product *q,
    double *distance, bool *sure, lt_scratch *scratch, lt_error *err) LT_MUST_USE;

/* The careful way: factors b (m x r), a (r x n) in double → the best rank-k pair of their
 * product by QR of both and the SVD of the core, or by that of the product where r is
 * above a side. Destroys b and a. sigma gets min(m, n,
 * r) values: the whole spectrum. Uses slots 0..7 of scratch. */
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
