/* SPDX-License-Identifier: MIT */
#include "ops/ema.h"

#include "base/map.h"

#include <string.h>

#define AMBIGUOUS (SIZE_MAX - 1)

static const char *const prefixes[] = { "model_ema.", "ema.", "ema_model.",
    "ema_state_dict.", "state_dict_ema.", "model_ema_state_dict.", "params_ema.",
    "ema_params.", NULL };

/* Size of the EMA prefix of a name, or 0. */
static size_t ema_prefix(const char *name)
{
    for (const char *const *p = prefixes; *p; p++)
        if (!strncmp(name, *p, strlen(*p))) return strlen(*p);
    return 0;
}

/* name without "model." and without dots: "model.diffusion_model.out.0.weight" becomes
 * "diffusion_modelout0weight". */
static char *without_dots(lt_arena *arena, const char *name, lt_error *err)
{
    if (!strncmp(name, "model.", 6)) name += 6;
    char *copy = lt_arena_strdup(arena, name, err), *to = copy;
    for (const char *p = name; copy && *p; p++)
        if (*p != '.') *to++ = *p;
    if (copy) *to = '\0';
    return copy;
}

static bool same_shape(const lt_tensor *a, const lt_tensor *b)
{
    return a->n_dims == b->n_dims
        && !memcmp(a->shape, b->shape, a->n_dims * sizeof *a->shape);
}

static lt_status index_names(const lt_store *store, const lt_ema_map *map,
    lt_map *dotless, lt_arena *arena, lt_error *err)
{
    lt_status st = LT_OK;
    for (size_t i = 0; i < lt_store_count(store) && !st; i++) {
        if (map->is_ema[i]) continue;
        size_t found = LT_MAP_NONE;
        char *name = without_dots(arena, lt_store_at(store, i)->name, err);
        st = name ? lt_map_put(dotless, name, i, &found, err) : LT_ERR_NOMEM;
        if (!st && found != LT_MAP_NONE) lt_map_set(dotless, name, AMBIGUOUS);
    }
    return st;
}

/* The tensor that an EMA tensor is a copy of, or NULL. */
static const lt_tensor *original(
    const lt_store *store, const lt_map *dotless, const char *stem)
{
    static const char wrapper[] = "module.";
    if (!strncmp(stem, wrapper, sizeof wrapper - 1)) stem += sizeof wrapper - 1;
    const lt_tensor *t = lt_store_find(store, stem);
    if (t) return t;
    size_t i = lt_map_get(dotless, stem);
    return i == LT_MAP_NONE || i == AMBIGUOUS ? NULL : lt_store_at(store, i);
}

static void match(const lt_store *store, const lt_map *dotless, lt_ema_map *map)
{
    for (size_t i = 0; i < lt_store_count(store); i++) {
        if (!map->is_ema[i]) continue;
        const lt_tensor *e = lt_store_at(store, i);
        const lt_tensor *t = original(store, dotless, e->name + ema_prefix(e->name));
        size_t at = t ? lt_store_index(store, t) : 0;
        map->is_copy[i] = t && !map->is_ema[at] && same_shape(t, e);
        if (map->is_copy[i] && !map->of[at]) {
            map->mapped++;
            map->of[at] = e;
        } else if (map->is_copy[i] && !map->second) {
            map->second = e;
            map->twice = t;
        } else if (!map->is_copy[i] && e->count > 1 && !map->orphan) {
            map->orphan = e; /* single numbers are counters: decay, num_updates */
        }
    }
}

/* A tensor that is the same memory as one with an average has the same average. */
static lt_status share(const lt_store *store, lt_ema_map *map, lt_error *err)
{
    size_t n = lt_store_count(store);
    const lt_tensor **of_memory = lt_alloc(n, sizeof *of_memory, err);
    if (!of_memory) return LT_ERR_NOMEM;
    for (size_t i = 0; i < n; i++)
        if (map->of[i]) of_memory[lt_store_alias(store, i)] = map->of[i];
    for (size_t i = 0; i < n; i++) {
        const lt_tensor *e = of_memory[lt_store_alias(store, i)];
        if (!map->is_ema[i] && !map->of[i] && e && same_shape(e, lt_store_at(store, i)))
            map->of[i] = e;
    }
    lt_free((void *)of_memory);
    return LT_OK;
}

lt_status lt_ema_find(lt_ema_map *map, const lt_store *store, lt_error *err)
{
    size_t n = lt_store_count(store);
    lt_map dotless = { 0 };
    lt_arena arena = { 0 };
    *map = (lt_ema_map){ 0 };
    map->is_ema = lt_alloc(n, 1, err);
    map->is_copy = lt_alloc(n, 1, err);
    map->of = lt_alloc(n, sizeof *map->of, err);
    if (!map->is_ema || !map->is_copy || !map->of) {
        lt_ema_release(map);
        return LT_ERR_NOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        map->is_ema[i] = ema_prefix(lt_store_at(store, i)->name) != 0;
        map->count += map->is_ema[i];
    }
    lt_status st = LT_OK;
    if (map->count) st = index_names(store, map, &dotless, &arena, err);
    if (!st && map->count) match(store, &dotless, map);
    if (!st && map->count) st = share(store, map, err);
    lt_map_release(&dotless);
    lt_arena_release(&arena);
    if (st) lt_ema_release(map);
    return st;
}

void lt_ema_release(lt_ema_map *map)
{
    lt_free(map->is_ema);
    lt_free(map->is_copy);
    lt_free((void *)map->of);
    *map = (lt_ema_map){ 0 };
}
