/* SPDX-License-Identifier: MIT */
#include "adapter/kind.h"

#include "base/limits.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/source.h"
#include "tensor/convert.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct lt_adapter {
    lt_store *store;
    char *path, *config_text;
    lt_peft_config config; /* when config_text */
    struct view {
        const char *prefix; /* of module names: "unet." */
        lt_peft_config config;
    } views[LT_MAX_COMPONENT_CONFIGS]; /* of diffusers' lora_adapter_metadata */
    size_t n_views;
    uint64_t pattern_work; /* that the configs have taken */
    lt_arena arena;
    lt_module *modules;
    size_t n_modules, modules_capacity;
    const lt_tensor **rest;
    size_t n_rest, rest_capacity;
    struct other {
        size_t module;
        const lt_tensor *tensor;
    } * others; /* of all modules, until they are handed out */
    size_t n_others, others_capacity;
    lt_map by_name;
    const lt_dialect *dialect;
    const lt_family *family;
};

static int kind_order(const lt_kind *kind)
{
    int i = 0;
    while (lt_kinds[i] && lt_kinds[i] != kind)
        i++;
    return i;
}

bool lt_store_holds_adapter(const lt_store *store)
{
    const lt_kind *kind;
    lt_part part;
    size_t hits = 0, n = lt_store_count(store);
    for (size_t i = 0; i < n; i++) {
        if (!lt_split_name(lt_store_at(store, i)->name, &kind, &part) || !kind) continue;
        if (!kind->common_words) return true;
        hits++;
    }
    return hits > 0 && hits * 2 >= n;
}

static lt_status add_rest(lt_adapter *a, const lt_tensor *t, lt_error *err)
{
    lt_status st = lt_grow(
        (void **)&a->rest, &a->rest_capacity, a->n_rest + 1, sizeof *a->rest, err);
    if (!st) a->rest[a->n_rest++] = t;
    return st;
}

static lt_status module_for(
    lt_adapter *a, const char *name, size_t size, lt_module **out, lt_error *err)
{
    size_t i = lt_map_getn(&a->by_name, name, size);
    if (i == LT_MAP_NONE) {
        lt_status st = lt_grow((void **)&a->modules, &a->modules_capacity,
            a->n_modules + 1, sizeof *a->modules, err);
        char *copy = st ? NULL : lt_arena_strndup(&a->arena, name, size, err);
        if (!copy) return LT_ERR_NOMEM;
        i = a->n_modules++;
        a->modules[i] = (lt_module){ .name = copy, .scale = 1, .groups = 1 };
        st = lt_map_put(&a->by_name, copy, i, NULL, err);
        if (st) return st;
    }
    *out = &a->modules[i];
    return LT_OK;
}

static lt_status add_other(
    lt_adapter *a, size_t module, const lt_tensor *t, lt_error *err)
{
    lt_status st = lt_grow((void **)&a->others, &a->others_capacity, a->n_others + 1,
        sizeof *a->others, err);
    if (st) return st;
    a->others[a->n_others++] = (struct other){ module, t };
    a->modules[module].n_others++;
    return LT_OK;
}

/* Gives every module its list. */
static lt_status hand_out_others(lt_adapter *a, lt_error *err)
{
    const lt_tensor **lists = lt_arena_alloc(&a->arena, a->n_others * sizeof *lists, err);
    if (!lists) return LT_ERR_NOMEM;
    for (size_t i = 0; i < a->n_modules; i++) {
        a->modules[i].others = lists;
        lists += a->modules[i].n_others;
        a->modules[i].n_others = 0;
    }
    for (size_t i = 0; i < a->n_others; i++) {
        lt_module *m = &a->modules[a->others[i].module];
        ((const lt_tensor **)m->others)[m->n_others++] = a->others[i].tensor;
    }
    return LT_OK;
}

static lt_status add_tensor(lt_adapter *a, const lt_tensor *t, lt_error *err)
{
    const lt_kind *kind = NULL;
    lt_part part = LT_PART_OTHER;
    lt_module *m = NULL;
    size_t size = lt_split_name(t->name, &kind, &part);
    if (!size) return add_rest(a, t, err);
    lt_status st = module_for(a, t->name, size, &m, err);
    if (st) return st;
    if (part == LT_PART_OTHER) {
        st = add_other(a, (size_t)(m - a->modules), t, err);
        if (st) return st;
    } else if (m->part[part]) {
        lt_error_set(err, LT_ERR_MISMATCH, "doubles '%s'", m->part[part]->name);
        return lt_store_blame(a->store, t, err);
    } else {
        m->part[part] = t;
    }
    /* A module with tensors of several kinds is named by the first in the table. */
    if (kind && (!m->kind || kind_order(kind) < kind_order(m->kind))) m->kind = kind;
    return LT_OK;
}

/* The value of a one-element tensor of any numeric type. */
static lt_status read_scalar(
    const lt_adapter *a, const lt_tensor *t, double *value, lt_error *err)
{
    unsigned char raw[8] = { 0 };
    if (t->count != 1 || t->size > sizeof raw) {
        lt_error_set(err, LT_ERR_MISMATCH, "should hold one number");
        return lt_store_blame(a->store, t, err);
    }
    lt_status st = lt_store_read(a->store, t, 0, raw, (size_t)t->size, err);
    if (st) return st;
    const lt_dtype_info *info = lt_dtype_get(t->dtype);
    bool is_signed = *info->name == 'I',
         is_unsigned = *info->name == 'U' || t->dtype == LT_BOOL;
    uint64_t bits = 0;
    memcpy(&bits, raw, (size_t)t->size);
    int unused = 64 - 8 * (int)t->size;
    if (is_unsigned)
        *value = (double)bits;
    else if (is_signed)
        *value = (double)((int64_t)(bits << unused) >> unused);
    else if (info->computes)
        lt_load_f64(value, raw, t->dtype, 1);
    else
        st = lt_error_set(err, LT_ERR_UNSUPPORTED, "dtype %s is not read", info->name);
    if (!st && !isfinite(*value)) st = lt_error_set(err, LT_ERR_NUMERIC, "is not finite");
    return st ? lt_store_blame(a->store, t, err) : LT_OK;
}

/* PEFT's config, or that of diffusers' metadata for the part the name starts with; NULL
 * when there is none. *path: the module's name in it. */
static const lt_peft_config *config_of(
    const lt_adapter *a, const lt_module *m, const char **path)
{
    static const char wrapper[] = "base_model.model.";
    size_t n = sizeof wrapper - 1;
    *path = strncmp(m->name, wrapper, n) ? m->name : m->name + n;
    if (a->config_text) return &a->config;
    for (size_t i = 0; i < a->n_views; i++) {
        n = strlen(a->views[i].prefix);
        *path = m->name + n;
        if (!strncmp(m->name, a->views[i].prefix, n)) return &a->views[i].config;
    }
    return NULL;
}

static lt_status scale_from_config(lt_adapter *a, lt_module *m, lt_error *err)
{
    const char *path;
    const lt_peft_config *config = config_of(a, m, &path);
    /* After a refusal nothing will be computed from it. */
    if (!config || config->refusal[0]) return LT_OK;
    m->has_alpha = true;
    lt_status st = lt_peft_config_scale(
        config, path, m->rank, &m->alpha, &m->scale, &a->pattern_work, err);
    return st ? lt_error_where(err, "%s", a->path) : LT_OK;
}

static lt_status finish_module(lt_adapter *a, lt_module *m, lt_error *err)
{
    lt_status st = LT_OK;
    if (m->kind->measure) st = m->kind->measure(m, err);
    if (st) return lt_error_where(err, "%s", a->path);
    if (m->part[LT_PART_ALPHA]) {
        st = read_scalar(a, m->part[LT_PART_ALPHA], &m->alpha, err);
        m->has_alpha = true;
        if (m->rank) m->scale = m->alpha / (double)m->rank;
    } else if (m->rank) {
        st = scale_from_config(a, m, err);
    }
    if (!st && m->part[LT_PART_SCALE])
        st = read_scalar(a, m->part[LT_PART_SCALE], &m->scale, err);
    return st;
}

/* Tensors whose module has no kind (a stray .scale of a norm, say) belong to none. */
static lt_status drop_kindless(lt_adapter *a, lt_error *err)
{
    size_t kept = 0;
    for (size_t i = 0; i < a->n_modules; i++) {
        lt_module *m = &a->modules[i];
        if (m->kind) {
            a->modules[kept++] = *m;
            continue;
        }
        for (int p = 0; p < LT_PART_OTHER; p++) {
            lt_status st = m->part[p] ? add_rest(a, m->part[p], err) : LT_OK;
            if (st) return st;
        }
    }
    a->n_modules = kept;
    return LT_OK;
}

static lt_status guess_family(lt_adapter *a, lt_error *err)
{
    lt_module_hint *hints = lt_alloc(a->n_modules, sizeof *hints, err);
    if (!hints) return LT_ERR_NOMEM;
    for (size_t i = 0; i < a->n_modules; i++) {
        const lt_tensor *down = a->modules[i].part[LT_PART_DOWN];
        hints[i] = (lt_module_hint){ a->modules[i].name, a->modules[i].in,
            down ? down->n_dims : 0 };
    }
    a->family = lt_family_of_adapter(hints, a->n_modules);
    lt_free(hints);
    return LT_OK;
}

/* The config whose fields begin with the first size bytes of key, if it is a new one. */
static lt_status add_view(
    lt_adapter *a, const lt_json *json, const char *key, size_t size, lt_error *err)
{
    for (size_t i = 0; i < a->n_views; i++)
        if (strlen(a->views[i].prefix) == size && !memcmp(a->views[i].prefix, key, size))
            return LT_OK;
    if (a->n_views == LT_MAX_COMPONENT_CONFIGS)
        return lt_error_set(err, LT_ERR_LIMIT, "describes more than %d components",
            LT_MAX_COMPONENT_CONFIGS);
    struct view *v = &a->views[a->n_views];
    v->prefix = lt_arena_strndup(&a->arena, key, size, err);
    if (!v->prefix) return LT_ERR_NOMEM;
    lt_status st = lt_peft_config_view(&v->config, json, v->prefix, err);
    if (!st) a->n_views++;
    return st;
}

/* diffusers' lora_adapter_metadata, one config for each part of the pipeline, whatever
 * that is called: "unet.r", "transformer_2.r". */
static lt_status read_metadata(lt_adapter *a, lt_error *err)
{
    const char *text =
        lt_metadata_get(lt_store_metadata(a->store), "lora_adapter_metadata");
    lt_json json = { 0 };
    lt_status st = text ? lt_json_parse(&json, text, strlen(text), 0, err) : LT_OK;
    const cJSON *item;
    cJSON_ArrayForEach(item, json.root)
    {
        const char *dot = item->string ? strrchr(item->string, '.') : NULL;
        if (st || !dot || dot == item->string) continue;
        st = add_view(a, &json, item->string, (size_t)(dot - item->string) + 1, err);
    }
    lt_json_release(&json);
    return st ? lt_error_where(err, "%s: metadata lora_adapter_metadata", a->path)
              : LT_OK;
}

/* Most modules have two tensors or three; what is not needed is never touched. */
static lt_status make_room(lt_adapter *a, lt_error *err)
{
    return lt_grow((void **)&a->modules, &a->modules_capacity,
        lt_store_count(a->store) / 2, sizeof *a->modules, err);
}

static lt_status group(lt_adapter *a, lt_error *err)
{
    lt_status st = read_metadata(a, err);
    if (!st) st = make_room(a, err);
    for (size_t i = 0; i < lt_store_count(a->store) && !st; i++)
        st = add_tensor(a, lt_store_at(a->store, i), err);
    if (!st) st = hand_out_others(a, err);
    if (!st) st = drop_kindless(a, err);
    for (size_t i = 0; i < a->n_modules && !st; i++)
        st = finish_module(a, &a->modules[i], err);
    if (st) return st;
    if (!a->n_modules) {
        st = lt_store_usable(a->store, false, err);
        if (st) return st; /* the better reason */
        lt_error_set(err, LT_ERR_MISMATCH,
            "holds no adapter: none of its %zu tensors has an adapter's name",
            lt_store_count(a->store));
        return lt_error_where(err, "%s", a->path);
    }
    a->dialect = lt_dialect_detect(a->modules, a->n_modules);
    return guess_family(a, err);
}

static lt_status read_config(lt_adapter *a, const char *path, lt_error *err)
{
    size_t size = 0;
    lt_status st = lt_read_text(path, LT_MAX_CONFIG_SIZE, &a->config_text, &size, err);
    if (st) return st;
    st = lt_peft_config_parse(&a->config, a->config_text, size, err);
    return st ? lt_error_where(err, "%s", path) : LT_OK;
}

static bool takes_scale_from_config(const lt_module *m)
{
    return !m->part[LT_PART_ALPHA] && !m->part[LT_PART_SCALE] && m->scale != 1;
}

bool lt_adapter_needs_config(lt_adapter *a)
{
    if (!a->config_text) return false;
    if (a->config.refusal[0] || a->config.dora) return true;
    for (size_t i = 0; i < a->n_modules; i++)
        if (takes_scale_from_config(&a->modules[i])) return true;
    for (size_t i = 0; i < a->n_rest; i++) {
        bool replaces;
        if (lt_adapter_replaces(a, a->rest[i], &replaces, NULL) || replaces) return true;
    }
    return false;
}

lt_status lt_adapter_open(lt_adapter **out, const char *path, lt_error *err)
{
    lt_store *none = NULL;
    return lt_adapter_open_with(out, path, &none, err);
}

lt_status lt_adapter_open_with(
    lt_adapter **out, const char *path, lt_store **store, lt_error *err)
{
    char file[4096], config[4096];
    *out = NULL;
    if (strlen(path) > sizeof file - 64)
        return lt_error_set(err, LT_ERR_ARG, "the path is too long");
    lt_status st = lt_adapter_locate(path, file, config, sizeof file, err);
    if (st) return st;
    lt_adapter *a = calloc(1, sizeof *a);
    if (!a) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    a->path = lt_strdup(strcmp(path, "-") ? path : "standard input", err);
    if (!a->path) st = LT_ERR_NOMEM;
    lt_store *given = a->store = *store;
    if (!st && !given) st = lt_store_open(&a->store, file, err);
    if (!st && *config) st = read_config(a, config, err);
    if (!st) st = group(a, err);
    if (st) {
        if (given) a->store = NULL;
        lt_adapter_free(a);
        return st;
    }
    *store = NULL;
    *out = a;
    return LT_OK;
}

lt_status lt_adapter_new(lt_adapter **out, lt_store **store, lt_error *err)
{
    *out = NULL;
    lt_adapter *a = calloc(1, sizeof *a);
    if (!a) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    a->path = lt_strdup(lt_store_path(*store), err);
    a->store = *store;
    lt_status st = a->path ? group(a, err) : LT_ERR_NOMEM;
    if (st) {
        a->store = NULL;
        lt_adapter_free(a);
        return st;
    }
    *store = NULL;
    *out = a;
    return LT_OK;
}

void lt_adapter_free(lt_adapter *a)
{
    if (!a) return;
    lt_peft_config_release(&a->config);
    for (size_t i = 0; i < a->n_views; i++)
        lt_peft_config_release(&a->views[i].config);
    lt_store_close(a->store);
    lt_map_release(&a->by_name);
    lt_arena_release(&a->arena);
    free(a->config_text);
    free(a->modules);
    free(a->rest);
    free(a->others);
    free(a->path);
    free(a);
}

const char *lt_adapter_path(const lt_adapter *adapter)
{
    return adapter->path;
}

const lt_store *lt_adapter_store(const lt_adapter *adapter)
{
    return adapter->store;
}

const lt_dialect *lt_adapter_dialect(const lt_adapter *adapter)
{
    return adapter->dialect;
}

const lt_family *lt_adapter_family(const lt_adapter *adapter)
{
    return adapter->family;
}

const char *lt_adapter_kind(const lt_adapter *adapter)
{
    const lt_kind *kind = adapter->modules[0].kind;
    for (size_t i = 1; i < adapter->n_modules; i++)
        if (adapter->modules[i].kind != kind) return "mixed";
    return kind->id;
}

size_t lt_adapter_module_count(const lt_adapter *adapter)
{
    return adapter->n_modules;
}

const lt_module *lt_adapter_module(const lt_adapter *adapter, size_t index)
{
    return &adapter->modules[index];
}

size_t lt_adapter_rest_count(const lt_adapter *adapter)
{
    return adapter->n_rest;
}

const lt_tensor *lt_adapter_rest(const lt_adapter *adapter, size_t index)
{
    return adapter->rest[index];
}

lt_status lt_adapter_usable(const lt_adapter *adapter, lt_error *err)
{
    lt_status st = lt_store_usable(adapter->store, false, err);
    if (st) return st;
    for (size_t i = 0; i < adapter->n_modules; i++) {
        const lt_module *m = &adapter->modules[i];
        const char *path;
        const lt_peft_config *config = config_of(adapter, m, &path);
        bool lacks = config && config->dora && lt_kind_is_pair(m->kind)
            && m->kind != &lt_kind_dora;
        if (!config || (!config->refusal[0] && !lacks)) continue;
        if (config->refusal[0])
            lt_error_set(err, LT_ERR_UNSUPPORTED, "%s", config->refusal);
        else
            lt_error_set(err, LT_ERR_MISMATCH,
                "the config says DoRA, but module '%.200s' has no magnitudes", m->name);
        return lt_error_where(err, "%s", adapter->path);
    }
    return LT_OK;
}

bool lt_adapter_lacks_config(const lt_adapter *a)
{
    const char *alpha = lt_metadata_get(lt_store_metadata(a->store), LT_ALPHA_KEY);
    if (strcmp(lt_dialect_id(a->dialect), "peft")) return false;
    if (alpha && !strcmp(alpha, LT_ALPHA_IS_RANK)) return false;
    for (size_t i = 0; i < a->n_modules; i++) {
        const lt_module *m = &a->modules[i];
        const char *path;
        bool told = m->has_alpha || m->part[LT_PART_SCALE] || config_of(a, m, &path);
        if (lt_kind_has_factors(m->kind) && !told) return true;
    }
    return false;
}

lt_status lt_adapter_replaces(
    lt_adapter *a, const lt_tensor *tensor, bool *replaces, lt_error *err)
{
    static const char wrapper[] = "base_model.model.";
    const char *path = tensor->name;
    *replaces = false;
    if (!a->config_text) return LT_OK;
    if (!strncmp(path, wrapper, sizeof wrapper - 1)) path += sizeof wrapper - 1;
    lt_status st =
        lt_peft_config_saves(&a->config, path, replaces, &a->pattern_work, err);
    return st ? lt_error_where(err, "%s", a->path) : LT_OK;
}

const char *lt_adapter_config(const lt_adapter *adapter)
{
    return adapter->config_text;
}

lt_status lt_module_load(const lt_adapter *adapter, const lt_module *module, double *up,
    double *down, lt_error *err)
{
    if (!module->kind->load) {
        lt_error_set(err, LT_ERR_UNSUPPORTED,
            "modules of the kind '%s' are not computed with", module->kind->title);
        return lt_error_where(err, "%s: module '%s'", adapter->path, module->name);
    }
    return module->kind->load(adapter->store, module, up, down, err);
}
