/* SPDX-License-Identifier: MIT */
/* A torch file of the old kind: pickles and storages in a row. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_torch(data, size);
    return 0;
}
