/* SPDX-License-Identifier: MIT */
/* What reads D: one pass over it, and the blocks to start from. */
#include "tensor/lowrank_lanczos.h"

#include "tensor/convert.h"
#include "tensor/linalg.h"

#include <string.h>

#define LIFT ((size_t)1 << 16) /* elements of D lifted to double at once */

/* ---- one pass over D: B_j = X_j D and Y = B_j D^T -----------------------------------
 */

/* Panels of a part: consecutive ones. */
static void part_range(const struct lt_lanczos *z, size_t part, size_t *from, size_t *to)
{
    *from = z->d->count * part / z->parts;
    *to = z->d->count * (part + 1) / z->parts;
}

/* Both products in the order in which the panel lies, which is the fast one: of a wide
 * panel the first gives image = X D and the second Y^T += D image^T, of a tall one the
 * first gives image^T = D X^T and the second Y += image D. xf is X or X^T, y Y^T or Y. */
static void float_panel(struct lt_lanczos *z, size_t i, float *y, float beta)
{
    size_t width, rows = z->last, side = z->side, first = i * z->d->width;
    const float *panel = lt_panel(z->d, i, &width);
    float *image = z->zf + 2 * z->block * first, *turned = image + rows * width;
    if (z->d->wide) {
        lt_matf d = { panel, width, false };
        lt_gemm_f32(rows, width, side, 1, (lt_matf){ z->xf, side, false }, d, 0, image);
        lt_transpose(turned, image, rows, width);
        lt_gemm_f32(side, rows, width, 1, d, (lt_matf){ turned, rows, false }, beta, y);
    } else {
        lt_matf d = { panel, side, false };
        lt_gemm_f32(width, rows, side, 1, d, (lt_matf){ z->xf, rows, false }, 0, turned);
        lt_transpose(image, turned, width, rows);
        lt_gemm_f32(rows, side, width, 1, (lt_matf){ image, width, false }, d, beta, y);
    }
    float *b = z->bf + (z->count - rows) * z->length + first;
    for (size_t r = 0; r < rows; r++)
        memcpy(b + r * z->length, image + r * width, width * sizeof *b);
}

/* D's panel in strips of the long side (tall) or of the short side's rows (wide). */
static void exact_strip(
    struct lt_lanczos *z, size_t first, size_t width, const double *d, double *y)
{
    size_t rows = z->last, side = z->side;
    const double *x = z->x + (z->count - rows) * side;
    double *b = z->b + (z->count - rows) * z->length + first;
    double *image = y + z->block * side;
    lt_matd m = { d, side, true };
    lt_gemm_f64(rows, width, side, 1, (lt_matd){ x, side, false }, m, 0, image);
    m.t = false;
    lt_gemm_f64(rows, side, width, 1, (lt_matd){ image, width, false }, m, 1, y);
    for (size_t r = 0; r < rows; r++)
        memcpy(b + r * z->length, image + r * width, width * sizeof *b);
}

/* The elements of panel columns [from, from + n), as n x side in double. */
void lt_lanczos_lift(const lt_panels *p, size_t i, size_t from, size_t n, double *dst)
{
    size_t width;
    const float *panel = lt_panel(p, i, &width);
    if (!p->wide) {
        lt_load_f64(dst, panel + from * p->side, LT_F32, n * p->side);
        return;
    }
    for (size_t s = 0; s < p->side; s++)
        for (size_t l = 0; l < n; l++)
            dst[l * p->side + s] = panel[s * width + from + l];
}

size_t lt_lanczos_lift_rows(size_t side)
{
    return LIFT / side + 1;
}

static lt_status exact_part(struct lt_lanczos *z, size_t part, double *y, lt_error *err)
{
    size_t from, to, step = lt_lanczos_lift_rows(z->side), width;
    double *strip = lt_alloc_work(step * z->side, sizeof *strip, err);
    if (!strip) return LT_ERR_NOMEM;
    part_range(z, part, &from, &to);
    memset(y, 0, z->block * z->side * sizeof *y);
    for (size_t i = from; i < to; i++) {
        lt_panel(z->d, i, &width);
        for (size_t at = 0; at < width; at += step) {
            size_t n = lt_min_size(step, width - at);
            lt_lanczos_lift(z->d, i, at, n, strip);
            exact_strip(z, i * z->d->width + at, n, strip, y);
        }
    }
    lt_free(strip);
    return LT_OK;
}

/* Of one part's partial sum in yf: rows of the block, and in double the image of a
 * strip behind it. */
size_t lt_lanczos_partial(const struct lt_lanczos *z)
{
    size_t n = z->block * z->side;
    return z->exact ? 2 * (n + z->block * lt_lanczos_lift_rows(z->side)) : n;
}

static lt_status pass_part(void *ctx, size_t part, lt_error *err)
{
    struct lt_lanczos *z = ctx;
    size_t from, to;
    float *y = z->yf + part * lt_lanczos_partial(z);
    if (z->exact) return exact_part(z, part, (double *)(void *)y, err);
    part_range(z, part, &from, &to);
    for (size_t i = from; i < to; i++)
        float_panel(z, i, y, i == from ? 0 : 1);
    return LT_OK;
}

static void add_partial(struct lt_lanczos *z, size_t part)
{
    const float *y = z->yf + part * lt_lanczos_partial(z);
    size_t rows = z->last, side = z->side;
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < side && z->d->wide; j++)
            z->y[i * side + j] += (double)y[j * rows + i];
    for (size_t i = 0; i < rows * side && !z->d->wide; i++)
        z->y[i] += (double)y[i];
}

static void add_exact_partial(struct lt_lanczos *z, size_t part)
{
    const double *y =
        (const double *)(const void *)(z->yf + part * lt_lanczos_partial(z));
    for (size_t i = 0; i < z->last * z->side; i++)
        z->y[i] += y[i];
}

static void lay_out_block(struct lt_lanczos *z)
{
    const double *x = z->x + (z->count - z->last) * z->side;
    for (size_t i = 0; i < z->last; i++)
        for (size_t j = 0; j < z->side && !z->d->wide; j++)
            z->xf[j * z->last + i] = (float)x[i * z->side + j];
    if (z->d->wide) lt_store_f64(z->xf, x, LT_F32, z->last * z->side);
}

lt_status lt_lanczos_pass(struct lt_lanczos *z)
{
    lay_out_block(z);
    lt_status st = lt_worker_share(z->job->worker, z->parts, pass_part, z, z->err);
    if (st) return st;
    memset(z->y, 0, z->last * z->side * sizeof *z->y);
    for (size_t part = 0; part < z->parts; part++)
        (z->exact ? add_exact_partial : add_partial)(z, part);
    z->found = z->last;
    return LT_OK;
}

/* ---- blocks to start from -----------------------------------------------------------
 */

/* splitmix64 (Steele, Lea & Flood 2014). */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Row l mod block of y gets column l of D, with a random sign. */
static void sketch_tall(struct lt_lanczos *z, size_t i, const float *sign)
{
    size_t width, side = z->side, first = i * z->d->width;
    const float *panel = lt_panel(z->d, i, &width);
    for (size_t l = 0; l < width; l++) {
        float *row = z->xf + (first + l) % z->block * side, s = sign[first + l];
        for (size_t j = 0; j < side; j++)
            row[j] += s * panel[l * side + j];
    }
}

static void sketch_wide(struct lt_lanczos *z, size_t i, const float *sign)
{
    size_t width, first = i * z->d->width, block = z->block;
    const float *panel = lt_panel(z->d, i, &width);
    float *sums = z->zf; /* of one row, block of them */
    for (size_t j = 0; j < z->side; j++, panel += width) {
        memset(sums, 0, block * sizeof *sums);
        for (size_t l = 0; l < width; l += block) {
            size_t n = lt_min_size(block, width - l);
            for (size_t c = 0; c < n; c++)
                sums[c] += sign[first + l + c] * panel[l + c];
        }
        for (size_t c = 0; c < block; c++)
            z->xf[(first + c) % block * z->side + j] += sums[c];
    }
}

lt_status lt_lanczos_sketch(struct lt_lanczos *z)
{
    uint64_t state = 0x6c6f7261746f6f6cu;
    float *sign = lt_alloc_work(z->length, sizeof *sign, z->err);
    if (!sign) return LT_ERR_NOMEM;
    for (size_t l = 0; l < z->length; l++)
        sign[l] = next_random(&state) >> 63 ? 1.0f : -1.0f;
    memset(z->xf, 0, z->block * z->side * sizeof *z->xf);
    for (size_t i = 0; i < z->d->count; i++)
        (z->d->wide ? sketch_wide : sketch_tall)(z, i, sign);
    lt_free(sign);
    lt_load_f64(z->y, z->xf, LT_F32, z->block * z->side);
    z->found = z->block;
    return LT_OK;
}

void lt_lanczos_random(struct lt_lanczos *z)
{
    uint64_t state = 0x6c6f7261u + z->count;
    z->found = lt_min_size(z->block, z->side - z->count);
    for (size_t i = 0; i < z->found * z->side; i++)
        z->y[i] = (double)(int64_t)next_random(&state) * 0x1p-63;
}
