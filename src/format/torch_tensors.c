/* SPDX-License-Identifier: MIT */
#include "format/torch_tensors.h"

#include "base/limits.h"
#include "base/mem.h"
#include "format/pickle_globals.h"
#include "format/torch_gather.h"

#include <stdlib.h>
#include <string.h>

lt_status lt_torch_new(lt_torch **out, lt_store *store, lt_error *err)
{
    lt_torch *t = calloc(1, sizeof *t);
    *out = t;
    if (!t) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    t->store = store;
    t->pickle.on_global = lt_note_global;
    t->pickle.ctx = store;
    store->state = t;
    return LT_OK;
}

void lt_torch_release(lt_store *store)
{
    lt_torch *t = store->state;
    if (!t) return;
    lt_pickle_release(&t->pickle);
    lt_archive_close(t->archive);
    lt_arena_release(&t->arena);
    lt_map_release(&t->storage_by_key);
    lt_map_release(&t->referent_by_key);
    free(t->storages);
    free(t->referents);
    free(t->found);
    free(t->views);
    free(t->aliases);
    free(t);
    store->state = NULL;
}

/* ---- storages ---------------------------------------------------------------------- */

lt_status lt_torch_storage(lt_torch *t, const char *key, unsigned item, uint64_t size,
    size_t *index, lt_error *err)
{
    *index = lt_map_get(&t->storage_by_key, key);
    if (*index != LT_MAP_NONE) {
        lt_storage *s = &t->storages[*index];
        if (size > s->size) s->size = size;
        return LT_OK;
    }
    lt_status st = lt_grow((void **)&t->storages, &t->storages_capacity,
        t->n_storages + 1, sizeof *t->storages, err);
    if (st) return st;
    *index = t->n_storages;
    t->storages[t->n_storages++] =
        (lt_storage){ .key = key, .item = item, .size = size, .offset = LT_NO_OFFSET };
    return lt_map_put(&t->storage_by_key, key, *index, NULL, err);
}

lt_status lt_torch_refer(
    lt_torch *t, const lt_referent *referent, size_t *index, lt_error *err)
{
    lt_status st = lt_grow((void **)&t->referents, &t->referents_capacity,
        t->n_referents + 1, sizeof *t->referents, err);
    if (st) return st;
    *index = t->n_referents;
    t->referents[t->n_referents++] = *referent;
    return LT_OK;
}

void lt_torch_place(
    lt_storage *s, uint64_t available, uint64_t offset, size_t entry, uint64_t order)
{
    s->placed = true;
    s->available = available;
    s->offset = offset;
    s->entry = entry;
    s->order = order;
}

const char *lt_torch_key(lt_torch *t, const lt_value *v, lt_error *err)
{
    const char *key = NULL;
    if (v->kind == LT_VALUE_STRING && strlen(v->text.data) == v->text.size)
        key = v->text.data;
    else if (v->kind == LT_VALUE_INT)
        key = lt_arena_printf(&t->arena, err, "%lld", (long long)v->integer);
    else
        lt_error_set(err, LT_ERR_FORMAT, "a storage's key is %s",
            lt_value_kind_text((lt_value_kind)v->kind));
    return key;
}

lt_status lt_torch_class(
    const lt_value *class, lt_dtype *dtype, const char **unread, lt_error *err)
{
    *dtype = LT_U8;
    *unread = NULL;
    if (class->kind != LT_VALUE_GLOBAL)
        return lt_error_set(err, LT_ERR_FORMAT, "a storage's class is %s",
            lt_value_kind_text((lt_value_kind) class->kind));
    int meaning = class->global.meaning;
    if (meaning == LT_MEANS_STORAGE || meaning == LT_MEANS_QUANTISED_STORAGE)
        *dtype = (lt_dtype) class->global.detail;
    else if (meaning != LT_MEANS_UNTYPED_STORAGE)
        *unread = "a tensor of an unknown storage class";
    if (meaning == LT_MEANS_QUANTISED_STORAGE) *unread = "a quantised tensor";
    return LT_OK;
}

/* ---- persistent ids ---------------------------------------------------------------- */

/* (view key, offset, size) in elements, of very old files; None where there is none. */
static lt_status narrow(
    lt_referent *r, const lt_value *part, unsigned item, lt_error *err)
{
    uint64_t offset, numel, end;
    if (part->kind == LT_VALUE_NONE) return LT_OK;
    if (part->kind != LT_VALUE_TUPLE || part->list.count != 3
        || !lt_value_uint(part->list.items[1], &offset)
        || !lt_value_uint(part->list.items[2], &numel)
        || !lt_mul_size(offset, item, &offset) || !lt_mul_size(numel, item, &numel)
        || !lt_add_size(offset, numel, &end))
        return lt_error_set(err, LT_ERR_FORMAT, "a storage's view is damaged");
    if (end > r->size)
        return lt_error_set(
            err, LT_ERR_FORMAT, "a storage's view goes past the end of the storage");
    r->first = offset;
    r->size = numel;
    return LT_OK;
}

/* ('storage', class, key, location, numel[, view]) */
static lt_status resolve_tuple(
    lt_torch *t, const lt_value *id, lt_referent *r, lt_error *err)
{
    lt_value **v = id->list.items;
    if (!id->list.count || !lt_value_is(v[0], "storage")) return LT_OK;
    if (id->list.count < 5 || id->list.count > 6)
        return lt_error_set(err, LT_ERR_FORMAT, "a storage of %u parts", id->list.count);
    lt_status st = lt_torch_class(v[1], &r->dtype, &r->unread, err);
    if (st) return st;
    const char *key = lt_torch_key(t, v[2], err);
    if (!key) return LT_ERR_FORMAT;
    unsigned item = lt_dtype_get(r->dtype)->bits / 8;
    uint64_t numel;
    if (!lt_value_uint(v[4], &numel) || !lt_mul_size(numel, item, &r->size)) {
        lt_error_set(err, LT_ERR_FORMAT, "its number of elements is damaged");
        return lt_error_where(err, "storage '%.100s'", key);
    }
    r->kind = LT_REFERS_STORAGE;
    st = lt_torch_storage(t, key, item, r->size, &r->storage, err);
    if (!st && id->list.count == 6) st = narrow(r, v[5], item, err);
    return st;
}

static lt_status resolve(lt_torch *t, lt_persistent *p, lt_error *err)
{
    const lt_value *id = p->id;
    lt_referent r = { .kind = LT_REFERS_NOTHING };
    if (id->kind == LT_VALUE_TUPLE) {
        lt_status st = resolve_tuple(t, id, &r, err);
        if (st) return st;
    } else if (t->referent_by_key.count
        && (id->kind == LT_VALUE_INT || id->kind == LT_VALUE_STRING)) {
        const char *key = lt_torch_key(t, id, err);
        if (!key) return LT_ERR_FORMAT;
        size_t index = lt_map_get(&t->referent_by_key, key);
        if (index == LT_MAP_NONE)
            return lt_error_set(err, LT_ERR_FORMAT, "no object '%.100s'", key);
        p->found = index + 1;
        return LT_OK;
    }
    size_t index;
    lt_status st = lt_torch_refer(t, &r, &index, err);
    if (!st) p->found = index + 1;
    return st;
}

/* The list runs from the last to the first, but what a storage is mentioned as first
 * counts. */
lt_status lt_torch_resolve(lt_torch *t, lt_error *err)
{
    size_t n = 0, i = 0;
    for (lt_persistent *p = t->pickle.persistents; p; p = p->next)
        n++;
    lt_persistent **all = lt_alloc_work(n, sizeof *all, err);
    if (!all) return LT_ERR_NOMEM;
    for (lt_persistent *p = t->pickle.persistents; p; p = p->next)
        all[n - ++i] = p;
    lt_status st = LT_OK;
    for (i = 0; i < n && !st; i++) {
        if (!all[i]->found) st = resolve(t, all[i], err);
        if (st) lt_error_place(err, all[i]->at);
    }
    lt_free(all);
    return st;
}

/* ---- tensors ----------------------------------------------------------------------- */

/* Bytes from element 0 to behind the last one. */
static bool measure_span(const lt_tensor *t, const lt_view *view, uint64_t *span)
{
    uint64_t last = 0, reach;
    for (unsigned i = 0; i < t->n_dims; i++)
        if (!lt_mul_size(t->shape[i] - 1, view->strides[i], &reach)
            || !lt_add_size(last, reach, &last))
            return false;
    return lt_add_size(last, 1, &last)
        && lt_mul_size(last, lt_dtype_get(t->dtype)->bits / 8, span);
}

lt_status lt_torch_lay(lt_tensor *tensor, lt_view *view, uint64_t offset,
    const lt_referent *part, lt_error *err)
{
    lt_status st = lt_tensor_measure(tensor, err);
    if (st) return st;
    unsigned item = lt_dtype_get(tensor->dtype)->bits / 8;
    view->storage = part->storage;
    view->contiguous = lt_is_contiguous(tensor->n_dims, tensor->shape, view->strides);
    view->first = view->end = part->first;
    tensor->offset = LT_NO_OFFSET;
    if (!tensor->count) return LT_OK;
    uint64_t first, span, end;
    if (!measure_span(tensor, view, &span) || !lt_mul_size(offset, item, &first)
        || !lt_add_size(first, span, &end) || end > part->size) {
        return lt_error_set(err, LT_ERR_FORMAT,
            "its elements go past the end of its storage (%llu bytes)",
            (unsigned long long)part->size);
    }
    view->first = part->first + first;
    view->end = part->first + end;
    return LT_OK;
}

static lt_status check_storage(const lt_torch *t, const lt_found *f, lt_error *err)
{
    const lt_storage *s = &t->storages[f->view.storage];
    if (!f->tensor.count) return LT_OK;
    lt_status st = LT_OK;
    if (!s->placed)
        st = lt_error_set(err, LT_ERR_FORMAT, "its storage '%.100s' is missing", s->key);
    else if (s->size > s->available)
        st = lt_error_at(err, LT_ERR_FORMAT, s->offset,
            "its storage '%.100s' has %llu bytes instead of %llu", s->key,
            (unsigned long long)s->available, (unsigned long long)s->size);
    return st ? lt_error_where(err, "tensor '%.200s'", f->tensor.name) : LT_OK;
}

static int by_place(const void *a, const void *b)
{
    const lt_found *x = a, *y = b;
    /* tensor.offset holds the storage's order meanwhile */
    if (x->tensor.offset != y->tensor.offset)
        return x->tensor.offset < y->tensor.offset ? -1 : 1;
    if (x->view.first != y->view.first) return x->view.first < y->view.first ? -1 : 1;
    return strcmp(x->tensor.name, y->tensor.name);
}

struct identity {
    const lt_tensor *tensor;
    const lt_view *view;
    size_t index;
};

#define ORDER(x, y) \
    if ((x) != (y)) return (x) < (y) ? -1 : 1

/* 0 for tensors that are the same elements in the same order. */
static int compare_memory(const struct identity *x, const struct identity *y)
{
    ORDER(x->view->storage, y->view->storage);
    ORDER(x->view->first, y->view->first);
    ORDER(x->tensor->dtype, y->tensor->dtype);
    ORDER(x->tensor->n_dims, y->tensor->n_dims);
    for (unsigned i = 0; i < x->tensor->n_dims; i++) {
        ORDER(x->tensor->shape[i], y->tensor->shape[i]);
        if (x->tensor->shape[i] != 1) ORDER(x->view->strides[i], y->view->strides[i]);
    }
    return 0;
}

static int by_memory(const void *a, const void *b)
{
    const struct identity *x = a, *y = b;
    int order = compare_memory(x, y);
    if (order) return order;
    ORDER(x->index, y->index);
    return 0;
}

static lt_status find_aliases(lt_torch *t, lt_error *err)
{
    const lt_store *s = t->store;
    struct identity *all = lt_alloc_work(s->count, sizeof *all, err);
    t->aliases = calloc(s->count ? s->count : 1, sizeof *t->aliases);
    if (!all || !t->aliases) {
        lt_free(all);
        return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    }
    for (size_t i = 0; i < s->count; i++)
        all[i] = (struct identity){ &s->tensors[i], &t->views[i], i };
    if (s->count) qsort(all, s->count, sizeof *all, by_memory);
    for (size_t i = 0, first = 0; i < s->count; i++) {
        if (!all[i].tensor->count || compare_memory(&all[first], &all[i])) first = i;
        t->aliases[all[i].index] = all[first].index;
    }
    lt_free(all);
    return LT_OK;
}

/* Views may overlap, and a view may repeat elements: what they make of the storages has a
 * ceiling. Tensors that are the same memory count once. */
static lt_status check_overlap(const lt_torch *t, lt_error *err)
{
    const lt_store *s = t->store;
    uint64_t held = 0, more = lt_limit(LT_LIMIT_OVERLAP_SIZE), total = 0;
    for (size_t i = 0; i < t->n_storages; i++)
        if (t->storages[i].placed && !lt_add_size(held, t->storages[i].available, &held))
            return LT_OK;
    if (more < held) more = held;
    for (size_t i = 0; i < s->count; i++) {
        const lt_tensor *tensor = &s->tensors[i];
        if (t->aliases[i] != i) continue;
        bool fits = lt_add_size(total, tensor->size, &total);
        if (fits && (total <= held || total - held <= more)) continue;
        lt_error_set(err, LT_ERR_LIMIT,
            "with it, views repeat elements: over %llu bytes beside the %llu of their "
            "storages",
            (unsigned long long)more, (unsigned long long)held);
        return lt_error_where(err, "tensor '%.200s'", tensor->name);
    }
    return LT_OK;
}

static lt_status add_found(lt_torch *t, lt_found *f, lt_error *err)
{
    const lt_storage *s = &t->storages[f->view.storage];
    bool stored = f->tensor.count && s->offset != LT_NO_OFFSET;
    f->tensor.offset = stored ? s->offset + f->view.first : LT_NO_OFFSET;
    t->views[t->store->count] = f->view;
    lt_status st = lt_store_add(t->store, &f->tensor, err);
    return st ? lt_error_where(err, "tensor '%.200s'", f->tensor.name) : LT_OK;
}

lt_status lt_torch_finish(lt_torch *t, lt_error *err)
{
    lt_status st = LT_OK;
    for (size_t i = 0; i < t->n_found && !st; i++) {
        st = check_storage(t, &t->found[i], err);
        t->found[i].tensor.offset = t->storages[t->found[i].view.storage].order;
    }
    if (st) return st;
    if (t->n_found) qsort(t->found, t->n_found, sizeof *t->found, by_place);
    t->views = calloc(t->n_found ? t->n_found : 1, sizeof *t->views);
    if (!t->views) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < t->n_found && !st; i++)
        st = add_found(t, &t->found[i], err);
    if (!st) st = find_aliases(t, err);
    if (!st) st = check_overlap(t, err);
    /* Values and names have done their work. */
    lt_pickle_release(&t->pickle);
    free(t->found);
    t->found = NULL;
    return st;
}

/* ---- reading ----------------------------------------------------------------------- */

struct fetch {
    const lt_store *store;
    const lt_storage *storage;
};

static lt_status fetch_bytes(
    void *ctx, uint64_t at, void *dst, size_t size, lt_error *err)
{
    const struct fetch *f = ctx;
    const lt_torch *t = f->store->state;
    if (f->storage->offset != LT_NO_OFFSET)
        return lt_source_read(f->store->source, f->storage->offset + at, dst, size, err);
    return lt_archive_read(t->archive, f->storage->entry, at, dst, size, err);
}

static void swap_units(unsigned char *p, size_t size, size_t unit)
{
    for (unsigned char *end = p + size; p < end; p += unit)
        for (size_t i = 0; i < unit / 2; i++) {
            unsigned char c = p[i];
            p[i] = p[unit - 1 - i];
            p[unit - 1 - i] = c;
        }
}

static lt_status read_view(const lt_store *store, const lt_tensor *tensor, uint64_t first,
    void *dst, size_t size, lt_error *err)
{
    const lt_torch *t = store->state;
    const lt_view *view = &t->views[lt_store_index(store, tensor)];
    struct fetch fetch = { store, &t->storages[view->storage] };
    if (view->contiguous) return fetch_bytes(&fetch, view->first + first, dst, size, err);
    lt_strided strided = { tensor->n_dims, lt_dtype_get(tensor->dtype)->bits / 8,
        tensor->shape, view->strides, view->first, view->end };
    return lt_gather(&strided, first, dst, size, fetch_bytes, &fetch, err);
}

/* Bytes [begin, end) of the unit that begins at byte at. */
static lt_status read_swapped_part(const lt_store *store, const lt_tensor *tensor,
    uint64_t at, size_t unit, size_t begin, size_t end, unsigned char *dst, lt_error *err)
{
    unsigned char whole[16];
    lt_status st = read_view(store, tensor, at, whole, unit, err);
    if (st) return st;
    swap_units(whole, unit, unit);
    memcpy(dst, whole + begin, end - begin);
    return LT_OK;
}

/* Whole units in one go, what sticks out on either side by itself. */
static lt_status read_swapped(const lt_store *store, const lt_tensor *tensor,
    uint64_t first, unsigned char *dst, size_t size, size_t unit, lt_error *err)
{
    lt_status st = LT_OK;
    size_t skip = (size_t)(first % unit);
    if (skip) {
        size_t end = skip + size < unit ? skip + size : unit;
        st = read_swapped_part(store, tensor, first - skip, unit, skip, end, dst, err);
        if (st) return st;
        first += end - skip;
        dst += end - skip;
        size -= end - skip;
    }
    size_t whole = size - size % unit;
    if (whole) st = read_view(store, tensor, first, dst, whole, err);
    if (st) return st;
    swap_units(dst, whole, unit);
    if (size == whole) return LT_OK;
    return read_swapped_part(
        store, tensor, first + whole, unit, 0, size - whole, dst + whole, err);
}

lt_status lt_torch_read(const lt_store *store, const lt_tensor *tensor, uint64_t first,
    void *dst, size_t size, lt_error *err)
{
    const lt_torch *t = store->state;
    unsigned unit = lt_dtype_get(tensor->dtype)->unit;
    if (!size) return LT_OK;
    if (t->big_endian && unit > 1)
        return read_swapped(store, tensor, first, dst, size, unit, err);
    return read_view(store, tensor, first, dst, size, err);
}

bool lt_torch_in_place(const lt_store *store, const lt_tensor *tensor)
{
    const lt_torch *t = store->state;
    const lt_view *view = &t->views[lt_store_index(store, tensor)];
    bool swapped = t->big_endian && lt_dtype_get(tensor->dtype)->unit > 1;
    return view->contiguous && !swapped && tensor->offset != LT_NO_OFFSET;
}

size_t lt_torch_alias(const lt_store *store, size_t index)
{
    const lt_torch *t = store->state;
    return t->aliases[index];
}
