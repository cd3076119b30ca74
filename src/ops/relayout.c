/* SPDX-License-Identifier: MIT */
/* A model in its other layout: tensors renamed, fused ones cut into their parts or put
 * together, halves exchanged; byte for byte, as the layout's table says. */
#include "base/map.h"
#include "model/family.h"
#include "ops/common.h"
#include "ops/pipeline_files.h"
#include "tensor/convert.h"

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
    const lt_tensor *like;    /* type and all dimensions but the first */
    const lt_layout_row *row; /* NULL: the same in both */
    struct slice slices[LT_MAX_PARTS];
    size_t n_slices;
    unsigned parts; /* that it is put together from */
    uint64_t rows;
    size_t index; /* in the writer */
};

struct relaying {
    const lt_relayout_options *options;
    lt_relayout_report *report;
    lt_store *store;
    lt_model *model;
    const lt_family *other; /* the family in the wanted layout */
    lt_writer *writer;
    bool to_public, several; /* components */
    lt_output_folder folders[LT_MAX_OUTPUT_FOLDERS];
    struct item *items;
    size_t n_items, capacity;
    lt_map by_name;
    lt_arena arena;
};

/* One tensor on its way. */
struct passage {
    const lt_tensor *tensor;
    const char *prefix_in, *prefix_out;
    lt_layout_place place;
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

static lt_status get_item(struct relaying *z, const struct passage *p, const char *path,
    struct item **item, lt_error *err)
{
    char *name = lt_arena_printf(&z->arena, err, "%s%s", p->prefix_out, path);
    size_t found;
    if (!name) return LT_ERR_NOMEM;
    lt_status st = lt_map_put(&z->by_name, name, z->n_items, &found, err);
    if (!st && found == LT_MAP_NONE) {
        st = lt_grow(
            (void **)&z->items, &z->capacity, z->n_items + 1, sizeof *z->items, err);
        if (st) return st;
        found = z->n_items++;
        z->items[found] =
            (struct item){ .name = name, .like = p->tensor, .row = p->place.row };
    }
    if (!st) *item = &z->items[found];
    return st;
}

/* One that is made of a single piece. */
static lt_status get_sole_item(struct relaying *z, const struct passage *p,
    const char *path, struct item **item, lt_error *err)
{
    lt_status st = get_item(z, p, path, item, err);
    if (st || !(*item)->n_slices) return st;
    lt_error_set(err, LT_ERR_MISMATCH, "is a second '%s'", (*item)->name);
    return lt_store_blame(z->store, p->tensor, err);
}

/* ---- from the published layout ------------------------------------------------------
 */

/* Columns of the weight that a bias belongs to: its parts follow the weight's. */
static uint64_t columns_for(const struct relaying *z, const struct passage *p)
{
    if (!p->place.bias) return lt_tensor_columns(p->tensor);
    char path[480], name[768];
    lt_layout_place weight = p->place;
    weight.bias = false;
    if (!lt_layout_native_name(&weight, path, sizeof path)) return 0;
    snprintf(name, sizeof name, "%s%s", p->prefix_in, path);
    const lt_tensor *t = lt_store_find(z->store, name);
    return t ? lt_tensor_columns(t) : 0;
}

static lt_status cut(struct relaying *z, const struct passage *p, lt_error *err)
{
    char path[480];
    const lt_tensor *t = p->tensor;
    const lt_layout_place *place = &p->place;
    uint64_t first = 0, rows = rows_of(t), columns = columns_for(z, p);
    lt_status st = LT_OK;
    for (unsigned part = 0; part < place->parts && !st; part++) {
        struct item *item = NULL;
        if (place->parts > 1
            && !lt_layout_part_rows(place, part, rows_of(t), columns, &first, &rows)) {
            lt_error_set(
                err, LT_ERR_MISMATCH, "cannot be cut into %u parts", place->parts);
            return lt_store_blame(z->store, t, err);
        }
        if (!lt_layout_public_name(place, part, path, sizeof path)) continue;
        st = get_sole_item(z, p, path, &item, err);
        if (st) return st;
        item->parts = 1;
        item->rows = rows;
        item->slices[item->n_slices++] = (struct slice){ t, first, rows, 0, 0 };
    }
    return st;
}

/* ---- to it --------------------------------------------------------------------------
 */

static lt_status join(struct relaying *z, const struct passage *p, lt_error *err)
{
    char path[480];
    struct item *item = NULL;
    const lt_tensor *t = p->tensor;
    if (!lt_layout_native_name(&p->place, path, sizeof path)) return LT_OK;
    lt_status st = get_item(z, p, path, &item, err);
    if (st) return st;
    bool alike = t->dtype == item->like->dtype && t->n_dims == item->like->n_dims
        && row_bytes(t) == row_bytes(item->like);
    if (p->place.parts > 1 && !t->n_dims) {
        lt_error_set(
            err, LT_ERR_MISMATCH, "is a scalar: it is no rows of '%s'", item->name);
        return lt_store_blame(z->store, t, err);
    }
    if (!alike || item->n_slices == p->place.parts) {
        lt_error_set(err, LT_ERR_MISMATCH, "does not go with '%s' into '%s'",
            item->like->name, item->name);
        return lt_store_blame(z->store, t, err);
    }
    item->parts = p->place.parts;
    item->slices[item->n_slices++] = (struct slice){ t, 0, rows_of(t), 0, p->place.part };
    return LT_OK;
}

static int by_part(const void *a, const void *b)
{
    const struct slice *x = a, *y = b;
    return x->part < y->part ? -1 : x->part > y->part;
}

/* All of one tensor, in its order. */
static bool is_copied_whole(const struct item *item)
{
    unsigned flags = item->row ? item->row->flags : 0;
    return item->n_slices == 1 && item->rows == rows_of(item->slices[0].from)
        && !(flags & LT_ROW_SWAP);
}

static bool is_transposed(const struct item *item)
{
    return item->row && item->row->flags & LT_ROW_TRANSPOSED && item->like->n_dims == 2;
}

/* Types under a byte are packed: what is moved must begin at one. */
static lt_status check_pieces(
    const struct relaying *z, const struct item *item, lt_error *err)
{
    const lt_tensor *t = item->like;
    unsigned bits = lt_dtype_get(t->dtype)->bits;
    uint64_t moved = is_transposed(item) ? 1 : rows_of(t) ? t->count / rows_of(t) : 0;
    if (moved % 8 * bits % 8 == 0) return LT_OK;
    if (is_copied_whole(item) && !is_transposed(item)) return LT_OK;
    lt_error_set(err, LT_ERR_MISMATCH, "cannot be cut: its %s values share bytes",
        lt_dtype_get(t->dtype)->name);
    return lt_store_blame(z->store, t, err);
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
    for (size_t i = 0; i < item->n_slices && !z->to_public; i++) {
        item->slices[i].at = item->rows;
        item->rows += item->slices[i].rows;
    }
    return check_pieces(z, item, err);
}

/* ---- where a tensor goes ------------------------------------------------------------
 */

/* Known by the table, or spelled as older programs did. */
static bool find_place(const lt_layout_view *view, const lt_component *c,
    const char *name, lt_layout_place *place)
{
    char spelled[512];
    if (lt_layout_find(view, name, place)) return true;
    for (const lt_respelling *r = c->respellings; r && r->end; r++) {
        const char *at = strstr(name, r->instead);
        if (!at) continue;
        snprintf(spelled, sizeof spelled, "%.*s%s%s", (int)(at - name), name, r->end,
            at + strlen(r->instead));
        if (lt_layout_find(view, spelled, place)) return true;
    }
    return false;
}

/* What training leaves in a single file beside the model: its own averages, and the
 * noise schedule, which a pipeline keeps as numbers in its scheduler's config. */
static bool is_left_by_training(const char *name)
{
    static const char *const beginnings[] = { "model_ema.", "betas", "alphas_cumprod",
        "sqrt_", "log_one_minus_", "posterior_", "denoiser.sigmas", NULL };
    return lt_begins_with_any(name, beginnings);
}

static lt_status copy_whole(
    struct relaying *z, const struct passage *p, const char *name, lt_error *err)
{
    struct item *item = NULL;
    lt_status st = get_sole_item(z, p, name, &item, err);
    if (st) return st;
    item->parts = 1;
    item->rows = z->to_public ? rows_of(p->tensor) : 0;
    item->slices[item->n_slices++] =
        (struct slice){ p->tensor, 0, rows_of(p->tensor), 0, 0 };
    return LT_OK;
}

static const char *prefix_in(const struct relaying *z, const lt_component *c)
{
    if (!z->several) return "";
    return z->to_public && c->diffusers[0] ? c->diffusers[0] : c->prefixes[0];
}

static lt_status place_tensor(struct relaying *z, const lt_tensor *t, lt_error *err)
{
    const lt_component *c = lt_model_component(z->model, t);
    const lt_component *to = c ? lt_family_component(z->other, c->id) : NULL;
    lt_notes *unmatched = &z->report->unmatched, *dropped = &z->report->dropped;
    if (is_left_by_training(t->name))
        return lt_notes_add(dropped, t->name, 0, err, "training's, not the model's");
    if (!c)
        return lt_notes_add(
            unmatched, t->name, 0, err, "belongs to no part of the model");
    if (!to)
        return lt_notes_add(
            dropped, t->name, 0, err, "the other layout has no %s", c->title);
    struct passage p = { .tensor = t,
        .prefix_in = lt_model_prefix(z->model, c),
        .prefix_out = prefix_in(z, to) };
    const char *name = t->name + strlen(p.prefix_in);
    const lt_layout_view *view = lt_model_view(z->model, c);
    if (!view) return copy_whole(z, &p, name, err);
    if (!find_place(view, c, name, &p.place))
        return lt_notes_add(unmatched, t->name, 0, err, "the layout has no such tensor");
    if (z->to_public && !p.place.parts)
        return lt_notes_add(dropped, t->name, 0, err, "diffusers has no such tensor");
    return z->to_public ? cut(z, &p, err) : join(z, &p, err);
}

static lt_status check_direction(struct relaying *z, lt_error *err)
{
    const lt_family *family = lt_model_family(z->model);
    z->to_public = !strcmp(z->options->to, "diffusers");
    if (!z->to_public && strcmp(z->options->to, "single"))
        return lt_error_set(err, LT_ERR_ARG,
            "a model is written as diffusers or single, not '%s'", z->options->to);
    const char *why = NULL;
    z->other = lt_family_counterpart(family);
    if (!z->other && family->components->layout) z->other = family; /* both in one */
    if (lt_store_holds_adapter(z->store))
        why = "is an adapter: it is written in a dialect";
    else if (!z->other)
        why = "is of a family whose other layout is not known";
    else if (family->components->is_public == z->to_public)
        why = "is in that layout already";
    if (!why) return LT_OK;
    lt_error_set(err, LT_ERR_MISMATCH, "%s (%s)", why, lt_family_title(family));
    return lt_error_where(err, "%s", z->options->input);
}

/* A part of a model alone keeps bare names. */
static bool holds_several(const struct relaying *z)
{
    const lt_component *first = NULL;
    for (size_t i = 0; i < lt_store_count(z->store); i++) {
        const lt_component *c = lt_model_component(z->model, lt_store_at(z->store, i));
        if (!c || c == first) continue;
        if (first) return true;
        first = c;
    }
    return false;
}

static lt_status plan(struct relaying *z, lt_error *err)
{
    lt_status st = check_direction(z, err);
    z->several = !st && holds_several(z);
    for (size_t i = 0; i < lt_store_count(z->store) && !st; i++)
        st = place_tensor(z, lt_store_at(z->store, i), err);
    for (size_t i = 0; i < z->n_items && !st; i++)
        st = complete(z, &z->items[i], err);
    const lt_notes *u = &z->report->unmatched;
    if (st || !u->count || (z->options->allow_unmatched && z->n_items)) return st;
    lt_error_set(err, LT_ERR_MISMATCH,
        "%zu tensors have no place in the other layout, first '%s' (%s)", u->count,
        u->items[0].name, u->items[0].reason);
    return lt_error_where(err, "%s", z->options->input);
}

/* ---- writing ------------------------------------------------------------------------
 */

/* The folders of a pipeline; transformers' models are called otherwise than diffusers'.
 */
static size_t list_folders(struct relaying *z)
{
    static const char *const stems[] = { "diffusion_pytorch_model", "model" };
    size_t n = 0;
    for (const lt_component *c = z->other->components; c->id; c++) {
        bool text = !strncmp(c->id, "te", 2) || !strcmp(c->id, "model");
        if (z->several && !c->diffusers[0]) continue;
        z->folders[n++] = (lt_output_folder){ prefix_in(z, c), stems[text] };
        if (!z->several) break;
    }
    return n;
}

static lt_status add_item(struct relaying *z, struct item *item, lt_error *err)
{
    uint64_t shape[LT_MAX_DIMS];
    unsigned n_dims = item->like->n_dims, flags = item->row ? item->row->flags : 0;
    memcpy(shape, item->like->shape, sizeof shape);
    if (n_dims) shape[0] = item->rows;
    if (flags & LT_ROW_TRANSPOSED && n_dims == 2) {
        shape[0] = item->like->shape[1];
        shape[1] = item->like->shape[0];
    }
    bool point = n_dims == 4 && shape[2] == 1 && shape[3] == 1;
    if (flags & LT_ROW_POINTWISE && z->to_public && point) n_dims = 2;
    if (flags & LT_ROW_POINTWISE && !z->to_public && n_dims == 2) {
        shape[2] = shape[3] = 1;
        n_dims = 4;
    }
    return lt_writer_add(
        z->writer, item->name, item->like->dtype, n_dims, shape, &item->index, err);
}

static lt_status declare(struct relaying *z, lt_error *err)
{
    const lt_relayout_options *o = z->options;
    lt_output output = { .path = o->output,
        .format = o->format,
        .overwrite = o->overwrite,
        .folder = lt_path_is_folder_output(o->output) };
    if (output.folder && z->to_public) {
        output.folders = z->folders;
        output.n_folders = list_folders(z);
    }
    lt_status st = lt_writer_new(&z->writer, &output, err);
    for (size_t i = 0; i < z->n_items && !st; i++)
        st = add_item(z, &z->items[i], err);
    if (!st && !output.folder)
        st = lt_metadata_set(lt_writer_metadata(z->writer), "format", "pt", err);
    if (!st) st = lt_writer_plan(z->writer, LT_ORDER_REFERENCE, err);
    if (!st) st = lt_writer_begin(z->writer, LT_ORDER_REFERENCE, err);
    if (!st) st = lt_notes_add_asides(&z->report->dropped, z->store, err);
    /* What it says, it says of files in the old layout. */
    return st ? st : lt_notes_drop_metadata(&z->report->dropped, z->store, err);
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

static lt_status write_transposed(
    struct relaying *z, const struct item *item, lt_error *err)
{
    const lt_tensor *t = item->like;
    size_t rows = (size_t)t->shape[0], columns = (size_t)t->shape[1];
    size_t element = lt_dtype_get(t->dtype)->bits / 8;
    char *from = lt_alloc_work(t->size, 1, err), *to = lt_alloc_work(t->size, 1, err);
    lt_status st = from && to ? LT_OK : LT_ERR_NOMEM;
    if (!st) st = lt_store_read(z->store, t, 0, from, (size_t)t->size, err);
    for (size_t i = 0; i < rows && !st; i++)
        for (size_t j = 0; j < columns; j++)
            memcpy(to + (j * rows + i) * element, from + (i * columns + j) * element,
                element);
    if (!st) st = lt_writer_put(z->writer, item->index, 0, to, (size_t)t->size, err);
    lt_free(from);
    lt_free(to);
    return st;
}

static lt_status write_item(
    struct relaying *z, const struct item *item, char *room, lt_error *err)
{
    uint64_t row = row_bytes(item->like);
    unsigned flags = item->row ? item->row->flags : 0;
    bool swapped = flags & LT_ROW_SWAP;
    const lt_tensor *t = item->slices[0].from;
    lt_status st = LT_OK;
    if (is_transposed(item)) return write_transposed(z, item, err);
    if (is_copied_whole(item))
        return copy_bytes(z, item, &item->slices[0], 0, 0, t->size, room, err);
    for (size_t i = 0; i < item->n_slices && !st; i++) {
        const struct slice *s = &item->slices[i];
        uint64_t from = s->first * row, to = s->at * row, size = s->rows * row;
        uint64_t half = swapped ? size / 2 : 0;
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
    z->store = o->store;
    lt_status st = room ? LT_OK : LT_ERR_NOMEM;
    if (!st && !z->store) st = lt_store_open(&z->store, o->input, err);
    if (!st) st = lt_store_usable(z->store, false, err);
    if (!st) st = lt_model_new(&z->model, z->store, err);
    if (!st) st = plan(z, err);
    if (!st) st = declare(z, err);
    for (size_t i = 0; i < z->n_items && !st; i++)
        st = write_item(z, &z->items[i], room, err);
    lt_free(room);
    if (!st && z->to_public && lt_path_is_folder_output(o->output))
        st = lt_pipeline_files_write(
            z->writer, z->model, z->other, z->several, &z->report->missing, err);
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
    lt_notes_release(&r->missing);
    *r = (lt_relayout_report){ 0 };
}
