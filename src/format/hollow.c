/* SPDX-License-Identifier: MIT */
/* Names and shapes without data: what a model would hold. */
#include "format/format.h"

#include <stdlib.h>

static lt_status read_nothing(const lt_store *store, const lt_tensor *tensor,
    uint64_t first, void *dst, size_t size, lt_error *err)
{
    (void)store;
    (void)tensor;
    (void)first;
    (void)dst;
    (void)size;
    return lt_error_set(err, LT_ERR_INTERNAL, "has no data");
}

static const lt_format hollow = { .name = "none", .read = read_nothing };

lt_status lt_store_hollow(lt_store **out, const char *title, lt_error *err)
{
    *out = NULL;
    lt_store *s = calloc(1, sizeof *s);
    if (!s) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    s->format = &hollow;
    s->path = lt_arena_strdup(&s->arena, title, err);
    if (!s->path) {
        lt_store_close(s);
        return LT_ERR_NOMEM;
    }
    *out = s;
    return LT_OK;
}

lt_status lt_store_hollow_add(lt_store *store, const char *name, lt_dtype dtype,
    const uint64_t *shape, unsigned n_dims, lt_error *err)
{
    lt_tensor t = { .name = name, .dtype = dtype, .n_dims = n_dims };
    for (unsigned i = 0; i < n_dims; i++)
        t.shape[i] = shape[i];
    lt_status st = lt_tensor_measure(&t, err);
    return st ? st : lt_store_add(store, &t, err);
}
