/* SPDX-License-Identifier: MIT */
/* The index of a model in two shards, which stand beside it. */
#include "fuzz.h"

static const char first[] =
    "{\"a.weight\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
    "\"b.weight\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}";
static const char second[] =
    "{\"c.weight\":{\"dtype\":\"F16\",\"shape\":[2,2],\"data_offsets\":[0,8]}}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_write_safetensors("model-00001-of-00002.safetensors", first, 12);
    fuzz_write_safetensors("model-00002-of-00002.safetensors", second, 8);
    fuzz_write("model.safetensors.index.json", data, size);
    fuzz_model(fuzz_path("model.safetensors.index.json"));
    fuzz_model(fuzz_path(""));
    fuzz_sweep(NULL);
    return 0;
}
