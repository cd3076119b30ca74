/* SPDX-License-Identifier: MIT */
#include "tensor/lowrank.h"

#include "tensor/linalg.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

enum slot { S_GRAM, S_BLOCK, S_BASIS, S_NEXT, S_RITZ, S_VALUES, S_BASIS_F, S_PROJ };

#define BLOCK_ELEMENTS ((size_t)1 << 18) /* of a strip of delta lifted to double */
#define MAX_ROUNDS 60
#define DENSE_SIDE 160 /* up to this side the whole eigenproblem is cheaper */
/* Stop when what further rounds may still capture is below this part of the squared
 * error: the error is then within about half of it of the optimum. */
#define SETTLED 2e-4
/* Below this part of the energy the rest is float32 rounding of the input. */
#define FLOOR 1e-14

/* A view of delta with the short side named. */
struct problem {
    const float *delta;
    size_t m, n, k, side, block;
    bool wide; /* m < n: the short side are the rows */
    double energy;
    lt_scratch *scratch;
    lt_error *err;
};

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* G += strip^T strip over row strips (tall), or strip strip^T over column strips. */
static lt_status gram(const struct problem *p, double **out)
{
    size_t side = p->side, length = p->wide ? p->n : p->m;
    size_t step = min_size(length, BLOCK_ELEMENTS / side + 1);
    double *g = lt_scratch_get(p->scratch, S_GRAM, side * side, sizeof *g, p->err);
    double *strip = lt_scratch_get(p->scratch, S_BLOCK, step * side, sizeof *g, p->err);
    if (!g || !strip) return LT_ERR_NOMEM;
    memset(g, 0, side * side * sizeof *g);
    for (size_t at = 0; at < length; at += step) {
        size_t now = min_size(step, length - at);
        if (p->wide) {
            for (size_t i = 0; i < side; i++)
                for (size_t j = 0; j < now; j++)
                    strip[i * now + j] = p->delta[i * p->n + at + j];
            lt_syrk_f64(side, now, (lt_matd){ strip, now, false }, g);
        } else {
            for (size_t i = 0; i < now * side; i++)
                strip[i] = p->delta[at * side + i];
            lt_syrk_f64(side, now, (lt_matd){ strip, side, true }, g);
        }
    }
    lt_mirror_upper(side, g);
    *out = g;
    return LT_OK;
}

/* Uniform in [-1, 1): splitmix64 (Steele, Lea & Flood 2014), fixed seed. */
static void fill_start(double *x, size_t n)
{
    uint64_t state = 0x6c6f7261746f6f6cu;
    for (size_t i = 0; i < n; i++) {
        uint64_t z = state += 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        x[i] = (double)(int64_t)(z ^ z >> 31) * 0x1p-63;
    }
}

/* Sum of the k largest Ritz values of x (block x side, orthonormal rows), given z = x g.
 */
static lt_status captured(const struct problem *p, const double *x, const double *z,
    double *t, double *values, double *sum)
{
    size_t b = p->block;
    lt_gemm_f64(b, b, p->side, 1, (lt_matd){ z, p->side, false },
        (lt_matd){ x, p->side, true }, 0, t);
    lt_status st = lt_eig_sym(b, t, values, p->err);
    *sum = 0;
    for (size_t i = b - p->k; i < b; i++)
        *sum += values[i];
    return st;
}

/* True when the geometric continuation of the last two gains is below the target. */
static bool settled(double rest, double gain, double gain_before, double energy)
{
    if (rest <= FLOOR * energy || gain <= FLOOR * energy) return true;
    if (gain_before <= 0 || gain >= gain_before) return false;
    double ratio = gain / gain_before;
    return gain * ratio / (1 - ratio) <= SETTLED * 0.25 * rest;
}

/* Leading eigenspace of g: block orthonormal rows in *basis, or *ok = false. */
static lt_status iterate(
    const struct problem *p, const double *g, double **basis, bool *ok)
{
    size_t n = p->block * p->side;
    double *x = lt_scratch_get(p->scratch, S_BASIS, n, sizeof *x, p->err);
    double *z = lt_scratch_get(p->scratch, S_NEXT, n, sizeof *z, p->err);
    double *t =
        lt_scratch_get(p->scratch, S_RITZ, p->block * p->block, sizeof *t, p->err);
    double *values = lt_scratch_get(p->scratch, S_VALUES, p->block, sizeof *t, p->err);
    if (!x || !z || !t || !values) return LT_ERR_NOMEM;
    *ok = false;
    fill_start(x, n);
    lt_status st = lt_lq(p->block, p->side, x, NULL, p->err);
    double before = 0, gain_before = 0;
    for (int round = 0; round < MAX_ROUNDS && !st && !*ok; round++) {
        double now = 0;
        lt_gemm_f64(p->block, p->side, p->side, 1, (lt_matd){ x, p->side, false },
            (lt_matd){ g, p->side, false }, 0, z);
        st = captured(p, x, z, t, values, &now);
        double rest = p->energy - now, gain = now - before;
        *ok = round >= 2 && settled(rest > 0 ? rest : 0, gain, gain_before, p->energy);
        before = now;
        gain_before = gain;
        memcpy(x, z, n * sizeof *x);
        if (!st) st = lt_lq(p->block, p->side, x, NULL, p->err);
    }
    *basis = x;
    return st;
}

/* The whole eigenproblem; the leading block rows are the last ones, ascending. */
static lt_status solve_dense(struct problem *p, double *g, double **basis)
{
    double *values = lt_scratch_get(p->scratch, S_VALUES, p->side, sizeof *g, p->err);
    if (!values) return LT_ERR_NOMEM;
    p->block = p->k;
    *basis = g + (p->side - p->k) * p->side;
    return lt_eig_sym(p->side, g, values, p->err);
}

/* Rows i of rot (k x block) scaled so that the projected columns become factors. */
static void scale_rotation(size_t k, size_t block, const double *h, const double *values,
    double power, float *rot, double *sigma)
{
    double top = values[block - 1] > 0 ? sqrt(values[block - 1]) : 0;
    for (size_t i = 0; i < k; i++) {
        size_t from = block - 1 - i; /* descending */
        double s = values[from] > 0 ? sqrt(values[from]) : 0;
        if (s <= top * 3e-9) s = 0; /* below the rounding of the squares */
        double f = s > 0 ? pow(s, power) : 0;
        if (sigma) sigma[i] = s;
        for (size_t j = 0; j < block; j++)
            rot[i * block + j] = (float)(h[from * block + j] * f);
    }
}

/* Rayleigh-Ritz on delta itself in the given basis (block x side, orthonormal rows). */
static lt_status project(const struct problem *p, const double *basis, lt_split split,
    float *b, float *a, double *sigma)
{
    size_t side = p->side, block = p->block, k = p->k, length = p->wide ? p->n : p->m;
    float *q = lt_scratch_get(p->scratch, S_BASIS_F, block * side, sizeof *q, p->err);
    float *y = lt_scratch_get(p->scratch, S_PROJ, block * length, sizeof *y, p->err);
    if (!q || !y) return LT_ERR_NOMEM;
    for (size_t i = 0; i < block * side; i++)
        q[i] = (float)basis[i];
    /* y (block x length) = q delta^T (tall) or q delta (wide) */
    lt_gemm_f32(block, length, side, 1, (lt_matf){ q, side, false },
        (lt_matf){ p->delta, p->n, !p->wide }, 0, y);

    size_t step = min_size(length, BLOCK_ELEMENTS / block + 1);
    double *strip =
        lt_scratch_get(p->scratch, S_BLOCK, step * block, sizeof *strip, p->err);
    double *h = lt_scratch_get(p->scratch, S_RITZ, block * block, sizeof *h, p->err);
    double *values = lt_scratch_get(p->scratch, S_VALUES, block, sizeof *h, p->err);
    float *rot = lt_scratch_get(p->scratch, S_NEXT, 2 * k * block, sizeof *rot, p->err);
    if (!strip || !h || !values || !rot) return LT_ERR_NOMEM;
    memset(h, 0, block * block * sizeof *h);
    for (size_t at = 0; at < length; at += step) {
        size_t now = min_size(step, length - at);
        for (size_t i = 0; i < block; i++)
            for (size_t j = 0; j < now; j++)
                strip[i * now + j] = y[i * length + at + j];
        lt_syrk_f64(block, now, (lt_matd){ strip, now, false }, h);
    }
    lt_mirror_upper(block, h);
    lt_status st = lt_eig_sym(block, h, values, p->err);
    if (st) return st;

    /* delta ~ (y^T w)(w^T q): sigma^x on the side of q, sigma^-x on that of y, whose
     * rotated rows have norm sigma already. */
    double q_power = split == LT_SPLIT_SQRT ? 0.5 : p->wide ? 1.0 : 0.0;
    float *rot_q = rot, *rot_y = rot + k * block;
    scale_rotation(k, block, h, values, q_power, rot_q, sigma);
    scale_rotation(k, block, h, values, -q_power, rot_y, NULL);
    lt_matf mq = { q, side, false }, my = { y, length, false };
    if (p->wide) {
        /* b (m x k) = q^T rot_q^T, a (k x n) = rot_y y */
        mq.t = true;
        lt_gemm_f32(side, k, block, 1, mq, (lt_matf){ rot_q, block, true }, 0, b);
        lt_gemm_f32(k, length, block, 1, (lt_matf){ rot_y, block, false }, my, 0, a);
    } else {
        my.t = true;
        lt_gemm_f32(length, k, block, 1, my, (lt_matf){ rot_y, block, true }, 0, b);
        lt_gemm_f32(k, side, block, 1, (lt_matf){ rot_q, block, false }, mq, 0, a);
    }
    return LT_OK;
}

lt_status lt_lowrank(const float *delta, size_t m, size_t n, size_t k, double energy,
    lt_split split, float *b, float *a, double *sigma, lt_scratch *scratch, lt_error *err)
{
    struct problem p = { .delta = delta,
        .m = m,
        .n = n,
        .k = k,
        .side = min_size(m, n),
        .wide = m < n,
        .energy = energy,
        .scratch = scratch,
        .err = err };
    if (k < 1 || k > p.side)
        return lt_error_set(err, LT_ERR_ARG, "rank %zu of a %zu x %zu matrix", k, m, n);
    size_t extra = k / 4 > 8 ? k / 4 : 8;
    p.block = min_size(p.side, k + extra);
    double *g = NULL, *basis = NULL;
    lt_status st = gram(&p, &g);
    bool ok = false;
    if (!st && p.side > DENSE_SIDE && p.block * 3 < p.side)
        st = iterate(&p, g, &basis, &ok);
    if (!st && !ok) st = solve_dense(&p, g, &basis);
    return st ? st : project(&p, basis, split, b, a, sigma);
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

static void store_rows(float *dst, const double *src, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = (float)src[i];
}

lt_status lt_lowrank_core(
    const lt_core *c, lt_split split, lt_scratch *scratch, lt_error *err)
{
    size_t m = c->m, n = c->n, r = c->r, k = c->k;
    size_t pb = min_size(r, m), pa = min_size(r, n), p = min_size(pb, pa);
    if (k < 1 || k > p) return lt_error_set(err, LT_ERR_ARG, "rank %zu of %zu", k, p);
    double *bt = lt_scratch_get(scratch, 0, r * m, sizeof *bt, err);
    double *lb = lt_scratch_get(scratch, 1, r * pb, sizeof *lb, err);
    double *la = lt_scratch_get(scratch, 2, r * pa, sizeof *la, err);
    double *core = lt_scratch_get(scratch, 3, pb * pa, sizeof *core, err);
    double *u = lt_scratch_get(scratch, 4, pb * p, sizeof *u, err);
    double *vt = lt_scratch_get(scratch, 5, p * pa, sizeof *vt, err);
    if (!bt || !lb || !la || !core || !u || !vt) return LT_ERR_NOMEM;
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < r; j++)
            bt[j * m + i] = c->b[i * r + j];
    lt_status st = reduce(r, m, bt, lb, err);
    if (!st) st = reduce(r, n, c->a, la, err);
    if (st) return st;
    /* b a = (qb^T lb^T)(la qa): the core is lb^T la */
    lt_gemm_f64(
        pb, pa, r, 1, (lt_matd){ lb, pb, true }, (lt_matd){ la, pa, false }, 0, core);
    st = lt_svd(pb, pa, core, u, c->sigma, vt, err);
    if (st) return st;
    for (size_t j = 0; j < k; j++) {
        double s = c->sigma[j], fb = split == LT_SPLIT_SQRT ? sqrt(s) : s;
        double fa = split == LT_SPLIT_SQRT ? sqrt(s) : 1;
        for (size_t i = 0; i < pb; i++)
            u[i * p + j] *= fb;
        for (size_t i = 0; i < pa; i++)
            vt[j * pa + i] *= fa;
    }
    double *out = lt_scratch_get(scratch, 6, (m > n ? m : n) * k, sizeof *out, err);
    if (!out) return LT_ERR_NOMEM;
    lt_gemm_f64(m, k, pb, 1, (lt_matd){ bt, m, true }, (lt_matd){ u, p, false }, 0, out);
    store_rows(c->b_out, out, m * k);
    lt_gemm_f64(
        k, n, pa, 1, (lt_matd){ vt, pa, false }, (lt_matd){ c->a, n, false }, 0, out);
    store_rows(c->a_out, out, k * n);
    return LT_OK;
}

static double dot(const double *x, const double *y, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

/* || l1^T l2 ||^2 of the triangular factors of c = [b1 -b2] and d = [a1; a2]: backward
 * stable where the traces below cancel. */
static lt_status distance_by_qr(size_t m, size_t n, size_t r, double *ct, double *d,
    double *distance, lt_scratch *scratch, lt_error *err)
{
    size_t pc = min_size(r, m), pd = min_size(r, n);
    double *lc = lt_scratch_get(scratch, 2, r * pc, sizeof *lc, err);
    double *ld = lt_scratch_get(scratch, 3, r * pd, sizeof *ld, err);
    double *x = lt_scratch_get(scratch, 4, pc * pd, sizeof *x, err);
    if (!lc || !ld || !x) return LT_ERR_NOMEM;
    lt_status st = reduce(r, m, ct, lc, err);
    if (!st) st = reduce(r, n, d, ld, err);
    if (st) return st;
    lt_gemm_f64(
        pc, pd, r, 1, (lt_matd){ lc, pc, true }, (lt_matd){ ld, pd, false }, 0, x);
    *distance = dot(x, x, pc * pd);
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
    *energy = dot(x, x, m * n);
    lt_gemm_f64(
        m, n, q.r, -1, (lt_matd){ q.b, q.r, false }, (lt_matd){ q.a, n, false }, 1, x);
    *distance = dot(x, x, m * n);
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
    *distance = dot(gc, gd, r * r);
    *energy = 0;
    for (size_t i = 0; i < p.r; i++)
        *energy += dot(gc + i * r, gd + i * r, p.r);
    if (*distance > 1e-9 * *energy) return LT_OK;
    return distance_by_qr(m, n, r, ct, d, distance, scratch, err);
}
