/* SPDX-License-Identifier: MIT */
#include "ops/merge_tile.h"

#include "tensor/convert.h"
#include "tensor/linalg.h"

#include <math.h>
#include <string.h>

/* A tile is as many rows as these two allow, worked on in panels of columns. BLAS packs
 * the panel's factors anew for each: both sides of it must be long enough to pay for
 * that, and the panel must stay in the second cache until it has been added. */
#define TILE_ELEMENTS ((size_t)1 << 20)
#define WIDE_ELEMENTS ((size_t)1 << 18) /* of a tile in double */
#define TILE_ROWS ((size_t)384)
#define PANEL_ELEMENTS ((size_t)1 << 17)
#define PANEL_COLUMNS ((size_t)1024)

/* Norms and factors from here on, or sums of more terms, are left to double: far from
 * where float32 overflows, and small enough for the error bound's second-order terms. */
#define MAX_NORM 0x1p60
#define MAX_FACTOR 0x1p40
#define MIN_FACTOR 0x1p-20
#define MAX_TERMS ((size_t)1 << 16)

enum slot { S_TILE = 2 };

static size_t element_size(lt_dtype dtype)
{
    return lt_dtype_get(dtype)->bits / 8;
}

/* ---- the factors ------------------------------------------------------------------ */

lt_status lt_product_init(
    lt_product *p, size_t first, size_t rows, size_t columns, size_t rank, lt_error *err)
{
    *p =
        (lt_product){ first, rows, columns, rank, 1, NULL, NULL, NULL, NULL, NULL, NULL };
    p->left = lt_alloc_work((uint64_t)rows * rank, sizeof *p->left, err);
    p->right = lt_alloc_work((uint64_t)columns * rank, sizeof *p->right, err);
    return p->left && p->right ? LT_OK : LT_ERR_NOMEM;
}

void lt_product_release(lt_product *p)
{
    lt_free(p->left);
    lt_free(p->right);
    lt_free(p->left32);
    lt_free(p->right32);
    lt_free(p->left_bound);
    lt_free(p->right_bound);
    *p = (lt_product){ 0 };
}

/* Eight sums, so that the order is fixed and yet vectors can be used. */
static double dot(const double *a, const double *b, size_t n)
{
    double part[8] = { 0 };
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (size_t j = 0; j < 8; j++)
            part[j] += a[i + j] * b[i + j];
    for (size_t j = 0; i < n; i++, j++)
        part[j] += a[i] * b[i];
    return ((part[0] + part[4]) + (part[2] + part[6]))
        + ((part[1] + part[5]) + (part[3] + part[7]));
}

/* scale times the norm of each row, a little up. What float32 loses by underflow is below
 * 2^-149 a term and operation; products of the 2^-40 with the other norm are far above.
 */
static float *row_bounds(
    const double *p, size_t rows, size_t rank, double scale, bool *fits, lt_error *err)
{
    float *bound = lt_alloc_work(rows, sizeof *bound, err);
    for (size_t i = 0; bound && i < rows && *fits; i++) {
        const double *row = p + i * rank;
        double norm = sqrt(dot(row, row, rank));
        bool zero = norm == 0; /* or underflow */
        for (size_t k = 0; k < rank && zero; k++)
            zero = row[k] == 0;
        *fits = norm < MAX_NORM;
        bound[i] = zero ? 0 : (float)(scale * (norm + 0x1p-40));
    }
    return bound;
}

/* p in float32; p itself is dropped if that holds the same numbers. */
static float *single_copy(double **p, size_t n, lt_error *err)
{
    float *copy = lt_alloc_work(n, sizeof *copy, err);
    if (!copy) return NULL;
    lt_store_f64(copy, *p, LT_F32, n);
    size_t same = 0;
    while (same < n && (double)copy[same] == (*p)[same])
        same++;
    if (same < n) return copy;
    lt_free(*p);
    *p = NULL;
    return copy;
}

/* A term factor u d is rounded for the factor, for u, for d and for the two products, and
 * by no more additions than there are terms and products, in whatever order BLAS takes
 * them: by n roundings. So the error is below n 2^-24 / (1 - n 2^-24) times the sum of
 * |factor u d|, and that is at most the product of the norms (Higham, "Accuracy and
 * stability of numerical algorithms", section 3.1; Cauchy and Schwarz). One percent is
 * for the second order and for the bound's own rounding. */
static lt_status prepare(lt_product *p, size_t count, bool *fits, lt_error *err)
{
    size_t n = p->rank + count + 5;
    double size = fabs(p->factor), scale = 1.01 * 0x1p-24 * (double)n * size;
    *fits = p->rank < MAX_TERMS && n < MAX_TERMS && size <= MAX_FACTOR
        && (size >= MIN_FACTOR || size == 0);
    if (*fits) p->left_bound = row_bounds(p->left, p->rows, p->rank, scale, fits, err);
    if (*fits) p->right_bound = row_bounds(p->right, p->columns, p->rank, 1, fits, err);
    if (!*fits) return LT_OK;
    return p->left_bound && p->right_bound ? LT_OK : LT_ERR_NOMEM;
}

static lt_status shorten(lt_product *p, lt_error *err)
{
    p->left32 = single_copy(&p->left, p->rows * p->rank, err);
    p->right32 = single_copy(&p->right, p->columns * p->rank, err);
    return p->left32 && p->right32 ? LT_OK : LT_ERR_NOMEM;
}

lt_status lt_sum_prepare(lt_sum *s, lt_error *err)
{
    s->single = element_size(s->to) <= 2 && element_size(s->from) <= 4;
    for (size_t i = 0; i < s->count && s->single; i++) {
        lt_status st = prepare(&s->products[i], s->count, &s->single, err);
        if (st) return st;
    }
    lt_status st = LT_OK;
    for (size_t i = 0; i < s->count && s->single && !st; i++)
        st = shorten(&s->products[i], err);
    return st;
}

size_t lt_sum_step(const lt_sum *s)
{
    size_t elements = s->single ? TILE_ELEMENTS : WIDE_ELEMENTS;
    size_t rows = s->columns ? elements / s->columns + 1 : 1;
    return s->single && rows > TILE_ROWS ? TILE_ROWS : rows;
}

/* The rows [*from, *to) of the tile that the product changes; false: none. */
static bool covers(const lt_product *p, size_t row, size_t rows, size_t *from, size_t *to)
{
    *from = row > p->first ? row : p->first;
    *to = row + rows < p->first + p->rows ? row + rows : p->first + p->rows;
    return *from < *to;
}

/* ---- in double -------------------------------------------------------------------- */

static lt_status refuse(const lt_sum *s, size_t element, double value, lt_error *err)
{
    return lt_error_set(err, LT_ERR_NUMERIC,
        "element %llu would be %g, which %s cannot hold", (unsigned long long)element,
        value, lt_dtype_get(s->to)->name);
}

/* n sums, the first of them the tensor's element at. */
static lt_status store_wide(const lt_sum *s, size_t at, const double *sums, size_t n,
    unsigned char *out, lt_error *err)
{
    size_t bad = lt_find_beyond_f64(sums, n, lt_dtype_get(s->to)->overflow);
    if (bad < n) return refuse(s, at + bad, sums[bad], err);
    lt_store_f64(out, sums, s->to, n);
    return LT_OK;
}

static lt_status tile_wide(const lt_sum *s, size_t row, size_t rows, const void *weight,
    unsigned char *out, lt_scratch *scratch, lt_error *err)
{
    size_t n = rows * s->columns, from, to;
    double *tile = lt_scratch_get(scratch, S_TILE, n, sizeof *tile, err);
    if (!tile) return LT_ERR_NOMEM;
    lt_load_f64(tile, weight, s->from, n);
    for (size_t i = 0; i < s->count; i++) {
        const lt_product *p = &s->products[i];
        if (!covers(p, row, rows, &from, &to)) continue;
        lt_gemm_f64(to - from, s->columns, p->rank, p->factor,
            (lt_matd){ p->left + (from - p->first) * p->rank, p->rank, false },
            (lt_matd){ p->right, p->rank, true }, 1, tile + (from - row) * s->columns);
    }
    return store_wide(s, row * s->columns, tile, n, out, err);
}

/* ---- in float32 ------------------------------------------------------------------- */

/* The columns [column, column + n) of some rows; of the weight and of the sum its first
 * row's, whose rows are the tensor's. */
struct panel {
    size_t row, rows, column, n;
    const unsigned char *weight;
    unsigned char *out;
    float *delta; /* rows x n */
};

/* Where a factor is not exact in float32. */
static double dot_any(const lt_product *p, size_t row, size_t column)
{
    double sum = 0;
    for (size_t k = 0; k < p->rank; k++) {
        size_t l = row * p->rank + k, r = column * p->rank + k;
        sum += (p->left ? p->left[l] : p->left32[l])
            * (p->right ? p->right[r] : p->right32[r]);
    }
    return sum;
}

/* Element j of the panel's first row, weight's and the products' sum in double. */
static double exact_sum(const lt_sum *s, const struct panel *b, size_t j, double weight)
{
    for (size_t i = 0; i < s->count; i++) {
        const lt_product *p = &s->products[i];
        size_t row = b->row - p->first, k = p->rank, column = b->column + j;
        if (b->row < p->first || row >= p->rows) continue;
        bool same = !p->left && !p->right;
        double change = same ? lt_dot_f32(p->left32 + row * k, p->right32 + column * k, k)
                             : dot_any(p, row, column);
        weight += p->factor * change;
    }
    return weight;
}

/* A row in which something may be too large for the type. */
static lt_status row_wide(
    const lt_sum *s, const struct panel *b, const float *weight, lt_error *err)
{
    double sums[PANEL_COLUMNS];
    for (size_t j = 0; j < b->n; j++)
        sums[j] = exact_sum(s, b, j, weight[j]);
    return store_wide(s, b->row * s->columns + b->column, sums, b->n, b->out, err);
}

/* The error bounds of the row's sums are *scale times what is returned: one product's own
 * or the sum of all in room. */
static const float *find_slack(
    const lt_sum *s, const struct panel *b, float *room, float *scale)
{
    *scale = 1;
    if (s->count != 1) memset(room, 0, b->n * sizeof *room);
    for (size_t i = 0; i < s->count; i++) {
        const lt_product *p = &s->products[i];
        size_t row = b->row - p->first;
        bool changed = b->row >= p->first && row < p->rows;
        float bound = changed ? p->left_bound[row] : 0;
        if (s->count == 1) *scale = bound;
        if (s->count == 1) return p->right_bound + b->column;
        lt_add_scaled_f32(room, bound, p->right_bound + b->column, b->n);
    }
    return room;
}

/* Where a and b differ, two rows of n codes of size bytes (1 or 2); returns how many. */
static size_t differences(
    const unsigned char *a, const unsigned char *b, size_t n, size_t size, uint16_t *at)
{
    uint64_t marks[PANEL_COLUMNS * 2 / 64], code = size == 2 ? 3 : 1;
    size_t found = 0;
    lt_mark_differences(marks, a, b, n * size);
    for (size_t i = 0; i * 64 < n * size; i++)
        while (marks[i]) {
            size_t j = (size_t)__builtin_ctzll(marks[i]) / size;
            at[found++] = (uint16_t)(i * 64 / size + j);
            marks[i] &= ~(code << size * j);
        }
    return found;
}

/* Where out, the codes of the low ends, and those of the high ends differ, the exact sums
 * are computed, in whole vectors' numbers, and put to out. */
static size_t settle(const lt_sum *s, const struct panel *b, const float *weight,
    const unsigned char *high)
{
    uint16_t at[PANEL_COLUMNS];
    double sums[PANEL_COLUMNS + 15];
    unsigned char codes[2 * (PANEL_COLUMNS + 15)];
    size_t size = element_size(s->to), n = differences(b->out, high, b->n, size, at);
    if (!n) return 0;
    for (size_t i = 0; i < n; i++)
        sums[i] = exact_sum(s, b, at[i], weight[at[i]]);
    memset(sums + n, 0, 15 * sizeof *sums);
    lt_store_f64(codes, sums, s->to, (n + 15) / 16 * 16);
    for (size_t i = 0; i < n; i++)
        memcpy(b->out + at[i] * size, codes + i * size, size);
    return n;
}

/* The panel's first row. */
static lt_status row_single(
    const lt_sum *s, const struct panel *b, uint64_t *again, lt_error *err)
{
    float weight[PANEL_COLUMNS], room[PANEL_COLUMNS], scale;
    float low[PANEL_COLUMNS], high[PANEL_COLUMNS];
    unsigned char codes[2 * PANEL_COLUMNS];
    float limit = (float)lt_dtype_get(s->to)->overflow;
    const float *slack = find_slack(s, b, room, &scale);
    lt_load_f32(weight, b->weight, s->from, b->n);
    if (!lt_bracket_f32(low, high, weight, b->delta, scale, slack, b->n, limit))
        return row_wide(s, b, weight, err);
    lt_store_f32(b->out, low, s->to, b->n);
    lt_store_f32(codes, high, s->to, b->n);
    *again += settle(s, b, weight, codes);
    return LT_OK;
}

static void multiply(const lt_sum *s, const struct panel *b)
{
    bool begun = false;
    for (size_t i = 0; i < s->count; i++) {
        const lt_product *p = &s->products[i];
        size_t from, to, k = p->rank;
        if (!covers(p, b->row, b->rows, &from, &to)) continue;
        bool all = to - from == b->rows;
        if (!begun && !all) memset(b->delta, 0, b->rows * b->n * sizeof *b->delta);
        lt_gemm_f32(to - from, b->n, k, (float)p->factor,
            (lt_matf){ p->left32 + (from - p->first) * k, k, false },
            (lt_matf){ p->right32 + b->column * k, k, true }, begun || !all ? 1 : 0,
            b->delta + (from - b->row) * b->n);
        begun = true;
    }
    if (!begun) memset(b->delta, 0, b->rows * b->n * sizeof *b->delta);
}

static lt_status panel_single(
    const lt_sum *s, struct panel b, uint64_t *again, lt_error *err)
{
    lt_status st = LT_OK;
    multiply(s, &b);
    for (size_t i = 0; i < b.rows && !st; i++) {
        st = row_single(s, &b, again, err);
        b.row++;
        b.delta += b.n;
        b.weight += s->columns * element_size(s->from);
        b.out += s->columns * element_size(s->to);
    }
    return st;
}

static size_t panel_width(const lt_sum *s, size_t rows)
{
    size_t width = PANEL_ELEMENTS / rows / 64 * 64;
    if (width < 64) width = 64;
    if (width > PANEL_COLUMNS) width = PANEL_COLUMNS;
    return width < s->columns ? width : s->columns;
}

static lt_status tile_single(const lt_sum *s, size_t row, size_t rows,
    const unsigned char *weight, unsigned char *out, lt_scratch *scratch, uint64_t *again,
    lt_error *err)
{
    size_t width = panel_width(s, rows);
    float *delta = lt_scratch_get(scratch, S_TILE, rows * width, sizeof *delta, err);
    if (!delta) return LT_ERR_NOMEM;
    for (size_t at = 0; at < s->columns; at += width) {
        size_t n = s->columns - at < width ? s->columns - at : width;
        struct panel b = { row, rows, at, n, weight + at * element_size(s->from),
            out + at * element_size(s->to), delta };
        lt_status st = panel_single(s, b, again, err);
        if (st) return st;
    }
    return LT_OK;
}

lt_status lt_sum_tile(const lt_sum *s, size_t row, size_t rows, const void *weight,
    void *out, lt_scratch *scratch, uint64_t *again, lt_error *err)
{
    uint64_t count = 0;
    if (!s->single) return tile_wide(s, row, rows, weight, out, scratch, err);
    return tile_single(s, row, rows, weight, out, scratch, again ? again : &count, err);
}
