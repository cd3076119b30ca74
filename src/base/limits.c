/* SPDX-License-Identifier: MIT */
#include "base/limits.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* ceiling: what the code that compares with it depends on: tokens and values count in 31
 * bits, the walk through a torch file's containers recurses, deflate reaches 1032. */
static struct row {
    const char *name;
    _Atomic uint64_t value;
    uint64_t ceiling;
} rows[LT_LIMIT_COUNT] = {
    [LT_LIMIT_HEADER_SIZE] = { "header-size", LT_MAX_HEADER_SIZE, INT32_MAX },
    [LT_LIMIT_TENSORS] = { "tensors", LT_MAX_TENSORS, INT32_MAX },
    [LT_LIMIT_METADATA_ENTRIES] = { "metadata-entries", LT_MAX_METADATA_ENTRIES,
        INT32_MAX },
    [LT_LIMIT_NAME_SIZE] = { "name-size", LT_MAX_NAME_SIZE, INT32_MAX },
    [LT_LIMIT_JSON_DEPTH] = { "json-depth", LT_MAX_JSON_DEPTH, LT_HARD_JSON_DEPTH },
    [LT_LIMIT_JSON_VALUES] = { "json-values", LT_MAX_JSON_VALUES, INT32_MAX },
    [LT_LIMIT_SHARDS] = { "shards", LT_MAX_SHARDS, 65535 },
    [LT_LIMIT_SPOOL_SIZE] = { "spool-size", LT_MAX_SPOOL_SIZE, INT64_MAX },
    [LT_LIMIT_GLOBALS] = { "globals", LT_MAX_GLOBALS, INT32_MAX },
    [LT_LIMIT_PICKLE_SIZE] = { "pickle-size", LT_MAX_PICKLE_SIZE, UINT32_MAX },
    [LT_LIMIT_PICKLE_VALUES] = { "pickle-values", LT_MAX_PICKLE_VALUES, INT32_MAX },
    [LT_LIMIT_PICKLE_MEMORY] = { "pickle-memory", LT_MAX_PICKLE_MEMORY, INT64_MAX },
    [LT_LIMIT_PICKLE_MEMO] = { "pickle-memo", LT_MAX_PICKLE_MEMO, INT32_MAX },
    [LT_LIMIT_PICKLE_STACK] = { "pickle-stack", LT_MAX_PICKLE_STACK, INT32_MAX },
    [LT_LIMIT_PICKLE_MARKS] = { "pickle-marks", LT_MAX_PICKLE_MARKS, INT32_MAX },
    [LT_LIMIT_PICKLE_STRING] = { "pickle-string", LT_MAX_PICKLE_STRING, INT32_MAX },
    [LT_LIMIT_TORCH_DEPTH] = { "torch-depth", LT_MAX_TORCH_DEPTH, 1000 },
    [LT_LIMIT_OVERLAP_SIZE] = { "overlap-size", LT_MAX_OVERLAP_SIZE, INT64_MAX },
    [LT_LIMIT_ZIP_ENTRIES] = { "zip-entries", LT_MAX_ZIP_ENTRIES, INT32_MAX },
    [LT_LIMIT_ZIP_RATIO] = { "zip-ratio", LT_MAX_ZIP_RATIO, 1032 },
    [LT_LIMIT_PATTERN_MEMORY] = { "pattern-memory", LT_MAX_PATTERN_MEMORY, INT64_MAX },
    [LT_LIMIT_PATTERN_WORK] = { "pattern-work", LT_MAX_PATTERN_WORK, INT64_MAX },
};

unsigned long long lt_limit(lt_limit_id id)
{
    return atomic_load_explicit(&rows[id].value, memory_order_relaxed);
}

const char *lt_limit_name(lt_limit_id id)
{
    return rows[id].name;
}

static lt_status unknown(const char *name, lt_error *err)
{
    char names[512];
    size_t n = 0;
    for (size_t i = 0; i < LT_LIMIT_COUNT; i++)
        n += (size_t)snprintf(
            names + n, sizeof names - n, "%s%s", i ? ", " : "", rows[i].name);
    return lt_error_set(
        err, LT_ERR_ARG, "there is no limit '%.40s'; there are: %s", name, names);
}

lt_status lt_limit_set(const char *name, uint64_t value, lt_error *err)
{
    for (struct row *r = rows; r < rows + LT_LIMIT_COUNT; r++) {
        if (strcmp(name, r->name)) continue;
        if (!value || value > r->ceiling)
            return lt_error_set(err, LT_ERR_ARG, "the limit '%s' takes 1 to %llu", name,
                (unsigned long long)r->ceiling);
        atomic_store_explicit(&r->value, value, memory_order_relaxed);
        return LT_OK;
    }
    return unknown(name, err);
}
