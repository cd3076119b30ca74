/* SPDX-License-Identifier: MIT */
/* A torch file in a zip archive: directory, entries, pickle, storages. */
#include "fuzz.h"
#include "mutate.h"

static void open_as(lt_reading reading)
{
    lt_error err = LT_ERROR_INIT, unfit = LT_ERROR_INIT;
    lt_store *store = NULL;
    if (!fuzz_judge(lt_store_open_as(&store, fuzz_path("a.pt"), reading, &err), &err))
        return;
    fuzz_judge(lt_store_usable(store, false, &unfit), &unfit);
    fuzz_read_store(store);
    lt_store_close(store);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_write("a.pt", data, size);
    open_as(LT_READ_MODEL);
    open_as(LT_READ_EVERYTHING);
    fuzz_sweep(NULL);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    return fuzz_mutate_zip(data, size, max_size, seed);
}
