/* SPDX-License-Identifier: MIT */
/* A model in several files, read as one: shards, or the components of a pipeline. Each
 * file is a store of its own; the set holds its tensors under prefixed names and knows
 * where each of them is. */
#include "format/format.h"

#include "base/limits.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

lt_status lt_set_new(lt_store **out, const char *path, const char *folder,
    lt_reading reading, lt_error *err)
{
    *out = NULL;
    lt_store *set = calloc(1, sizeof *set);
    if (!set) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    set->format = &lt_format_set;
    set->reading = reading;
    set->path = lt_arena_strdup(&set->arena, path, err);
    set->folder = lt_arena_strdup(&set->arena, folder, err);
    if (!set->path || !set->folder) {
        lt_store_close(set);
        return LT_ERR_NOMEM;
    }
    *out = set;
    return LT_OK;
}

lt_status lt_set_add_group(lt_store *set, const lt_group *group, lt_error *err)
{
    lt_status st = lt_grow((void **)&set->groups, &set->groups_capacity,
        set->n_groups + 1, sizeof *set->groups, err);
    if (st) return st;
    lt_group g = *group;
    g.prefix = lt_arena_strdup(&set->arena, group->prefix, err);
    g.folder = lt_arena_strdup(&set->arena, group->folder, err);
    g.stem = lt_arena_strdup(&set->arena, group->stem, err);
    g.variant = lt_arena_strdup(&set->arena, group->variant, err);
    if (group->index) g.index = lt_arena_strdup(&set->arena, group->index, err);
    if (!g.prefix || !g.folder || !g.stem || !g.variant || (group->index && !g.index))
        return LT_ERR_NOMEM;
    set->groups[set->n_groups++] = g;
    return LT_OK;
}

static lt_status add_tensor(
    lt_store *set, const char *prefix, lt_home home, lt_error *err)
{
    const lt_store *part = set->parts[home.part].store;
    lt_tensor t = *lt_store_at(part, home.tensor);
    lt_status st = lt_grow((void **)&set->homes, &set->homes_capacity, set->count + 1,
        sizeof *set->homes, err);
    if (st) return st;
    set->homes[set->count] = home;
    if (*prefix) {
        t.name = lt_arena_printf(&set->arena, err, "%s%s", prefix, t.name);
        if (!t.name) return LT_ERR_NOMEM;
    }
    size_t other = lt_map_get(&set->by_name, t.name);
    if (other == LT_MAP_NONE) return lt_store_add(set, &t, err);
    lt_error_set(err, LT_ERR_FORMAT, "stands in '%s' too",
        set->parts[set->homes[other].part].file);
    return lt_store_blame(part, lt_store_at(part, home.tensor), err);
}

/* What the part holds besides its tensors, under its file's name. */
static lt_status add_contents(
    lt_store *set, const lt_store *part, const char *file, lt_error *err)
{
    lt_status st = LT_OK;
    for (size_t i = 0; i < part->n_globals && !st; i++) {
        const lt_global *g = &part->globals[i];
        st = lt_store_add_global(set, g->name, g->verdict, g->offset, err);
        size_t at = st ? 0 : lt_map_get(&set->global_by_name, g->name);
        if (!st) set->globals[at].count += g->count - 1;
    }
    for (size_t i = 0; i < part->n_asides && !st; i++) {
        lt_aside a = part->asides[i];
        a.path = lt_arena_printf(&set->arena, err, "%s: %s", file, a.path);
        st = a.path ? lt_store_add_aside(set, &a, err) : LT_ERR_NOMEM;
    }
    return st;
}

/* A tensor that the part holds and the set has from another file, by its index. */
static lt_status leave_out(
    lt_store *set, const lt_part *part, const lt_tensor *t, lt_error *err)
{
    lt_aside a = { .what = "a second copy: the index has the tensor in another file",
        .bytes = t->size };
    a.path = lt_arena_printf(&set->arena, err, "%s: %s", part->file, t->name);
    return a.path ? lt_store_add_aside(set, &a, err) : LT_ERR_NOMEM;
}

static lt_status refuse_size(const lt_store *set, lt_error *err)
{
    lt_error_set(err, LT_ERR_LIMIT, "over %llu files", lt_limit(LT_LIMIT_SHARDS));
    lt_error_where(err, "%s", set->path);
    return LT_ERR_LIMIT;
}

lt_status lt_set_add_file(lt_store *set, const char *name,
    bool (*only)(void *ctx, const char *tensor), void *ctx, lt_error *err)
{
    const lt_group *g = &set->groups[set->n_groups - 1];
    if (set->n_parts >= lt_limit(LT_LIMIT_SHARDS)) return refuse_size(set, err);
    lt_status st = lt_grow((void **)&set->parts, &set->parts_capacity, set->n_parts + 1,
        sizeof *set->parts, err);
    if (st) return st;
    lt_part part = { .group = set->n_groups - 1 };
    part.file = lt_arena_printf(&set->arena, err, "%s%s", g->folder, name);
    char *path =
        lt_arena_printf(&set->arena, err, "%s%s%s", set->folder, g->folder, name);
    if (!part.file || !path) return LT_ERR_NOMEM;
    st = lt_store_open_part(&part.store, path, set->reading, err);
    if (st) return st;
    if (!set->n_parts)
        st = lt_metadata_copy(&set->metadata, lt_store_metadata(part.store), err);
    size_t at = set->n_parts;
    set->parts[set->n_parts++] = part; /* the set closes it from here on */
    for (size_t i = 0; i < lt_store_count(part.store) && !st; i++) {
        const lt_tensor *t = lt_store_at(part.store, i);
        st = !only || only(ctx, t->name)
            ? add_tensor(set, g->prefix, (lt_home){ at, i }, err)
            : leave_out(set, &part, t, err);
    }
    return st ? st : add_contents(set, part.store, part.file, err);
}

static lt_status read_bytes(const lt_store *set, const lt_tensor *tensor, uint64_t first,
    void *dst, size_t size, lt_error *err)
{
    const lt_home *home = &set->homes[lt_store_index(set, tensor)];
    const lt_store *part = set->parts[home->part].store;
    return part->format->read(
        part, lt_store_at(part, home->tensor), first, dst, size, err);
}

/* Where tensor of that part is in the set, or LT_MAP_NONE: a part's homes stand
 * together, in the part's own order. */
static size_t find_home(const lt_store *set, size_t part, size_t tensor)
{
    size_t low = 0, high = set->count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const lt_home *h = &set->homes[mid];
        if (h->part < part || (h->part == part && h->tensor < tensor))
            low = mid + 1;
        else
            high = mid;
    }
    bool hit = low < set->count && set->homes[low].part == part
        && set->homes[low].tensor == tensor;
    return hit ? low : LT_MAP_NONE;
}

/* Aliases do not reach over files. */
static size_t alias(const lt_store *set, size_t index)
{
    const lt_home *home = &set->homes[index];
    size_t other = lt_store_alias(set->parts[home->part].store, home->tensor);
    size_t at = find_home(set, home->part, other);
    return at == LT_MAP_NONE ? index : at;
}

static void release(lt_store *set)
{
    for (size_t i = 0; i < set->n_parts; i++)
        lt_store_close(set->parts[i].store);
    free(set->parts);
    free(set->groups);
    free(set->homes);
}

const lt_format lt_format_set = { "set", NULL, NULL, read_bytes, NULL, alias, release };
