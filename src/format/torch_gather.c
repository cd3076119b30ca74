/* SPDX-License-Identifier: MIT */
/* The part of a view that is asked for is a range of elements in row-major order. It is
 * cut into boxes (some indices fixed, one with a range, all after it full); each box is
 * walked in the order of the storage, not of the view, so that a transposed matrix is
 * read forward in large pieces:
 *
 *   window   WINDOW bytes of the storage, moved on when an element lies outside
 *   runs     elements that follow each other in both orders: copied, or read, at once */
#include "format/torch_gather.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#define WINDOW 262144u
/* From here on a run is read straight to where it belongs. */
#define LONG_RUN 4096u
/* A window is worth reading when at least one byte in so many is used. */
#define SPARSE 8u

struct gather {
    const lt_strided *v;
    unsigned char *dst;
    lt_fetch_fn fetch;
    void *ctx;
    lt_error *err;
    unsigned char *window;
    uint64_t window_at; /* in the storage */
    size_t window_size; /* bytes in it */
    size_t step;        /* bytes to read at a time */
};

/* One dimension of a box. */
struct axis {
    uint64_t size;
    uint64_t from; /* bytes from one index to the next in the storage */
    uint64_t to;   /* and in the output */
};

bool lt_is_contiguous(unsigned n_dims, const uint64_t *shape, const uint64_t *strides)
{
    uint64_t expected = 1;
    for (unsigned i = n_dims; i--;) {
        if (shape[i] == 0) return true;
        if (shape[i] != 1 && strides[i] != expected) return false;
        expected *= shape[i];
    }
    return true;
}

static lt_status load_window(struct gather *g, uint64_t at, size_t size)
{
    uint64_t left = g->v->end - at;
    size_t n = g->step > size ? g->step : size;
    if (n > left) n = (size_t)left;
    g->window_size = 0;
    lt_status st = g->fetch(g->ctx, at, g->window, n, g->err);
    if (st) return st;
    g->window_at = at;
    g->window_size = n;
    return LT_OK;
}

/* size is at most LONG_RUN. */
static lt_status copy_run(struct gather *g, uint64_t at, unsigned char *dst, size_t size)
{
    if (at < g->window_at || at + size > g->window_at + g->window_size) {
        lt_status st = load_window(g, at, size);
        if (st) return st;
    }
    memcpy(dst, g->window + (at - g->window_at), size);
    return LT_OK;
}

static lt_status read_run(
    struct gather *g, uint64_t at, unsigned char *dst, uint64_t size)
{
    if (size > LONG_RUN) return g->fetch(g->ctx, at, dst, (size_t)size, g->err);
    return copy_run(g, at, dst, (size_t)size);
}

/* size elements of item bytes, apart by axis.from and axis.to. */
static lt_status read_row(
    struct gather *g, const struct axis *axis, uint64_t at, unsigned char *dst)
{
    size_t item = g->v->item;
    lt_status st = LT_OK;
    for (uint64_t i = 0; i < axis->size && !st; i++)
        st = copy_run(g, at + i * axis->from, dst + i * axis->to, item);
    return st;
}

static int by_distance(const void *a, const void *b)
{
    const struct axis *x = a, *y = b;
    if (x->from != y->from) return x->from > y->from ? -1 : 1;
    return x->to > y->to ? -1 : x->to < y->to;
}

/* Joins neighbours that are one axis in both orders; drops axes of one index. */
static unsigned merge_axes(struct axis *axes, unsigned n)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < n; i++) {
        if (axes[i].size == 1) continue;
        struct axis *last = kept ? &axes[kept - 1] : NULL;
        if (last && last->from == axes[i].size * axes[i].from
            && last->to == axes[i].size * axes[i].to) {
            last->size *= axes[i].size;
            last->from = axes[i].from;
            last->to = axes[i].to;
        } else {
            axes[kept++] = axes[i];
        }
    }
    return kept;
}

/* How much to read at once: whole windows, unless most of them would not be used. */
static size_t choose_step(const struct axis *axes, unsigned n, size_t item)
{
    uint64_t dense = item; /* bytes that follow each other in the storage */
    for (unsigned i = n; i--;) {
        if (axes[i].from > dense)
            return axes[i].from / SPARSE < dense ? WINDOW : (size_t)dense;
        uint64_t reach = axes[i].from * (axes[i].size - 1) + dense;
        if (reach >= WINDOW) return WINDOW;
        dense = reach;
    }
    return (size_t)dense;
}

/* The box of these axes, farthest first, from that byte of the storage on. */
static lt_status read_box(
    struct gather *g, struct axis *axes, unsigned n, uint64_t at, unsigned char *dst)
{
    uint64_t index[LT_MAX_DIMS] = { 0 };
    struct axis inner = { 1, g->v->item, g->v->item };
    if (n) qsort(axes, n, sizeof *axes, by_distance);
    n = merge_axes(axes, n);
    g->step = choose_step(axes, n, g->v->item);
    if (n) inner = axes[--n];
    bool is_run = inner.from == g->v->item && inner.to == g->v->item;
    for (;;) {
        lt_status st = is_run ? read_run(g, at, dst, inner.size * inner.from)
                              : read_row(g, &inner, at, dst);
        if (st) return st;
        unsigned i = n;
        while (i && ++index[i - 1] == axes[i - 1].size) {
            i--;
            at -= (axes[i].size - 1) * axes[i].from;
            dst -= (axes[i].size - 1) * axes[i].to;
            index[i] = 0;
        }
        if (!i) return LT_OK;
        at += axes[i - 1].from;
        dst += axes[i - 1].to;
    }
}

/* Indices [from, to) of dimension dim, all of the later ones; base: byte of the storage
 * at index 0 of them. */
static lt_status read_slab(
    struct gather *g, unsigned dim, uint64_t from, uint64_t to, uint64_t base)
{
    const lt_strided *v = g->v;
    struct axis axes[LT_MAX_DIMS];
    uint64_t out = v->item;
    for (unsigned i = v->n_dims; i-- > dim;) {
        uint64_t size = i == dim ? to - from : v->shape[i];
        axes[i - dim] = (struct axis){ size, v->strides[i] * v->item, out };
        out *= size;
    }
    lt_status st = read_box(
        g, axes, v->n_dims - dim, base + from * v->strides[dim] * v->item, g->dst);
    g->dst += out;
    return st;
}

/* Elements [from, to) of those that the dimensions from dim on make up, at most all. */
static lt_status read_range(
    struct gather *g, unsigned dim, uint64_t from, uint64_t to, uint64_t base)
{
    const lt_strided *v = g->v;
    lt_status st = LT_OK;
    while (from < to && !st) {
        uint64_t inner = 1;
        for (unsigned i = dim + 1; i < v->n_dims; i++)
            inner *= v->shape[i];
        uint64_t index = from / inner, n = (to - from) / inner;
        if (from % inner == 0 && n) {
            st = read_slab(g, dim, index, index + n, base);
            from += n * inner;
            continue;
        }
        /* What is left of this index, or a part of it: at most once at either end. */
        uint64_t stop = (index + 1) * inner < to ? (index + 1) * inner : to;
        st = read_range(g, dim + 1, from - index * inner, stop - index * inner,
            base + index * v->strides[dim] * v->item);
        from = stop;
    }
    return st;
}

static lt_status read_elements(struct gather *g, uint64_t from, uint64_t to)
{
    if (from >= to) return LT_OK;
    if (!g->v->n_dims) return read_box(g, NULL, 0, g->v->first, g->dst);
    return read_range(g, 0, from, to, g->v->first);
}

/* Bytes [begin, end) of one element. */
static lt_status read_partial(
    struct gather *g, uint64_t element, unsigned begin, unsigned end)
{
    unsigned char whole[16];
    unsigned char *dst = g->dst;
    g->dst = whole;
    lt_status st = read_elements(g, element, element + 1);
    if (!st) memcpy(dst, whole + begin, end - begin);
    g->dst = dst + (end - begin);
    return st;
}

lt_status lt_gather(const lt_strided *view, uint64_t first, void *dst, size_t size,
    lt_fetch_fn fetch, void *ctx, lt_error *err)
{
    struct gather g = { .v = view, .dst = dst, .fetch = fetch, .ctx = ctx, .err = err };
    unsigned item = view->item;
    uint64_t from = first / item, to = (first + size) / item;
    unsigned begin = (unsigned)(first % item), end = (unsigned)((first + size) % item);
    if (!size) return LT_OK;
    uint64_t span = view->end - view->first;
    g.window = lt_alloc_work(span < WINDOW ? span : WINDOW, 1, err);
    if (!g.window) return LT_ERR_NOMEM;
    lt_status st = LT_OK;
    if (from == to) {
        st = read_partial(&g, from, begin, end);
    } else {
        if (begin) st = read_partial(&g, from++, begin, item);
        if (!st) st = read_elements(&g, from, to);
        if (!st && end) st = read_partial(&g, to, 0, end);
    }
    lt_free(g.window);
    return st;
}
