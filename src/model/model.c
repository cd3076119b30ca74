/* SPDX-License-Identifier: MIT */
#include "model/family.h"

#include "base/arena.h"
#include "base/map.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct lt_model {
    const lt_store *store;
    const lt_family *family;
    char evidence[640];
    lt_arena arena;
    lt_site *sites;
    size_t n_sites, capacity;
    const char
        *prefixes[LT_MAX_COMPONENTS]; /* of the family's components, in this file */
    lt_layout_view views[LT_MAX_COMPONENTS]; /* of those that have a layout */
    unsigned char *rest;                     /* lt_rest of each tensor */
    const lt_component **component_of;       /* of each tensor, or NULL */
};

const char *lt_rest_text(lt_rest rest)
{
    static const char *const text[LT_REST_COUNT] = {
        [LT_REST_NONE] = "matrix",
        [LT_REST_BIAS] = "bias",
        [LT_REST_NORM] = "norm or vector",
        [LT_REST_EMBEDDING] = "embedding",
        [LT_REST_NOT_FLOAT] = "not floating point",
        [LT_REST_DTYPE] = "dtype that is not computed with",
        [LT_REST_COMPONENT] = "part that no adapter format names",
        [LT_REST_UNNAMED] = "matrix that no loader names",
    };
    return text[rest];
}

/* The first of the component's prefixes that some tensor starts with; "" is the last
 * resort of a file that holds nothing but the component. */
static const char *prefix_in(const lt_store *store, const lt_component *c)
{
    for (int i = 0; i < 8 && c->prefixes[i]; i++) {
        size_t n = strlen(c->prefixes[i]);
        for (size_t t = 0; t < lt_store_count(store); t++)
            if (!strncmp(lt_store_at(store, t)->name, c->prefixes[i], n))
                return c->prefixes[i];
    }
    return NULL;
}

static void find_prefixes(lt_model *m)
{
    size_t i = 0;
    for (const lt_component *c = m->family->components; c->id && i < LT_MAX_COMPONENTS;
         c++, i++) {
        m->prefixes[i] = prefix_in(m->store, c);
        if (!c->layout || !m->prefixes[i]) continue;
        /* A part that no adapter names comes in the form that the denoiser has. */
        bool is_public = c->no_adapter ? m->family->components->is_public : c->is_public;
        lt_layout_view_init(&m->views[i], c->layout, is_public, m->store, m->prefixes[i]);
    }
}

/* The component whose prefix in this file is the longest that name starts with. */
static const lt_component *component_of(
    const lt_model *m, const char *name, size_t *prefix_size)
{
    const lt_component *best = NULL;
    *prefix_size = 0;
    for (size_t i = 0; i < LT_MAX_COMPONENTS && m->family->components[i].id; i++) {
        size_t n = m->prefixes[i] ? strlen(m->prefixes[i]) : 0;
        if (!m->prefixes[i] || strncmp(name, m->prefixes[i], n)) continue;
        if (best && n <= *prefix_size) continue;
        best = &m->family->components[i];
        *prefix_size = n;
    }
    return best;
}

/* Lookup tables by token: told by the last part of the module's path. */
static bool is_embedding(const char *path)
{
    static const char *const leaves[] = { "embed_tokens", "wte", "wpe", "word_embeddings",
        "position_embeddings", "token_type_embeddings", "token_embedding",
        "position_embedding", "positional_embedding", "embed_in", "shared",
        "relative_attention_bias", "tok_embeddings", "embed_positions", "pos_embed",
        "cond_type_embedding", "cond_type_embed", "addition_t_embedding",
        "fps_embedding" };
    const char *leaf = strrchr(path, '.');
    leaf = leaf ? leaf + 1 : path;
    for (size_t i = 0; i < sizeof leaves / sizeof *leaves; i++)
        if (!strcmp(leaf, leaves[i])) return true;
    return false;
}

static bool default_rename(const char *name, lt_rename *out)
{
    size_t n = lt_stem_size(name, ".weight");
    return n && lt_rename_to(out, "%.*s", (int)n, name);
}

static lt_rest classify_rest(const lt_tensor *t, const char *native)
{
    const char *leaf = strrchr(native, '.');
    leaf = leaf ? leaf + 1 : native;
    if (strstr(leaf, "bias")) return LT_REST_BIAS;
    if (t->n_dims < 2) return LT_REST_NORM;
    char path[512];
    size_t stem = lt_stem_size(native, ".weight");
    snprintf(path, sizeof path, "%.*s", (int)(stem ? stem : strlen(native)), native);
    return is_embedding(path) ? LT_REST_EMBEDDING : LT_REST_UNNAMED;
}

/* Why a tensor of the component cannot be a site whatever its name. */
static lt_rest rest_of(const lt_tensor *t, const lt_component *c, const char *native)
{
    const lt_dtype_info *info = lt_dtype_get(t->dtype);
    if (!info->is_float) return LT_REST_NOT_FLOAT;
    if (!info->computes) return LT_REST_DTYPE;
    if (c && c->no_adapter) return LT_REST_COMPONENT;
    if (!c || t->n_dims < 2 || t->count == 0) return classify_rest(t, native);
    return LT_REST_NONE;
}

/* The module of a weight that no layout describes. */
static bool rename_weight(
    const lt_tensor *t, const lt_component *c, const char *name, lt_rename *rename)
{
    bool named = c->rename ? c->rename(name, rename) : default_rename(name, rename);
    if (!named || is_embedding(rename->path)) return false;
    return !rename->transposed || t->n_dims == 2;
}

static lt_status halve(lt_model *m, lt_site *s, lt_error *err)
{
    lt_site *half = lt_arena_alloc(&m->arena, 2 * sizeof *half, err);
    if (!half) return LT_ERR_NOMEM;
    half[0] = half[1] = *s;
    half[0].rows = half[1].rows = half[0].out = half[1].out = s->rows / 2;
    half[1].row0 += s->rows / 2;
    s->halves = half;
    return LT_OK;
}

static lt_status keep_site(lt_model *m, const lt_site *site, const char *native,
    size_t native_size, const char *path, lt_error *err)
{
    lt_status st =
        lt_grow((void **)&m->sites, &m->capacity, m->n_sites + 1, sizeof *m->sites, err);
    if (st) return st;
    lt_site s = *site;
    uint64_t columns = lt_tensor_columns(s.tensor);
    s.out = s.transposed ? columns : s.rows;
    s.in = s.transposed ? s.rows : columns;
    s.native = lt_arena_strndup(&m->arena, native, native_size, err);
    s.path = lt_arena_strdup(&m->arena, path, err);
    if (!s.native || !s.path) return LT_ERR_NOMEM;
    const lt_component *c = s.component;
    s.standard = !c->is_standard || c->is_standard(*s.path ? s.path : s.native);
    s.native_rows = s.parts < 2 ? s.rows : 0;
    if (s.swapped && halve(m, &s, err)) return LT_ERR_NOMEM;
    m->sites[m->n_sites++] = s;
    return LT_OK;
}

static lt_status add_site(lt_model *m, const lt_tensor *t, const lt_component *c,
    const char *native, const lt_rename *r, lt_error *err)
{
    size_t stem = lt_stem_size(native, ".weight");
    lt_site s = { .tensor = t,
        .component = c,
        .rows = lt_tensor_rows(t),
        .transposed = r->transposed,
        .parts = 1 };
    return keep_site(m, &s, native, stem ? stem : strlen(native), r->path, err);
}

/* The public modules in a weight of the native layout. */
static lt_status add_parts(
    lt_model *m, lt_site *s, const lt_layout_place *place, lt_error *err)
{
    uint64_t all = lt_tensor_rows(s->tensor), columns = lt_tensor_columns(s->tensor);
    char native[480], path[480];
    lt_status st = LT_OK;
    if (!lt_layout_native_path(place, native, sizeof native)) return LT_OK;
    if (place->parts != 1) st = keep_site(m, s, native, strlen(native), "", err);
    for (unsigned part = 0; part < place->parts && !st; part++) {
        bool cut = place->parts == 1
            || lt_layout_part_rows(place, part, all, columns, &s->row0, &s->rows);
        if (!cut || !lt_layout_public_path(place, part, path, sizeof path)) continue;
        s->part = part;
        s->parts = place->parts;
        st = keep_site(m, s, native, strlen(native), path, err);
    }
    return st;
}

/* A weight that the component's layout describes. */
static lt_status add_placed(lt_model *m, const lt_tensor *t, const lt_component *c,
    const lt_layout_place *place, lt_error *err)
{
    char native[480], path[480];
    lt_site s = { .tensor = t,
        .component = c,
        .rows = lt_tensor_rows(t),
        .parts = 1,
        .transposed = place->row->flags & LT_ROW_TRANSPOSED && !c->is_public,
        .swapped = place->row->flags & LT_ROW_SWAP };
    if (!c->is_public) return add_parts(m, &s, place, err);
    if (!lt_layout_native_path(place, native, sizeof native)
        || !lt_layout_public_path(place, place->part, path, sizeof path))
        return LT_OK;
    s.part = place->part;
    s.parts = place->parts;
    return keep_site(m, &s, native, strlen(native), path, err);
}

/* Whether a weight of the published layout can be cut into its public modules. */
static bool can_be_cut(const lt_layout_place *place, const lt_tensor *t)
{
    uint64_t row0, rows;
    for (unsigned part = 0; part < place->parts && place->parts > 1; part++)
        if (!lt_layout_part_rows(
                place, part, lt_tensor_rows(t), lt_tensor_columns(t), &row0, &rows))
            return false;
    return true;
}

/* A weight of a shape that does not go with the table is named by itself. */
static bool find_place(const lt_model *m, const lt_component *c, const lt_tensor *t,
    const char *name, lt_layout_place *place)
{
    if (!c->layout) return false;
    if (!lt_layout_find_weight(&m->views[c - m->family->components], name, place))
        return false;
    if (place->row->flags & LT_ROW_SWAP && lt_tensor_rows(t) % 2) return false;
    if (place->row->flags & LT_ROW_TRANSPOSED && t->n_dims != 2) return false;
    return c->is_public || can_be_cut(place, t);
}

/* An embedding is not trained as a pair, nor is what the family's rename refuses; what
 * only the published form of a text encoder has, no loader names. */
static bool is_nameless(
    const lt_component *c, const char *native, const lt_layout_place *place)
{
    char path[512];
    size_t stem = lt_stem_size(native, ".weight");
    snprintf(path, sizeof path, "%.*s", (int)(stem ? stem : strlen(native)), native);
    lt_rename rename;
    bool refused = stem && c->rename && !c->rename(native, &rename);
    return refused || is_embedding(path) || (!place->parts && !c->is_main);
}

static lt_status add_tensor(lt_model *m, size_t index, lt_error *err)
{
    const lt_tensor *t = lt_store_at(m->store, index);
    lt_rename rename;
    lt_layout_place place;
    size_t prefix = 0;
    const lt_component *c = component_of(m, t->name, &prefix);
    const char *native = t->name + prefix;
    lt_rest rest = rest_of(t, c, native);
    m->component_of[index] = c;
    m->rest[index] = (unsigned char)rest;
    if (rest) return LT_OK;
    bool placed = find_place(m, c, t, native, &place);
    if (placed && !is_nameless(c, native, &place))
        return add_placed(m, t, c, &place, err);
    if (!placed && rename_weight(t, c, native, &rename))
        return add_site(m, t, c, native, &rename, err);
    m->rest[index] = (unsigned char)classify_rest(t, native);
    return LT_OK;
}

/* The place of each site in its native module, and the chain of a module's parts. Parts
 * may stand anywhere in a file. */
static lt_status link_parts(lt_model *m, lt_error *err)
{
    lt_map last = { 0 };
    lt_status st = LT_OK;
    for (unsigned part = 0; part < LT_MAX_PARTS && !st; part++)
        for (size_t i = 0; i < m->n_sites && !st; i++) {
            lt_site *s = &m->sites[i];
            size_t before = LT_MAP_NONE;
            if (s->parts < 2 || s->part != part) continue;
            if (!part)
                st = lt_map_put(&last, s->native, i, &before, err);
            else if ((before = lt_map_get(&last, s->native)) == LT_MAP_NONE)
                continue;
            else
                lt_map_set(&last, s->native, i);
            if (!part) continue;
            m->sites[before].next = s;
            s->native_row0 = m->sites[before].native_row0 + m->sites[before].rows;
        }
    lt_map_release(&last);
    return st;
}

bool lt_site_same_inputs(const lt_site *a, const lt_site *b)
{
    const lt_tensor *s = a->tensor, *t = b->tensor;
    if (a->in != b->in || a->transposed != b->transposed) return false;
    if (a->transposed) return true;
    return s->n_dims == t->n_dims
        && !memcmp(s->shape + 1, t->shape + 1, (s->n_dims - 1) * sizeof *s->shape);
}

/* The rows of native modules all of whose parts are there, and can be one. */
static void measure_natives(lt_model *m)
{
    for (size_t i = 0; i < m->n_sites; i++) {
        lt_site *s = &m->sites[i];
        const lt_site *p = s;
        uint64_t rows = 0;
        unsigned parts = 0;
        if (s->parts < 2 || s->part) continue;
        for (; p && p->part == parts && lt_site_same_inputs(s, p); p = p->next, parts++)
            rows += p->rows;
        if (p || parts != s->parts) continue;
        for (lt_site *q = s; q; q = (lt_site *)q->next)
            q->native_rows = rows;
    }
}

static lt_status fill(lt_model *m, lt_error *err)
{
    size_t n = lt_store_count(m->store);
    find_prefixes(m);
    m->rest = lt_alloc(n, 1, err);
    m->component_of = lt_alloc(n, sizeof *m->component_of, err);
    lt_status st = m->rest && m->component_of ? LT_OK : LT_ERR_NOMEM;
    for (size_t i = 0; i < n && !st; i++)
        st = add_tensor(m, i, err);
    if (!st) st = link_parts(m, err);
    if (!st) measure_natives(m);
    return st;
}

lt_status lt_model_new_of(
    lt_model **out, const lt_store *store, const lt_family *family, lt_error *err)
{
    *out = NULL;
    lt_model *m = calloc(1, sizeof *m);
    if (!m) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    m->store = store;
    m->family = family;
    lt_status st = fill(m, err);
    if (st)
        lt_model_free(m);
    else
        *out = m;
    return st;
}

lt_status lt_model_new(lt_model **out, const lt_store *store, lt_error *err)
{
    char evidence[sizeof(*out)->evidence];
    const lt_family *family = lt_family_detect(store, evidence, sizeof evidence);
    lt_status st = lt_model_new_of(out, store, family, err);
    if (!st) memcpy((*out)->evidence, evidence, sizeof evidence);
    return st;
}

void lt_model_free(lt_model *m)
{
    if (!m) return;
    lt_free(m->rest);
    lt_free((void *)m->component_of);
    lt_arena_release(&m->arena);
    free(m->sites);
    free(m);
}

const lt_store *lt_model_store(const lt_model *model)
{
    return model->store;
}

const lt_family *lt_model_family(const lt_model *model)
{
    return model->family;
}

const char *lt_model_evidence(const lt_model *model)
{
    return model->evidence;
}

size_t lt_model_site_count(const lt_model *model)
{
    return model->n_sites;
}

const lt_site *lt_model_site(const lt_model *model, size_t index)
{
    return &model->sites[index];
}

lt_rest lt_model_rest(const lt_model *model, const lt_tensor *tensor)
{
    return (lt_rest)model->rest[lt_store_index(model->store, tensor)];
}

const lt_component *lt_model_component(const lt_model *model, const lt_tensor *tensor)
{
    return model->component_of[lt_store_index(model->store, tensor)];
}

const lt_layout_view *lt_model_view(const lt_model *model, const lt_component *component)
{
    if (!component->layout) return NULL;
    return &model->views[component - model->family->components];
}

const char *lt_model_prefix(const lt_model *model, const lt_component *component)
{
    return model->prefixes[component - model->family->components];
}
