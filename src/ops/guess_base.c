/* SPDX-License-Identifier: MIT */
#include "ops/guess_base.h"

#include "base/arena.h"
#include "base/map.h"
#include "model/outline.h"

#include <stdio.h>
#include <string.h>

/* How an adapter goes with a family. */
struct fit {
    lt_guess guess;
    size_t modules;         /* that fit, shapes included */
    unsigned standing;      /* 0: not all do; more, the more speaks for it beside that */
    const lt_family *rival; /* of the same standing, with other names; or NULL */
};

struct search {
    const lt_adapter *adapter;
    lt_naming naming;
    const char *family; /* or NULL */
};

void lt_guess_release(lt_guess *g)
{
    lt_alias_map_free(g->aliases);
    lt_model_free(g->model);
    lt_store_close(g->store);
    *g = (lt_guess){ 0 };
}

/* ---- one family ---------------------------------------------------------------------
 */

static lt_match match_module(const lt_guess *g, const lt_module *m)
{
    lt_match match = lt_alias_find(g->aliases, m->name);
    bool fits = match.n_pieces && match.out == m->out && match.in == m->in;
    return fits ? match : (lt_match){ 0 };
}

static size_t count_fitting(const lt_guess *g, const lt_adapter *adapter)
{
    size_t n = 0;
    for (size_t i = 0; i < lt_adapter_module_count(adapter); i++)
        n += match_module(g, lt_adapter_module(adapter, i)).n_pieces > 0;
    return n;
}

static lt_status open_outline(lt_guess *g, const lt_outline *outline, lt_error *err)
{
    lt_status st = lt_outline_store(&g->store, outline, err);
    if (!st) st = lt_model_new_of(&g->model, g->store, outline->family, err);
    return st ? st : lt_alias_map_new(&g->aliases, g->model, err);
}

/* The variants of each component that most modules fit. */
static lt_status fit_family(
    const struct search *s, const lt_family *family, struct fit *best, lt_error *err)
{
    size_t all = lt_adapter_module_count(s->adapter);
    lt_outline outline = { .family = family };
    lt_status st = LT_OK;
    *best = (struct fit){ 0 };
    for (size_t c = 0; c < LT_MAX_COMPONENTS && family->components[c].id && !st; c++) {
        size_t n = lt_outline_variants(&family->components[c]), chosen = 0;
        for (size_t v = c ? 1 : 0; v < n && best->modules < all && !st; v++) {
            struct fit f = { 0 };
            outline.variant[c] = v;
            st = open_outline(&f.guess, &outline, err);
            if (!st) f.modules = count_fitting(&f.guess, s->adapter);
            bool better = !st && (!best->guess.model || f.modules > best->modules);
            if (better) chosen = v;
            lt_guess_release(better ? &best->guess : &f.guess);
            if (better) *best = f;
        }
        outline.variant[c] = chosen;
    }
    return st;
}

/* ---- which family -------------------------------------------------------------------
 */

/* The path with # for every number. */
static char *pattern_of(lt_arena *arena, const char *path, lt_error *err)
{
    char *pattern = lt_arena_strdup(arena, path, err), *to = pattern;
    for (const char *from = pattern; pattern && *from; to++) {
        size_t digits = strspn(from, "0123456789");
        *to = digits ? '#' : *from;
        from += digits ? digits : 1;
    }
    if (pattern) *to = '\0';
    return pattern;
}

/* Native modules that differ from changed ones in numbers only, every one once. */
static lt_status count_alike(const struct fit *f, const lt_map *kinds, lt_arena *arena,
    size_t *count, lt_error *err)
{
    lt_map seen = { 0 };
    size_t found;
    lt_status st = LT_OK;
    *count = 0;
    for (size_t i = 0; i < lt_model_site_count(f->guess.model) && !st; i++) {
        const char *native = lt_model_site(f->guess.model, i)->native;
        char *pattern = pattern_of(arena, native, err);
        if (!pattern) st = LT_ERR_NOMEM;
        if (st || lt_map_get(kinds, pattern) == LT_MAP_NONE) continue;
        st = lt_map_put(&seen, native, i, &found, err);
        *count += !st && found == LT_MAP_NONE;
    }
    lt_map_release(&seen);
    return st;
}

/* An adapter mostly changes all modules of a kind: the model that has no more of them is
 * the one it was made for. */
static lt_status find_complete(
    const struct search *s, const struct fit *f, bool *complete, lt_error *err)
{
    lt_arena arena = { 0 };
    lt_map kinds = { 0 }, seen = { 0 };
    size_t found, changed = 0, alike = 0;
    lt_status st = LT_OK;
    for (size_t i = 0; i < lt_adapter_module_count(s->adapter) && !st; i++) {
        lt_match m = match_module(&f->guess, lt_adapter_module(s->adapter, i));
        for (size_t p = 0; p < m.n_pieces && !st; p++) {
            const char *native = m.pieces[p].site->native;
            char *pattern = pattern_of(&arena, native, err);
            st = pattern ? lt_map_put(&kinds, pattern, 0, &found, err) : LT_ERR_NOMEM;
            if (!st) st = lt_map_put(&seen, native, 0, &found, err);
            changed += !st && found == LT_MAP_NONE;
        }
    }
    if (!st) st = count_alike(f, &kinds, &arena, &alike, err);
    *complete = changed == alike;
    lt_map_release(&kinds);
    lt_map_release(&seen);
    lt_arena_release(&arena);
    return st;
}

/* In kohya's names a dot is an underscore. */
static bool same_path(const struct search *s, const char *a, const char *b)
{
    for (; *a && *b; a++, b++) {
        bool flat = s->naming == LT_NAMING_KOHYA && strchr("._", *a) && strchr("._", *b);
        if (*a != *b && !flat) return false;
    }
    return *a == *b;
}

/* Whether every module would get the same name in the output. */
static bool name_alike(const struct search *s, const struct fit *a, const struct fit *b)
{
    for (size_t i = 0; i < lt_adapter_module_count(s->adapter); i++) {
        const lt_module *m = lt_adapter_module(s->adapter, i);
        lt_match x = match_module(&a->guess, m), y = match_module(&b->guess, m);
        if (x.n_pieces != y.n_pieces) return false;
        for (size_t p = 0; p < x.n_pieces; p++) {
            const lt_site *left = x.pieces[p].site, *right = y.pieces[p].site;
            if (!same_path(s, left->path, right->path)) return false;
            if (!same_path(s, left->native, right->native)) return false;
        }
    }
    return true;
}

/* What the trainer wrote down of the model. */
static bool is_named_by_metadata(const struct search *s, const lt_family *family)
{
    const lt_metadata *m = lt_store_metadata(lt_adapter_store(s->adapter));
    const char *version = lt_metadata_get(m, "ss_base_model_version");
    const char *architecture = lt_metadata_get(m, "modelspec.architecture");
    if (version && family->kohya_version && !strcmp(version, family->kohya_version))
        return true;
    size_t n = family->architecture ? strlen(family->architecture) : 0;
    return architecture && n && !strncmp(architecture, family->architecture, n);
}

static lt_status find_standing(const struct search *s, struct fit *f, lt_error *err)
{
    bool complete = false;
    if (f->modules < lt_adapter_module_count(s->adapter)) return LT_OK;
    lt_status st = find_complete(s, f, &complete, err);
    bool told = is_named_by_metadata(s, lt_model_family(f->guess.model));
    f->standing = 1 + complete + 2 * told;
    return st;
}

/* best becomes the other where more speaks for it. */
static void consider(const struct search *s, struct fit *best, struct fit *other)
{
    bool more_fit = !best->guess.model || other->modules > best->modules;
    if (other->standing > best->standing || (!best->standing && more_fit)) {
        struct fit swap = *best;
        *best = *other;
        *other = swap;
    } else if (other->standing && other->standing == best->standing
        && !name_alike(s, best, other)) {
        best->rival = lt_model_family(other->guess.model);
    }
}

static bool may_be(const struct search *s, const lt_family *family)
{
    if (!lt_outline_exists(family)) return false;
    return !s->family || !strcmp(s->family, family->id);
}

static lt_status find_family(const struct search *s, struct fit *best, lt_error *err)
{
    lt_status st = LT_OK;
    for (size_t i = 0; lt_families[i] != &lt_family_unknown && !st; i++) {
        struct fit f = { 0 };
        if (!may_be(s, lt_families[i])) continue;
        st = fit_family(s, lt_families[i], &f, err);
        if (!st) st = find_standing(s, &f, err);
        if (!st) consider(s, best, &f);
        lt_guess_release(&f.guess);
    }
    if (st || !best->rival) return st;
    const lt_family *family = lt_model_family(best->guess.model);
    lt_error_set(err, LT_ERR_MISMATCH,
        "its modules fit %s as well as %s: say which with --family %s or --family %s, or "
        "give --base",
        family->title, best->rival->title, family->id, best->rival->id);
    return lt_error_where(err, "%s", lt_adapter_path(s->adapter));
}

/* ---- modules that are named by their own paths --------------------------------------
 */

static lt_status add_own(
    lt_store *store, const lt_family *family, const lt_module *m, lt_error *err)
{
    const lt_component *c = family->components;
    const lt_tensor *down = m->part[LT_PART_DOWN];
    char name[1024];
    size_t prefix;
    lt_rename rename = { .transposed = false };
    lt_component_of_name(m->name, &prefix);
    snprintf(name, sizeof name, "%s.weight", m->name + prefix);
    if (c->rename && !c->rename(name, &rename)) rename.transposed = false;
    uint64_t shape[LT_MAX_DIMS] = { m->out, m->in };
    unsigned n_dims = 2;
    if (rename.transposed) {
        shape[0] = m->in;
        shape[1] = m->out;
    } else if (down && down->n_dims > 2) {
        n_dims = down->n_dims;
        memcpy(&shape[1], &down->shape[1], (n_dims - 1) * sizeof *shape);
    }
    if (lt_store_find(store, name)) return LT_OK;
    return lt_store_hollow_add(store, name, LT_F32, shape, n_dims, err);
}

/* Dots are where they were; underscores could be either. */
static bool has_own_paths(const lt_adapter *adapter)
{
    return lt_dialect_naming(lt_adapter_dialect(adapter)) == LT_NAMING_PEFT;
}

static lt_status take_own_paths(
    lt_guess *g, const lt_adapter *adapter, const lt_family *family, lt_error *err)
{
    lt_status st = lt_store_hollow(&g->store, lt_adapter_path(adapter), err);
    for (size_t i = 0; i < lt_adapter_module_count(adapter) && !st; i++)
        st = add_own(g->store, family, lt_adapter_module(adapter, i), err);
    if (!st) st = lt_model_new_of(&g->model, g->store, family, err);
    return st ? st : lt_alias_map_new(&g->aliases, g->model, err);
}

static lt_status refuse(const struct search *s, const struct fit *best, lt_error *err)
{
    const lt_family *f = best->guess.model ? lt_model_family(best->guess.model) : NULL;
    size_t all = lt_adapter_module_count(s->adapter);
    if (f && best->modules)
        lt_error_set(err, LT_ERR_MISMATCH,
            "%zu of its %zu modules fit a published %s, others do not: give --base",
            best->modules, all, f->title);
    else
        lt_error_set(err, LT_ERR_MISMATCH,
            "its modules fit no model whose names are known (it looks like %s): give "
            "--base",
            lt_family_title(lt_adapter_family(s->adapter)));
    return lt_error_where(err, "%s", lt_adapter_path(s->adapter));
}

static lt_status check_family(const char *id, lt_error *err)
{
    for (size_t i = 0; id && lt_families[i] != &lt_family_unknown; i++)
        if (lt_outline_exists(lt_families[i]) && !strcmp(lt_families[i]->id, id))
            return LT_OK;
    if (!id) return LT_OK;
    return lt_error_set(err, LT_ERR_ARG,
        "no table of the family '%s': 'loratool info' tells families, and --base does "
        "without",
        id);
}

lt_status lt_guess_base(lt_guess *guess, const lt_adapter *adapter, const char *family,
    lt_naming naming, lt_error *err)
{
    struct search s = { adapter, naming, family };
    struct fit best = { 0 };
    const lt_family *told = lt_adapter_family(adapter);
    *guess = (lt_guess){ 0 };
    lt_status st = check_family(family, err);
    bool own = !family && !lt_outline_exists(told) && has_own_paths(adapter);
    bool known = told != &lt_family_unknown;
    if (!st && !(own && known)) st = find_family(&s, &best, err);
    bool fits = best.standing > 0;
    if (!st && !fits && own) {
        lt_guess_release(&best.guess);
        return take_own_paths(guess, adapter, told, err);
    }
    if (!st && !fits) st = refuse(&s, &best, err);
    if (st)
        lt_guess_release(&best.guess);
    else
        *guess = best.guess;
    return st;
}
