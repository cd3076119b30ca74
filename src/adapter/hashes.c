/* SPDX-License-Identifier: MIT */
#include "adapter/hashes.h"

#include "loratool/adapter.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* How each value is spelled: a prefix and that many hex digits. */
static const struct row {
    const char *key, *prefix;
    int digits;
    lt_status (*compute)(
        lt_writer *writer, size_t file, char hex[LT_HASH_SIZE], lt_error *err);
    size_t of_file; /* where the same is in lt_file_hashes */
} rows[] = {
    { "sshs_model_hash", "", 64, lt_writer_hash, offsetof(lt_file_hashes, data) },
    { "sshs_legacy_hash", "", 8, lt_writer_legacy_hash,
        offsetof(lt_file_hashes, legacy) },
    { "modelspec.hash_sha256", "0x", 64, lt_writer_hash, offsetof(lt_file_hashes, data) },
};

static lt_status set_value(
    lt_metadata *meta, const struct row *row, const char *hex, lt_error *err)
{
    char text[LT_HASH_SIZE + 2];
    snprintf(text, sizeof text, "%s%.*s", row->prefix, row->digits, hex);
    return lt_metadata_set(meta, row->key, text, err);
}

static lt_status reserve_file(lt_writer *writer, size_t file, lt_error *err)
{
    lt_metadata *meta = lt_writer_file_metadata(writer, file);
    char zeros[LT_HASH_SIZE] = "";
    memset(zeros, '0', sizeof zeros - 1);
    lt_status st = LT_OK;
    for (size_t i = 0; i < sizeof rows / sizeof *rows && !st; i++) {
        if (!lt_metadata_get(meta, rows[i].key)) continue;
        st = set_value(meta, &rows[i], zeros, err);
        if (rows[i].compute == lt_writer_hash) lt_writer_expect_hash(writer, file);
    }
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

lt_status lt_hashes_reserve(lt_writer *writer, lt_error *err)
{
    lt_status st = LT_OK;
    for (size_t i = 0; i < lt_writer_file_count(writer) && !st; i++)
        if (lt_writer_holds_metadata(writer, i)) st = reserve_file(writer, i, err);
    return st;
}

lt_status lt_hashes_fill(lt_writer *writer, lt_error *err)
{
    lt_status st = LT_OK;
    for (size_t i = 0; i < lt_writer_file_count(writer) && !st; i++)
        if (lt_writer_holds_metadata(writer, i)) st = fill_file(writer, i, err);
    return st;
}

/* A prefix too many or missing does not make a hash wrong. */
static lt_verification verify(const struct row *row, const char *value, const char *hex)
{
    bool prefixed = !strncmp(value, "0x", 2);
    if (*hex && !strcasecmp(value + (prefixed ? 2 : 0), hex)) return LT_HASH_RIGHT;
    bool lycoris = prefixed && !*row->prefix && strlen(value) == 66;
    return lycoris ? LT_HASH_UNDECIDED : LT_HASH_WRONG;
}

size_t lt_claims_check(
    const lt_metadata *meta, const lt_file_hashes *hashes, lt_claim *claims)
{
    size_t n = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *value = lt_metadata_get(meta, rows[i].key);
        const char *hex = (const char *)hashes + rows[i].of_file;
        if (!value) continue;
        claims[n++] = (lt_claim){ rows[i].key, value, verify(&rows[i], value, hex) };
    }
    return n;
}
