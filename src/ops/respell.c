/* SPDX-License-Identifier: MIT */
/* An adapter in another dialect. The base, or the tables of its family, tell what each
 * module is; from its place there
 * follows the module that the wanted dialect names. Where one dialect fuses what the
 * other keeps apart, a fused module becomes several with the same down factor and their
 * rows of the up factor, and several become one: with that down factor where all have it,
 * else with all of theirs, one below the other, and an up factor in blocks. Both are
 * exact, but for scales that the output has no place for: they go into the up factor. */
#include "base/limits.h"
#include "base/map.h"
#include "model/family.h"
#include "ops/common.h"
#include "ops/guess_base.h"
#include "tensor/convert.h"
#include "tensor/linalg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Rows of an old module's up factor that become rows of a new one's. */
struct slice {
    size_t module;
    uint64_t first, rows; /* of the old one */
    uint64_t at;          /* in the new one */
    size_t columns;       /* of the new one: group of old modules with one down factor */
};

struct target {
    char *name;
    const lt_site *site; /* for the shape */
    uint64_t out, in;
    struct slice *slices;
    size_t n_slices, capacity;
    uint64_t rank;
    double scale; /* what the new factors are multiplied by when read */
    lt_dtype dtype;
    size_t index; /* in the output */
};

struct respelling {
    const lt_respell_options *options;
    lt_respell_report *report;
    lt_guess base;
    lt_adapter *adapter;
    const lt_dialect *dialect;
    const lt_consumer *consumer; /* or NULL */
    lt_adapter_out *out;
    struct target *targets;
    size_t n_targets, capacity;
    lt_map by_name;
    lt_arena arena;
    bool keeps_alpha, cast;
    lt_dtype dtype;
};

/* ---- which new modules ---------------------------------------------------------------
 */

/* What has one name in the output is one module: of the same outputs, inputs and kernel.
 */
static lt_status check_target(const struct respelling *z, const struct target *t,
    const lt_site *site, uint64_t out, lt_error *err)
{
    if (t->out == out && lt_site_same_inputs(t->site, site)) return LT_OK;
    lt_error_set(err, LT_ERR_MISMATCH,
        "module '%s' would be for the base's '%s' and '%s', whose shapes differ", t->name,
        t->site->tensor->name, site->tensor->name);
    return lt_error_where(err, "%s", lt_adapter_path(z->adapter));
}

static lt_status find_target(struct respelling *z, const lt_site *site, const char *name,
    uint64_t out, struct target **target, lt_error *err)
{
    size_t at = lt_map_get(&z->by_name, name), found;
    if (at != LT_MAP_NONE) {
        *target = &z->targets[at];
        return check_target(z, *target, site, out, err);
    }
    lt_status st = lt_grow(
        (void **)&z->targets, &z->capacity, z->n_targets + 1, sizeof *z->targets, err);
    if (st) return st;
    struct target *t = &z->targets[z->n_targets];
    *t = (struct target){ .site = site, .out = out, .in = site->in };
    t->name = lt_arena_strdup(&z->arena, name, err);
    if (!t->name) return LT_ERR_NOMEM;
    *target = t;
    return lt_map_put(&z->by_name, t->name, z->n_targets++, &found, err);
}

static lt_status add_slice(struct target *t, size_t module, uint64_t first, uint64_t rows,
    uint64_t at, lt_error *err)
{
    lt_status st = lt_grow(
        (void **)&t->slices, &t->capacity, t->n_slices + 1, sizeof *t->slices, err);
    if (!st) t->slices[t->n_slices++] = (struct slice){ module, first, rows, at, 0 };
    return st;
}

/* The native module of a part has no site in a file that keeps the parts apart: its name
 * is that of any of them with the native path. */
static void native_name(
    const struct respelling *z, const lt_site *s, char *name, size_t size)
{
    lt_site whole = *s;
    whole.parts = 1;
    whole.path = "";
    lt_site_name(&whole, lt_dialect_naming(z->dialect), name, size);
}

static lt_status note_unnamed(
    struct respelling *z, size_t module, const char *reason, lt_error *err)
{
    const lt_module *m = lt_adapter_module(z->adapter, module);
    return lt_notes_add(&z->report->unmatched, m->name, 0, err, "%s", reason);
}

/* Rows [from, from + rows) of a leaf, a site that diffusers names, come from the module's
 * row first on. */
static lt_status place_leaf(struct respelling *z, size_t module, const lt_site *leaf,
    uint64_t from, uint64_t rows, uint64_t first, lt_error *err)
{
    lt_naming naming = lt_dialect_naming(z->dialect);
    struct target *t = NULL;
    char name[768];
    bool whole = lt_site_serves(leaf, naming);
    if (whole)
        lt_site_name(leaf, naming, name, sizeof name);
    else
        native_name(z, leaf, name, sizeof name);
    if (!*name)
        return note_unnamed(
            z, module, "the dialect has no name for this part of the model", err);
    const char *without = z->consumer ? z->consumer->without : NULL;
    if (without && !strcmp(without, lt_component_id(leaf->component)))
        return note_unnamed(z, module, "it is not loaded into this part there", err);
    if (z->consumer && z->consumer->only_standard && !leaf->standard)
        return note_unnamed(z, module, "a file with this module is not known there", err);
    if (!whole && !leaf->native_rows)
        return note_unnamed(z, module,
            "the base lacks parts of the fused module, or they take other inputs", err);
    uint64_t out =
        leaf->transposed || (whole && leaf->parts > 1) ? leaf->out : leaf->native_rows;
    lt_status st = find_target(z, leaf, name, out, &t, err);
    if (st) return st;
    if (!whole) return add_slice(t, module, first, rows, from + leaf->native_row0, err);
    if (!lt_site_swaps(leaf, naming)) return add_slice(t, module, first, rows, from, err);
    uint64_t half = out / 2;
    if (rows == half) return add_slice(t, module, first, half, (from + half) % out, err);
    st = add_slice(t, module, first, half, half, err);
    return st ? st : add_slice(t, module, first + half, half, 0, err);
}

/* A piece is a leaf, half of one, or a fused weight, which the dialect names or whose
 * leaves, which follow it in the model, it does. */
static lt_status place_piece(
    struct respelling *z, size_t module, const lt_piece *piece, lt_error *err)
{
    const lt_site *s = piece->site;
    bool half = s->swapped && !s->halves;
    if (*s->path || lt_site_serves(s, lt_dialect_naming(z->dialect)))
        return place_leaf(z, module, s, half ? s->row0 : 0, s->out, piece->first, err);
    const lt_site *end =
        lt_model_site(z->base.model, 0) + lt_model_site_count(z->base.model);
    lt_status st = LT_OK;
    const lt_site *leaf = s + 1;
    for (; leaf < end && leaf->tensor == s->tensor && !st; leaf++)
        st = place_leaf(
            z, module, leaf, 0, leaf->rows, piece->first + leaf->row0 - s->row0, err);
    if (st || leaf > s + 1) return st;
    return note_unnamed(z, module, "the dialect has no name for it", err);
}

static lt_status place_module(struct respelling *z, size_t index, lt_error *err)
{
    const lt_module *m = lt_adapter_module(z->adapter, index);
    lt_match match = lt_alias_find(z->base.aliases, m->name);
    if (!lt_kind_is_pair(m->kind))
        return note_unnamed(z, index, "this version converts plain LoRA only", err);
    if (lt_module_lacks_alpha(m))
        return note_unnamed(z, index, "a loralib file does not say its alpha", err);
    if (match.ambiguous)
        return note_unnamed(z, index, "the name fits two tensors of the base", err);
    if (!match.n_pieces)
        return note_unnamed(z, index, "no tensor of the base has this module name", err);
    if (match.out != m->out || match.in != m->in)
        return note_unnamed(
            z, index, "its product has another shape than the base's", err);
    lt_status st = LT_OK;
    for (size_t i = 0; i < match.n_pieces && !st; i++)
        st = place_piece(z, index, &match.pieces[i], err);
    for (size_t i = 0; i < m->n_others && !st; i++)
        st = lt_notes_add(&z->report->unmatched, m->others[i]->name, 0, err,
            "this version does not convert it");
    return st;
}

static int by_row(const void *a, const void *b)
{
    const struct slice *x = a, *y = b;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* Two modules for the same rows cannot be one. */
static lt_status check_slices(struct respelling *z, struct target *t, lt_error *err)
{
    qsort(t->slices, t->n_slices, sizeof *t->slices, by_row);
    for (size_t i = 1; i < t->n_slices; i++) {
        const struct slice *x = &t->slices[i - 1], *y = &t->slices[i];
        if (x->at + x->rows <= y->at) continue;
        lt_error_set(err, LT_ERR_MISMATCH, "modules '%s' and '%s' both stand for '%s'",
            lt_adapter_module(z->adapter, x->module)->name,
            lt_adapter_module(z->adapter, y->module)->name, t->name);
        return lt_error_where(err, "%s", lt_adapter_path(z->adapter));
    }
    return LT_OK;
}

/* ---- ranks, scales ------------------------------------------------------------------
 */

/* *same: both modules have the same down factor, byte for byte, and the same scale. Those
 * with a Tucker core are not compared. */
static lt_status compare_downs(
    const struct respelling *z, size_t a, size_t b, bool *same, lt_error *err)
{
    const lt_module *x = lt_adapter_module(z->adapter, a);
    const lt_module *y = lt_adapter_module(z->adapter, b);
    const lt_tensor *s = x->part[LT_PART_DOWN], *t = y->part[LT_PART_DOWN];
    const lt_store *store = lt_adapter_store(z->adapter);
    *same = a == b;
    if (*same || x->part[LT_PART_MID] || y->part[LT_PART_MID] || x->scale != y->scale
        || s->dtype != t->dtype || s->size != t->size || x->rank != y->rank)
        return LT_OK;
    char *left = lt_alloc_work(s->size, 1, err), *right = lt_alloc_work(t->size, 1, err);
    lt_status st = left && right ? LT_OK : LT_ERR_NOMEM;
    if (!st) st = lt_store_read(store, s, 0, left, (size_t)s->size, err);
    if (!st) st = lt_store_read(store, t, 0, right, (size_t)t->size, err);
    *same = !st && !memcmp(left, right, (size_t)s->size);
    lt_free(right);
    lt_free(left);
    return st;
}

/* Gives each slice its columns of the new up factor: those of the first slice with the
 * same down factor, or new ones. */
static lt_status give_columns(struct respelling *z, struct target *t, lt_error *err)
{
    for (size_t i = 0; i < t->n_slices; i++) {
        bool same = false;
        for (size_t j = 0; j < i && !same; j++) {
            lt_status st =
                compare_downs(z, t->slices[j].module, t->slices[i].module, &same, err);
            if (st) return st;
            if (same) t->slices[i].columns = t->slices[j].columns;
        }
        if (same) continue;
        t->slices[i].columns = (size_t)t->rank;
        t->rank += lt_adapter_module(z->adapter, t->slices[i].module)->rank;
    }
    if (t->rank > LT_MAX_RANK) {
        lt_error_set(err, LT_ERR_LIMIT,
            "its parts' ranks make up %llu, over the %d that are read",
            (unsigned long long)t->rank, LT_MAX_RANK);
        return lt_error_where(
            err, "%s: module '%s'", lt_adapter_path(z->adapter), t->name);
    }
    /* What is added are zeros. */
    uint64_t least = z->consumer ? z->consumer->least_rank : 0;
    if (t->rank < least) t->rank = least;
    return LT_OK;
}

/* A part whose rank is far above its size would be padded to any amount. */
static lt_status check_padding(
    const struct respelling *z, const struct target *t, lt_error *err)
{
    uint64_t padded, weight, values = t->rank * t->in;
    for (size_t i = 0; i < t->n_slices; i++)
        values +=
            t->slices[i].rows * lt_adapter_module(z->adapter, t->slices[i].module)->rank;
    bool fits = lt_mul_size(t->out, t->rank, &padded);
    if (fits && padded / LT_MAX_PADDING <= values) return LT_OK;
    if (fits && lt_mul_size(t->out, t->in, &weight) && padded <= weight) return LT_OK;
    lt_error_set(err, LT_ERR_LIMIT,
        "rank %llu for %llu rows is over %d times what its parts hold, and over the "
        "weight's own size",
        (unsigned long long)t->rank, (unsigned long long)t->out, LT_MAX_PADDING);
    return lt_error_where(err, "%s: module '%s'", lt_adapter_path(z->adapter), t->name);
}

/* alpha / rank of the new module: the old ones' where they agree and it can be stored,
 * else they go into the up factor. */
static double new_scale(const struct respelling *z, const struct target *t)
{
    double scale = lt_adapter_module(z->adapter, t->slices[0].module)->scale;
    for (size_t i = 1; i < t->n_slices; i++)
        if (lt_adapter_module(z->adapter, t->slices[i].module)->scale != scale) return 1;
    return z->keeps_alpha && scale > 0 ? scale : 1;
}

static lt_dtype widest(const struct respelling *z, const struct target *t)
{
    lt_dtype first =
        lt_adapter_module(z->adapter, t->slices[0].module)->part[LT_PART_UP]->dtype;
    for (size_t i = 0; i < t->n_slices; i++) {
        const lt_module *m = lt_adapter_module(z->adapter, t->slices[i].module);
        if (m->part[LT_PART_UP]->dtype != first || m->part[LT_PART_DOWN]->dtype != first)
            return LT_F32;
    }
    return first == LT_F16 || first == LT_BF16 ? first : LT_F32;
}

static lt_status plan_target(struct respelling *z, struct target *t, lt_error *err)
{
    lt_status st = check_slices(z, t, err);
    if (!st) st = give_columns(z, t, err);
    if (!st) st = check_padding(z, t, err);
    if (st) return st;
    const lt_tensor *tensor = t->site->tensor;
    t->scale = new_scale(z, t);
    t->dtype = z->cast ? z->dtype : widest(z, t);
    lt_module_plan plan = { .name = t->name,
        .rank = t->rank,
        .alpha = t->scale * (double)t->rank,
        .dtype = t->dtype,
        .n_dims = t->site->transposed ? 2 : tensor->n_dims,
        .fan_in_fan_out = t->site->transposed };
    memcpy(plan.shape, tensor->shape, tensor->n_dims * sizeof *tensor->shape);
    plan.shape[0] = t->out;
    if (t->site->transposed) plan.shape[1] = t->in;
    for (size_t i = 0; i < t->n_slices; i++) {
        const lt_module *m = lt_adapter_module(z->adapter, t->slices[i].module);
        if (m->scale == t->scale) continue;
        z->report->modules_folded++;
        break;
    }
    return lt_adapter_out_add(z->out, &plan, &t->index, err);
}

/* ---- factors ------------------------------------------------------------------------
 */

/* Values that are written at a time. */
#define STRIP ((size_t)1 << 18)

static lt_status put_zeros(struct respelling *z, const struct target *t, lt_part part,
    uint64_t first, uint64_t count, lt_error *err)
{
    size_t most = count < STRIP ? (size_t)count : STRIP, n = 0;
    float *zeros = lt_alloc(most, sizeof *zeros, err);
    lt_status st = zeros ? LT_OK : LT_ERR_NOMEM;
    for (uint64_t done = 0; done < count && !st; done += n) {
        n = count - done < most ? (size_t)(count - done) : most;
        st = lt_adapter_out_put_part(z->out, t->index, part, first + done, zeros, n, err);
    }
    lt_free(zeros);
    return st;
}

/* The slice's rows of the new up factor, zeros beside them; up are its own rows. */
static lt_status put_up(struct respelling *z, const struct target *t,
    const struct slice *s, double *up, lt_error *err)
{
    const lt_module *m = lt_adapter_module(z->adapter, s->module);
    size_t r = (size_t)m->rank, rank = (size_t)t->rank, rows = (size_t)s->rows;
    size_t most = lt_min_size(STRIP / rank + 1, rows), n = 0;
    double by = m->scale / t->scale; /* 1 where alpha holds the scale */
    for (size_t i = 0; i < rows * r; i++)
        up[i] *= by;
    float *strip = lt_alloc(most * rank, sizeof *strip, err);
    lt_status st = strip ? LT_OK : LT_ERR_NOMEM;
    for (size_t at = 0; at < rows && !st; at += n) {
        n = lt_min_size(most, rows - at);
        for (size_t i = 0; i < n; i++)
            lt_store_f64(strip + i * rank + s->columns, up + (at + i) * r, LT_F32, r);
        st = lt_adapter_out_put_part(
            z->out, t->index, LT_PART_UP, (s->at + at) * rank, strip, n * rank, err);
    }
    lt_free(strip);
    return st;
}

static lt_status put_down(struct respelling *z, const struct target *t,
    const struct slice *s, const double *down, lt_error *err)
{
    const lt_module *m = lt_adapter_module(z->adapter, s->module);
    size_t n = (size_t)(m->rank * m->in);
    float *floats = lt_alloc_work(n, sizeof *floats, err);
    if (!floats) return LT_ERR_NOMEM;
    lt_store_f64(floats, down, LT_F32, n);
    lt_status st = lt_adapter_out_put_part(
        z->out, t->index, LT_PART_DOWN, s->columns * t->in, floats, n, err);
    lt_free(floats);
    return st;
}

/* has_down: an earlier slice has put the down factor. */
static lt_status write_slice(struct respelling *z, const struct target *t,
    const struct slice *s, bool has_down, lt_error *err)
{
    const lt_module *m = lt_adapter_module(z->adapter, s->module);
    if (s->rows > m->out - s->first || m->in != t->in || m->rank > t->rank - s->columns)
        return lt_error_set(
            err, LT_ERR_INTERNAL, "module '%s' does not fit '%s'", m->name, t->name);
    double *up = lt_alloc_work(m->out * m->rank, sizeof *up, err);
    double *down = lt_alloc_work(m->rank * m->in, sizeof *down, err);
    lt_status st =
        up && down ? lt_module_load(z->adapter, m, up, down, err) : LT_ERR_NOMEM;
    if (!st) st = put_up(z, t, s, up + s->first * m->rank, err);
    if (!st && !has_down) st = put_down(z, t, s, down, err);
    lt_free(down);
    lt_free(up);
    return st;
}

/* Slice by slice, so that no more than one old module is held. */
static lt_status write_target(struct respelling *z, const struct target *t, lt_error *err)
{
    uint64_t row = 0, columns = 0;
    lt_status st = LT_OK;
    for (size_t i = 0; i < t->n_slices && !st; i++) {
        const struct slice *s = &t->slices[i];
        bool has_down = s->columns < columns;
        st = put_zeros(z, t, LT_PART_UP, row * t->rank, (s->at - row) * t->rank, err);
        if (!st) st = write_slice(z, t, s, has_down, err);
        row = s->at + s->rows;
        if (!has_down) columns += lt_adapter_module(z->adapter, s->module)->rank;
    }
    if (!st)
        st = put_zeros(z, t, LT_PART_UP, row * t->rank, (t->out - row) * t->rank, err);
    if (!st)
        st = put_zeros(
            z, t, LT_PART_DOWN, columns * t->in, (t->rank - columns) * t->in, err);
    return st ? lt_error_where(err, "%s", lt_adapter_path(z->adapter)) : LT_OK;
}

/* ---- all of it ----------------------------------------------------------------------
 */

static lt_status check_consumer(const struct respelling *z, lt_error *err)
{
    const lt_consumer *c = z->consumer;
    const lt_family *family = lt_model_family(z->base.model);
    if (!c) return LT_OK;
    if (!lt_consumer_takes(c, family))
        return lt_error_set(err, LT_ERR_MISMATCH, "%s loads no adapters of %s", c->title,
            lt_family_title(family));
    if (c->folder && !lt_adapter_path_is_folder(z->options->output))
        return lt_error_set(err, LT_ERR_ARG,
            "%s loads adapters from folders: let the output end in '/'", c->title);
    return LT_OK;
}

static lt_status open_base(struct respelling *z, lt_error *err)
{
    lt_status st = lt_open_base(&z->base.store, z->options->base, err);
    if (!st) st = lt_model_new(&z->base.model, z->base.store, err);
    return st ? st : lt_alias_map_new(&z->base.aliases, z->base.model, err);
}

static lt_status guess_base(struct respelling *z, lt_error *err)
{
    lt_naming naming = lt_dialect_naming(z->dialect);
    return lt_guess_base(&z->base, z->adapter, z->options->family, naming, err);
}

static lt_status open_inputs(struct respelling *z, lt_error *err)
{
    const lt_respell_options *o = z->options;
    z->adapter = o->adapter;
    z->consumer = o->consumer ? lt_consumer_by_id(o->consumer) : NULL;
    if (o->consumer && !z->consumer)
        return lt_error_set(err, LT_ERR_ARG,
            "unknown program '%s' (a1111, forge, comfyui, sd-scripts, diffusers, peft, "
            "invoke or sd.cpp)",
            o->consumer);
    z->dialect = lt_dialect_by_id(z->consumer ? z->consumer->dialect : o->to);
    if (!z->dialect)
        return lt_error_set(err, LT_ERR_ARG,
            "unknown dialect '%s' (kohya, diffusers, peft, comfyui or bfl)", o->to);
    lt_status st = lt_parse_dtype(o->dtype, &z->cast, &z->dtype, err);
    if (!st && !z->adapter) st = lt_adapter_open(&z->adapter, o->input, err);
    if (!st) st = lt_adapter_usable(z->adapter, err);
    if (!st) st = o->base ? open_base(z, err) : guess_base(z, err);
    if (!st) st = lt_linalg_load(err); /* for Tucker cores */
    return st ? st : check_consumer(z, err);
}

static lt_status judge(struct respelling *z, lt_error *err)
{
    const lt_notes *u = &z->report->unmatched;
    if (z->n_targets && (!u->count || z->options->allow_unmatched)) return LT_OK;
    const lt_note *first = &u->items[0];
    if (z->n_targets)
        lt_error_set(err, LT_ERR_MISMATCH,
            "%zu of the adapter's modules or tensors have no place in the output, first "
            "'%s' (%s)",
            u->count, first->name, first->reason);
    else
        lt_error_set(err, LT_ERR_MISMATCH,
            "no module of the adapter fits the base: it is for %s, the base is %s; first "
            "'%s' (%s)",
            lt_family_title(lt_adapter_family(z->adapter)),
            lt_family_title(lt_model_family(z->base.model)), first->name, first->reason);
    return lt_error_where(err, "%s", lt_adapter_path(z->adapter));
}

static lt_status place_all(struct respelling *z, lt_error *err)
{
    lt_status st = LT_OK;
    z->report->modules_read = lt_adapter_module_count(z->adapter);
    st = lt_notes_add_assumed(&z->report->assumed, z->adapter, err);
    for (size_t i = 0; i < lt_adapter_module_count(z->adapter) && !st; i++)
        st = place_module(z, i, err);
    for (size_t i = 0; i < lt_adapter_rest_count(z->adapter) && !st; i++)
        st = lt_notes_add(&z->report->unmatched, lt_adapter_rest(z->adapter, i)->name, 0,
            err, "it belongs to no module");
    return st ? st : judge(z, err);
}

/* What training wrote goes along; hashes become the new file's own. */
static lt_status copy_metadata(struct respelling *z, lt_error *err)
{
    const lt_store *store = lt_adapter_store(z->adapter);
    lt_metadata *to = lt_adapter_out_metadata(z->out);
    lt_status st = lt_metadata_copy(to, lt_store_metadata(store), err);
    /* diffusers' copy of PEFT's config would name the old modules. */
    if (!st) lt_metadata_remove(to, "lora_adapter_metadata");
    if (!st) st = lt_notes_add_asides(&z->report->dropped, store, err);
    return st ? st
              : lt_notes_add_metadata(
                  &z->report->dropped, lt_adapter_out_writer(z->out), store, err);
}

static lt_status write_all(struct respelling *z, lt_error *err)
{
    const lt_respell_options *o = z->options;
    lt_adapter_plan plan = { .path = o->output,
        .format = o->format,
        .dialect = z->dialect,
        .unsure = lt_adapter_lacks_config(z->adapter),
        .overwrite = o->overwrite,
        .family = lt_model_family(z->base.model) };
    lt_status st = lt_adapter_out_new(&z->out, &plan, err);
    if (st) return st;
    z->keeps_alpha =
        lt_dialect_holds_alpha(z->dialect) || lt_adapter_out_is_folder(z->out);
    const char *config = lt_adapter_config(z->adapter);
    if (config && lt_adapter_out_is_folder(z->out))
        st = lt_adapter_out_template(z->out, config, err);
    if (!st) st = copy_metadata(z, err);
    for (size_t i = 0; i < z->n_targets && !st; i++)
        st = plan_target(z, &z->targets[i], err);
    if (!st) st = lt_adapter_out_begin(z->out, err);
    for (size_t i = 0; i < z->n_targets && !st; i++)
        st = write_target(z, &z->targets[i], err);
    if (!st) st = lt_store_unchanged(lt_adapter_store(z->adapter), err);
    if (!st) st = lt_store_unchanged(z->base.store, err);
    if (!st) st = lt_adapter_out_commit(z->out, err);
    if (st) return st;
    z->report->modules_written = z->n_targets;
    z->report->cost.bytes = lt_adapter_out_size(z->out);
    return LT_OK;
}

lt_status lt_respell(
    const lt_respell_options *options, lt_respell_report *report, lt_error *err)
{
    double started = lt_now();
    *report = (lt_respell_report){ 0 };
    struct respelling z = { .options = options, .report = report };
    lt_status st = open_inputs(&z, err);
    if (!st) st = place_all(&z, err);
    if (!st) st = write_all(&z, err);
    if (z.adapter) report->from = lt_dialect_id(lt_adapter_dialect(z.adapter));
    if (z.dialect) report->to = lt_dialect_id(z.dialect);
    if (z.base.model) report->family = lt_family_id(lt_model_family(z.base.model));
    lt_adapter_out_close(z.out);
    for (size_t i = 0; i < z.n_targets; i++)
        free(z.targets[i].slices);
    free(z.targets);
    lt_map_release(&z.by_name);
    lt_arena_release(&z.arena);
    lt_guess_release(&z.base);
    lt_adapter_free(z.adapter);
    lt_cost_finish(&report->cost, started);
    return st;
}

void lt_respell_report_release(lt_respell_report *r)
{
    lt_notes_release(&r->unmatched);
    lt_notes_release(&r->assumed);
    lt_notes_release(&r->dropped);
    *r = (lt_respell_report){ 0 };
}
