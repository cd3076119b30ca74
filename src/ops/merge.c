/* SPDX-License-Identifier: MIT */
/* W' = W + sum_i weight_i * scale_i * up_i * down_i, that of double precision rounded
 * once to the tensor's own type. Touched tensors are worked on in row tiles; the rest is
 * copied.
 */
#include "ops/merge.h"

#include "adapter/hashes.h"
#include "base/pool.h"
#include "ops/cast.h"
#include "ops/sidecars.h"
#include "tensor/linalg.h"

#include <stdlib.h>
#include <string.h>

struct merging {
    lt_merge_run *run;
    lt_writer *writer;
    lt_scratch *scratch;
    bool *shared; /* of each tensor: the same memory as another in the output too */
    size_t done;
};

#define TILE_MEMORY ((uint64_t)8 << 20) /* of a worker, or what a copy goes through */

enum slot { S_RAW, S_MERGED };

static lt_dtype target_dtype(const lt_merge_run *run, const lt_tensor *t)
{
    return run->cast ? lt_cast_dtype(t, run->dtype) : t->dtype;
}

static lt_status compute_tensor(const struct merging *g, size_t t, const lt_sum *sum,
    lt_scratch *scratch, lt_error *err)
{
    const lt_tensor *from = lt_store_at(g->run->base, t);
    uint64_t rows = lt_tensor_rows(from), columns = sum->columns;
    uint64_t step = lt_sum_step(sum);
    if (step > rows) step = rows;
    size_t in = lt_dtype_get(sum->from)->bits / 8, out = lt_dtype_get(sum->to)->bits / 8;
    void *raw = lt_scratch_get(scratch, S_RAW, step * columns, in, err);
    void *merged = lt_scratch_get(scratch, S_MERGED, step * columns, out, err);
    if (!raw || !merged) return LT_ERR_NOMEM;
    for (uint64_t row = 0; row < rows && columns; row += step) {
        uint64_t now = rows - row < step ? rows - row : step, first = row * columns;
        size_t n = (size_t)(now * columns);
        lt_status st = lt_store_read(g->run->base, from, first * in, raw, n * in, err);
        if (st) return st;
        st = lt_sum_tile(sum, (size_t)row, (size_t)now, raw, merged, scratch, NULL, err);
        if (st) return lt_store_blame(g->run->base, from, err);
        st = lt_writer_put(g->writer, t, first * out, merged, n * out, err);
        if (st) return st;
    }
    return LT_OK;
}

static lt_status change_tensor(
    const struct merging *g, size_t t, lt_dtype dtype, lt_scratch *scratch, lt_error *err)
{
    const lt_tensor *from = lt_store_at(g->run->base, t);
    lt_sum sum = {
        .from = from->dtype, .to = dtype, .columns = (size_t)lt_tensor_columns(from)
    };
    lt_status st = lt_merge_load(g->run, t, &sum, err);
    if (!st) st = compute_tensor(g, t, &sum, scratch, err);
    lt_merge_unload(&sum);
    return st;
}

static lt_status merge_tensor(void *ctx, size_t t, lt_worker *worker, lt_error *err)
{
    struct merging *g = ctx;
    const lt_tensor *from = lt_store_at(g->run->base, t);
    if (g->shared[t]) return LT_OK;
    const lt_replacement *own = &g->run->replacements[t];
    lt_scratch *scratch = &g->scratch[lt_worker_index(worker)];
    lt_dtype dtype = target_dtype(g->run, from);
    if (own->tensor)
        return lt_cast_copy(g->writer, t, dtype, own->store, own->tensor, scratch, err);
    if (!lt_merge_touches(g->run, t))
        return lt_cast_copy(g->writer, t, dtype, g->run->base, from, scratch, err);
    return change_tensor(g, t, dtype, scratch, err);
}

/* Factors in double and float32, the latter both ways round, and what a tile takes beside
 * them. */
static uint64_t need(void *ctx, size_t t)
{
    const struct merging *g = ctx;
    const lt_merge_run *run = g->run;
    uint64_t elements = 0;
    for (size_t i = run->first_part[t]; i < run->first_part[t + 1]; i++) {
        const lt_contribution *part = &run->parts[i];
        const lt_module *m = part->module;
        elements += (part->site->out + part->site->in) * m->rank;
        if (part->spread || part->site->out != m->out) elements += m->out * m->rank / 2;
    }
    return 20 * elements + TILE_MEMORY;
}

static void merge_done(void *ctx, size_t t)
{
    struct merging *g = ctx;
    const lt_progress *p = &g->run->options->progress;
    g->done++;
    if (p->tick)
        p->tick(p->ctx, g->done, lt_store_count(g->run->base),
            lt_store_at(g->run->base, t)->name);
}

/* A tied weight stays tied where the format can hold that and neither twin changes. */
static void declare_twin(struct merging *g, size_t t)
{
    size_t twin = lt_store_alias(g->run->base, t);
    if (twin == t || lt_merge_touches(g->run, t) || lt_merge_touches(g->run, twin))
        return;
    lt_writer_alias(g->writer, t, twin, &g->shared[t]);
}

static lt_status declare(struct merging *g, lt_error *err)
{
    lt_merge_run *run = g->run;
    lt_writer *w = g->writer;
    bool plain = !strcmp(lt_store_container(run->base), "safetensors");
    lt_order order = plain ? LT_ORDER_GIVEN : LT_ORDER_REFERENCE;
    lt_metadata *meta = lt_writer_metadata(w);
    lt_status st = lt_metadata_copy(meta, lt_store_metadata(run->base), err);
    /* transformers refuses safetensors files that do not say so. */
    if (!st && !plain) st = lt_metadata_set(meta, "format", "pt", err);
    for (size_t i = 0; i < lt_store_count(run->base) && !st; i++) {
        const lt_tensor *t = lt_store_at(run->base, i);
        st = lt_writer_add(
            w, t->name, target_dtype(run, t), t->n_dims, t->shape, NULL, err);
        if (!st) declare_twin(g, i);
    }
    if (!st) st = lt_writer_plan(w, order, err);
    if (!st) st = lt_hashes_reserve(w, err);
    return st ? st : lt_writer_begin(w, order, err);
}

static void count_tensors(lt_merge_run *run)
{
    lt_merge_report *r = run->report;
    for (size_t t = 0; t < lt_store_count(run->base); t++) {
        const lt_tensor *from = lt_store_at(run->base, t);
        if (lt_merge_touches(run, t))
            r->tensors_changed++;
        else if (target_dtype(run, from) != from->dtype)
            r->tensors_cast++;
        else
            r->tensors_passed_through++;
    }
}

static lt_status open_output(struct merging *g, lt_error *err)
{
    const lt_merge_options *o = g->run->options;
    lt_output output = { .path = o->output,
        .format = o->format,
        .overwrite = o->overwrite,
        .folder = lt_path_is_folder_output(o->output),
        .wrapper = lt_store_wrapper(g->run->base),
        .like = g->run->base,
        .max_shard_size = o->max_shard_size };
    return lt_writer_new(&g->writer, &output, err);
}

static lt_status inputs_unchanged(const lt_merge_run *run, lt_error *err)
{
    lt_status st = lt_store_unchanged(run->base, err);
    for (size_t i = 0; i < run->options->n_inputs && !st; i++)
        st = lt_store_unchanged(lt_adapter_store(run->adapters[i]), err);
    return st;
}

static lt_status fill_output(struct merging *g, lt_error *err)
{
    lt_merge_run *run = g->run;
    lt_merge_report *r = run->report;
    size_t n = lt_store_count(run->base);
    lt_status st = open_output(g, err);
    if (!st) st = declare(g, err);
    if (!st) st = lt_notes_add_asides(&r->dropped, run->base, err);
    if (!st) st = lt_notes_add_metadata(&r->dropped, g->writer, run->base, err);
    lt_job job = { .threads = run->threads,
        .memory = run->options->memory,
        .n_items = n,
        .work = merge_tensor,
        .need = need,
        .done = merge_done,
        .ctx = g };
    if (!st) st = lt_pool_run(&job, err);
    if (!st) st = lt_hashes_fill(g->writer, err);
    if (!st)
        st = lt_sidecars_copy(
            g->writer, run->base, run->options->output, &r->sidecars, &r->dropped, err);
    if (!st) st = inputs_unchanged(run, err);
    if (!st) st = lt_writer_commit(g->writer, err);
    if (st) return st;
    r->files = lt_writer_file_count(g->writer) + r->sidecars;
    r->cost.bytes = lt_writer_size(g->writer);
    return LT_OK;
}

static lt_status write_model(lt_merge_run *run, lt_error *err)
{
    struct merging g = { .run = run };
    run->threads = lt_thread_count(run->options->threads);
    g.scratch = lt_alloc((uint64_t)run->threads, sizeof *g.scratch, err);
    g.shared = lt_alloc(lt_store_count(run->base), sizeof *g.shared, err);
    lt_status st = g.scratch && g.shared ? lt_linalg_load(err) : LT_ERR_NOMEM;
    if (!st) st = fill_output(&g, err);
    lt_writer_close(g.writer);
    for (int i = 0; g.scratch && i < run->threads; i++)
        lt_scratch_release(&g.scratch[i]);
    lt_free(g.scratch);
    lt_free(g.shared);
    return st;
}

lt_status lt_merge(
    const lt_merge_options *options, lt_merge_report *report, lt_error *err)
{
    double started = lt_now();
    *report = (lt_merge_report){ 0 };
    lt_merge_run run = { .options = options, .report = report };
    lt_status st = lt_merge_plan(&run, err);
    if (!st) count_tensors(&run);
    if (!st && !options->dry_run) st = write_model(&run, err);
    for (size_t i = 0; run.adapters && i < options->n_inputs; i++)
        lt_adapter_free(run.adapters[i]);
    free(run.adapters);
    free(run.parts);
    lt_free(run.first_part);
    lt_free(run.replacements);
    lt_model_free(run.model);
    lt_store_close(run.base);
    report->memory = run.arena.head;
    lt_cost_finish(&report->cost, started);
    return st;
}

void lt_merge_report_release(lt_merge_report *r)
{
    lt_arena arena = { .head = r->memory };
    lt_arena_release(&arena);
    lt_notes_release(&r->unmatched);
    lt_notes_release(&r->untouched);
    lt_notes_release(&r->assumed);
    lt_notes_release(&r->redundant);
    lt_notes_release(&r->dropped);
    free(r->applied);
    *r = (lt_merge_report){ 0 };
}
