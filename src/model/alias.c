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

/* How a name stands for a site; it is kept in the lower bits beside the site's index. */
enum how {
    AS_IT_IS,
    SWAPPED,   /* its halves the other way round */
    HEAD,      /* for the native module whose first part the site is */
    HEAD_OF_3, /* for its first three parts */
    N_HOWS
};

struct lt_alias_map {
    const lt_model *model;
    lt_map exact;   /* the names themselves */
    lt_map wrapped; /* with a wrapper added or removed: looked at second */
    lt_map *filling;
    enum how how; /* what is being filled in means */
    lt_arena arena;
};

static void flatten(char *s)
{
    for (; *s; s++)
        if (*s == '.') *s = '_';
}

static bool names_native(const lt_site *site, lt_naming naming)
{
    const lt_component *c = site->component;
    return (naming == LT_NAMING_KOHYA && c->kohya_native)
        || ((naming == LT_NAMING_COMFYUI || naming == LT_NAMING_BFL) && c->is_main);
}

bool lt_site_serves(const lt_site *site, lt_naming naming)
{
    return names_native(site, naming) ? site->parts == 1 : *site->path;
}

bool lt_site_swaps(const lt_site *site, lt_naming naming)
{
    return site->swapped && names_native(site, naming) == site->component->is_public;
}

void lt_site_name(const lt_site *site, lt_naming naming, char *dst, size_t dst_size)
{
    const lt_component *c = site->component;
    const char *path = site->path, *prefix = NULL;
    if (dst_size) *dst = '\0';
    if (!lt_site_serves(site, naming)) return;
    if (naming == LT_NAMING_KOHYA) {
        prefix = c->kohya[0];
        if (c->kohya_native) path = site->native;
    } else if (naming == LT_NAMING_DIFFUSERS) {
        bool beside = c->sibling && lt_behind(path, c->sibling);
        prefix = beside ? "" : c->diffusers[0];
    } else if (naming == LT_NAMING_COMFYUI || naming == LT_NAMING_BFL) {
        bool bare = naming == LT_NAMING_BFL && c->comfyui;
        prefix = bare ? lt_behind(c->comfyui, "diffusion_model.") : c->comfyui;
        if (c->is_main) path = site->native;
    } else if (naming == LT_NAMING_PEFT && c->is_main) {
        prefix = "base_model.model.";
    }
    if (!prefix) return;
    size_t n = strlen(prefix);
    snprintf(dst, dst_size, "%s%s", prefix, path);
    if (naming == LT_NAMING_KOHYA && n < dst_size) flatten(dst + n);
}

static lt_status put(lt_alias_map *m, size_t site, char *name, lt_error *err)
{
    size_t found, value = site * N_HOWS + m->how;
    if (!name) return LT_ERR_NOMEM;
    lt_status st = lt_map_put(m->filling, name, value, &found, err);
    if (!st && found != LT_MAP_NONE && found != value)
        lt_map_set(m->filling, name, AMBIGUOUS);
    return st;
}

static lt_status put_flat(
    lt_alias_map *m, size_t site, const char *prefix, const char *path, lt_error *err)
{
    char *name = lt_arena_join(&m->arena, prefix, path, err);
    if (name) flatten(name + strlen(prefix));
    return put(m, site, name, err);
}

static lt_status put_dotted(
    lt_alias_map *m, size_t site, const char *prefix, const char *path, lt_error *err)
{
    return put(m, site, lt_arena_join(&m->arena, prefix, path, err), err);
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

static lt_status put_respelled(
    lt_alias_map *m, size_t index, const char *path, lt_error *err)
{
    const lt_component *c = lt_model_site(m->model, index)->component;
    lt_status st = LT_OK;
    for (const lt_respelling *r = c->respellings; r && r->end && !st; r++) {
        size_t n = lt_stem_size(path, r->end);
        if (!n) continue;
        char *other = lt_arena_printf(&m->arena, err, "%.*s%s", (int)n, path, r->instead);
        if (!other) return LT_ERR_NOMEM;
        for (int i = 0; i < 3 && c->diffusers[i] && !st; i++)
            st = put_dotted(m, index, c->diffusers[i], other, err);
        if (!st && c->is_main) st = put_dotted(m, index, "", other, err);
    }
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

/* The native name means the site, or the module that it is the first part of in a file
 * that keeps them apart. Other parts have none. */
static bool is_native_head(const lt_site *s)
{
    bool whole = s->rows == lt_tensor_rows(s->tensor);
    return whole && !(s->component->is_public && s->part);
}

static enum how how_native(const lt_site *s)
{
    if (!s->component->is_public) return AS_IT_IS;
    if (s->parts > 1) return HEAD;
    return s->swapped ? SWAPPED : AS_IT_IS;
}

static lt_status put_native(lt_alias_map *m, size_t index, lt_error *err)
{
    const lt_site *s = lt_model_site(m->model, index);
    if (!is_native_head(s) || !strcmp(s->native, s->path)) return LT_OK;
    m->how = how_native(s);
    return put_path(m, index, s->native, err);
}

/* Other names of the native module, of its first three parts, or of each. */
static lt_status put_aliases(lt_alias_map *m, size_t index, lt_error *err)
{
    const lt_site *s = lt_model_site(m->model, index);
    const lt_layout *layout = s->component->layout;
    char name[256];
    lt_status st = LT_OK;
    for (const lt_layout_alias *a = layout ? layout->aliases : NULL; a && a->name && !st;
         a++) {
        bool some = a->parts == 3 && s->parts > 3 && s->part == 0;
        bool one = a->parts == 1 && s->parts > 1;
        if (a->parts ? !some && !one : !is_native_head(s)) continue;
        if (!lt_layout_alias_name(a, s->native, one ? s->part : 0, name, sizeof name))
            continue;
        m->how = one ? AS_IT_IS : some ? HEAD_OF_3 : how_native(s);
        st = put_path(m, index, name, err);
    }
    return st;
}

/* The path with the other stems of the family in place of the one that it has. */
static lt_status put_stems(lt_alias_map *m, size_t index, const char *path, lt_error *err)
{
    const char *const *stems = lt_model_site(m->model, index)->component->stems;
    const char *rest = NULL;
    const char *const *own = stems;
    lt_status st = LT_OK;
    while (own && *own && !(rest = lt_behind(path, *own)))
        own++;
    for (const char *const *s = rest ? stems : NULL; s && *s && !st; s++) {
        if (s == own) continue;
        char *other = lt_arena_printf(&m->arena, err, "%s%s", *s, rest);
        st = other ? put_path(m, index, other, err) : LT_ERR_NOMEM;
    }
    return st;
}

static lt_status put_site(lt_alias_map *m, size_t index, lt_error *err)
{
    const lt_site *s = lt_model_site(m->model, index);
    m->filling = &m->exact;
    m->how = s->swapped && !s->component->is_public ? SWAPPED : AS_IT_IS;
    lt_status st = *s->path ? put_path(m, index, s->path, err) : LT_OK;
    if (!st) st = put_respelled(m, index, s->path, err);
    if (!st) st = put_native(m, index, err);
    if (!st) st = put_aliases(m, index, err);
    m->filling = &m->wrapped;
    m->how = AS_IT_IS;
    if (!st) st = put_wrapped(m, index, s->path, err);
    return st ? st : put_stems(m, index, s->path, err);
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

static void add_piece(lt_match *match, const lt_site *s)
{
    match->pieces[match->n_pieces++] = (lt_piece){ s, match->out };
    match->out += s->out;
    match->in = s->in;
}

/* So many parts of a native module from the first on, or nothing where one is missing or
 * has other inputs. */
static lt_match match_parts(const lt_site *head, unsigned parts)
{
    lt_match match = { 0 };
    for (const lt_site *s = head; s && match.n_pieces < parts; s = s->next) {
        if (s->part != match.n_pieces || !lt_site_same_inputs(head, s)) break;
        add_piece(&match, s);
    }
    return match.n_pieces == parts ? match : (lt_match){ 0 };
}

lt_match lt_alias_find(const lt_alias_map *map, const char *name)
{
    lt_match match = { 0 };
    size_t found = lt_map_get(&map->exact, name);
    if (found == LT_MAP_NONE) found = lt_map_get(&map->wrapped, name);
    match.ambiguous = found == AMBIGUOUS;
    if (found == LT_MAP_NONE || match.ambiguous) return match;
    const lt_site *site = lt_model_site(map->model, found / N_HOWS);
    switch ((enum how)(found % N_HOWS)) {
    case HEAD: return match_parts(site, site->parts);
    case HEAD_OF_3: return match_parts(site, 3);
    case SWAPPED:
        /* The module's first rows are the file's second half. */
        add_piece(&match, &site->halves[1]);
        add_piece(&match, &site->halves[0]);
        return match;
    default: add_piece(&match, site); return match;
    }
}
