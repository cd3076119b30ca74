/* SPDX-License-Identifier: MIT */
#include "synth.h"

#include "base/mem.h"
#include "loratool/adapter.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum purpose { P_UP = 16, P_DOWN };

struct module {
    const lt_site *site;
    lt_module_plan plan;
    char name[512];
    size_t index;
};

struct run {
    const synth_job *job;
    lt_store *store;
    lt_model *model;
    lt_adapter_out *out;
    lt_naming naming;
    struct module *modules;
    size_t count;
};

/* ---- a checkpoint without content ----------------------------------------------------
 */

/* The header of a safetensors file; names of layouts need no escapes. */
static void print_header(FILE *to, const synth_layout *l, uint64_t *data_size)
{
    uint64_t at = 0;
    fputc('{', to);
    for (size_t i = 0; i < l->count; i++) {
        const lt_tensor *t = &l->items[i];
        fprintf(to, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", i ? "," : "", t->name,
            lt_dtype_get(t->dtype)->name);
        for (unsigned d = 0; d < t->n_dims; d++)
            fprintf(to, "%s%" PRIu64, d ? "," : "", t->shape[d]);
        fprintf(to, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", at, at + t->size);
        at += t->size;
    }
    fputc('}', to);
    *data_size = at;
}

static bool write_hollow(FILE *to, const synth_layout *l)
{
    uint64_t header = 0, data = 0;
    if (fwrite(&header, sizeof header, 1, to) != 1) return false;
    print_header(to, l, &data);
    off_t end = ftello(to);
    if (end < 0) return false;
    header = (uint64_t)end - sizeof header;
    if (fseeko(to, 0, SEEK_SET) || fwrite(&header, sizeof header, 1, to) != 1)
        return false;
    return !fflush(to) && !ferror(to) && !ftruncate(fileno(to), end + (off_t)data);
}

/* The library knows models by their files: this one is a hole behind a header, and gone
 * from its folder as soon as it is open. */
static lt_status open_hollow(lt_store **out, const synth_layout *l, lt_error *err)
{
    char path[4096];
    const char *folder = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/synth-XXXXXX", folder && *folder ? folder : "/tmp");
    int fd = mkstemp(path);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "wb");
    bool ok = f && write_hollow(f, l);
    int sys = errno;
    if (f) fclose(f);
    lt_status st = ok
        ? lt_store_open(out, path, err)
        : lt_error_sys(err, sys, "cannot write %s: %s", path, strerror(sys));
    if (fd >= 0) unlink(path);
    return st;
}

/* ---- the adapter ---------------------------------------------------------------------
 */

static bool is_wanted(const struct run *run, const lt_site *s, char *name, size_t size)
{
    lt_site_name(s, run->naming, name, size);
    return *name && (s->standard || run->naming != LT_NAMING_KOHYA);
}

static void plan_module(const struct run *run, struct module *m)
{
    const lt_site *s = m->site;
    const lt_tensor *t = s->tensor;
    bool kernel = t->n_dims > 2 && t->shape[1] < lt_tensor_columns(t);
    uint64_t rank = kernel && run->job->conv_rank ? run->job->conv_rank : run->job->rank;
    if (rank > s->out) rank = s->out;
    if (rank > s->in) rank = s->in;
    m->plan = (lt_module_plan){ .name = m->name,
        .n_dims = s->transposed ? 2 : t->n_dims,
        .rank = rank,
        .alpha = (double)rank / 2,
        .dtype = run->job->dtype,
        .fan_in_fan_out = s->transposed };
    memcpy(m->plan.shape, t->shape, t->n_dims * sizeof *t->shape);
    m->plan.shape[0] = s->out;
    if (s->transposed) m->plan.shape[1] = s->in;
}

static lt_status plan(struct run *run, lt_error *err)
{
    size_t sites = lt_model_site_count(run->model);
    run->modules = lt_alloc(sites, sizeof *run->modules, err);
    lt_status st = run->modules ? LT_OK : LT_ERR_NOMEM;
    for (size_t i = 0; i < sites && !st; i++) {
        struct module *m = &run->modules[run->count];
        m->site = lt_model_site(run->model, i);
        if (!is_wanted(run, m->site, m->name, sizeof m->name)) continue;
        plan_module(run, m);
        run->count++;
        st = lt_adapter_out_add(run->out, &m->plan, &m->index, err);
    }
    if (!st && !run->count)
        st = lt_error_set(err, LT_ERR_MISMATCH, "adapters have no names for its modules");
    return st ? st : lt_adapter_out_begin(run->out, err);
}

/* Factors whose product, times alpha / rank, has the norm that was asked for. */
static lt_status put_module(struct run *run, const struct module *m, lt_error *err)
{
    const synth_noise *noise = run->job->noise;
    uint64_t out = m->site->out, in = m->site->in, rank = m->plan.rank;
    float *up = lt_alloc_work(out * rank, sizeof *up, err);
    float *down = lt_alloc_work(rank * in, sizeof *down, err);
    lt_status st = up && down ? LT_OK : LT_ERR_NOMEM;
    if (!st) {
        double scale = m->plan.alpha / (double)rank;
        double element = run->job->strength * synth_deviation(m->site->tensor) / scale;
        float deviation = (float)sqrt(element / sqrt((double)rank));
        synth_noise_fill(noise, synth_noise_stream(noise, m->name, P_UP), 0,
            (size_t)(out * rank), 0, deviation, up);
        synth_noise_fill(noise, synth_noise_stream(noise, m->name, P_DOWN), 0,
            (size_t)(rank * in), 0, deviation, down);
        st = lt_adapter_out_put(run->out, m->index, up, down, err);
    }
    lt_free(down);
    lt_free(up);
    return st;
}

static lt_status write_all(struct run *run, lt_error *err)
{
    lt_status st = plan(run, err);
    for (size_t i = 0; i < run->count && !st; i++)
        st = put_module(run, &run->modules[i], err);
    return st ? st : lt_adapter_out_commit(run->out, err);
}

lt_status synth_write_adapter(const synth_job *job, lt_error *err)
{
    struct run run = { .job = job };
    lt_status st = job->base ? lt_store_open(&run.store, job->base, err)
                             : open_hollow(&run.store, job->layout, err);
    if (!st) st = lt_model_new(&run.model, run.store, err);
    if (!st) {
        const lt_family *family = lt_model_family(run.model);
        run.naming = lt_family_naming(family);
        lt_adapter_plan p = { .path = job->output,
            .overwrite = true,
            .family = family,
            .dialect = lt_dialect_of_naming(run.naming) };
        st = lt_adapter_out_new(&run.out, &p, err);
    }
    if (!st) st = write_all(&run, err);
    lt_adapter_out_close(run.out);
    lt_free(run.modules);
    lt_model_free(run.model);
    lt_store_close(run.store);
    return st;
}
