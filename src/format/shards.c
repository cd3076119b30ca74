/* SPDX-License-Identifier: MIT */
/* The index of a sharded model, as transformers and diffusers write it:
 *
 *   { "metadata": { "total_size": N, ... },
 *     "weight_map": { "tensor": "name of the shard's file", ... } }
 *
 * Only the map counts; total_size is often absent or wrong. A shard's name must be that
 * of a file beside the index: an index cannot point out of its folder. */
#include "format/format.h"

#include "base/folder.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

struct index {
    const char *path;
    lt_json json;
    const cJSON *map;
    lt_map shard_of;    /* tensor name → position in names */
    const char **names; /* of the shards, in the order of their first mention */
    size_t n_names, capacity;
    lt_map by_name;
    size_t current;    /* the shard that is being opened */
    const char *stray; /* a tensor of it that the map does not list */
};

static lt_status add_entry(struct index *x, const cJSON *entry, lt_error *err)
{
    size_t at, found;
    if (!cJSON_IsString(entry))
        return lt_error_set(err, LT_ERR_FORMAT,
            "the index gives tensor '%.200s' no file name", entry->string);
    const char *name = entry->valuestring;
    if (!lt_is_plain_name(name))
        return lt_error_set(err, LT_ERR_FORMAT,
            "the index puts tensor '%.200s' into '%.200s', which is not the name of a "
            "file beside it",
            entry->string, name);
    lt_status st = lt_map_put(&x->by_name, name, x->n_names, &at, err);
    if (st) return st;
    if (at == LT_MAP_NONE) {
        st = lt_grow(
            (void **)&x->names, &x->capacity, x->n_names + 1, sizeof *x->names, err);
        if (st) return st;
        at = x->n_names;
        x->names[x->n_names++] = name;
    }
    st = lt_map_put(&x->shard_of, entry->string, at, &found, err);
    if (!st && found != LT_MAP_NONE)
        st = lt_error_set(
            err, LT_ERR_FORMAT, "the index lists tensor '%.200s' twice", entry->string);
    return st;
}

static lt_status read_map(struct index *x, lt_error *err)
{
    const cJSON *entry;
    x->map =
        cJSON_IsObject(x->json.root) ? lt_json_get(x->json.root, "weight_map") : NULL;
    if (!cJSON_IsObject(x->map) || !x->map->child)
        return lt_error_set(err, LT_ERR_FORMAT, "the index has no weight_map");
    cJSON_ArrayForEach(entry, x->map)
    {
        lt_status st = add_entry(x, entry, err);
        if (st) return st;
    }
    return LT_OK;
}

/* A tensor that stands in another shard by the index is left to that one. */
static bool belongs(void *ctx, const char *tensor)
{
    struct index *x = ctx;
    size_t shard = lt_map_get(&x->shard_of, tensor);
    if (shard == LT_MAP_NONE) x->stray = tensor;
    return shard == x->current;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static lt_status open_shards(lt_store *set, struct index *x, lt_error *err)
{
    qsort(x->names, x->n_names, sizeof *x->names, by_text);
    for (size_t i = 0; i < x->n_names; i++) {
        x->current = lt_map_get(&x->by_name, x->names[i]);
        lt_status st = lt_set_add_file(set, x->names[i], belongs, x, err);
        if (st) return st;
        if (x->stray)
            return lt_error_set(err, LT_ERR_FORMAT,
                "its shard '%.200s' holds tensor '%.200s', which it does not list",
                x->names[i], x->stray);
    }
    return LT_OK;
}

static lt_status check_complete(const lt_store *set, const struct index *x, lt_error *err)
{
    const cJSON *entry;
    const char *prefix = set->groups[set->n_groups - 1].prefix;
    lt_arena names = { 0 };
    lt_status st = LT_OK;
    cJSON_ArrayForEach(entry, x->map)
    {
        char *name = lt_arena_printf(&names, err, "%s%s", prefix, entry->string);
        if (!name) st = LT_ERR_NOMEM;
        if (!st && !lt_store_find(set, name))
            st = lt_error_set(err, LT_ERR_FORMAT,
                "it puts tensor '%.200s' into '%.200s', which does not hold it",
                entry->string, entry->valuestring);
        if (st) break;
    }
    lt_arena_release(&names);
    return st;
}

static lt_status read_index(lt_store *set, struct index *x, lt_error *err)
{
    char *text = NULL;
    size_t size = 0;
    lt_status st =
        lt_read_text(x->path, lt_limit(LT_LIMIT_HEADER_SIZE), &text, &size, err);
    if (st) return st;
    st = lt_json_parse(&x->json, text, size, 0, err);
    free(text);
    if (!st) st = read_map(x, err);
    if (st) return lt_error_where(err, "%s", x->path);
    st = open_shards(set, x, err);
    if (st && !x->stray) return st; /* a shard's own fault */
    if (!st) st = check_complete(set, x, err);
    return st ? lt_error_where(err, "%s", x->path) : LT_OK;
}

lt_status lt_set_add_shards(lt_store *set, const char *index_name, lt_error *err)
{
    struct index x = { 0 };
    x.path = lt_arena_printf(&set->arena, err, "%s%s%s", set->folder,
        set->groups[set->n_groups - 1].folder, index_name);
    lt_status st = x.path ? read_index(set, &x, err) : LT_ERR_NOMEM;
    lt_map_release(&x.by_name);
    lt_map_release(&x.shard_of);
    free(x.names);
    lt_json_release(&x.json);
    return st;
}
