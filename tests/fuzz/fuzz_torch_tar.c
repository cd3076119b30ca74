/* SPDX-License-Identifier: MIT */
/* A torch file of the oldest kind: a tar archive of pickles. */
#include "fuzz.h"
#include "mutate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_torch(data, size);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    return fuzz_mutate_tar(data, size, max_size, seed);
}
