/* SPDX-License-Identifier: MIT */
#include "loratool/store.h"

#include "base/json.h"
#include "base/limits.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

static struct lt_metadata_entry *find(const lt_metadata *meta, const char *key)
{
    for (size_t i = 0; i < meta->count; i++)
        if (!strcmp(meta->entries[i].key, key)) return &meta->entries[i];
    return NULL;
}

const char *lt_metadata_get(const lt_metadata *meta, const char *key)
{
    const struct lt_metadata_entry *e = find(meta, key);
    return e ? e->value : NULL;
}

lt_status lt_metadata_set(
    lt_metadata *meta, const char *key, const char *value, lt_error *err)
{
    char *v = lt_utf8_copy(value, err);
    if (!v) return LT_ERR_NOMEM;
    struct lt_metadata_entry *e = find(meta, key);
    if (e) {
        free(e->value);
        e->value = v;
        return LT_OK;
    }
    if (meta->count >= lt_limit(LT_LIMIT_METADATA_ENTRIES)) {
        free(v);
        return lt_error_set(err, LT_ERR_LIMIT, "over %llu metadata entries",
            lt_limit(LT_LIMIT_METADATA_ENTRIES));
    }
    char *k = lt_strdup(key, err);
    lt_status st = k ? LT_OK : LT_ERR_NOMEM;
    if (!st)
        st = lt_grow((void **)&meta->entries, &meta->capacity, meta->count + 1,
            sizeof *meta->entries, err);
    if (st) {
        free(k);
        free(v);
        return st;
    }
    meta->entries[meta->count++] = (struct lt_metadata_entry){ k, v };
    return LT_OK;
}

void lt_metadata_remove(lt_metadata *meta, const char *key)
{
    struct lt_metadata_entry *e = find(meta, key);
    if (!e) return;
    free(e->key);
    free(e->value);
    size_t at = (size_t)(e - meta->entries);
    memmove(e, e + 1, (meta->count - at - 1) * sizeof *e);
    meta->count--;
}

lt_status lt_metadata_copy(lt_metadata *dst, const lt_metadata *src, lt_error *err)
{
    lt_status st = LT_OK;
    for (size_t i = 0; i < src->count && !st; i++)
        st = lt_metadata_set(dst, src->entries[i].key, src->entries[i].value, err);
    return st;
}

void lt_metadata_release(lt_metadata *meta)
{
    for (size_t i = 0; i < meta->count; i++) {
        free(meta->entries[i].key);
        free(meta->entries[i].value);
    }
    free(meta->entries);
    *meta = (lt_metadata){ 0 };
}
