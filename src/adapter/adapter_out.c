/* SPDX-License-Identifier: MIT */
/* Writes adapters: one file, or PEFT's folder of two. Sizes are planned before any factor
 * is computed; hashes are filled in at the end, in place of placeholders of equal size.
 */
#include "adapter/hashes.h"
#include "adapter/kind.h"

#include "base/mem.h"
#include "base/outfile.h"
#include "base/outfolder.h"
#include "base/source.h"
#include "format/extra.h"
#include "tensor/convert.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct entry {
    size_t up, down, alpha; /* writer indices */
    uint64_t up_count, down_count;
    char *path; /* module path for PEFT's config */
    uint64_t rank;
    double alpha_value;
    lt_dtype dtype;
    bool conv, has_alpha;
    bool copied; /* its tensors are copies: there is nothing to put */
};

struct copy {
    const lt_store *store;
    const lt_tensor *tensor;
    size_t index;
};

struct lt_adapter_out {
    lt_adapter_plan plan;
    lt_writer *writer;
    lt_arena arena;
    struct entry *entries;
    size_t n_entries, entries_capacity;
    struct copy *copies;
    size_t n_copies, copies_capacity;
    bool fan_in_fan_out;
    lt_outfolder *folder;    /* NULL: the output is one file */
    char *template_text;     /* of adapter_config.json, or NULL */
    const char *config_path; /* in folder, where it is written */
};

/* Length of the folder part of adapter_model.* with a config beside it, or -1. */
static int beside_config(const char *path)
{
    char config[4200];
    int dir = lt_adapter_config_beside(path, config, sizeof config);
    if (dir < 0) return -1;
    lt_path_kind kind;
    /* What cannot be looked at may be there: opening the folder tells the reason. */
    return lt_path_look(config, &kind, NULL) || kind != LT_PATH_NONE ? dir : -1;
}

bool lt_adapter_path_is_folder(const char *path)
{
    size_t n = strlen(path);
    if (!n || !strcmp(path, "-")) return false;
    return path[n - 1] == '/' || lt_is_folder(path) || beside_config(path) >= 0;
}

/* Where the files of a folder go; all of it as it will be called. */
struct place {
    char folder[4096], config[4200], other[4200];
    const char *file; /* name in the folder */
};

static lt_status find_place(const lt_adapter_out *o, struct place *p, lt_error *err)
{
    const char *path = o->plan.path;
    size_t n = strlen(path);
    if (n > sizeof p->folder - 64) return lt_error_set(err, LT_ERR_ARG, "path too long");
    int dir = beside_config(path);
    if (dir >= 0)
        snprintf(p->folder, sizeof p->folder, "%.*s", dir ? dir : 2, dir ? path : "./");
    else
        snprintf(
            p->folder, sizeof p->folder, "%s%s", path, path[n - 1] == '/' ? "" : "/");
    snprintf(p->config, sizeof p->config, "%sadapter_config.json", p->folder);
    bool torch = o->plan.format ? !strcmp(o->plan.format, "torch")
                                : dir >= 0 && n > 4 && !strcmp(path + n - 4, ".bin");
    p->file = torch ? "adapter_model.bin" : "adapter_model.safetensors";
    snprintf(p->other, sizeof p->other, "%sadapter_model.%s", p->folder,
        torch ? "safetensors" : "bin");
    return LT_OK;
}

static lt_status refuse_existing(const char *path, const char *why, lt_error *err)
{
    lt_path_kind kind;
    lt_status st = lt_path_look(path, &kind, err);
    if (st || kind == LT_PATH_NONE) return st;
    lt_error_set(err, LT_ERR_EXISTS, "%s", why);
    return lt_error_where(err, "%s", path);
}

/* A folder may hold other things already: its own files decide whether it is taken. */
static lt_status open_folder(lt_adapter_out *o, const char **file, lt_error *err)
{
    struct place p;
    lt_status st = find_place(o, &p, err);
    /* PEFT would take the other one, or the user would. */
    if (!st)
        st = refuse_existing(p.other,
            "is there already, which the output would not replace; remove it or choose "
            "another folder",
            err);
    if (!st && !o->plan.overwrite)
        st = refuse_existing(p.config, "the output exists; use -f to overwrite it", err);
    if (!st) st = lt_outfolder_open(&o->folder, p.folder, true, err);
    if (st) return st;
    o->config_path = lt_outfolder_file(o->folder, "adapter_config.json", err);
    *file = o->config_path ? lt_outfolder_file(o->folder, p.file, err) : NULL;
    return *file ? LT_OK : LT_ERR_NOMEM;
}

lt_status lt_adapter_out_new(
    lt_adapter_out **out, const lt_adapter_plan *plan, lt_error *err)
{
    const char *file = plan->path;
    *out = NULL;
    lt_adapter_out *o = calloc(1, sizeof *o);
    if (!o) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    o->plan = *plan;
    bool folder = lt_adapter_path_is_folder(plan->path);
    lt_status st = LT_OK;
    if (folder && plan->dialect->naming != LT_NAMING_PEFT)
        st = lt_error_set(err, LT_ERR_ARG,
            "the output is a folder, which only the peft dialect writes, not %s",
            plan->dialect->id);
    if (!st && folder) st = open_folder(o, &file, err);
    lt_output output = {
        .path = file, .format = plan->format, .overwrite = plan->overwrite
    };
    if (!st) st = lt_writer_new(&o->writer, &output, err);
    if (st) {
        lt_adapter_out_close(o);
        return st;
    }
    *out = o;
    return LT_OK;
}

void lt_adapter_out_close(lt_adapter_out *o)
{
    if (!o) return;
    lt_writer_close(o->writer);
    lt_outfolder_close(o->folder);
    lt_arena_release(&o->arena);
    free(o->entries);
    free(o->copies);
    free(o);
}

/* The module's path as PEFT's config names it. */
static char *module_path(lt_adapter_out *o, const char *name, lt_error *err)
{
    static const char wrapper[] = "base_model.model.";
    bool wrapped = !strncmp(name, wrapper, sizeof wrapper - 1);
    return lt_arena_strdup(&o->arena, wrapped ? name + sizeof wrapper - 1 : name, err);
}

/* The tensor's own name if the plan has one, else module name and suffix. */
static lt_status add_part(lt_adapter_out *o, const lt_module_plan *plan, const char *own,
    const char *suffix, lt_dtype dtype, unsigned n_dims, const uint64_t *shape,
    size_t *index, lt_error *err)
{
    const char *name = own;
    if (!plan->up_name)
        name = lt_arena_printf(&o->arena, err, "%s%s", plan->name, suffix);
    if (!name) return LT_ERR_NOMEM;
    return lt_writer_add(o->writer, name, dtype, n_dims, shape, index, err);
}

static lt_status add_parts(
    lt_adapter_out *o, const lt_module_plan *plan, struct entry *e, lt_error *err)
{
    const lt_dialect *d = o->plan.dialect;
    uint64_t up[LT_MAX_DIMS] = { plan->shape[0], plan->rank };
    uint64_t down[LT_MAX_DIMS] = { plan->rank };
    bool fit = lt_mul_size(plan->shape[0], plan->rank, &e->up_count);
    e->down_count = plan->rank;
    for (unsigned i = 1; i < plan->n_dims; i++) {
        down[i] = plan->shape[i];
        fit &= lt_mul_size(e->down_count, plan->shape[i], &e->down_count);
        if (i >= 2) up[i] = 1;
        if (i >= 2 && plan->shape[i] > 1) e->conv = true;
    }
    if (!fit)
        return lt_error_set(err, LT_ERR_LIMIT, "the factors' sizes overflow 64 bits");
    lt_status st = add_part(
        o, plan, plan->up_name, d->up, plan->dtype, plan->n_dims, up, &e->up, err);
    if (!st)
        st = add_part(o, plan, plan->down_name, d->down, plan->dtype, plan->n_dims, down,
            &e->down, err);
    e->has_alpha = plan->up_name ? plan->alpha_name != NULL : d->alpha;
    if (st || !e->has_alpha) return st;
    return add_part(o, plan, plan->alpha_name, ".alpha", LT_F32, 0, NULL, &e->alpha, err);
}

lt_status lt_adapter_out_add(
    lt_adapter_out *o, const lt_module_plan *plan, size_t *index, lt_error *err)
{
    lt_status st = lt_grow((void **)&o->entries, &o->entries_capacity, o->n_entries + 1,
        sizeof *o->entries, err);
    if (st) return st;
    struct entry e = { .rank = plan->rank,
        .alpha_value = plan->alpha,
        .dtype = plan->dtype,
        .path = module_path(o, plan->name, err) };
    st = e.path ? add_parts(o, plan, &e, err) : LT_ERR_NOMEM;
    if (st) return st;
    o->fan_in_fan_out |= plan->fan_in_fan_out;
    *index = o->n_entries;
    o->entries[o->n_entries++] = e;
    return LT_OK;
}

lt_status lt_adapter_out_add_copy(
    lt_adapter_out *o, const lt_store *store, const lt_tensor *tensor, lt_error *err)
{
    struct copy c = { store, tensor, 0 };
    lt_status st = lt_grow((void **)&o->copies, &o->copies_capacity, o->n_copies + 1,
        sizeof *o->copies, err);
    if (!st)
        st = lt_writer_add(o->writer, tensor->name, tensor->dtype, tensor->n_dims,
            tensor->shape, &c.index, err);
    if (!st) o->copies[o->n_copies++] = c;
    return st;
}

lt_status lt_adapter_out_add_module(
    lt_adapter_out *o, const lt_store *store, const lt_module *m, lt_error *err)
{
    lt_status st = lt_grow((void **)&o->entries, &o->entries_capacity, o->n_entries + 1,
        sizeof *o->entries, err);
    for (int p = 0; p < LT_PART_OTHER && !st; p++)
        if (m->part[p]) st = lt_adapter_out_add_copy(o, store, m->part[p], err);
    for (size_t i = 0; i < m->n_others && !st; i++)
        st = lt_adapter_out_add_copy(o, store, m->others[i], err);
    if (st || !m->rank) return st; /* kinds without factors have no rank to describe */
    struct entry e = { .rank = m->rank,
        .alpha_value = m->scale * (double)m->rank,
        .copied = true,
        .path = module_path(o, m->name, err),
        .conv = lt_module_has_kernel(m) };
    if (!e.path) return LT_ERR_NOMEM;
    o->entries[o->n_entries++] = e;
    return LT_OK;
}

lt_metadata *lt_adapter_out_metadata(lt_adapter_out *o)
{
    return lt_writer_metadata(o->writer);
}

lt_status lt_adapter_out_template(
    lt_adapter_out *o, const char *config_text, lt_error *err)
{
    o->template_text = lt_arena_strdup(&o->arena, config_text, err);
    return o->template_text ? LT_OK : LT_ERR_NOMEM;
}

static void widen(uint64_t rank, double alpha, uint64_t *rmin, uint64_t *rmax,
    double *amin, double *amax)
{
    bool first = *rmax == 0;
    if (first || rank < *rmin) *rmin = rank;
    if (first || alpha < *amin) *amin = alpha;
    if (first || alpha > *amax) *amax = alpha;
    if (first || rank > *rmax) *rmax = rank;
}

static lt_network_summary summarise(const lt_adapter_out *o)
{
    lt_network_summary s = { 0 };
    for (size_t i = 0; i < o->n_entries; i++) {
        const struct entry *e = &o->entries[i];
        if (e->conv)
            widen(e->rank, e->alpha_value, &s.conv_dim_min, &s.conv_dim_max,
                &s.conv_alpha_min, &s.conv_alpha_max);
        else
            widen(e->rank, e->alpha_value, &s.dim_min, &s.dim_max, &s.alpha_min,
                &s.alpha_max);
    }
    return s;
}

/* The output's name without folder and extension. */
static void title_of(const char *path, char *dst, size_t size)
{
    const char *slash = strrchr(path, '/');
    snprintf(dst, size, "%s", !strcmp(path, "-") ? "LoRA" : slash ? slash + 1 : path);
    char *dot = strrchr(dst, '.');
    if (dot && dot != dst) *dot = '\0';
}

static lt_status tell_alpha(const lt_adapter_out *o, lt_metadata *meta, lt_error *err)
{
    bool peft = !strcmp(o->plan.dialect->id, "peft");
    if (!peft || o->folder || o->plan.unsure) return LT_OK;
    return lt_metadata_set(meta, LT_ALPHA_KEY, LT_ALPHA_IS_RANK, err);
}

static lt_status plan_metadata(lt_adapter_out *o, lt_error *err)
{
    lt_metadata *meta = lt_writer_metadata(o->writer);
    char title[256];
    lt_status st = LT_OK;
    bool kohya = o->plan.dialect->naming == LT_NAMING_KOHYA;
    lt_metadata_remove(meta, LT_ALPHA_KEY); /* of the input */
    if (!kohya) {
        st = lt_metadata_set(meta, "format", "pt", err);
        if (!st) st = tell_alpha(o, meta, err);
    } else {
        lt_network_summary summary = summarise(o);
        title_of(o->plan.path, title, sizeof title);
        if (!meta->count) st = lt_describe_origin(meta, o->plan.family, title, err);
        /* Modules of other kinds have no rank: what the file says of them stays. */
        if (!st && o->n_entries) st = lt_describe_network(meta, &summary, err);
    }
    if (!st && kohya) st = lt_metadata_set(meta, "sshs_model_hash", "", err);
    if (!st && kohya) st = lt_metadata_set(meta, "sshs_legacy_hash", "", err);
    return st ? st : lt_hashes_reserve(o->writer, err);
}

lt_status lt_adapter_out_begin(lt_adapter_out *o, lt_error *err)
{
    lt_status st = plan_metadata(o, err);
    if (!st) st = lt_writer_begin(o->writer, LT_ORDER_REFERENCE, err);
    for (size_t i = 0; i < o->n_copies && !st; i++)
        st = lt_writer_copy(
            o->writer, o->copies[i].index, o->copies[i].store, o->copies[i].tensor, err);
    for (size_t i = 0; i < o->n_entries && !st; i++) {
        if (!o->entries[i].has_alpha || o->entries[i].copied) continue;
        float alpha = (float)o->entries[i].alpha_value;
        st = lt_writer_put(o->writer, o->entries[i].alpha, 0, &alpha, sizeof alpha, err);
    }
    return st;
}

lt_status lt_adapter_out_put_part(lt_adapter_out *o, size_t index, lt_part part,
    uint64_t first, const float *values, size_t count, lt_error *err)
{
    const struct entry *e = &o->entries[index];
    const lt_dtype_info *info = lt_dtype_get(e->dtype);
    for (size_t i = 0; i < count; i++)
        if (!(fabs((double)values[i]) < info->overflow)) {
            lt_error_set(err, LT_ERR_NUMERIC, "a factor's value %g overflows %s%s",
                (double)values[i], info->name,
                fabs((double)values[i]) <= FLT_MAX ? ": choose a wider --dtype" : "");
            return lt_error_where(err, "module '%s'", e->path);
        }
    size_t value = info->bits / 8;
    void *raw = lt_alloc_work(count, value, err);
    if (!raw) return LT_ERR_NOMEM;
    lt_store_f32(raw, values, e->dtype, count);
    size_t tensor = part == LT_PART_UP ? e->up : e->down;
    lt_status st =
        lt_writer_put(o->writer, tensor, first * value, raw, count * value, err);
    lt_free(raw);
    return st;
}

lt_status lt_adapter_out_put(
    lt_adapter_out *o, size_t index, const float *up, const float *down, lt_error *err)
{
    const struct entry *e = &o->entries[index];
    lt_status st =
        lt_adapter_out_put_part(o, index, LT_PART_UP, 0, up, (size_t)e->up_count, err);
    if (st) return st;
    return lt_adapter_out_put_part(
        o, index, LT_PART_DOWN, 0, down, (size_t)e->down_count, err);
}

static lt_status make_config(lt_adapter_out *o, char **text, lt_error *err)
{
    lt_peft_entry *entries = lt_alloc(o->n_entries, sizeof *entries, err);
    if (!entries) return LT_ERR_NOMEM;
    for (size_t i = 0; i < o->n_entries; i++)
        entries[i] = (lt_peft_entry){ o->entries[i].path, o->entries[i].rank,
            o->entries[i].alpha_value };
    /* A bare model's names lack what the head model puts in front of them: PEFT has to
     * wrap the bare model then, which has no task type. */
    bool causal = false;
    for (size_t i = 0; i < o->n_entries; i++)
        causal |= lt_family_wraps(o->plan.family, entries[i].path);
    causal = causal && lt_family_is_causal_lm(o->plan.family);
    lt_status st = lt_peft_config_make(
        entries, o->n_entries, o->fan_in_fan_out, causal, o->template_text, text, err);
    lt_free(entries);
    return st;
}

/* The config goes with the writer's own file: both are complete and on the disk before
 * either gets its name. */
static lt_status commit_folder(lt_adapter_out *o, lt_error *err)
{
    char *text = NULL;
    lt_outfile *config = NULL;
    lt_status st = make_config(o, &text, err);
    if (!st) st = lt_outfile_open(&config, o->config_path, o->plan.overwrite, err);
    if (!st) st = lt_outfile_write(config, 0, text, strlen(text), err);
    if (!st) st = lt_writer_add_extra(o->writer, &config, 0, err);
    if (!st) st = lt_writer_commit(o->writer, err);
    if (!st) st = lt_outfolder_commit(o->folder, err);
    lt_outfile_close(config);
    free(text);
    return st;
}

lt_status lt_adapter_out_commit(lt_adapter_out *o, lt_error *err)
{
    lt_status st = lt_hashes_fill(o->writer, err);
    if (st) return st;
    return o->folder ? commit_folder(o, err) : lt_writer_commit(o->writer, err);
}

bool lt_adapter_out_is_folder(const lt_adapter_out *o)
{
    return o->folder != NULL;
}

uint64_t lt_adapter_out_size(const lt_adapter_out *o)
{
    return lt_writer_size(o->writer);
}

const lt_writer *lt_adapter_out_writer(const lt_adapter_out *o)
{
    return o->writer;
}
