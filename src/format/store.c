/* SPDX-License-Identifier: MIT */
#include "format/format.h"

#include "base/limits.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* Tried in this order; the first whose probe accepts is asked to read. */
static const lt_format *const formats[] = {
    &lt_format_safetensors,
};

/* What people feed to a tensor tool by mistake, or that is not handled yet. */
static const char *name_other(const unsigned char *head, size_t size)
{
    static const struct {
        const char *magic;
        size_t offset, size;
        const char *name;
    } known[] = {
        { "PK\x03\x04", 0, 4, "a zip archive (a torch checkpoint?)" },
        { "\x80\x02\x8a\x0al\xfc\x9c", 0, 7, "a legacy torch checkpoint" },
        { "ustar", 257, 5, "a tar archive" },
        { "GGUF", 0, 4, "a GGUF file" },
        { "\x89HDF", 0, 4, "an HDF5 file" },
        { "\x1f\x8b", 0, 2, "gzip-compressed" },
        { "version https://git-lfs", 0, 23, "a Git LFS pointer, not the file itself" },
        { "<!DOCTYPE", 0, 9, "an HTML page (a failed download?)" },
        { "<html", 0, 5, "an HTML page (a failed download?)" },
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (size >= known[i].offset + known[i].size
            && !memcmp(head + known[i].offset, known[i].magic, known[i].size))
            return known[i].name;
    return NULL;
}

static lt_status pick_format(lt_store *store, lt_error *err)
{
    unsigned char head[LT_PROBE_SIZE] = { 0 };
    uint64_t file_size = lt_source_size(store->source);
    size_t size = file_size < sizeof head ? (size_t)file_size : sizeof head;
    lt_status st = lt_source_read(store->source, 0, head, size, err);
    if (st) return st;
    const char *other = name_other(head, size);
    for (size_t i = 0; i < sizeof formats / sizeof *formats && !other; i++) {
        if (!formats[i]->probe(head, size, file_size)) continue;
        store->format = formats[i];
        return LT_OK;
    }
    if (other)
        return lt_error_set(err, LT_ERR_UNSUPPORTED,
            "this is %s; only safetensors files are read", other);
    if (file_size == 0) return lt_error_at(err, LT_ERR_FORMAT, 0, "the file is empty");
    return lt_error_at(err, LT_ERR_FORMAT, 0, "not a tensor file that loratool knows");
}

lt_status lt_store_open(lt_store **out, const char *path, lt_error *err)
{
    *out = NULL;
    lt_store *store = calloc(1, sizeof *store);
    if (!store) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    lt_status st = lt_source_open(&store->source, path, err);
    if (st) {
        lt_store_close(store);
        return st;
    }
    st = pick_format(store, err);
    if (!st) st = store->format->read_header(store, err);
    if (st) {
        lt_error_where(err, "%s", lt_source_path(store->source));
        lt_store_close(store);
        return st;
    }
    *out = store;
    return LT_OK;
}

void lt_store_close(lt_store *store)
{
    if (!store) return;
    lt_source_close(store->source);
    lt_metadata_release(&store->metadata);
    lt_map_release(&store->by_name);
    lt_arena_release(&store->arena);
    free(store->tensors);
    free(store);
}

lt_status lt_store_add(lt_store *store, const lt_tensor *tensor, lt_error *err)
{
    if (store->count >= LT_MAX_TENSORS)
        return lt_error_set(err, LT_ERR_LIMIT, "over %u tensors", LT_MAX_TENSORS);
    if (strlen(tensor->name) > LT_MAX_NAME_SIZE)
        return lt_error_set(
            err, LT_ERR_LIMIT, "a tensor name is over %u bytes", LT_MAX_NAME_SIZE);
    lt_status st = lt_grow((void **)&store->tensors, &store->capacity, store->count + 1,
        sizeof *store->tensors, err);
    char *name = st ? NULL : lt_arena_strdup(&store->arena, tensor->name, err);
    if (!name) return LT_ERR_NOMEM;
    size_t found;
    st = lt_map_put(&store->by_name, name, store->count, &found, err);
    if (st) return st;
    if (found != LT_MAP_NONE)
        return lt_error_set(err, LT_ERR_FORMAT, "the name stands twice");
    store->tensors[store->count] = *tensor;
    store->tensors[store->count++].name = name;
    return LT_OK;
}

const char *lt_store_path(const lt_store *store)
{
    return lt_source_path(store->source);
}

const char *lt_store_container(const lt_store *store)
{
    return store->format->name;
}

uint64_t lt_store_file_size(const lt_store *store)
{
    return lt_source_size(store->source);
}

size_t lt_store_count(const lt_store *store)
{
    return store->count;
}

const lt_tensor *lt_store_at(const lt_store *store, size_t index)
{
    return &store->tensors[index];
}

const lt_tensor *lt_store_find(const lt_store *store, const char *name)
{
    size_t i = lt_map_get(&store->by_name, name);
    return i == LT_MAP_NONE ? NULL : &store->tensors[i];
}

size_t lt_store_index(const lt_store *store, const lt_tensor *tensor)
{
    return (size_t)(tensor - store->tensors);
}

const lt_metadata *lt_store_metadata(const lt_store *store)
{
    return &store->metadata;
}

lt_status lt_store_read(const lt_store *store, const lt_tensor *tensor, uint64_t first,
    void *dst, size_t size, lt_error *err)
{
    if (first > tensor->size || size > tensor->size - first)
        return lt_error_set(err, LT_ERR_INTERNAL, "read past the end of a tensor");
    lt_status st = store->format->read(store, tensor, first, dst, size, err);
    return st ? lt_store_blame(store, tensor, err) : LT_OK;
}

lt_status lt_store_blame(const lt_store *store, const lt_tensor *tensor, lt_error *err)
{
    return lt_error_where(err, "%s: tensor '%s'", lt_store_path(store), tensor->name);
}
