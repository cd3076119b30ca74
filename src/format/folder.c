/* SPDX-License-Identifier: MIT */
/* Which files of a folder are the model: a pipeline of diffusers (model_index.json names
 * its components, a folder each), or the weights of one model or adapter. Where a folder
 * holds the same weights several times, safetensors go before pickles, full ones before
 * variants (fp16), an index before a single file: the order of the libraries that wrote
 * them. */
#include "format/format.h"

#include "base/folder.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/mem.h"
#include "format/weight_name.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The weights of one folder, as they will be opened. */
struct choice {
    const char *name; /* of the file, the index or the first shard; borrowed */
    lt_weight_name parsed;
};

static bool is_known_stem(const char *stem)
{
    static const char *const stems[] = { "model", "diffusion_pytorch_model",
        "pytorch_model", "adapter_model", "pytorch_lora_weights" };
    for (size_t i = 0; i < sizeof stems / sizeof *stems; i++)
        if (!strcmp(stem, stems[i])) return true;
    return false;
}

/* What trainers leave beside the weights. */
static bool is_training_state(const char *stem)
{
    static const char *const stems[] = { "optimizer", "scheduler", "training_args",
        "rng_state", "scaler", "random_states_0" };
    for (size_t i = 0; i < sizeof stems / sizeof *stems; i++)
        if (!strcmp(stem, stems[i])) return true;
    return false;
}

/* Smaller is preferred. */
static int rank_of(const lt_weight_name *w)
{
    int pickle = strcmp(w->extension, "safetensors") != 0;
    return !is_known_stem(w->stem) << 4 | pickle << 3 | (*w->variant != '\0') << 2
        | (w->shards && !w->is_index) << 1 | !w->is_index;
}

/* Two shards of one model: the first that is there stands for all. */
static bool same_set(const lt_weight_name *a, const lt_weight_name *b)
{
    return a->shards && a->shards == b->shards && !strcmp(a->stem, b->stem)
        && !strcmp(a->variant, b->variant) && !strcmp(a->extension, b->extension);
}

static lt_status choose(
    const lt_listing *files, struct choice *best, bool *found, lt_error *err)
{
    const char *rival = NULL;
    *found = false;
    *best = (struct choice){ 0 };
    for (size_t i = 0; i < files->count; i++) {
        struct choice c = { .name = files->items[i].name };
        if (files->items[i].is_folder || files->items[i].is_other) continue;
        if (!lt_weight_name_parse(c.name, &c.parsed)) continue;
        if (is_training_state(c.parsed.stem)) continue;
        if (*found && same_set(&c.parsed, &best->parsed)) continue;
        int rank = rank_of(&c.parsed), best_rank = *found ? rank_of(&best->parsed) : 99;
        if (rank > best_rank) continue;
        rival = rank == best_rank ? best->name : NULL;
        *best = c;
        *found = true;
    }
    if (!rival) return LT_OK;
    return lt_error_set(err, LT_ERR_MISMATCH,
        "the folder holds several models ('%.200s' and '%.200s'): name the file", rival,
        best->name);
}

/* Shards that no index lists: all of them must be there. */
static lt_status add_counted(
    lt_store *set, const lt_listing *files, const struct choice *c, lt_error *err)
{
    char name[512];
    if (c->parsed.shards > lt_limit(LT_LIMIT_SHARDS)) {
        lt_error_set(err, LT_ERR_LIMIT, "over %llu shards", lt_limit(LT_LIMIT_SHARDS));
        lt_error_where(err, "%s", set->path);
        return LT_ERR_LIMIT;
    }
    for (unsigned k = 1; k <= c->parsed.shards; k++) {
        lt_weight_name_shard(&c->parsed, k, c->parsed.shards, name, sizeof name);
        if (!lt_listing_has(files, name)) {
            lt_error_set(err, LT_ERR_MISMATCH,
                "the shard '%.200s' is missing and there is no index", name);
            lt_error_where(err, "%s", set->path);
            return LT_ERR_MISMATCH;
        }
        lt_status st = lt_set_add_file(set, name, NULL, NULL, err);
        if (st) return st;
    }
    return LT_OK;
}

/* Opens the weights of one folder; prefix and folder as in lt_group. */
static lt_status add_weights(
    lt_store *set, const char *prefix, const char *folder, bool *found, lt_error *err)
{
    lt_listing files;
    struct choice c;
    *found = false;
    char *path = lt_arena_printf(&set->arena, err, "%s%s", set->folder, folder);
    if (!path) return LT_ERR_NOMEM;
    lt_status st = lt_listing_read(&files, path, err);
    if (st) return st;
    st = choose(&files, &c, found, err);
    if (st) lt_error_where(err, "%s", path);
    if (!st && *found) {
        bool counted = c.parsed.shards && !c.parsed.is_index;
        char index[512];
        lt_weight_name_index(&c.parsed, index, sizeof index);
        lt_group g = { prefix, folder, c.parsed.stem, c.parsed.variant,
            c.parsed.is_index ? c.name
                : counted     ? index
                              : NULL };
        st = lt_set_add_group(set, &g, err);
        if (!st)
            st = c.parsed.is_index ? lt_set_add_shards(set, c.name, err)
                : counted          ? add_counted(set, &files, &c, err)
                                   : lt_set_add_file(set, c.name, NULL, NULL, err);
    }
    lt_listing_release(&files);
    return st;
}

static lt_status add_component(lt_store *set, const cJSON *member, lt_error *err)
{
    bool found;
    const cJSON *library = cJSON_IsArray(member) ? member->child : NULL;
    if (!cJSON_IsString(library) || *member->string == '_') return LT_OK;
    if (!lt_is_plain_name(member->string)) {
        lt_error_set(
            err, LT_ERR_FORMAT, "bad name of a component: '%.200s'", member->string);
        lt_error_where(err, "%smodel_index.json", set->folder);
        return LT_ERR_FORMAT;
    }
    char *folder = lt_arena_printf(&set->arena, err, "%s/", member->string);
    char *prefix = lt_arena_printf(&set->arena, err, "%s.", member->string);
    char *path = lt_arena_printf(&set->arena, err, "%s%s", set->folder, member->string);
    if (!folder || !prefix || !path) return LT_ERR_NOMEM;
    lt_path_kind kind;
    lt_status st = lt_path_look(path, &kind, err);
    /* Optional, or built without weights. */
    if (st || kind != LT_PATH_FOLDER) return st;
    return add_weights(set, prefix, folder, &found, err);
}

static lt_status add_pipeline(lt_store *set, const char *index, lt_error *err)
{
    char *text = NULL;
    size_t size = 0;
    lt_json json = { 0 };
    const cJSON *member;
    lt_status st = lt_read_text(index, LT_MAX_CONFIG_SIZE, &text, &size, err);
    if (st) return st;
    st = lt_json_parse(&json, text, size, 0, err);
    free(text);
    if (!st && !cJSON_IsObject(json.root))
        st = lt_error_at(err, LT_ERR_FORMAT, 0, "is not a JSON object");
    if (st) {
        lt_json_release(&json);
        return lt_error_where(err, "%s", index);
    }
    cJSON_ArrayForEach(member, json.root)
    {
        st = add_component(set, member, err);
        if (st) break;
    }
    lt_json_release(&json);
    return st;
}

static lt_status fill(lt_store *set, lt_error *err)
{
    lt_listing files;
    lt_status st = lt_listing_read(&files, set->folder, err);
    if (st) return st;
    bool pipeline = lt_listing_has(&files, "model_index.json"), found;
    lt_listing_release(&files);
    if (pipeline) {
        char *index =
            lt_arena_printf(&set->arena, err, "%smodel_index.json", set->folder);
        st = index ? add_pipeline(set, index, err) : LT_ERR_NOMEM;
    } else {
        st = add_weights(set, "", "", &found, err);
    }
    if (!st && !set->n_parts) {
        lt_error_set(err, LT_ERR_MISMATCH,
            "the folder holds no weights (no model_index.json, *.safetensors, "
            "*.index.json or torch file)");
        st = lt_error_where(err, "%s", set->path);
    }
    return st;
}

static lt_status finish(lt_store **out, lt_store *set, lt_status st)
{
    if (st)
        lt_store_close(set);
    else
        *out = set;
    return st;
}

lt_status lt_folder_open(
    lt_store **out, const char *path, lt_reading reading, lt_error *err)
{
    char folder[4096];
    lt_store *set = NULL;
    *out = NULL;
    size_t n = strlen(path);
    if (!n || n > sizeof folder - 2)
        return lt_error_set(err, LT_ERR_ARG, "the path is empty or too long");
    snprintf(folder, sizeof folder, "%s%s", path, path[n - 1] == '/' ? "" : "/");
    lt_status st = lt_set_new(&set, path, folder, reading, err);
    return st ? st : finish(out, set, fill(set, err));
}

bool lt_is_index_name(const char *path)
{
    lt_weight_name w;
    const char *slash = strrchr(path, '/');
    return lt_weight_name_parse(slash ? slash + 1 : path, &w) && w.is_index;
}

lt_status lt_index_open(
    lt_store **out, const char *path, lt_reading reading, lt_error *err)
{
    char folder[4096];
    lt_weight_name w;
    lt_store *set = NULL;
    *out = NULL;
    const char *slash = strrchr(path, '/');
    int dir = slash ? (int)(slash - path + 1) : 0;
    if (dir > (int)sizeof folder - 2 || !lt_weight_name_parse(path + dir, &w))
        return lt_error_set(err, LT_ERR_ARG, "the path is too long");
    snprintf(folder, sizeof folder, "%.*s", dir ? dir : 2, dir ? path : "./");
    lt_group g = { "", "", w.stem, w.variant, path + dir };
    lt_status st = lt_set_new(&set, path, folder, reading, err);
    if (st) return st;
    st = lt_set_add_group(set, &g, err);
    if (!st) st = lt_set_add_shards(set, path + dir, err);
    return finish(out, set, st);
}
