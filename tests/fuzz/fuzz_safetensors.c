/* SPDX-License-Identifier: MIT */
/* A safetensors file: header, tiling, data. */
#include "fuzz.h"
#include "mutate.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lt_error err = LT_ERROR_INIT;
    lt_store *store = NULL;
    fuzz_write("a.safetensors", data, size);
    lt_status st = lt_store_open(&store, fuzz_path("a.safetensors"), &err);
    if (fuzz_judge(st, &err)) {
        uint64_t sum = 0;
        for (size_t i = 0; i < lt_store_count(store); i++)
            sum += lt_store_at(store, i)->size;
        if (!strcmp(lt_store_container(store), "safetensors")) FUZZ_CHECK(sum <= size);
        fuzz_read_store(store);
    }
    lt_store_close(store);
    fuzz_sweep(NULL);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    return fuzz_mutate_safetensors(data, size, max_size, seed);
}
