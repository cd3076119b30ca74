/* SPDX-License-Identifier: MIT */
/* Every way a safetensors file can be wrong: status, byte position, message. */
#include "runner.h"

#include "files.h"
#include "loratool/store.h"

static char path[512];

static lt_status open_header(const char *header, size_t data_size, lt_error *err)
{
    lt_store *store = NULL;
    if (write_safetensors(path, header, NULL, data_size)) return LT_ERR_IO;
    lt_status st = lt_store_open(&store, path, err);
    lt_store_close(store);
    return st;
}

#define T(dtype, shape, from, to) \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" from "," to "]}"

static void test_refused_headers(void)
{
    static const struct {
        const char *header;
        size_t data;
        lt_status status;
        uint64_t offset;
        const char *message; /* part of it */
    } rows[] = {
        { "[]", 0, LT_ERR_FORMAT, 8, "not a JSON object" },
        { "{", 0, LT_ERR_FORMAT, 9, "ends early" },
        { "{\"a\":1}", 0, LT_ERR_FORMAT, 9, "not an object" },
        { "{\"a\":{\"shape\":[],\"data_offsets\":[0,4]}}", 4, LT_ERR_FORMAT, 9,
            "'dtype'" },
        { "{\"a\":{\"dtype\":1,\"shape\":[],\"data_offsets\":[0,4]}}", 4, LT_ERR_FORMAT,
            9, "'dtype'" },
        { "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,"
          "4]}}",
            4, LT_ERR_FORMAT, 9, "'dtype'" },
        { "{\"a\":" T("f32", "[]", "0", "4") "}", 4, LT_ERR_FORMAT, 9,
            "unknown dtype 'f32'" },
        { "{\"a\":" T("F12", "[]", "0", "4") "}", 4, LT_ERR_FORMAT, 9, "unknown dtype" },
        { "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, LT_ERR_FORMAT, 9,
            "'shape'" },
        { "{\"a\":" T("F32", "1", "0", "4") "}", 4, LT_ERR_FORMAT, 9, "'shape'" },
        { "{\"a\":" T("F32", "[-1]", "0", "4") "}", 4, LT_ERR_FORMAT, 9,
            "else than sizes" },
        { "{\"a\":" T("F32", "[1.0]", "0", "4") "}", 4, LT_ERR_FORMAT, 9,
            "else than sizes" },
        { "{\"a\":" T("F32", "[\"1\"]", "0", "4") "}", 4, LT_ERR_FORMAT, 9,
            "else than sizes" },
        { "{\"a\":" T("F32", "[18446744073709551616]", "0", "4") "}", 4, LT_ERR_FORMAT, 9,
            "else than sizes" },
        { "{\"a\":" T("F32", "[2,18446744073709551615]", "0", "4") "}", 4, LT_ERR_FORMAT,
            9, "overflows" },
        { "{\"a\":" T("F32", "[18446744073709551615,2,0]", "0", "0") "}", 0,
            LT_ERR_FORMAT, 9, "overflows" },
        { "{\"a\":" T("F32", "[4611686018427387904]", "0", "4") "}", 4, LT_ERR_FORMAT, 9,
            "overflows" },
        { "{\"a\":" T("F32", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "0", "4") "}", 4,
            LT_ERR_LIMIT, 9, "dimensions" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[]}}", 4, LT_ERR_FORMAT, 9,
            "'data_offsets'" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0]}}", 4,
            LT_ERR_FORMAT, 9, "'data_offsets'" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4,8]}}", 4,
            LT_ERR_FORMAT, 9, "'data_offsets'" },
        { "{\"a\":" T("F32", "[]", "4", "0") "}", 4, LT_ERR_FORMAT, 9, "backwards" },
        { "{\"a\":" T("F32", "[]", "-0", "4") "}", 4, LT_ERR_FORMAT, 9, "unsigned" },
        { "{\"a\":" T("F32", "[2]", "0", "4") "}", 4, LT_ERR_FORMAT, 9, "takes 8" },
        { "{\"a\":" T("I32", "[2,2]", "0", "4") "}", 4, LT_ERR_FORMAT, 9, "takes 16" },
        { "{\"a\":" T("F32", "[2]", "0", "8") "}", 4, LT_ERR_FORMAT, 9, "truncated" },
        { "{\"a\":" T("F4", "[1]", "0", "1") "}", 1, LT_ERR_FORMAT, 9, "whole bytes" },
        { "{\"a\":" T("F6_E2M3", "[2]", "0", "1") "}", 1, LT_ERR_FORMAT, 9,
            "whole bytes" },
        { "{\"a\":" T("F32", "[]", "0", "4") "}", 5, LT_ERR_FORMAT, UINT64_MAX - 1,
            "1 bytes follow" },
        { "{}", 3, LT_ERR_FORMAT, 10, "3 bytes follow" },
        { "{\"a\":" T("F32", "[]", "4", "8") "}", 8, LT_ERR_FORMAT, UINT64_MAX - 1,
            "hole" },
        { "{\"a\":" T("F32", "[]", "0", "4") ",\"b\":" T("F32", "[]", "0", "4") "}", 4,
            LT_ERR_FORMAT, UINT64_MAX - 1, "overlaps" },
        { "{\"a\":" T("F32", "[]", "0", "4") ",\"a\":" T("F32", "[]", "4", "8") "}", 8,
            LT_ERR_FORMAT, 61, "stands twice" },
        { "{\"__metadata__\":1}", 0, LT_ERR_FORMAT, 9, "not an object" },
        { "{\"__metadata__\":{\"a\":1}}", 0, LT_ERR_FORMAT, 29, "not a string" },
        { "{\"__metadata__\":{\"a\":null}}", 0, LT_ERR_FORMAT, 29, "not a string" },
        { "{\"__metadata__\":{},\"__metadata__\":{}}", 0, LT_ERR_FORMAT, 27,
            "stands twice" },
        { "{\"a\xff\":" T("F32", "[]", "0", "4") "}", 4, LT_ERR_FORMAT, 11, "not UTF-8" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lt_error err = LT_ERROR_INIT;
        lt_status st = open_header(rows[i].header, rows[i].data, &err);
        bool ok = CHECK(st == rows[i].status);
        ok = CHECK(strstr(err.msg, rows[i].message) != NULL) && ok;
        if (rows[i].offset != UINT64_MAX - 1)
            ok = CHECK(err.offset == rows[i].offset) && ok;
        else
            ok = CHECK(err.offset >= 8 + strlen(rows[i].header)) && ok;
        if (!ok)
            printf("    row %zu %s: status %d at %llu: %s\n", i, rows[i].header, st,
                (unsigned long long)err.offset, err.msg);
    }
}

static void test_refused_lengths(void)
{
    static const unsigned char none[1] = { 0 };
    static const unsigned char longer[16] = { 60, 0, 0, 0, 0, 0, 0, 0, '{', '}' };
    static const unsigned char huge[10] = { 0x3c, 0, 0, 0, 0, 0xff, 0xff, 0xff, '{',
        '}' };
    static const unsigned char zero[8] = { 0 };
    static const unsigned char over[9] = { 0x01, 0xe1, 0xf5, 0x05, 0, 0, 0, 0, '{' };
    static const struct {
        const unsigned char *bytes;
        size_t size;
        const char *message;
    } rows[] = {
        { none, 0, "empty" }, { none, 1, "too few" }, { longer, 16, "past the end" },
        { huge, 10, "ceiling" }, { zero, 8, "ends early" },
        { over, 9, "ceiling" }, /* 100,000,001 */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lt_error err = LT_ERROR_INIT;
        lt_store *store = NULL;
        write_bytes(path, rows[i].bytes, rows[i].size);
        lt_status st = lt_store_open(&store, path, &err);
        if (!CHECK(st == LT_ERR_FORMAT) || !CHECK(strstr(err.msg, rows[i].message)))
            printf("    row %zu: status %d: %s\n", i, st, err.msg);
        CHECK(store == NULL && strstr(err.where, path) != NULL);
        lt_store_close(store);
    }
}

static void test_truncated_everywhere(void)
{
    static const char header[] = "{\"a\":" T("F32", "[2]", "0", "8") "}";
    unsigned char file[8 + sizeof header - 1 + 8] = { sizeof header - 1 };
    memcpy(file + 8, header, sizeof header - 1);
    for (size_t n = 0; n <= sizeof file; n++) {
        lt_store *store = NULL;
        lt_error err = LT_ERROR_INIT;
        write_bytes(path, file, n);
        lt_status st = lt_store_open(&store, path, &err);
        if (!CHECK(st == (n < sizeof file ? LT_ERR_FORMAT : LT_OK)))
            printf("    %zu bytes: status %d: %s\n", n, st, err.msg);
        lt_store_close(store);
    }
}

static void test_accepted(void)
{
    static const struct {
        const char *header;
        size_t data, tensors;
    } rows[] = {
        { "{}", 0, 0 },
        { "{}      ", 0, 0 },
        { " \n\t{}\r\n", 0, 0 },
        { "{\"__metadata__\":null}", 0, 0 },
        { "{\"__metadata__\":{\"a\":\"b\",\"a\":\"c\"}}", 0, 0 },
        { "{\"\":" T("F32", "[]", "0", "4") "}", 4, 1 },
        { "{\"a\\u00e9\\n\":" T("F32", "[]", "0", "4") "}", 4, 1 },
        { "{\"b\":" T("U8", "[1]", "4", "5") ",\"a\":" T("F32", "[]", "0", "4") "}", 5,
            2 },
        { "{\"a\":" T("F32", "[0,18446744073709551615,2]", "0", "0") "}", 0, 1 },
        { "{\"a\":" T("F32", "[]", "0", "4") ",\"e\":" T("F32", "[0]", "4", "4") "}", 4,
            2 },
        { "{\"a\":" T("F4", "[2]", "0", "1") "}", 1, 1 },
        { "{\"a\":{\"x\":[1,2.5,\"y\"],\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":["
          "0,4]}}",
            4, 1 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lt_error err = LT_ERROR_INIT;
        lt_store *store = NULL;
        write_safetensors(path, rows[i].header, NULL, rows[i].data);
        lt_status st = lt_store_open(&store, path, &err);
        if (!CHECK(st == LT_OK))
            printf("    row %zu: %s\n", i, err.msg);
        else
            CHECK(lt_store_count(store) == rows[i].tensors);
        if (!st && rows[i].tensors)
            CHECK(lt_store_find(store, lt_store_at(store, 0)->name)
                == lt_store_at(store, 0));
        lt_store_close(store);
    }
}

static void test_every_dtype(void)
{
    for (int d = 0; d < LT_DTYPE_COUNT; d++) {
        char header[256];
        const lt_dtype_info *info = lt_dtype_get((lt_dtype)d);
        lt_dtype known;
        if (!lt_dtype_by_name(info->name, &known)) {
            CHECK(d == LT_C32 || d == LT_C128); /* torch's own */
            continue;
        }
        unsigned bytes = info->bits; /* eight elements */
        snprintf(header, sizeof header,
            "{\"t\":{\"dtype\":\"%s\",\"shape\":[2,4],\"data_offsets\":[0,%u]}}",
            info->name, bytes);
        lt_store *store = NULL;
        write_safetensors(path, header, NULL, bytes);
        if (!CHECK(!lt_store_open(&store, path, NULL))) continue;
        const lt_tensor *t = lt_store_find(store, "t");
        CHECK(t && t->dtype == (lt_dtype)d && t->size == bytes && t->count == 8);
        lt_store_close(store);
    }
}

static void test_other_files(void)
{
    static const struct {
        const char *bytes;
        size_t size;
        const char *message;
    } rows[] = {
        { "GGUF\x03\0\0\0", 8, "GGUF" },
        { "<!DOCTYPE html>", 15, "HTML" },
        { "version https://git-lfs.github.com/spec/v1\n", 43, "Git LFS" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lt_error err = LT_ERROR_INIT;
        lt_store *store = NULL;
        write_bytes(path, rows[i].bytes, rows[i].size);
        CHECK(lt_store_open(&store, path, &err) == LT_ERR_UNSUPPORTED);
        if (!CHECK(strstr(err.msg, rows[i].message))) printf("    %s\n", err.msg);
    }
}

int main(void)
{
    static const unit_test tests[] = { TEST(test_refused_headers),
        TEST(test_refused_lengths), TEST(test_truncated_everywhere), TEST(test_accepted),
        TEST(test_every_dtype), TEST(test_other_files) };
    temp_path(path, sizeof path, "safetensors");
    int rc = RUN_TESTS(tests);
    unlink(path);
    return rc;
}
