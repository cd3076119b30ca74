/* SPDX-License-Identifier: MIT */
/* A denoiser in its other layout: tensors renamed, fused ones cut into their parts or put
 * together, halves exchanged; byte for byte, as the layout's table says. */
#include "base/map.h"
#include "model/family.h"
#include "ops/common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK ((size_t)1 << 20)

/* Rows of an old tensor in a new one. */
struct slice {
    const lt_tensor *from;
    uint64_t first, rows, at;
    unsigned part;
};

struct item {
    char *name;
    const lt_tensor *like; /* type and all dimensions but the first */
    struct slice slices[LT_MAX_PARTS];
    size_t n_slices;
    unsigned parts; /* that it is put together from */
    bool swapped;
    uint64_t rows;
    size_t index; /* in the writer */
};

struct relaying {
    const lt_relayout_options *options;
    lt_relayout_report *report;
    lt_store *store;
    lt_model *model;
    lt_writer *writer;
    bool to_public;
    struct item *items;
    size_t n_items, capacity;
    lt_map by_name;
    lt_arena arena;
};

/* Rows and bytes of a row; a scalar is one row. */
static uint64_t rows_of(const lt_tensor *t)
{
    return t->n_dims ? t->shape[0] : 1;
}

static uint64_t row_bytes(const lt_tensor *t)
{
    return rows_of(t) ? t->size / rows_of(t) : 0;
}

static lt_status get_item(struct relaying *z, const char *path, const char *leaf,
    const lt_tensor *like, struct item **item, lt_error *err)
{
    char *name = lt_arena_printf(&z->arena, err, "%s%s", path, leaf);
    size_t found;
    if (!name) return LT_ERR_NOMEM;
    lt_status st = lt_map_put(&z->by_name, name, z->n_items, &found, err);
    if (!st && found == LT_MAP_NONE) {
        st = lt_grow(
            (void **)&z->items, &z->capacity, z->n_items + 1, sizeof *z->items, err);
        if (st) return st;
        found = z->n_items++;
        z->items[found] = (struct item){ .name = name, .like = like };
    }
    if (!st) *item = &z->items[found];
    return st;
}

/* ---- from the published layout ------------------------------------------------------
 */

/* Columns of the weight that a bias belongs to: its parts follow the weight's. */
static uint64_t columns_for(
    const struct relaying *z, const lt_tensor *t, const char *leaf)
{
    if (strcmp(leaf, ".bias")) return lt_tensor_columns(t);
    char name[768];
    int stem = (int)(strlen(t->name) - strlen(leaf));
    snprintf(name, sizeof name, "%.*s.weight", stem, t->name);
    const lt_tensor *weight = lt_store_find(z->store, name);
    return weight ? lt_tensor_columns(weight) : 0;
}

static lt_status cut(struct relaying *z, const lt_tensor *t, const lt_layout_place *place,
    const char *leaf, lt_error *err)
{
    char path[480];
    uint64_t first = 0, rows = rows_of(t), columns = columns_for(z, t, leaf);
    lt_status st = LT_OK;
    for (unsigned part = 0; part < place->parts && !st; part++) {
        struct item *item = NULL;
        if (place->parts > 1
            && !lt_layout_part_rows(place, part, rows_of(t), columns, &first, &rows)) {
            lt_error_set(
                err, LT_ERR_MISMATCH, "cannot be cut into %u parts", place->parts);
            return lt_store_blame(z->store, t, err);
        }
        if (!lt_layout_public_path(place, part, path, sizeof path)) continue;
        st = get_item(z, path, leaf, t, &item, err);
        if (st) return st;
        item->parts = 1;
        item->swapped = place->row->flags & LT_ROW_SWAP;
        item->rows = rows;
        item->slices[item->n_slices++] = (struct slice){ t, first, rows, 0, 0 };
    }
    return st;
}

/* ---- to it --------------------------------------------------------------------------
 */

static lt_status join(struct relaying *z, const lt_tensor *t,
    const lt_layout_place *place, const char *leaf, lt_error *err)
{
    char path[480];
    struct item *item = NULL;
    if (!lt_layout_native_path(place, path, sizeof path)) return LT_OK;
    lt_status st = get_item(z, path, leaf, t, &item, err);
    if (st) return st;
    bool alike = t->dtype == item->like->dtype && t->n_dims == item->like->n_dims
        && row_bytes(t) == row_bytes(item->like);
    if (!alike || item->n_slices == LT_MAX_PARTS) {
        lt_error_set(err, LT_ERR_MISMATCH, "does not go with '%s' into '%s'",
            item->like->name, item->name);
        return lt_store_blame(z->store, t, err);
    }
    item->parts = place->parts;
    item->swapped = place->row->flags & LT_ROW_SWAP;
    item->slices[item->n_slices++] = (struct slice){ t, 0, rows_of(t), 0, place->part };
    return LT_OK;
}

static int by_part(const void *a, const void *b)
{
    const struct slice *x = a, *y = b;
    return x->part < y->part ? -1 : x->part > y->part;
}

static lt_status complete(struct relaying *z, struct item *item, lt_error *err)
{
    qsort(item->slices, item->n_slices, sizeof *item->slices, by_part);
    bool whole = item->n_slices == item->parts;
    for (size_t i = 0; i < item->n_slices && whole && item->parts > 1; i++)
        whole = item->slices[i].part == i;
    if (!whole) {
        lt_error_set(err, LT_ERR_MISMATCH, "%zu of the %u parts of '%s' are there",
            item->n_slices, item->parts, item->name);
        return lt_store_blame(z->store, item->like, err);
    }
    if (z->to_public) return LT_OK;
    for (size_t i = 0; i < item->n_slices; i++) {
        item->slices[i].at = item->rows;
        item->rows += item->slices[i].rows;
    }
    return LT_OK;
}

/* ---- all of it ----------------------------------------------------------------------
 */

static lt_status place_tensor(struct relaying *z, const lt_tensor *t, lt_error *err)
{
    lt_layout_place place;
    const char *name, *leaf;
    const lt_layout_view *view = lt_model_layout(z->model, t, &name);
    if (!view)
        return lt_notes_add(&z->report->unmatched, t->name, 0, err,
            "a part of the model that has no other layout here");
    if (!lt_layout_find_tensor(view, name, &place, &leaf))
        return lt_notes_add(
            &z->report->unmatched, t->name, 0, err, "the layout has no such tensor");
    if (z->to_public && !place.parts)
        return lt_notes_add(
            &z->report->dropped, t->name, 0, err, "diffusers has no such tensor");
    return z->to_public ? cut(z, t, &place, leaf, err) : join(z, t, &place, leaf, err);
}

static lt_status check_direction(struct relaying *z, lt_error *err)
{
    const lt_component *c = lt_model_family(z->model)->components;
    z->to_public = !strcmp(z->options->to, "diffusers");
    if (!z->to_public && strcmp(z->options->to, "single"))
        return lt_error_set(err, LT_ERR_ARG,
            "a model is written as diffusers or single, not '%s'; an adapter needs "
            "--base",
            z->options->to);
    const char *why = NULL;
    if (lt_store_holds_adapter(z->store))
        why = "is an adapter: --base tells of what model";
    else if (!c->layout)
        why = "is of a family whose other layout is not known";
    else if (c->is_public == z->to_public)
        why = "is in that layout already";
    if (!why) return LT_OK;
    lt_error_set(
        err, LT_ERR_MISMATCH, "%s (%s)", why, lt_family_title(lt_model_family(z->model)));
    return lt_error_where(err, "%s", z->options->input);
}

static lt_status plan(struct relaying *z, lt_error *err)
{
    lt_status st = check_direction(z, err);
    for (size_t i = 0; i < lt_store_count(z->store) && !st; i++)
        st = place_tensor(z, lt_store_at(z->store, i), err);
    for (size_t i = 0; i < z->n_items && !st; i++)
        st = complete(z, &z->items[i], err);
    const lt_notes *u = &z->report->unmatched;
    if (st || !u->count || z->options->allow_unmatched) return st;
    lt_error_set(err, LT_ERR_MISMATCH,
        "%zu tensors have no place in the other layout, first '%s' (%s)", u->count,
        u->items[0].name, u->items[0].reason);
    return lt_error_where(err, "%s", z->options->input);
}

static lt_status declare(struct relaying *z, lt_error *err)
{
    const lt_relayout_options *o = z->options;
    lt_output output = {
        .path = o->output, .format = o->format, .overwrite = o->overwrite
    };
    lt_status st = lt_writer_new(&z->writer, &output, err);
    for (size_t i = 0; i < z->n_items && !st; i++) {
        struct item *item = &z->items[i];
        uint64_t shape[LT_MAX_DIMS];
        memcpy(shape, item->like->shape, sizeof shape);
        if (item->like->n_dims) shape[0] = item->rows;
        st = lt_writer_add(z->writer, item->name, item->like->dtype, item->like->n_dims,
            shape, &item->index, err);
    }
    if (!st) st = lt_metadata_set(lt_writer_metadata(z->writer), "format", "pt", err);
    if (!st) st = lt_writer_plan(z->writer, LT_ORDER_REFERENCE, err);
    if (!st) st = lt_writer_begin(z->writer, LT_ORDER_REFERENCE, err);
    if (!st) st = lt_notes_add_asides(&z->report->dropped, z->store, err);
    return st;
}

static lt_status copy_bytes(struct relaying *z, const struct item *item,
    const struct slice *s, uint64_t from, uint64_t to, uint64_t size, char *room,
    lt_error *err)
{
    lt_status st = LT_OK;
    for (uint64_t done = 0; done < size && !st;) {
        size_t n = size - done < CHUNK ? (size_t)(size - done) : CHUNK;
        st = lt_store_read(z->store, s->from, from + done, room, n, err);
        if (!st) st = lt_writer_put(z->writer, item->index, to + done, room, n, err);
        done += n;
    }
    return st;
}

static lt_status write_item(
    struct relaying *z, const struct item *item, char *room, lt_error *err)
{
    uint64_t row = row_bytes(item->like);
    lt_status st = LT_OK;
    const lt_tensor *t = item->slices[0].from;
    if (item->n_slices == 1 && item->rows == rows_of(t) && !item->swapped)
        return copy_bytes(z, item, &item->slices[0], 0, 0, t->size, room, err);
    for (size_t i = 0; i < item->n_slices && !st; i++) {
        const struct slice *s = &item->slices[i];
        uint64_t from = s->first * row, to = s->at * row, size = s->rows * row;
        uint64_t half = item->swapped ? size / 2 : 0;
        if (half && item->rows % 2) {
            lt_error_set(err, LT_ERR_MISMATCH, "has no two halves");
            return lt_store_blame(z->store, s->from, err);
        }
        st = copy_bytes(z, item, s, from + half, to, size - half, room, err);
        if (!st && half) st = copy_bytes(z, item, s, from, to + half, half, room, err);
    }
    return st;
}

static lt_status run_all(struct relaying *z, lt_error *err)
{
    const lt_relayout_options *o = z->options;
    char *room = lt_alloc_work(CHUNK, 1, err);
    lt_status st = room ? lt_store_open(&z->store, o->input, err) : LT_ERR_NOMEM;
    if (!st) st = lt_store_usable(z->store, false, err);
    if (!st) st = lt_model_new(&z->model, z->store, err);
    if (!st) st = plan(z, err);
    if (!st) st = declare(z, err);
    for (size_t i = 0; i < z->n_items && !st; i++)
        st = write_item(z, &z->items[i], room, err);
    lt_free(room);
    if (!st) st = lt_store_unchanged(z->store, err);
    if (!st) st = lt_writer_commit(z->writer, err);
    if (st) return st;
    z->report->tensors = z->n_items;
    z->report->family = lt_family_id(lt_model_family(z->model));
    z->report->cost.bytes = lt_writer_size(z->writer);
    return LT_OK;
}

lt_status lt_relayout(
    const lt_relayout_options *options, lt_relayout_report *report, lt_error *err)
{
    double started = lt_now();
    *report = (lt_relayout_report){ 0 };
    struct relaying z = { .options = options, .report = report };
    lt_status st = run_all(&z, err);
    lt_writer_close(z.writer);
    free(z.items);
    lt_map_release(&z.by_name);
    lt_arena_release(&z.arena);
    lt_model_free(z.model);
    lt_store_close(z.store);
    lt_cost_finish(&report->cost, started);
    return st;
}

void lt_relayout_report_release(lt_relayout_report *r)
{
    lt_notes_release(&r->unmatched);
    lt_notes_release(&r->dropped);
    *r = (lt_relayout_report){ 0 };
}
