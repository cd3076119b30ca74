/* SPDX-License-Identifier: MIT */
#include "adapter/hashes.h"

#include <stdio.h>
#include <string.h>

/* How each value is spelled: a prefix and that many hex digits. */
static const struct row {
    const char *key, *prefix;
    int digits;
    lt_status (*compute)(
        lt_writer *writer, size_t file, char hex[LT_HASH_SIZE], lt_error *err);
} rows[] = {
    { "sshs_model_hash", "", 64, lt_writer_hash },
    { "sshs_legacy_hash", "", 8, lt_writer_legacy_hash },
    { "modelspec.hash_sha256", "0x", 64, lt_writer_hash },
};

static lt_status set_value(
    lt_metadata *meta, const struct row *row, const char *hex, lt_error *err)
{
    char text[LT_HASH_SIZE + 2];
    snprintf(text, sizeof text, "%s%.*s", row->prefix, row->digits, hex);
    return lt_metadata_set(meta, row->key, text, err);
}

lt_status lt_hashes_reserve(lt_metadata *meta, lt_error *err)
{
    char zeros[LT_HASH_SIZE] = "";
    memset(zeros, '0', sizeof zeros - 1);
    lt_status st = LT_OK;
    for (size_t i = 0; i < sizeof rows / sizeof *rows && !st; i++)
        if (lt_metadata_get(meta, rows[i].key))
            st = set_value(meta, &rows[i], zeros, err);
    return st;
}

static lt_status fill_file(lt_writer *writer, size_t file, lt_error *err)
{
    lt_metadata *meta = lt_writer_file_metadata(writer, file);
    char hex[LT_HASH_SIZE];
    lt_status st = LT_OK;
    for (size_t i = 0; i < sizeof rows / sizeof *rows && !st; i++) {
        if (!lt_metadata_get(meta, rows[i].key)) continue;
        st = rows[i].compute(writer, file, hex, err);
        if (!st) st = set_value(meta, &rows[i], hex, err);
    }
    return st;
}

lt_status lt_hashes_reserve_all(lt_writer *writer, lt_error *err)
{
    lt_status st = LT_OK;
    for (size_t i = 0; i < lt_writer_file_count(writer) && !st; i++)
        if (lt_writer_holds_metadata(writer, i))
            st = lt_hashes_reserve(lt_writer_file_metadata(writer, i), err);
    return st;
}

lt_status lt_hashes_fill(lt_writer *writer, lt_error *err)
{
    lt_status st = LT_OK;
    for (size_t i = 0; i < lt_writer_file_count(writer) && !st; i++)
        if (lt_writer_holds_metadata(writer, i)) st = fill_file(writer, i, err);
    return st;
}
