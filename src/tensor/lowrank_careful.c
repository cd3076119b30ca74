/* SPDX-License-Identifier: MIT */
/* The careful way of lowrank_core.h: QR of both factors and the SVD of the core, or that
 * of the product. */
#include "tensor/lowrank_core.h"

#include "tensor/elements.h"
#include "tensor/linalg.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* Of a rank above a side the product is no larger than the factors, and its SVD is all:
 * nothing grows with the rank. */
static lt_status core_dense(
    const lt_core *c, lt_split split, lt_scratch *scratch, lt_error *err)
{
    size_t m = c->m, n = c->n, k = c->k, p = lt_min_size(m, n);
    double *product = lt_scratch_get(scratch, 0, m * n, sizeof *product, err);
    double *u = lt_scratch_get(scratch, 1, m * p, sizeof *u, err);
    double *vt = lt_scratch_get(scratch, 2, p * n, sizeof *vt, err);
    if (!product || !u || !vt) return LT_ERR_NOMEM;
    lt_gemm_f64(m, n, c->r, 1, (lt_matd){ c->b, c->r, false },
        (lt_matd){ c->a, n, false }, 0, product);
    lt_status st = lt_svd(m, n, product, u, c->sigma, vt, err);
    if (st) return st;
    for (size_t j = 0; j < k; j++) {
        double s = c->sigma[j], fb = split == LT_SPLIT_SQRT ? sqrt(s) : s;
        double fa = split == LT_SPLIT_SQRT ? sqrt(s) : 1;
        for (size_t i = 0; i < m; i++)
            c->b_out[i * k + j] = (float)(u[i * p + j] * fb);
        for (size_t i = 0; i < n; i++)
            c->a_out[j * n + i] = (float)(vt[j * n + i] * fa);
    }
    return LT_OK;
}

/* Rank r <= min(m, n): b a = (qb^T lb^T)(la qa), and the core is lb^T la. */
static lt_status core_by_qr(
    const lt_core *c, lt_split split, lt_scratch *scratch, lt_error *err)
{
    size_t m = c->m, n = c->n, r = c->r, k = c->k;
    double *bt = lt_scratch_get(scratch, 0, r * m, sizeof *bt, err);
    double *lb = lt_scratch_get(scratch, 1, r * r, sizeof *lb, err);
    double *la = lt_scratch_get(scratch, 2, r * r, sizeof *la, err);
    double *core = lt_scratch_get(scratch, 3, r * r, sizeof *core, err);
    double *u = lt_scratch_get(scratch, 4, r * r, sizeof *u, err);
    double *vt = lt_scratch_get(scratch, 5, r * r, sizeof *vt, err);
    if (!bt || !lb || !la || !core || !u || !vt) return LT_ERR_NOMEM;
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < r; j++)
            bt[j * m + i] = c->b[i * r + j];
    lt_status st = lt_lq(r, m, bt, lb, err);
    if (!st) st = lt_lq(r, n, c->a, la, err);
    if (st) return st;
    lt_gemm_f64(r, r, r, 1, (lt_matd){ lb, r, true }, (lt_matd){ la, r, false }, 0, core);
    st = lt_svd(r, r, core, u, c->sigma, vt, err);
    if (st) return st;
    for (size_t j = 0; j < k; j++) {
        double s = c->sigma[j], fb = split == LT_SPLIT_SQRT ? sqrt(s) : s;
        double fa = split == LT_SPLIT_SQRT ? sqrt(s) : 1;
        for (size_t i = 0; i < r; i++) {
            u[i * r + j] *= fb;
            vt[j * r + i] *= fa;
        }
    }
    double *out = lt_scratch_get(scratch, 6, (m > n ? m : n) * k, sizeof *out, err);
    if (!out) return LT_ERR_NOMEM;
    lt_gemm_f64(m, k, r, 1, (lt_matd){ bt, m, true }, (lt_matd){ u, r, false }, 0, out);
    lt_narrow(c->b_out, out, m * k);
    lt_gemm_f64(
        k, n, r, 1, (lt_matd){ vt, r, false }, (lt_matd){ c->a, n, false }, 0, out);
    lt_narrow(c->a_out, out, k * n);
    return LT_OK;
}

lt_status lt_lowrank_core(
    const lt_core *c, lt_split split, lt_scratch *scratch, lt_error *err)
{
    size_t side = lt_min_size(c->m, c->n), most = lt_min_size(side, c->r);
    if (c->k < 1 || c->k > most)
        return lt_error_set(err, LT_ERR_ARG, "rank %zu of %zu", c->k, most);
    if (c->r > side) return core_dense(c, split, scratch, err);
    return core_by_qr(c, split, scratch, err);
}

/* Orthogonal-times-small form of x (r rows of length n): rows becomes orthonormal rows
 * (p x n), l the r x p factor with x = l rows; p = min(r, n). */
static lt_status reduce(size_t r, size_t n, double *x, double *l, lt_error *err)
{
    if (r <= n) return lt_lq(r, n, x, l, err);
    /* More rows than columns: the identity is the basis and x itself the factor. */
    memcpy(l, x, r * n * sizeof *x);
    memset(x, 0, n * n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i * n + i] = 1;
    return LT_OK;
}

/* || l1^T l2 ||^2 of the triangular factors of c = [b1 -b2] and d = [a1; a2]: backward
 * stable where the traces below cancel. */
static lt_status distance_by_qr(size_t m, size_t n, size_t r, double *ct, double *d,
    double *distance, lt_scratch *scratch, lt_error *err)
{
    size_t pc = lt_min_size(r, m), pd = lt_min_size(r, n);
    double *lc = lt_scratch_get(scratch, 2, r * pc, sizeof *lc, err);
    double *ld = lt_scratch_get(scratch, 3, r * pd, sizeof *ld, err);
    double *x = lt_scratch_get(scratch, 4, pc * pd, sizeof *x, err);
    if (!lc || !ld || !x) return LT_ERR_NOMEM;
    lt_status st = reduce(r, m, ct, lc, err);
    if (!st) st = reduce(r, n, d, ld, err);
    if (st) return st;
    lt_gemm_f64(
        pc, pd, r, 1, (lt_matd){ lc, pc, true }, (lt_matd){ ld, pd, false }, 0, x);
    *distance = lt_dot_f64(x, x, pc * pd);
    return LT_OK;
}

/* The products themselves, where they are smaller than the Gram matrices. */
static lt_status distance_dense(size_t m, size_t n, lt_pair p, lt_pair q,
    double *distance, double *energy, lt_scratch *scratch, lt_error *err)
{
    double *x = lt_scratch_get(scratch, 0, m * n, sizeof *x, err);
    if (!x) return LT_ERR_NOMEM;
    lt_gemm_f64(
        m, n, p.r, 1, (lt_matd){ p.b, p.r, false }, (lt_matd){ p.a, n, false }, 0, x);
    *energy = lt_dot_f64(x, x, m * n);
    lt_gemm_f64(
        m, n, q.r, -1, (lt_matd){ q.b, q.r, false }, (lt_matd){ q.a, n, false }, 1, x);
    *distance = lt_dot_f64(x, x, m * n);
    return LT_OK;
}

lt_status lt_pair_distance(size_t m, size_t n, lt_pair p, lt_pair q, double *distance,
    double *energy, lt_scratch *scratch, lt_error *err)
{
    size_t r = p.r + q.r;
    if (m * n <= r * r) return distance_dense(m, n, p, q, distance, energy, scratch, err);
    double *ct = lt_scratch_get(scratch, 0, r * m, sizeof *ct, err);
    double *d = lt_scratch_get(scratch, 1, r * n, sizeof *d, err);
    double *gc = lt_scratch_get(scratch, 2, r * r, sizeof *gc, err);
    double *gd = lt_scratch_get(scratch, 3, r * r, sizeof *gd, err);
    if (!ct || !d || !gc || !gd) return LT_ERR_NOMEM;
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < p.r; j++)
            ct[j * m + i] = p.b[i * p.r + j];
        for (size_t j = 0; j < q.r; j++)
            ct[(p.r + j) * m + i] = -q.b[i * q.r + j];
    }
    memcpy(d, p.a, p.r * n * sizeof *d);
    memcpy(d + p.r * n, q.a, q.r * n * sizeof *d);
    memset(gc, 0, r * r * sizeof *gc);
    memset(gd, 0, r * r * sizeof *gd);
    lt_syrk_f64(r, m, (lt_matd){ ct, m, false }, gc);
    lt_syrk_f64(r, n, (lt_matd){ d, n, false }, gd);
    lt_mirror_upper(r, gc);
    lt_mirror_upper(r, gd);
    /* || c d ||^2 = trace((c^T c)(d d^T)) */
    *distance = lt_dot_f64(gc, gd, r * r);
    *energy = 0;
    for (size_t i = 0; i < p.r; i++)
        *energy += lt_dot_f64(gc + i * r, gd + i * r, p.r);
    /* The traces cancel where columns of b and rows of a are long and their product is
     * not: what roundings are relative to is the sum of |b_i| |a_i|, squared. */
    double reach = 0;
    for (size_t i = 0; i < r; i++)
        reach += sqrt(gc[i * r + i] * gd[i * r + i]);
    double doubt = DBL_EPSILON * sqrt((double)(m + n)) * reach * reach;
    if (*distance > 1e-9 * *energy && doubt <= 1e-6 * *distance) return LT_OK;
    return distance_by_qr(m, n, r, ct, d, distance, scratch, err);
}
