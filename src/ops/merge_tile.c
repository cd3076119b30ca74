/* SPDX-License-Identifier: MIT */
#include "ops/merge_tile.h"

#include "tensor/convert.h"
#include "tensor/linalg.h"

#include <math.h>
#include <string.h>

/* A tile is as many rows as these two allow, worked on in panels that stay in the second
 * cache until they have been added. */
#define TILE_ELEMENTS ((size_t)1 << 18)
#define WIDE_ELEMENTS ((size_t)1 << 18) /* of a tile in double */
#define TILE_ROWS ((size_t)384)
#define PANEL_ROWS ((size_t)128)
#define PANEL_COLUMNS ((size_t)640)

/* Terms that are added up before the result goes to the others': shorter runs have
 * smaller error bounds, longer ones take less time to multiply. One core of an AVX-512
 * processor, rank 64: runs of 64, 110 GFLOP/s and 70 roundings; 32, 107 and 39; 16, 100
 * and 25; 8, 85 and 21. */
#define RUN ((size_t)32)

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

lt_status lt_addend_init(
    lt_addend *a, size_t first, size_t rows, size_t columns, size_t rank, lt_error *err)
{
    *a = (lt_addend){
        .first = first, .rows = rows, .columns = columns, .rank = rank, .factor = 1
    };
    a->left = lt_alloc_work((uint64_t)rows * rank, sizeof *a->left, err);
    a->right = lt_alloc_work((uint64_t)columns * rank, sizeof *a->right, err);
    return a->left && a->right ? LT_OK : LT_ERR_NOMEM;
}

void lt_addend_release(lt_addend *a)
{
    lt_free(a->left);
    lt_free(a->right);
    lt_free(a->left32);
    lt_free(a->right32);
    lt_free(a->across);
    lt_free(a->across32);
    lt_free(a->left_bound);
    lt_free(a->right_bound);
    *a = (lt_addend){ 0 };
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

static bool all_zero(const double *p, size_t stride, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i * stride] != 0) return false;
    return true;
}

/* The norm times scale, a little up. What float32 loses by underflow is below 2^-149 a
 * term and operation; products of the 2^-40 with the other norm are far above. */
static float bound(double norm, double scale)
{
    return (float)(scale * (norm + 0x1p-40));
}

static lt_status bound_rows(lt_addend *a, double scale, bool *fits, lt_error *err)
{
    size_t rank = a->rank;
    a->left_bound = lt_alloc_work(a->rows, sizeof *a->left_bound, err);
    if (!a->left_bound) return LT_ERR_NOMEM;
    for (size_t i = 0; i < a->rows && *fits; i++) {
        const double *row = a->left + i * rank;
        double norm = sqrt(dot(row, row, rank));
        *fits = norm < MAX_NORM;
        bool zero = norm == 0 && all_zero(row, 1, rank); /* and no underflow */
        a->left_bound[i] = zero ? 0 : bound(norm, scale);
    }
    return LT_OK;
}

static lt_status bound_columns(lt_addend *a, bool *fits, lt_error *err)
{
    size_t n = a->columns;
    a->right_bound = lt_alloc_work(n, sizeof *a->right_bound, err);
    double *squares = lt_alloc(n, sizeof *squares, err);
    for (size_t k = 0; squares && k < a->rank; k++)
        for (size_t j = 0; j < n; j++)
            squares[j] += a->right[k * n + j] * a->right[k * n + j];
    for (size_t j = 0; squares && a->right_bound && j < n && *fits; j++) {
        double norm = sqrt(squares[j]);
        *fits = norm < MAX_NORM;
        bool zero = norm == 0 && all_zero(a->right + j, n, a->rank);
        a->right_bound[j] = zero ? 0 : bound(norm, 1);
    }
    lt_status st = squares && a->right_bound ? LT_OK : LT_ERR_NOMEM;
    lt_free(squares);
    return st;
}

static size_t run_count(size_t rank)
{
    return (rank + RUN - 1) / RUN;
}

/* A term factor u d is rounded for the factor, for u, for d, for the two products, by no
 * more additions than there are terms in its run, in whatever order BLAS takes them, and
 * by one more for each run that is added to what there is: by n roundings. So the error
 * is below n 2^-24 / (1 - n 2^-24) times the sum of |factor u d|, and that is at most the
 * product of the norms (Higham, "Accuracy and stability of numerical algorithms", section
 * 3.1; Cauchy and Schwarz). One percent is for the second order and for the bound's own
 * rounding. */
static lt_status prepare(lt_addend *a, size_t runs, bool *fits, lt_error *err)
{
    size_t n = (a->rank < RUN ? a->rank : RUN) + runs + 5;
    double size = fabs(a->factor), scale = 1.01 * 0x1p-24 * (double)n * size;
    *fits = a->rank < MAX_TERMS && n < MAX_TERMS && size <= MAX_FACTOR
        && (size >= MIN_FACTOR || size == 0);
    lt_status st = *fits ? bound_rows(a, scale, fits, err) : LT_OK;
    return !st && *fits ? bound_columns(a, fits, err) : st;
}

static bool holds_same(const double *p, const float *copy, size_t n)
{
    unsigned differ = 0;
    for (size_t i = 0; i < n; i++)
        differ |= (double)copy[i] != p[i];
    return !differ;
}

/* p in float32. *same: it holds the same numbers. */
static float *single_copy(const double *p, size_t n, bool *same, lt_error *err)
{
    float *copy = lt_alloc_work(n, sizeof *copy, err);
    if (!copy) return NULL;
    lt_store_f64(copy, p, LT_F32, n);
    *same = holds_same(p, copy, n);
    return copy;
}

/* In strips that a cache line of each row lasts for. */
#define TRANSPOSED(name, type)                                                     \
    static type *name(const type *src, size_t rows, size_t columns, lt_error *err) \
    {                                                                              \
        type *dst = lt_alloc_work((uint64_t)rows * columns, sizeof *dst, err);     \
        for (size_t from = 0; dst && from < columns; from += 16) {                 \
            size_t to = columns - from < 16 ? columns : from + 16;                 \
            for (size_t i = 0; i < rows; i++)                                      \
                for (size_t j = from; j < to; j++)                                 \
                    dst[j * rows + i] = src[i * columns + j];                      \
        }                                                                          \
        return dst;                                                                \
    }

TRANSPOSED(transposed32, float)
TRANSPOSED(transposed64, double)

/* The doubles give way to what is needed beside the products. */
static lt_status shorten(lt_addend *a, lt_error *err)
{
    bool same = false;
    a->left32 = single_copy(a->left, a->rows * a->rank, &same, err);
    if (!a->left32) return LT_ERR_NOMEM;
    if (same) lt_free(a->left);
    if (same) a->left = NULL;
    a->right32 = single_copy(a->right, a->rank * a->columns, &same, err);
    if (!a->right32) return LT_ERR_NOMEM;
    if (same)
        a->across32 = transposed32(a->right32, a->rank, a->columns, err);
    else
        a->across = transposed64(a->right, a->rank, a->columns, err);
    lt_free(a->right);
    a->right = NULL;
    return a->across || a->across32 ? LT_OK : LT_ERR_NOMEM;
}

lt_status lt_sum_prepare(lt_sum *s, lt_error *err)
{
    size_t runs = 0;
    for (size_t i = 0; i < s->count; i++)
        runs += run_count(s->addends[i].rank);
    s->single = element_size(s->to) <= 2 && element_size(s->from) <= 4;
    for (size_t i = 0; i < s->count && s->single; i++) {
        lt_status st = prepare(&s->addends[i], runs, &s->single, err);
        if (st) return st;
    }
    lt_status st = LT_OK;
    for (size_t i = 0; i < s->count && s->single && !st; i++)
        st = shorten(&s->addends[i], err);
    return st;
}

size_t lt_sum_step(const lt_sum *s)
{
    size_t elements = s->single ? TILE_ELEMENTS : WIDE_ELEMENTS;
    size_t rows = s->columns ? elements / s->columns + 1 : 1;
    return s->single && rows > TILE_ROWS ? TILE_ROWS : rows;
}

/* The rows [*from, *to) of the tile that the addend changes; false: none. */
static bool covers(const lt_addend *a, size_t row, size_t rows, size_t *from, size_t *to)
{
    *from = row > a->first ? row : a->first;
    *to = row + rows < a->first + a->rows ? row + rows : a->first + a->rows;
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
        const lt_addend *a = &s->addends[i];
        if (!covers(a, row, rows, &from, &to)) continue;
        lt_gemm_f64(to - from, s->columns, a->rank, a->factor,
            (lt_matd){ a->left + (from - a->first) * a->rank, a->rank, false },
            (lt_matd){ a->right, a->columns, false }, 1,
            tile + (from - row) * s->columns);
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
static double dot_any(const lt_addend *a, size_t row, size_t column)
{
    double sum = 0;
    for (size_t k = 0; k < a->rank; k++) {
        size_t l = row * a->rank + k, r = column * a->rank + k;
        sum += (a->left ? a->left[l] : a->left32[l])
            * (a->across ? a->across[r] : a->across32[r]);
    }
    return sum;
}

/* n elements of a row of the product, at these places of the panel. */
static void exact_products(const lt_addend *a, size_t row, size_t column,
    const uint16_t *at, size_t n, double *changes)
{
    size_t k = a->rank;
    if (!a->left && !a->across)
        lt_dots_f32(changes, a->left32 + row * k, a->across32 + column * k, at, n, k);
    else
        for (size_t i = 0; i < n; i++)
            changes[i] = dot_any(a, row, column + at[i]);
}

/* n elements of the panel's first row, weight's and the products' sums in double. */
static void exact_sums(const lt_sum *s, const struct panel *b, const float *weight,
    const uint16_t *at, size_t n, double *sums)
{
    double changes[PANEL_COLUMNS];
    for (size_t i = 0; i < n; i++)
        sums[i] = weight[at[i]];
    for (size_t i = 0; i < s->count; i++) {
        const lt_addend *a = &s->addends[i];
        size_t row = b->row - a->first;
        if (b->row < a->first || row >= a->rows) continue;
        exact_products(a, row, b->column, at, n, changes);
        for (size_t j = 0; j < n; j++)
            sums[j] += a->factor * changes[j];
    }
}

/* A row in which something may be too large for the type. */
static lt_status row_wide(
    const lt_sum *s, const struct panel *b, const float *weight, lt_error *err)
{
    double sums[PANEL_COLUMNS];
    uint16_t all[PANEL_COLUMNS];
    for (size_t j = 0; j < b->n; j++)
        all[j] = (uint16_t)j;
    exact_sums(s, b, weight, all, b->n, sums);
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
        const lt_addend *a = &s->addends[i];
        size_t row = b->row - a->first;
        bool changed = b->row >= a->first && row < a->rows;
        float bound = changed ? a->left_bound[row] : 0;
        if (s->count == 1) *scale = bound;
        if (s->count == 1) return a->right_bound + b->column;
        lt_add_scaled_f32(room, bound, a->right_bound + b->column, b->n);
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
    exact_sums(s, b, weight, at, n, sums);
    memset(sums + n, 0, 15 * sizeof *sums);
    lt_store_f64(codes, sums, s->to, (n + 15) / 16 * 16);
    for (size_t i = 0; i < n; i++)
        memcpy(b->out + at[i] * size, codes + i * size, size);
    return n;
}

static bool changes_row(const lt_sum *s, size_t row)
{
    for (size_t i = 0; i < s->count; i++)
        if (row >= s->addends[i].first && row - s->addends[i].first < s->addends[i].rows)
            return true;
    return false;
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
    /* Adding 0 would make -0 positive. */
    if (!changes_row(s, b->row)) return row_wide(s, b, weight, err);
    if (!lt_bracket_f32(low, high, weight, b->delta, scale, slack, b->n, limit))
        return row_wide(s, b, weight, err);
    lt_store_f32(b->out, low, s->to, b->n);
    lt_store_f32(codes, high, s->to, b->n);
    *again += settle(s, b, weight, codes);
    return LT_OK;
}

/* Run by run to some of the panel's rows; beta is for the first. */
static void add_product(
    const lt_addend *a, const struct panel *b, size_t from, size_t to, float beta)
{
    float *delta = b->delta + (from - b->row) * b->n;
    for (size_t k = 0; k < a->rank; k += RUN) {
        size_t n = a->rank - k < RUN ? a->rank - k : RUN;
        lt_gemm_f32(to - from, b->n, n, (float)a->factor,
            (lt_matf){ a->left32 + (from - a->first) * a->rank + k, a->rank, false },
            (lt_matf){ a->right32 + k * a->columns + b->column, a->columns, false },
            k ? 1 : beta, delta);
    }
}

static void multiply(const lt_sum *s, const struct panel *b)
{
    bool begun = false;
    for (size_t i = 0; i < s->count; i++) {
        const lt_addend *a = &s->addends[i];
        size_t from, to;
        if (!covers(a, b->row, b->rows, &from, &to)) continue;
        bool whole = to - from == b->rows && a->rank;
        if (!begun && !whole) memset(b->delta, 0, b->rows * b->n * sizeof *b->delta);
        add_product(a, b, from, to, begun || !whole ? 1 : 0);
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

static lt_status tile_single(const lt_sum *s, size_t row, size_t rows,
    const unsigned char *weight, unsigned char *out, lt_scratch *scratch, uint64_t *again,
    lt_error *err)
{
    float *delta =
        lt_scratch_get(scratch, S_TILE, PANEL_ROWS * PANEL_COLUMNS, sizeof *delta, err);
    if (!delta) return LT_ERR_NOMEM;
    for (size_t i = 0; i < rows; i += PANEL_ROWS)
        for (size_t j = 0; j < s->columns; j += PANEL_COLUMNS) {
            size_t at = i * s->columns + j;
            struct panel b = { row + i, lt_min_size(PANEL_ROWS, rows - i), j,
                lt_min_size(PANEL_COLUMNS, s->columns - j),
                weight + at * element_size(s->from), out + at * element_size(s->to),
                delta };
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
