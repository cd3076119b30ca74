/* SPDX-License-Identifier: MIT */
/* How far a stored pair of factors is from D, from the iteration's basis instead of D. */
#include "tensor/convert.h"
#include "tensor/linalg.h"
#include "tensor/lowrank.h"

#include <math.h>
#include <string.h>

#define STRIP 1024 /* of the long side */
#define MAX_PARTS 16
#define ENOUGH 1e-3  /* doubt that may be left, as a part of the squared distance */
#define WORTH_IT 2.0 /* operations that going over D must take more */

/* With D ~ s l, s the factor of the short side, l that of the long one:
 * <D, s l> = <c (x D), l> + <e, D l^T>, where s^T = c x + e^T. */
struct measuring {
    const lt_lowrank_job *job;
    size_t k, count, side, length, parts;
    float *c;     /* k x count */
    float *grams; /* parts of k x k: of l's rows; the first is their sum at last */
    float *own;   /* k x k: of s's columns */
    double inner[MAX_PARTS];
};

/* Rows [first, first + n) of the long factor, as k x n and as n x k. */
static void take_strip(
    const lt_lowrank_job *job, size_t first, size_t n, float *rows, float *columns)
{
    size_t k = job->rank, length = job->delta->length;
    if (!job->delta->wide) {
        memcpy(columns, job->b + first * k, n * k * sizeof *columns);
        lt_transpose(rows, columns, n, k);
        return;
    }
    for (size_t i = 0; i < k; i++)
        memcpy(rows + i * n, job->a + i * length + first, n * sizeof *rows);
    lt_transpose(columns, rows, k, n);
}

static void measure_strip(struct measuring *m, size_t part, size_t at, float *work)
{
    size_t k = m->k, first = at * STRIP, n = lt_min_size(STRIP, m->length - first);
    float *rows = work, *columns = rows + n * k, *image = columns + n * k;
    take_strip(m->job, first, n, rows, columns);
    lt_matf x_d = { m->job->image + first, m->length, false };
    lt_gemm_f32(k, n, m->count, 1, (lt_matf){ m->c, m->count, false }, x_d, 0, image);
    m->inner[part] += lt_dot_f32(image, rows, n * k);
    lt_gemm_f32(k, k, n, 1, (lt_matf){ rows, n, false }, (lt_matf){ columns, k, false },
        1, m->grams + part * k * k);
}

static lt_status measure_part(void *ctx, size_t part, lt_error *err)
{
    struct measuring *m = ctx;
    size_t strips = (m->length + STRIP - 1) / STRIP;
    float *work = lt_alloc_work(3 * STRIP * m->k, sizeof *work, err);
    if (!work) return LT_ERR_NOMEM;
    m->inner[part] = 0;
    memset(m->grams + part * m->k * m->k, 0, m->k * m->k * sizeof *m->grams);
    for (size_t at = strips * part / m->parts; at < strips * (part + 1) / m->parts; at++)
        measure_strip(m, part, at, work);
    lt_free(work);
    return LT_OK;
}

/* c = (x s)^T, and own = s^T s. */
static lt_status project_short(struct measuring *m, lt_error *err)
{
    const lt_lowrank_job *job = m->job;
    size_t k = m->k, count = m->count, side = m->side;
    float *work = lt_alloc_work(count * side + side * k + count * k, sizeof *work, err);
    if (!work) return LT_ERR_NOMEM;
    float *x = work, *turned = x + count * side, *image = turned + side * k;
    bool wide = job->delta->wide;
    if (wide)
        lt_transpose(turned, job->b, side, k);
    else
        lt_transpose(turned, job->a, k, side);
    lt_matf s = { wide ? job->b : turned, k, false };
    lt_matf st = { wide ? turned : job->a, side, false };
    lt_store_f64(x, job->basis, LT_F32, count * side);
    lt_gemm_f32(count, k, side, 1, (lt_matf){ x, side, false }, s, 0, image);
    lt_transpose(m->c, image, count, k);
    lt_gemm_f32(k, k, side, 1, st, s, 0, m->own);
    lt_free(work);
    return LT_OK;
}

static double trace(const float *gram, size_t k)
{
    double sum = 0;
    for (size_t i = 0; i < k; i++)
        sum += gram[i * k + i];
    return sum;
}

/* What rounding to dtype does to factors of n elements and that squared length, at most:
 * half a unit of each, which for subnormals is one of the smallest's. Of float32 it is
 * the products that made them. */
static double rounding_of(lt_dtype dtype, double square, size_t n)
{
    double unit = dtype == LT_F16 ? 0x1p-11 : dtype == LT_BF16 ? 0x1p-8 : 0x1p-21;
    double least = dtype == LT_F16 ? 0x1p-25 : 0;
    return unit * sqrt(square) + least * sqrt((double)n);
}

/* A bound of <e, D l^T>: e is the rounding of s, and D l^T lies in x but for what the
 * iteration left of it and for the rounding of l; and the random roundings of float32
 * products (see lowrank_core.h). */
static double doubt(const struct measuring *m, lt_dtype dtype, double own)
{
    const lt_lowrank_job *job = m->job;
    double ss = trace(m->own, m->k), ll = trace(m->grams, m->k);
    double e_s = rounding_of(dtype, ss, m->k * m->side);
    double e_l = rounding_of(dtype, ll, m->k * m->length);
    double outside = e_s * (sqrt(job->leak * ll) + sqrt(job->left) * e_l);
    double both = sqrt(job->energy * own);
    return 2 * outside + 0x1p-24 * sqrt((double)(m->side + m->count)) * (2 * both + own);
}

static lt_status measure(struct measuring *m, double scale, lt_dtype dtype,
    double *distance, bool *sure, lt_error *err)
{
    size_t square = m->k * m->k;
    double inner = 0, own;
    lt_status st = project_short(m, err);
    if (!st) st = lt_worker_share(m->job->worker, m->parts, measure_part, m, err);
    if (st) return st;
    for (size_t part = 0; part < m->parts; part++) {
        inner += m->inner[part];
        for (size_t i = 0; i < square && part; i++)
            m->grams[i] += m->grams[part * square + i];
    }
    own = lt_dot_f32(m->grams, m->own, square);
    *distance = m->job->energy - 2 * scale * inner + scale * scale * own;
    *sure = scale * doubt(m, dtype, scale * own) <= ENOUGH * *distance;
    return LT_OK;
}

/* Going over D takes m n k multiplications, this those with the basis and the Gram
 * matrices. */
static bool worth_it(const lt_lowrank_job *job)
{
    const lt_panels *d = job->delta;
    double here = (double)(job->count + job->rank) * (double)(d->side + d->length);
    return WORTH_IT * here < (double)d->side * (double)d->length;
}

lt_status lt_lowrank_distance(const lt_lowrank_job *job, double scale, lt_dtype dtype,
    double *distance, bool *sure, lt_error *err)
{
    size_t strips = (job->delta->length + STRIP - 1) / STRIP;
    struct measuring m = { .job = job,
        .k = job->rank,
        .count = job->count,
        .side = job->delta->side,
        .length = job->delta->length,
        .parts = lt_min_size(strips, MAX_PARTS) };
    *sure = false;
    if (!job->image || !worth_it(job)) return LT_OK;
    m.c = lt_alloc_work(m.k * m.count, sizeof *m.c, err);
    m.own = lt_alloc_work(m.k * m.k, sizeof *m.own, err);
    m.grams = lt_alloc_work(m.parts * m.k * m.k, sizeof *m.grams, err);
    lt_status st = LT_ERR_NOMEM;
    if (m.c && m.own && m.grams) st = measure(&m, scale, dtype, distance, sure, err);
    lt_free(m.grams);
    lt_free(m.own);
    lt_free(m.c);
    return st;
}
