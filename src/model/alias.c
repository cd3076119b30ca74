/* SPDX-License-Identifier: MIT */
/* Every name a site is known by in adapter files. The base's own names are mapped forward
 * to each spelling and looked up by hash: turning underscores back into dots is
 * ambiguous, this is not. */
#include "model/family.h"

#include "base/arena.h"
#include "base/map.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AMBIGUOUS (SIZE_MAX - 1)

struct lt_alias_map {
    const lt_model *model;
    lt_map exact;   /* the names themselves */
    lt_map wrapped; /* with a wrapper added or removed: looked at second */
    lt_map *filling;
    lt_arena arena;
};

static void flatten(char *s)
{
    for (; *s; s++)
        if (*s == '.') *s = '_';
}

void lt_site_name(const lt_site *site, lt_naming naming, char *dst, size_t dst_size)
{
    const lt_component *c = site->component;
    const char *path = site->path, *prefix = NULL;
    if (naming == LT_NAMING_KOHYA) {
        prefix = c->kohya[0];
        if (c->kohya_native) path = site->native;
    } else if (naming == LT_NAMING_DIFFUSERS) {
        prefix = c->diffusers[0];
    } else if (c->is_main) {
        prefix = "base_model.model.";
    }
    if (dst_size) *dst = '\0';
    if (!prefix) return;
    size_t n = strlen(prefix);
    snprintf(dst, dst_size, "%s%s", prefix, path);
    if (naming == LT_NAMING_KOHYA && n < dst_size) flatten(dst + n);
}

static lt_status put(lt_alias_map *m, size_t site, char *name, lt_error *err)
{
    size_t found;
    if (!name) return LT_ERR_NOMEM;
    lt_status st = lt_map_put(m->filling, name, site, &found, err);
    if (!st && found != LT_MAP_NONE && found != site)
        lt_map_set(m->filling, name, AMBIGUOUS);
    return st;
}

static lt_status put_flat(
    lt_alias_map *m, size_t site, const char *prefix, const char *path, lt_error *err)
{
    char *name = lt_arena_printf(&m->arena, err, "%s%s", prefix, path);
    if (name) flatten(name + strlen(prefix));
    return put(m, site, name, err);
}

static lt_status put_dotted(
    lt_alias_map *m, size_t site, const char *prefix, const char *path, lt_error *err)
{
    return put(m, site, lt_arena_printf(&m->arena, err, "%s%s", prefix, path), err);
}

/* The spellings of one module path. */
static lt_status put_path(lt_alias_map *m, size_t index, const char *path, lt_error *err)
{
    const lt_component *c = lt_model_site(m->model, index)->component;
    lt_status st = LT_OK;
    for (int i = 0; i < 3 && c->kohya[i] && !st; i++)
        st = put_flat(m, index, c->kohya[i], path, err);
    for (int i = 0; i < 3 && c->diffusers[i] && !st; i++)
        st = put_dotted(m, index, c->diffusers[i], path, err);
    if (!c->is_main) return st;
    if (!st) st = put_flat(m, index, "lycoris_", path, err);
    if (!st) st = put_dotted(m, index, "diffusion_model.", path, err);
    if (!st) st = put_dotted(m, index, "base_model.model.", path, err);
    if (!st) st = put_dotted(m, index, "", path, err);
    return st;
}

/* The path with each wrapper of the family added, or removed where it is there. */
static lt_status put_wrapped(
    lt_alias_map *m, size_t index, const char *path, lt_error *err)
{
    const lt_component *c = lt_model_site(m->model, index)->component;
    lt_status st = LT_OK;
    for (const char *const *w = c->wrappers; w && *w && !st; w++) {
        size_t n = strlen(*w);
        if (!strncmp(path, *w, n)) {
            st = put_path(m, index, path + n, err);
            continue;
        }
        char *longer = lt_arena_printf(&m->arena, err, "%s%s", *w, path);
        st = longer ? put_path(m, index, longer, err) : LT_ERR_NOMEM;
    }
    return st;
}

static lt_status put_site(lt_alias_map *m, size_t index, lt_error *err)
{
    const lt_site *s = lt_model_site(m->model, index);
    m->filling = &m->exact;
    lt_status st = put_path(m, index, s->path, err);
    /* A part of a fused tensor has no native name of its own. */
    if (!st && s->rows == lt_tensor_rows(s->tensor) && strcmp(s->native, s->path))
        st = put_path(m, index, s->native, err);
    m->filling = &m->wrapped;
    return st ? st : put_wrapped(m, index, s->path, err);
}

lt_status lt_alias_map_new(lt_alias_map **out, const lt_model *model, lt_error *err)
{
    *out = NULL;
    lt_alias_map *m = calloc(1, sizeof *m);
    if (!m) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    m->model = model;
    lt_status st = LT_OK;
    for (size_t i = 0; i < lt_model_site_count(model) && !st; i++)
        st = put_site(m, i, err);
    if (st) {
        lt_alias_map_free(m);
        return st;
    }
    *out = m;
    return LT_OK;
}

void lt_alias_map_free(lt_alias_map *map)
{
    if (!map) return;
    lt_map_release(&map->exact);
    lt_map_release(&map->wrapped);
    lt_arena_release(&map->arena);
    free(map);
}

const lt_site *lt_alias_find(const lt_alias_map *map, const char *name, bool *ambiguous)
{
    size_t i = lt_map_get(&map->exact, name);
    if (i == LT_MAP_NONE) i = lt_map_get(&map->wrapped, name);
    if (ambiguous) *ambiguous = i == AMBIGUOUS;
    return i == LT_MAP_NONE || i == AMBIGUOUS ? NULL : lt_model_site(map->model, i);
}
