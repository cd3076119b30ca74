/* SPDX-License-Identifier: MIT */
/* Dense algebra on row-major matrices; the only user of BLAS and LAPACK. All calls run on
 * the calling thread alone and may run concurrently.
 *
 * OpenBLAS is loaded when it is first needed, not when the program starts: loading it
 * costs more than all that `info` does. So the rule: whoever starts such work (an
 * operation, a test program) calls lt_linalg_load before any other function of this
 * header; only lt_mirror_upper and lt_transpose do without. */
#ifndef LT_TENSOR_LINALG_H
#define LT_TENSOR_LINALG_H

#include "loratool/error.h"

#include <stdbool.h>

/* A row-major operand: rows x columns as stored, stride = elements between rows; used
 * transposed when t is set. */
typedef struct lt_matf {
    const float *p;
    size_t stride;
    bool t;
} lt_matf;
typedef struct lt_matd {
    const double *p;
    size_t stride;
    bool t;
} lt_matd;

/* Loads OpenBLAS, once in a process; later calls only give the first one's result. BLAS
 * is single-threaded afterwards: the worker pool is the only source of threads, and one
 * thread per product keeps results independent of -j. The first call changes environment
 * variables for a moment, so no other thread should read them then. */
lt_status lt_linalg_load(lt_error *err) LT_MUST_USE;

/* c (m x n, stride n) = alpha * op(a) (m x k) * op(b) (k x n) + beta * c */
void lt_gemm_f32(size_t m, size_t n, size_t k, float alpha, lt_matf a, lt_matf b,
    float beta, float *c);
void lt_gemm_f64(size_t m, size_t n, size_t k, double alpha, lt_matd a, lt_matd b,
    double beta, double *c);

/* The upper triangle of c (n x n) += a a^T, where a is n x k; with a.t, += a^T a for a
 * k x n, which is the faster one. In float32 c is replaced, not added to. What is below
 * the diagonal afterwards is undefined. */
void lt_syrk_f32(size_t n, size_t k, lt_matf a, float *c);
void lt_syrk_f64(size_t n, size_t k, lt_matd a, double *c);
void lt_mirror_upper(size_t n, double *c); /* copies the upper triangle to the lower */

/* dst (columns x rows) = src^T (src rows x columns) */
void lt_transpose(float *dst, const float *src, size_t rows, size_t columns);

/* Symmetric a (n x n) = V^T diag(w) V: w ascending, row i of a becomes the eigenvector of
 * w[i]. Of a the lower triangle is read; LT_ERR_NUMERIC when it is not finite. LAPACK
 * dsyevd or ssyevd (divide and conquer). */
lt_status lt_eig_sym(size_t n, double *a, double *w, lt_error *err) LT_MUST_USE;
lt_status lt_eig_sym_f32(size_t n, float *a, float *w, lt_error *err) LT_MUST_USE;

/* Symmetric positive definite a (n x n) = L L^T: a becomes L, zeros above the diagonal.
 * False when a is not positive definite to working precision. LAPACK dpotrf. */
bool lt_cholesky(size_t n, double *a) LT_MUST_USE;

/* a (k x n, k <= n) = L Q: a becomes Q (orthonormal rows), l (k x k, may be NULL) the
 * lower triangular factor. LAPACK dgeqrf and dorgqr on the transpose. */
lt_status lt_lq(size_t k, size_t n, double *a, double *l, lt_error *err) LT_MUST_USE;

/* a (m x n, destroyed) = u (m x p) diag(s) vt (p x n), p = min(m, n), s descending.
 * LT_ERR_NUMERIC when a is not finite. LAPACK dgesdd; dgesvd when that does not converge.
 */
lt_status lt_svd(size_t m, size_t n, double *a, double *u, double *s, double *vt,
    lt_error *err) LT_MUST_USE;

#endif
