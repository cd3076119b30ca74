/* SPDX-License-Identifier: MIT */
/* safetensors reader, to the format's own document (github.com/huggingface/safetensors,
 * README "Format") and its reference reader's checks:
 *
 *   offset 0        8 bytes   N, unsigned little-endian
 *   offset 8        N bytes   JSON object, UTF-8: { "name": { "dtype": "F16",
 *                             "shape": [a, b], "data_offsets": [begin, end] }, ...,
 *                             "__metadata__": { "key": "string", ... } }
 *   offset 8 + N    data      little-endian, row-major; offsets count from here; the
 *                             tensors tile it without hole, overlap or rest
 *
 * Stricter than the reference in one point: a tensor name that stands twice is refused
 * (the reference lets the last one win). */
#include "format/format.h"

#include "base/cursor.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

struct header {
    lt_json_tape json;
    lt_store *store;
    uint64_t data_size, data_at; /* of the data section */
    lt_error *err;
};

static bool probe(const unsigned char *head, size_t size, uint64_t file_size)
{
    (void)file_size;
    /* Anything with a length that may be, or an opening brace behind it, is held to the
     * format's rules; so is what is too short to tell. */
    if (size < 8) return size > 0;
    return lt_little_u64(head) <= LT_MAX_HEADER_SIZE || (size > 8 && head[8] == '{');
}

static lt_status fault(
    struct header *h, uint64_t at, const char *name, lt_status code, const char *what)
{
    lt_error_at(h->err, code, at, "%s", what);
    return name ? lt_error_where(h->err, "tensor '%s'", name) : code;
}

static char type_of(const struct header *h, size_t token)
{
    return lt_json_type(&h->json, token);
}

static size_t end_of(const struct header *h, size_t token)
{
    return lt_json_next(&h->json, token);
}

static lt_status read_metadata(struct header *h, size_t node, uint64_t at)
{
    if (type_of(h, node) == 'n') return LT_OK;
    if (type_of(h, node) != '{')
        return fault(h, at, NULL, LT_ERR_FORMAT, "__metadata__ is not an object");
    for (size_t i = node + 1; i < end_of(h, node); i = end_of(h, i + 1)) {
        const char *name = lt_json_text(&h->json, i);
        if (type_of(h, i + 1) != '"') {
            return lt_error_at(h->err, LT_ERR_FORMAT, lt_json_at(&h->json, i + 1),
                "__metadata__ value of '%s' is not a string", name);
        }
        lt_status st = lt_metadata_set(
            &h->store->metadata, name, lt_json_text(&h->json, i + 1), h->err);
        if (st) lt_error_place(h->err, lt_json_at(&h->json, i));
        if (st) return st;
    }
    return LT_OK;
}

static lt_status read_shape(struct header *h, size_t node, lt_tensor *t, uint64_t at)
{
    if (!node || type_of(h, node) != '[')
        return fault(
            h, at, t->name, LT_ERR_FORMAT, "'shape' is missing, doubled or no array");
    for (size_t dim = node + 1; dim < end_of(h, node); dim = end_of(h, dim)) {
        if (t->n_dims == LT_MAX_DIMS)
            return fault(
                h, at, t->name, LT_ERR_LIMIT, "more dimensions than are handled");
        if (!lt_json_uint(&h->json, dim, &t->shape[t->n_dims++]))
            return fault(
                h, at, t->name, LT_ERR_FORMAT, "'shape' holds something else than sizes");
    }
    if (lt_tensor_measure(t, h->err)) {
        lt_error_place(h->err, at);
        lt_error_where(h->err, "tensor '%s'", t->name);
        return LT_ERR_FORMAT;
    }
    return LT_OK;
}

static lt_status read_offsets(struct header *h, size_t node, lt_tensor *t, uint64_t at)
{
    uint64_t begin, end;
    if (!node || type_of(h, node) != '[' || end_of(h, node) != node + 3
        || !lt_json_uint(&h->json, node + 1, &begin)
        || !lt_json_uint(&h->json, node + 2, &end))
        return fault(h, at, t->name, LT_ERR_FORMAT,
            "'data_offsets' is missing, doubled or not two unsigned integers");
    if (end < begin)
        return fault(h, at, t->name, LT_ERR_FORMAT, "'data_offsets' run backwards");
    if (end - begin != t->size) {
        char shape[160];
        lt_tensor_shape_text(t, shape, sizeof shape);
        lt_error_at(h->err, LT_ERR_FORMAT, at,
            "'data_offsets' span %llu bytes, but %s %s takes %llu",
            (unsigned long long)(end - begin), lt_dtype_get(t->dtype)->name, shape,
            (unsigned long long)t->size);
        return lt_error_where(h->err, "tensor '%s'", t->name);
    }
    if (end > h->data_size) {
        lt_error_at(h->err, LT_ERR_FORMAT, at,
            "the data ends at byte %llu of %llu: the file is truncated",
            (unsigned long long)end, (unsigned long long)h->data_size);
        return lt_error_where(h->err, "tensor '%s'", t->name);
    }
    t->offset = h->data_at + begin;
    return LT_OK;
}

static lt_status read_tensor(struct header *h, const char *name, size_t node, uint64_t at)
{
    lt_tensor t = { .name = name };
    if (type_of(h, node) != '{')
        return fault(h, at, t.name, LT_ERR_FORMAT, "the entry is not an object");
    size_t dtype = lt_json_sole(&h->json, node, "dtype");
    if (!dtype || type_of(h, dtype) != '"')
        return fault(
            h, at, t.name, LT_ERR_FORMAT, "'dtype' is missing, doubled or no string");
    const char *dtype_name = lt_json_text(&h->json, dtype);
    if (!lt_dtype_by_name(dtype_name, &t.dtype)) {
        lt_error_at(h->err, LT_ERR_FORMAT, at, "unknown dtype '%.40s'", dtype_name);
        return lt_error_where(h->err, "tensor '%s'", t.name);
    }
    lt_status st = read_shape(h, lt_json_sole(&h->json, node, "shape"), &t, at);
    if (!st) st = read_offsets(h, lt_json_sole(&h->json, node, "data_offsets"), &t, at);
    if (st) return st;
    st = lt_store_adopt(h->store, &t, h->err);
    if (!st) return LT_OK;
    lt_error_place(h->err, at);
    return lt_error_where(h->err, "tensor '%.200s'", t.name);
}

static int by_offset(const void *a, const void *b)
{
    const lt_tensor *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    if (x->size != y->size) return x->size < y->size ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Nearly every writer keeps them so. */
static bool is_sorted(const lt_store *s)
{
    for (size_t i = 1; i < s->count; i++)
        if (by_offset(&s->tensors[i - 1], &s->tensors[i]) > 0) return false;
    return true;
}

static void sort(lt_store *s)
{
    qsort(s->tensors, s->count, sizeof *s->tensors, by_offset);
    for (size_t i = 0; i < s->count; i++)
        lt_map_set(&s->by_name, s->tensors[i].name, i);
}

/* Sorts by position and proves that the tensors tile the data section. */
static lt_status check_tiling(struct header *h)
{
    lt_store *s = h->store;
    uint64_t at = h->data_at;
    if (!is_sorted(s)) sort(s);
    for (size_t i = 0; i < s->count; i++) {
        const lt_tensor *t = &s->tensors[i];
        if (t->offset != at)
            return fault(h, t->offset, t->name, LT_ERR_FORMAT,
                t->offset > at ? "there is a hole before its data"
                               : "its data overlaps that of another tensor");
        at += t->size;
    }
    if (at != h->data_at + h->data_size) {
        lt_error_at(h->err, LT_ERR_FORMAT, at, "%llu bytes follow the last tensor's data",
            (unsigned long long)(h->data_at + h->data_size - at));
        return LT_ERR_FORMAT;
    }
    return LT_OK;
}

static size_t count_members(const struct header *h)
{
    size_t n = 0;
    for (size_t i = 1; i < end_of(h, 0); i = end_of(h, i + 1))
        n++;
    return n;
}

static lt_status read_members(struct header *h)
{
    bool has_metadata = false;
    if (type_of(h, 0) != '{')
        return fault(h, 8, NULL, LT_ERR_FORMAT, "the header is not a JSON object");
    lt_status st = lt_store_reserve(h->store, count_members(h), h->err);
    if (st) return st;
    for (size_t i = 1; i < end_of(h, 0); i = end_of(h, i + 1)) {
        uint64_t at = lt_json_at(&h->json, i);
        const char *name = lt_json_text(&h->json, i);
        bool is_metadata = !strcmp(name, "__metadata__");
        if (is_metadata && has_metadata)
            return fault(h, at, NULL, LT_ERR_FORMAT, "__metadata__ stands twice");
        has_metadata |= is_metadata;
        st = is_metadata ? read_metadata(h, i + 1, at) : read_tensor(h, name, i + 1, at);
        if (st) return st;
    }
    return check_tiling(h);
}

/* The text stays with the store: it holds the tensors' names. */
static lt_status load_text(lt_store *store, uint64_t *size, lt_error *err)
{
    unsigned char prefix[8];
    uint64_t file_size = lt_source_size(store->source);
    if (file_size < 8)
        return lt_error_at(err, LT_ERR_FORMAT, file_size,
            "the file has %llu bytes, too few for a header",
            (unsigned long long)file_size);
    lt_status st = lt_source_read(store->source, 0, prefix, 8, err);
    if (st) return st;
    *size = lt_little_u64(prefix);
    if (*size > lt_limit(LT_LIMIT_HEADER_SIZE))
        return lt_error_at(err, LT_ERR_FORMAT, 0,
            "the header length %llu is over the format's ceiling of %llu",
            (unsigned long long)*size, lt_limit(LT_LIMIT_HEADER_SIZE));
    if (*size > file_size - 8)
        return lt_error_at(err, LT_ERR_FORMAT, 0,
            "the header length %llu goes past the end of the file (%llu bytes)",
            (unsigned long long)*size, (unsigned long long)file_size);
    store->text = lt_alloc_work(*size, 1, err);
    if (!store->text) return LT_ERR_NOMEM;
    return lt_source_read(store->source, 8, store->text, (size_t)*size, err);
}

static lt_status read_header(lt_store *store, lt_error *err)
{
    uint64_t size = 0;
    struct header h = { .store = store, .err = err };
    lt_status st = load_text(store, &size, err);
    if (!st) st = lt_json_scan(&h.json, store->text, (size_t)size, 8, err);
    h.data_at = 8 + size;
    h.data_size = lt_source_size(store->source) - h.data_at;
    if (!st) st = read_members(&h);
    lt_json_tape_release(&h.json);
    return st;
}

static lt_status read_bytes(const lt_store *store, const lt_tensor *tensor,
    uint64_t first, void *dst, size_t size, lt_error *err)
{
    return lt_source_read(store->source, tensor->offset + first, dst, size, err);
}

const lt_format lt_format_safetensors = { "safetensors", probe, read_header, read_bytes,
    NULL, NULL, NULL };
