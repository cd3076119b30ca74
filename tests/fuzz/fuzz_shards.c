/* SPDX-License-Identifier: MIT */
/* The index of a model in two shards, which stand beside it. */
#include "fuzz.h"

#include <string.h>

static const char first[] =
    "{\"a.weight\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
    "\"b.weight\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}";
static const char second[] =
    "{\"c.weight\":{\"dtype\":\"F16\",\"shape\":[2,2],\"data_offsets\":[0,8]}}";

static void write_shard(const char *name, const char *header, size_t data_size)
{
    uint8_t file[512] = { (uint8_t)strlen(header) };
    memcpy(file + 8, header, strlen(header));
    fuzz_write(name, file, 8 + strlen(header) + data_size);
}

static void open_path(const char *path)
{
    lt_error err = LT_ERROR_INIT;
    lt_store *store = NULL;
    if (!fuzz_judge(lt_store_open(&store, path, &err), &err)) return;
    for (size_t i = 0; i < lt_store_count(store); i++) {
        size_t file = lt_store_file_of(store, lt_store_at(store, i));
        FUZZ_CHECK(file < lt_store_file_count(store));
        FUZZ_CHECK(*lt_store_file(store, file));
    }
    fuzz_read_store(store);
    lt_store_close(store);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    write_shard("model-00001-of-00002.safetensors", first, 12);
    write_shard("model-00002-of-00002.safetensors", second, 8);
    fuzz_write("model.safetensors.index.json", data, size);
    open_path(fuzz_path("model.safetensors.index.json"));
    open_path(fuzz_path(""));
    fuzz_sweep(NULL);
    return 0;
}
