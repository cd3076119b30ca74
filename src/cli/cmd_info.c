/* SPDX-License-Identifier: MIT */
#include "cli/info_report.h"

#include <string.h>

struct options {
    lt_common common;
    bool tensors, metadata, hash, all_tensors, strict;
};

#define AT(field) offsetof(struct options, field)

static const lt_opt options[] = {
    { "tensors", 't', OPT_FLAG, AT(tensors), NULL,
        "one tensor a line: name, dtype, shape, offset, bytes", { NULL } },
    { "metadata", 'm', OPT_FLAG, AT(metadata), NULL, "one metadata entry a line",
        { "show-metadata" } },
    { "hash", 0, OPT_FLAG, AT(hash), NULL,
        "read whole files: SHA-256, short hashes, those in metadata", { NULL } },
    { "all-tensors", 'a', OPT_FLAG, AT(all_tensors), NULL,
        "of a checkpoint everything, under full paths", { NULL } },
    { "strict", 0, OPT_FLAG, AT(strict), NULL,
        "exit 5 if unpickling the file would run code", { NULL } },
    { NULL, 0, OPT_FLAG, 0, NULL, NULL, { NULL } },
};

static lt_reading reading_of(const struct options *o)
{
    return o->all_tensors ? LT_READ_EVERYTHING : LT_READ_MODEL;
}

static void print_tensors(const lt_store *store)
{
    for (size_t i = 0; i < lt_store_count(store); i++) {
        const lt_tensor *t = lt_store_at(store, i);
        lt_print_safe(stdout, t->name);
        printf("\t%s\t[", lt_dtype_get(t->dtype)->name);
        for (unsigned d = 0; d < t->n_dims; d++)
            printf("%s%llu", d ? "," : "", (unsigned long long)t->shape[d]);
        if (t->offset == LT_NO_OFFSET)
            fputs("]\t-", stdout);
        else
            printf("]\t%llu", (unsigned long long)t->offset);
        printf("\t%llu\n", (unsigned long long)t->size);
    }
}

static void print_metadata(const lt_metadata *meta)
{
    for (size_t i = 0; i < meta->count; i++) {
        lt_print_safe(stdout, meta->entries[i].key);
        putchar('\t');
        lt_print_safe(stdout, meta->entries[i].value);
        putchar('\n');
    }
}

/* Tensors and metadata need no more than the container: also of an adapter that is wrong
 * in itself. */
static lt_status list(const struct options *o, const char *path, lt_error *err)
{
    lt_store *store = NULL;
    lt_status st = lt_store_open_as(&store, path, reading_of(o), err);
    if (st) return st;
    if (o->tensors)
        print_tensors(store);
    else
        print_metadata(lt_store_metadata(store));
    st = o->strict ? lt_store_harmless(store, err) : LT_OK;
    lt_store_close(store);
    return st;
}

/* Hashes of every file, in text as soon as they are known. */
static lt_status add_hashes(
    const struct options *o, const lt_info *info, cJSON *report, lt_error *err)
{
    cJSON *list = report ? cJSON_AddArrayToObject(report, "hashes") : NULL;
    size_t n = lt_store_file_count(info->store);
    lt_status st = LT_OK;
    fflush(stdout);
    for (size_t i = 0; i < n && !st; i++) {
        lt_info_hashes hashes;
        const char *file = lt_store_file(info->store, i);
        st = lt_info_hash(info, i, &hashes, err);
        if (st) break;
        if (report)
            lt_info_json_hashes(list, file, &hashes);
        else if (!o->common.quiet)
            lt_info_print_hashes(n > 1 ? file : NULL, &hashes);
    }
    return st;
}

static lt_status print_json(
    const struct options *o, const char *shown, const lt_info *info, lt_error *err)
{
    cJSON *report = lt_info_json(shown, info, o->tensors);
    lt_status st = o->hash && report ? add_hashes(o, info, report, err) : LT_OK;
    if (!st) return lt_print_json(stdout, report, err);
    cJSON_Delete(report);
    return st;
}

static lt_status describe(const struct options *o, const char *path, lt_error *err)
{
    lt_info info;
    const char *shown = strcmp(path, "-") ? path : "standard input";
    bool lists = (o->tensors || o->metadata) && !o->common.json;
    bool folder = false;
    lt_status st = lists ? lt_adapter_is_folder(path, &folder, err) : LT_OK;
    if (!st && lists && !folder) return list(o, path, err);
    if (!st) st = lt_info_open_as(&info, path, reading_of(o), err);
    if (st) return st;
    if (o->common.json)
        st = print_json(o, shown, &info, err);
    else if (o->tensors)
        print_tensors(info.store);
    else if (o->metadata)
        print_metadata(lt_store_metadata(info.store));
    else if (!o->common.quiet)
        lt_info_print(shown, &info, o->common.verbose);
    if (!st && o->hash && !o->common.json && !lists) st = add_hashes(o, &info, NULL, err);
    if (!st && o->strict) st = lt_store_harmless(info.store, err);
    lt_info_release(&info);
    return st;
}

/* Every file is looked at, also after one that is bad; the first failure decides the
 * exit code. Each is told when it happens. */
static lt_status run(void *filled, int n_args, char **args, lt_error *err)
{
    const struct options *o = filled;
    lt_status first = LT_OK;
    if (!n_args) return lt_error_set(err, LT_ERR_ARG, "no file is given");
    for (int i = 0; i < n_args; i++) {
        lt_error now = LT_ERROR_INIT;
        lt_status st = describe(o, args[i], &now);
        if (!st) continue;
        fflush(stdout);
        lt_print_error("info", &now);
        if (!first) first = st;
    }
    return first;
}

const lt_command lt_cmd_info = {
    .name = "info",
    .summary = "Say what files are and what they hold",
    .synopsis = "FILE... [OPTION]...",
    .options = options,
    .options_size = sizeof(struct options),
    .run = run,
};
