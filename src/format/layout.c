/* SPDX-License-Identifier: MIT */
/* Which tensor goes into which file of an output, and what the files are called. In a
 * folder the files of another model (like) are repeated, or its tensors are divided anew
 * into shards of a given size, as transformers and diffusers name them. */
#include "format/format.h"

#include "base/folder.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/outfolder.h"
#include "format/weight_name.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The first row is the default. */
static const lt_sink *const sinks[] = {
    &lt_sink_safetensors,
    &lt_sink_torch,
};

#define N_SINKS (sizeof sinks / sizeof *sinks)

static lt_status sink_by_id(const char *id, const lt_sink **sink, lt_error *err)
{
    for (size_t i = 0; i < N_SINKS; i++) {
        if (strcmp(sinks[i]->id, id)) continue;
        *sink = sinks[i];
        return LT_OK;
    }
    return lt_error_set(
        err, LT_ERR_ARG, "unknown format '%s' (safetensors or torch)", id);
}

lt_status lt_layout_sink(const lt_output *output, const lt_sink **sink, lt_error *err)
{
    if (output->format) return sink_by_id(output->format, sink, err);
    const char *dot = strrchr(output->path, '.');
    *sink = sinks[0];
    for (size_t i = 0; i < N_SINKS && dot; i++)
        for (const char *const *e = sinks[i]->extensions; *e; e++)
            if (!strcmp(dot + 1, *e)) *sink = sinks[i];
    return LT_OK;
}

/* ---- one file ---------------------------------------------------------------------- */

static int reference_order(const lt_tensor *x, const lt_tensor *y)
{
    if (x->dtype != y->dtype) return x->dtype > y->dtype ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Merge sort on the indices: qsort takes no context argument in C11. */
static void sort_layout(size_t *p, size_t *tmp, size_t n, const lt_tensor *tensors)
{
    if (n < 2) return;
    size_t half = n / 2, i = 0, j = half, k = 0;
    sort_layout(p, tmp, half, tensors);
    sort_layout(p + half, tmp, n - half, tensors);
    while (i < half && j < n)
        tmp[k++] = reference_order(&tensors[p[i]], &tensors[p[j]]) <= 0 ? p[i++] : p[j++];
    while (i < half)
        tmp[k++] = p[i++];
    while (j < n)
        tmp[k++] = p[j++];
    memcpy(p, tmp, n * sizeof *p);
}

static lt_status plan_single(lt_writer *w, lt_order order, lt_error *err)
{
    size_t *layout =
        lt_arena_alloc(&w->arena, 2 * (uint64_t)w->count * sizeof *layout, err);
    if (!layout) return LT_ERR_NOMEM;
    for (size_t i = 0; i < w->count; i++)
        layout[i] = i;
    if (order == LT_ORDER_REFERENCE)
        sort_layout(layout, layout + w->count, w->count, w->tensors);
    w->volumes[0].layout = layout;
    w->volumes[0].count = w->count;
    return LT_OK;
}

/* ---- folders ----------------------------------------------------------------------- */

/* The files of one group of like. */
struct plan {
    lt_writer *w;
    size_t group;
    const lt_sink *sink;
    lt_group names;
    size_t *members; /* the group's tensors */
    size_t count;
    bool same; /* like's own files are repeated */
    lt_error *err;
};

/* The folder with the longest prefix that the name begins with. */
static size_t folder_for(const lt_writer *w, const char *name)
{
    size_t best = 0, longest = 0;
    for (size_t f = 0; f < w->output.n_folders; f++) {
        size_t n = strlen(w->output.folders[f].prefix);
        if (strncmp(name, w->output.folders[f].prefix, n) || n < longest) continue;
        best = f;
        longest = n;
    }
    return best;
}

/* Looked up once: groups and shards ask for it again and again. */
static lt_status find_parts(lt_writer *w, lt_error *err)
{
    const lt_store *like = w->output.like;
    w->part_of = lt_arena_alloc(&w->arena, (uint64_t)w->count * sizeof *w->part_of, err);
    if (!w->part_of) return LT_ERR_NOMEM;
    for (size_t i = 0; i < w->count && w->output.n_folders; i++)
        w->part_of[i] = folder_for(w, w->tensors[i].name);
    for (size_t i = 0; i < w->count && like; i++) {
        const lt_tensor *t = lt_store_find(like, w->tensors[i].name);
        if (t) w->part_of[i] = lt_store_file_of(like, t);
    }
    return LT_OK;
}

static const lt_store *first_part(const lt_writer *w, size_t group)
{
    const lt_store *like = w->output.like;
    for (size_t i = 0; like && i < like->n_parts; i++)
        if (like->parts[i].group == group) return like->parts[i].store;
    return like;
}

static lt_status pick_sink(struct plan *p)
{
    const lt_store *part = first_part(p->w, p->group);
    if (p->w->output.format) return sink_by_id(p->w->output.format, &p->sink, p->err);
    bool torch = part && !strncmp(part->format->name, "torch", 5);
    p->sink = torch ? &lt_sink_torch : &lt_sink_safetensors;
    return LT_OK;
}

/* A file of that name that takes members [from, to). */
static lt_status add_volume(
    struct plan *p, const char *name, const lt_metadata *metadata, size_t from, size_t to)
{
    lt_writer *w = p->w;
    lt_status st = lt_grow((void **)&w->volumes, &w->volumes_capacity, w->n_volumes + 1,
        sizeof *w->volumes, p->err);
    if (st) return st;
    lt_volume *v = &w->volumes[w->n_volumes];
    *v = (lt_volume){ .sink = p->sink,
        .group = p->group,
        .layout = p->members + from,
        .count = to - from,
        .prefix_size = strlen(p->names.prefix),
        .name = lt_arena_printf(&w->arena, p->err, "%s", name),
        .metadata = lt_arena_alloc(&w->arena, sizeof *v->metadata, p->err),
        .repeated = metadata };
    if (!v->name || !v->metadata) return LT_ERR_NOMEM;
    for (size_t i = from; i < to; i++)
        w->volume_of[p->members[i]] = w->n_volumes;
    w->n_volumes++;
    if (metadata) st = lt_metadata_copy(v->metadata, metadata, p->err);
    /* transformers asks for it. */
    if (!st && !lt_metadata_get(v->metadata, "format"))
        st = lt_metadata_set(v->metadata, "format", "pt", p->err);
    return st;
}

/* One volume for each of like's files. */
static lt_status repeat_files(struct plan *p)
{
    const lt_store *like = p->w->output.like;
    for (size_t from = 0, to; from < p->count; from = to) {
        size_t f = p->w->part_of[p->members[from]];
        for (to = from; to < p->count && p->w->part_of[p->members[to]] == f;)
            to++;
        lt_status st = add_volume(
            p, like->parts[f].file, lt_store_metadata(like->parts[f].store), from, to);
        if (st) return st;
    }
    return LT_OK;
}

/* One past the last member of a shard that starts at from: at least one tensor, then as
 * many as fit; without a limit, those of the same file of like. */
static size_t shard_end(const struct plan *p, size_t from)
{
    uint64_t size = 0, limit = p->w->output.max_shard_size;
    size_t to = from;
    while (to < p->count) {
        uint64_t next = p->w->tensors[p->members[to]].size;
        bool full = limit
            ? size > limit || next > limit - size
            : p->w->part_of[p->members[to]] != p->w->part_of[p->members[from]];
        if (to > from && full) break;
        size = size + next < size ? UINT64_MAX : size + next;
        to++;
    }
    return to;
}

/* transformers calls a pickle pytorch_model, a safetensors file model; diffusers calls
 * both the same. */
static lt_weight_name name_of(const struct plan *p)
{
    lt_weight_name n = { 0 };
    const char *stem = p->names.stem;
    bool torch = p->sink == &lt_sink_torch;
    if (torch && !strcmp(stem, "model")) stem = "pytorch_model";
    if (!torch && !strcmp(stem, "pytorch_model")) stem = "model";
    snprintf(n.stem, sizeof n.stem, "%s", stem);
    snprintf(n.variant, sizeof n.variant, "%s", p->names.variant);
    snprintf(n.extension, sizeof n.extension, "%s", p->sink->extensions[0]);
    return n;
}

static lt_status divide_anew(struct plan *p)
{
    char file[512], path[1024];
    lt_weight_name name = name_of(p);
    unsigned n = 0, k = 0;
    const lt_store *part = first_part(p->w, p->group);
    for (size_t from = 0; from < p->count; from = shard_end(p, from))
        n++;
    if (n > LT_MAX_SHARDS)
        return lt_error_set(p->err, LT_ERR_LIMIT,
            "that would be %u shards, over %u: give a larger size", n, LT_MAX_SHARDS);
    for (size_t from = 0, to; from < p->count; from = to) {
        to = shard_end(p, from);
        lt_weight_name_shard(&name, ++k, n > 1 ? n : 0, file, sizeof file);
        snprintf(path, sizeof path, "%s%s", p->names.folder, file);
        lt_status st =
            add_volume(p, path, part ? lt_store_metadata(part) : NULL, from, to);
        if (st) return st;
    }
    return LT_OK;
}

/* The group's tensors by like's file, in the order given within each. */
static void gather_members(struct plan *p)
{
    const lt_store *like = p->w->output.like;
    size_t files = like && like->n_parts ? like->n_parts : 1;
    if (p->w->output.n_folders) files = p->w->output.n_folders;
    for (size_t f = 0; f < files; f++) {
        if (p->w->output.n_folders && f != p->group) continue;
        if (like && like->n_parts && like->parts[f].group != p->group) continue;
        for (size_t i = 0; i < p->w->count; i++)
            if (p->w->part_of[i] == f) p->members[p->count++] = i;
    }
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* The index of the volumes from first on: like's own name for like's own files, otherwise
 * the usual one when there are several. */
static lt_status name_index(struct plan *p, size_t first)
{
    lt_writer *w = p->w;
    char usual[512];
    lt_weight_name n = name_of(p);
    const char *index = p->same ? p->names.index : NULL;
    lt_weight_name_index(&n, usual, sizeof usual);
    if (!index && w->n_volumes - first > 1) index = usual;
    if (!index) return LT_OK;
    index = lt_arena_printf(&w->arena, p->err, "%s%s", p->names.folder, index);
    for (size_t v = first; v < w->n_volumes; v++)
        w->volumes[v].index = index;
    return index ? LT_OK : LT_ERR_NOMEM;
}

/* A new pipeline's component lies in the folder that its prefix names. */
static lt_status name_folder(struct plan *p)
{
    const lt_output_folder *f = &p->w->output.folders[p->group];
    size_t n = strlen(f->prefix);
    const char *slash = n ? "/" : "";
    char *folder = lt_arena_printf(
        &p->w->arena, p->err, "%.*s%s", (int)(n ? n - 1 : 0), f->prefix, slash);
    p->names = (lt_group){ f->prefix, folder, f->stem, "", NULL };
    return folder ? LT_OK : LT_ERR_NOMEM;
}

static lt_status plan_group(struct plan *p)
{
    lt_writer *w = p->w;
    const lt_store *like = w->output.like;
    static const lt_group single = { "", "", "model", "", NULL };
    p->names = like && like->n_parts ? like->groups[p->group] : single;
    if (w->output.n_folders && name_folder(p)) return LT_ERR_NOMEM;
    p->members =
        lt_arena_alloc(&w->arena, (uint64_t)w->count * sizeof *p->members, p->err);
    if (!p->members) return LT_ERR_NOMEM;
    gather_members(p);
    lt_status st = pick_sink(p);
    if (st) return st;
    const lt_store *part = first_part(w, p->group);
    bool torch = part && !strncmp(part->format->name, "torch", 5);
    p->same = like && like->n_parts && !w->output.max_shard_size
        && torch == (p->sink == &lt_sink_torch);
    size_t first = w->n_volumes;
    st = p->same ? repeat_files(p) : divide_anew(p);
    return st ? st : name_index(p, first);
}

/* ---- what must not be mixed up ----------------------------------------------------- */

static bool is_output(const lt_writer *w, const char *folder, const char *name)
{
    char path[1024];
    snprintf(path, sizeof path, "%s%s", folder, name);
    for (size_t i = 0; i < w->n_volumes; i++)
        if (!strcmp(w->volumes[i].name, path)
            || (w->volumes[i].index && !strcmp(w->volumes[i].index, path)))
            return true;
    return false;
}

/* Weights that stay in a folder that is written into would be taken for the model's. */
static lt_status check_stale(lt_writer *w, const char *folder, lt_error *err)
{
    lt_listing files;
    const char *root = lt_outfolder_existing(w->folder);
    char *path = lt_arena_printf(&w->arena, err, "%s/%s", root, folder);
    if (!path) return LT_ERR_NOMEM;
    lt_path_kind kind;
    lt_status st = lt_path_look(path, &kind, err);
    if (st || kind != LT_PATH_FOLDER) return st;
    st = lt_listing_read(&files, path, err);
    for (size_t i = 0; !st && i < files.count; i++) {
        lt_weight_name n;
        const char *name = files.items[i].name;
        if (files.items[i].is_folder || !lt_weight_name_parse(name, &n)) continue;
        if (is_output(w, folder, name)) continue;
        st = lt_error_set(err, LT_ERR_EXISTS,
            "holds the weights '%.200s', which the output would not replace; remove them "
            "or choose another folder",
            name);
        lt_error_where(err, "%s", path);
    }
    lt_listing_release(&files);
    return st;
}

lt_status lt_layout_plan(lt_writer *w, lt_order order, lt_error *err)
{
    const lt_store *like = w->output.like;
    if (!w->folder) return plan_single(w, order, err);
    size_t groups = like && like->n_groups ? like->n_groups : 1;
    if (w->output.n_folders) groups = w->output.n_folders;
    lt_status st = find_parts(w, err);
    for (size_t g = 0; g < groups && !st; g++) {
        struct plan p = { .w = w, .group = g, .err = err };
        st = plan_group(&p);
        if (!st && lt_outfolder_existing(w->folder))
            st = check_stale(w, p.names.folder, err);
    }
    return st;
}

/* ---- indices ----------------------------------------------------------------------- */

static int by_text(const void *a, const void *b)
{
    const lt_tensor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

/* weight_map with sorted names, as transformers writes it; total_size in bytes. */
static bool fill_index(cJSON *root, const lt_writer *w, size_t first, size_t end)
{
    size_t n = 0, k = 0;
    uint64_t total = 0;
    char text[32];
    for (size_t v = first; v < end; v++)
        n += w->volumes[v].count;
    const lt_tensor **sorted = malloc((n + 1) * sizeof *sorted);
    if (!sorted) return false;
    for (size_t v = first; v < end; v++)
        for (size_t i = 0; i < w->volumes[v].count; i++)
            sorted[k++] = &w->tensors[w->volumes[v].layout[i]];
    qsort(sorted, n, sizeof *sorted, by_text);
    for (size_t i = 0; i < n; i++)
        total += sorted[i]->size;
    snprintf(text, sizeof text, "%llu", (unsigned long long)total);
    cJSON *meta = cJSON_AddObjectToObject(root, "metadata");
    cJSON *map = cJSON_AddObjectToObject(root, "weight_map");
    bool ok = meta && map && cJSON_AddRawToObject(meta, "total_size", text);
    for (size_t i = 0; i < n && ok; i++) {
        const lt_volume *v = &w->volumes[w->volume_of[sorted[i] - w->tensors]];
        cJSON *file = cJSON_CreateString(base_name(v->name));
        ok = lt_json_put(map, sorted[i]->name + v->prefix_size, file);
    }
    free(sorted);
    return ok;
}

static lt_status write_index(
    lt_writer *w, const char *name, size_t first, size_t end, lt_error *err)
{
    cJSON *root = cJSON_CreateObject();
    char *text = root && fill_index(root, w, first, end) ? cJSON_Print(root) : NULL;
    cJSON_Delete(root);
    if (!text) return lt_error_set(err, LT_ERR_NOMEM, "out of memory for the index");
    lt_status st = lt_writer_put_text(w, name, text, err);
    free(text);
    return st;
}

lt_status lt_layout_write_indices(lt_writer *w, lt_error *err)
{
    for (size_t first = 0, end; first < w->n_volumes; first = end) {
        for (end = first; end < w->n_volumes; end++)
            if (w->volumes[end].group != w->volumes[first].group) break;
        const char *index = w->volumes[first].index;
        lt_status st = index ? write_index(w, index, first, end, err) : LT_OK;
        if (st) return st;
    }
    return LT_OK;
}
