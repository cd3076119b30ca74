/* SPDX-License-Identifier: MIT */
#include "format/format.h"

#include "base/digest.h"
#include "base/limits.h"
#include "base/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define HASH_CHUNK ((size_t)1 << 20)

/* The first row is the default. */
static const lt_sink *const sinks[] = {
    &lt_sink_safetensors,
};

lt_status lt_writer_new(lt_writer **out, const char *path, bool overwrite, lt_error *err)
{
    *out = NULL;
    lt_writer *w = calloc(1, sizeof *w);
    if (!w) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    w->sink = sinks[0];
    lt_status st = lt_outfile_open(&w->file, path, overwrite, err);
    if (st) {
        lt_writer_close(w);
        return st;
    }
    *out = w;
    return LT_OK;
}

void lt_writer_close(lt_writer *w)
{
    if (!w) return;
    lt_outfile_close(w->file);
    lt_metadata_release(&w->metadata);
    lt_map_release(&w->by_name);
    lt_arena_release(&w->arena);
    free(w->tensors);
    free(w->layout);
    free(w);
}

lt_status lt_writer_add(lt_writer *w, const char *name, lt_dtype dtype, unsigned n_dims,
    const uint64_t *shape, size_t *index, lt_error *err)
{
    if (w->begun) return lt_error_set(err, LT_ERR_INTERNAL, "tensor added after begin");
    if (n_dims > LT_MAX_DIMS)
        return lt_error_set(err, LT_ERR_LIMIT, "too many dimensions");
    lt_tensor t = { .dtype = dtype, .n_dims = n_dims };
    for (unsigned i = 0; i < n_dims; i++)
        t.shape[i] = shape[i];
    lt_status st = lt_tensor_measure(&t, err);
    if (!st)
        st = lt_grow((void **)&w->tensors, &w->capacity, w->count + 1, sizeof t, err);
    if (st) return st;
    t.name = lt_arena_strdup(&w->arena, name, err);
    if (!t.name) return LT_ERR_NOMEM;
    size_t found;
    st = lt_map_put(&w->by_name, t.name, w->count, &found, err);
    if (st) return st;
    if (found != LT_MAP_NONE)
        return lt_error_set(err, LT_ERR_MISMATCH,
            "two modules would be written under the name '%s'", name);
    if (index) *index = w->count;
    w->tensors[w->count++] = t;
    return LT_OK;
}

lt_metadata *lt_writer_metadata(lt_writer *w)
{
    return &w->metadata;
}

static int reference_order(const void *a, const void *b, const lt_tensor *tensors)
{
    const lt_tensor *x = &tensors[*(const size_t *)a], *y = &tensors[*(const size_t *)b];
    if (x->dtype != y->dtype) return x->dtype > y->dtype ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Merge sort on the indices: qsort takes no context argument in C11. */
static void sort_layout(size_t *p, size_t *tmp, size_t n, const lt_tensor *tensors)
{
    if (n < 2) return;
    size_t half = n / 2, i = 0, j = half, k = 0;
    sort_layout(p, tmp, half, tensors);
    sort_layout(p + half, tmp, n - half, tensors);
    while (i < half && j < n)
        tmp[k++] = reference_order(&p[i], &p[j], tensors) <= 0 ? p[i++] : p[j++];
    while (i < half)
        tmp[k++] = p[i++];
    while (j < n)
        tmp[k++] = p[j++];
    memcpy(p, tmp, n * sizeof *p);
}

static lt_status lay_out(lt_writer *w, lt_order order, lt_error *err)
{
    lt_status st = lt_grow((void **)&w->layout, &w->layout_capacity, 2 * w->count + 1,
        sizeof *w->layout, err);
    if (st) return st;
    for (size_t i = 0; i < w->count; i++)
        w->layout[i] = i;
    if (order == LT_ORDER_REFERENCE)
        sort_layout(w->layout, w->layout + w->count, w->count, w->tensors);
    for (size_t i = 0; i < w->count; i++) {
        lt_tensor *t = &w->tensors[w->layout[i]];
        t->offset = w->data_size;
        if (!lt_add_size(w->data_size, t->size, &w->data_size))
            return lt_error_set(err, LT_ERR_LIMIT, "the output's size overflows 64 bits");
    }
    return LT_OK;
}

lt_status lt_writer_begin(lt_writer *w, lt_order order, lt_error *err)
{
    char *header = NULL;
    size_t size = 0;
    lt_status st = lay_out(w, order, err);
    if (!st) st = w->sink->make_header(w, &header, &size, err);
    free(header);
    if (st) return st;
    w->header_size = size;
    w->begun = true;
    return LT_OK;
}

lt_status lt_writer_put(lt_writer *w, size_t index, uint64_t first, const void *src,
    size_t size, lt_error *err)
{
    const lt_tensor *t = &w->tensors[index];
    if (!w->begun || first > t->size || size > t->size - first)
        return lt_error_set(err, LT_ERR_INTERNAL, "write outside tensor '%s'", t->name);
    atomic_fetch_add(&w->put, size);
    return lt_outfile_write(w->file, w->header_size + t->offset + first, src, size, err);
}

lt_status lt_writer_copy(lt_writer *w, size_t index, const lt_store *store,
    const lt_tensor *tensor, lt_error *err)
{
    const lt_tensor *t = &w->tensors[index];
    if (!w->begun || t->size != tensor->size)
        return lt_error_set(
            err, LT_ERR_INTERNAL, "tensor '%s' changes its size", t->name);
    atomic_fetch_add(&w->put, t->size);
    lt_status st = lt_outfile_copy(w->file, w->header_size + t->offset,
        lt_source_fd(store->source), tensor->offset, tensor->size, err);
    return st ? lt_store_blame(store, tensor, err) : LT_OK;
}

lt_status lt_writer_hash(lt_writer *w, char hex[LT_HASH_SIZE], lt_error *err)
{
    lt_sha256 *h = NULL;
    lt_status st = lt_sha256_new(&h, err);
    char *buf = lt_alloc_work(HASH_CHUNK, 1, err);
    if (!buf) st = LT_ERR_NOMEM;
    for (uint64_t at = 0; at < w->data_size && !st; at += HASH_CHUNK) {
        uint64_t left = w->data_size - at;
        size_t n = left < HASH_CHUNK ? (size_t)left : HASH_CHUNK;
        st = lt_outfile_read(w->file, w->header_size + at, buf, n, err);
        if (!st) lt_sha256_update(h, buf, n);
    }
    if (!st) lt_sha256_hex(h, hex);
    lt_free(buf);
    lt_sha256_free(h);
    return st;
}

/* Bytes [from, to) of the image "header, then data section", clipped to its end. */
static lt_status hash_image(lt_writer *w, const char *header, size_t header_size,
    uint64_t from, uint64_t to, char hex[LT_HASH_SIZE], lt_error *err)
{
    lt_sha256 *h = NULL;
    uint64_t end = header_size + w->data_size;
    if (to > end) to = end;
    char *buf = lt_alloc_work(to > from ? to - from : 0, 1, err);
    lt_status st = buf ? lt_sha256_new(&h, err) : LT_ERR_NOMEM;
    if (!st && from < to && from < header_size) {
        uint64_t stop = to < header_size ? to : header_size;
        lt_sha256_update(h, header + from, (size_t)(stop - from));
        from = stop;
    }
    if (!st && from < to) {
        st = lt_outfile_read(
            w->file, w->header_size + from - header_size, buf, (size_t)(to - from), err);
        if (!st) lt_sha256_update(h, buf, (size_t)(to - from));
    }
    if (!st) lt_sha256_hex(h, hex);
    lt_sha256_free(h);
    lt_free(buf);
    return st;
}

lt_status lt_writer_legacy_hash(lt_writer *w, char hex[LT_HASH_SIZE], lt_error *err)
{
    lt_metadata all = w->metadata, kept = { 0 };
    char *header = NULL;
    size_t size = 0;
    lt_status st = LT_OK;
    for (size_t i = 0; i < all.count && !st; i++)
        if (!strncmp(all.entries[i].key, "ss_", 3))
            st = lt_metadata_set(&kept, all.entries[i].key, all.entries[i].value, err);
    w->metadata = kept;
    if (!st) st = w->sink->make_header(w, &header, &size, err);
    w->metadata = all;
    if (!st) st = hash_image(w, header, size, 0x100000, 0x110000, hex, err);
    free(header);
    lt_metadata_release(&kept);
    return st;
}

lt_status lt_writer_commit(lt_writer *w, lt_error *err)
{
    if (atomic_load(&w->put) != w->data_size)
        return lt_error_set(err, LT_ERR_INTERNAL, "%llu of %llu bytes were written",
            (unsigned long long)atomic_load(&w->put), (unsigned long long)w->data_size);
    char *header = NULL;
    size_t size = 0;
    lt_status st = w->sink->make_header(w, &header, &size, err);
    if (!st && size != w->header_size)
        st = lt_error_set(err, LT_ERR_INTERNAL, "the header changed its size");
    if (!st) st = lt_outfile_write(w->file, 0, header, size, err);
    free(header);
    return st ? st : lt_outfile_commit(w->file, err);
}

uint64_t lt_writer_size(const lt_writer *w)
{
    return w->header_size + w->data_size;
}
