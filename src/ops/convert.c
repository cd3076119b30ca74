/* SPDX-License-Identifier: MIT */
/* Tensors of one container into another: byte for byte, or cast to another type. */
#include "adapter/hashes.h"
#include "base/pool.h"
#include "ops/cast.h"
#include "ops/ema.h"
#include "ops/sidecars.h"

#include <stdlib.h>
#include <string.h>

/* One tensor to write. */
struct item {
    const lt_tensor *from;
    size_t index; /* in the writer */
    lt_dtype dtype;
    bool shared; /* the same memory as another one: nothing to put */
};

struct converting {
    const lt_convert_options *options;
    lt_convert_report *report;
    lt_store *store;
    lt_writer *writer;
    lt_ema_map ema;
    struct item *items;
    size_t n_items, done;
    bool cast;
    lt_dtype dtype;
    int threads;
    lt_scratch *scratch;
};

/* ---- what is written --------------------------------------------------------------- */

static lt_status prepare_ema(struct converting *c, lt_error *err)
{
    lt_status st = lt_ema_find(&c->ema, c->store, err);
    if (st || c->options->ema != LT_EMA_USE) return st;
    if (!c->ema.mapped) {
        lt_error_set(err, LT_ERR_MISMATCH, "holds no EMA copy of its weights to use");
        return lt_error_where(err, "%s", lt_store_path(c->store));
    }
    const lt_tensor *orphan = c->ema.orphan, *second = c->ema.second;
    if (orphan)
        lt_error_set(err, LT_ERR_MISMATCH,
            "is an EMA copy of no tensor of the model and its shape, or of two");
    else if (second)
        lt_error_set(err, LT_ERR_MISMATCH, "is a second EMA copy of '%s', beside '%s'",
            c->ema.twice->name, c->ema.of[lt_store_index(c->store, c->ema.twice)]->name);
    if (!orphan && !second) return LT_OK;
    return lt_store_blame(c->store, orphan ? orphan : second, err);
}

/* A tensor of the EMA copy, unless all are kept. */
static lt_status leave_out(struct converting *c, size_t i, lt_error *err)
{
    bool used = c->options->ema == LT_EMA_USE;
    c->report->ema_dropped += !used;
    if (!used || c->ema.is_copy[i]) return LT_OK;
    return lt_notes_add(&c->report->dropped, lt_store_at(c->store, i)->name, 0, err,
        "a number beside the averages, of no tensor of the model");
}

static lt_status add_tensor(struct converting *c, size_t i, lt_error *err)
{
    const lt_tensor *t = lt_store_at(c->store, i);
    struct item *item = &c->items[c->n_items];
    if (c->options->ema != LT_EMA_KEEP && c->ema.is_ema[i]) return leave_out(c, i, err);
    *item = (struct item){ .from = t };
    if (c->options->ema == LT_EMA_USE && c->ema.of[i]) {
        item->from = c->ema.of[i];
        c->report->ema_used++;
    }
    item->dtype = c->cast ? lt_cast_dtype(item->from, c->dtype) : item->from->dtype;
    if (item->dtype != item->from->dtype) {
        lt_status st = lt_refuse_scaled(c->store, item->from, err);
        if (st) return st;
    }
    c->report->cast += item->dtype != item->from->dtype;
    c->n_items++;
    return lt_writer_add(
        c->writer, t->name, item->dtype, t->n_dims, t->shape, &item->index, err);
}

/* Tensors that are the same memory stay so where the format can hold it. */
static lt_status add_aliases(struct converting *c, lt_error *err)
{
    size_t n = lt_store_count(c->store);
    size_t *item_of = lt_alloc(n, sizeof *item_of, err);
    if (!item_of) return LT_ERR_NOMEM;
    for (size_t i = 0; i < c->n_items; i++) {
        size_t at = lt_store_index(c->store, c->items[i].from);
        size_t of = item_of[lt_store_alias(c->store, at)];
        if (of) {
            lt_writer_alias(c->writer, c->items[i].index, c->items[of - 1].index,
                &c->items[i].shared);
            c->report->shared += c->items[i].shared;
            c->report->copies += !c->items[i].shared && c->items[i].from->size;
        } else {
            item_of[lt_store_alias(c->store, at)] = i + 1;
        }
    }
    lt_free(item_of);
    return LT_OK;
}

static lt_status note_dropped(struct converting *c, lt_error *err)
{
    lt_convert_report *r = c->report;
    lt_status st = lt_notes_add_asides(&r->dropped, c->store, err);
    for (size_t i = 0; i < lt_store_global_count(c->store) && !st; i++) {
        const lt_global *g = lt_store_global(c->store, i);
        if (g->verdict != LT_PLAIN)
            st = lt_notes_add(
                &r->globals, g->name, 0, err, "%s", lt_verdict_text(g->verdict));
    }
    if (!st) st = lt_notes_add_metadata(&r->dropped, c->writer, c->store, err);
    return st;
}

static lt_status declare(struct converting *c, lt_error *err)
{
    size_t n = lt_store_count(c->store);
    bool plain = !strcmp(lt_store_container(c->store), "safetensors");
    c->items = calloc(n + 1, sizeof *c->items);
    if (!c->items) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    lt_status st = prepare_ema(c, err);
    for (size_t i = 0; i < n && !st; i++)
        st = add_tensor(c, i, err);
    if (!st && !c->n_items)
        st = lt_error_set(err, LT_ERR_MISMATCH, "there is no tensor to write");
    if (!st) st = add_aliases(c, err);
    if (!st)
        st = lt_metadata_copy(
            lt_writer_metadata(c->writer), lt_store_metadata(c->store), err);
    /* transformers refuses safetensors files that do not say so. */
    if (!st && !lt_store_metadata(c->store)->count)
        st = lt_metadata_set(lt_writer_metadata(c->writer), "format", "pt", err);
    lt_order order = plain ? LT_ORDER_GIVEN : LT_ORDER_REFERENCE;
    if (!st) st = lt_writer_plan(c->writer, order, err);
    if (!st) st = lt_hashes_reserve(c->writer, err);
    if (!st) st = lt_writer_begin(c->writer, order, err);
    return st ? st : note_dropped(c, err);
}

/* ---- how --------------------------------------------------------------------------- */

static lt_status convert_one(void *ctx, size_t i, lt_worker *worker, lt_error *err)
{
    struct converting *c = ctx;
    const struct item *item = &c->items[i];
    if (item->shared) return LT_OK;
    return lt_cast_copy(c->writer, item->index, item->dtype, c->store, item->from,
        &c->scratch[lt_worker_index(worker)], err);
}

static void convert_done(void *ctx, size_t i)
{
    struct converting *c = ctx;
    const lt_progress *p = &c->options->progress;
    c->done++;
    if (p->tick) p->tick(p->ctx, c->done, c->n_items, c->items[i].from->name);
}

/* PEFT's config goes along into a folder, as one of the files beside the weights, or is
 * that of the output already. */
static lt_status keeps_config(const struct converting *c, bool *keeps, lt_error *err)
{
    const char *output = c->options->output;
    *keeps = lt_store_folder(c->store) != NULL;
    if (lt_path_is_folder_output(output)) return LT_OK;
    return lt_adapter_keeps_config(c->options->input, output, keeps, err);
}

/* *needs: without its config the adapter would be another one. A config of a kind that is
 * not understood counts as such; why: what there is to say of that. */
static lt_status needs_config(
    const struct converting *c, bool *needs, lt_error *why, lt_error *err)
{
    lt_adapter *adapter = NULL;
    *needs = false;
    if (!lt_store_holds_adapter(c->store)) return LT_OK;
    lt_status st = lt_adapter_open(&adapter, c->options->input, why);
    *needs = st || lt_adapter_needs_config(adapter);
    lt_adapter_free(adapter);
    if (st != LT_ERR_NOMEM && st != LT_ERR_IO) return LT_OK;
    if (err) *err = *why;
    return st;
}

/* One file has no place for the config. */
static lt_status judge_config(struct converting *c, lt_error *err)
{
    const char *input = c->options->input;
    lt_error why = LT_ERROR_INIT;
    bool has = false, keeps = false, needs = false;
    lt_status st = lt_adapter_has_config(input, &has, err);
    if (!st && has) st = keeps_config(c, &keeps, err);
    if (!st && has && !keeps) st = needs_config(c, &needs, &why, err);
    if (st || !has || keeps) return st;
    if (!needs || c->options->allow_unmatched)
        return lt_notes_add(&c->report->dropped, "adapter_config.json", 0, err,
            "PEFT's config: the output has no place for it");
    lt_error_set(err, LT_ERR_MISMATCH,
        "its adapter_config.json says what the factors are for (scale, kind, other "
        "tensors), and the output has no place for it: convert the folder into a folder "
        "(DIR/), or to another dialect (--to), or give --allow-unmatched%s%.200s%s",
        *why.msg ? " (" : "", why.msg, *why.msg ? ")" : "");
    return lt_error_where(err, "%s", input);
}

static lt_status open_both(struct converting *c, lt_error *err)
{
    const lt_convert_options *o = c->options;
    lt_reading reading = o->everything ? LT_READ_EVERYTHING : LT_READ_MODEL;
    c->threads = lt_thread_count(o->threads);
    c->scratch = lt_alloc((uint64_t)c->threads, sizeof *c->scratch, err);
    lt_status st = c->scratch ? LT_OK : LT_ERR_NOMEM;
    if (!st) st = lt_parse_dtype(o->dtype, &c->cast, &c->dtype, err);
    if (!st) st = lt_store_open_as(&c->store, o->input, reading, err);
    if (!st) st = lt_store_usable(c->store, o->salvage, err);
    if (st) return st;
    c->report->from = lt_store_container(c->store);
    st = judge_config(c, err);
    if (st) return st;
    lt_output output = { .path = o->output,
        .format = o->format,
        .overwrite = o->overwrite,
        .folder = lt_path_is_folder_output(o->output),
        .wrapper = lt_store_wrapper(c->store),
        .like = c->store,
        .max_shard_size = o->max_shard_size };
    return lt_writer_new(&c->writer, &output, err);
}

static lt_status run_all(struct converting *c, lt_error *err)
{
    lt_convert_report *r = c->report;
    lt_status st = open_both(c, err);
    if (!st) st = declare(c, err);
    if (!st)
        st = lt_pool_run(&(lt_job){ .threads = c->threads,
                             .n_items = c->n_items,
                             .work = convert_one,
                             .done = convert_done,
                             .ctx = c },
            err);
    if (!st)
        st = lt_sidecars_copy(
            c->writer, c->store, c->options->output, &r->sidecars, &r->dropped, err);
    if (!st) st = lt_hashes_fill(c->writer, err);
    if (!st) st = lt_store_unchanged(c->store, err);
    if (!st) st = lt_writer_commit(c->writer, err);
    if (st) return st;
    r->tensors = c->n_items;
    r->files = lt_writer_file_count(c->writer) + r->sidecars;
    r->cost.bytes = lt_writer_size(c->writer);
    return LT_OK;
}

lt_status lt_convert(
    const lt_convert_options *options, lt_convert_report *report, lt_error *err)
{
    double started = lt_now();
    *report = (lt_convert_report){ 0 };
    struct converting c = { .options = options, .report = report };
    lt_status st = run_all(&c, err);
    for (int i = 0; c.scratch && i < c.threads; i++)
        lt_scratch_release(&c.scratch[i]);
    lt_free(c.scratch);
    lt_writer_close(c.writer);
    lt_ema_release(&c.ema);
    lt_store_close(c.store);
    free(c.items);
    lt_cost_finish(&report->cost, started);
    return st;
}

void lt_convert_report_release(lt_convert_report *r)
{
    lt_notes_release(&r->dropped);
    lt_notes_release(&r->globals);
    *r = (lt_convert_report){ 0 };
}
