/* SPDX-License-Identifier: MIT */
/* map: where an adapter's modules go in a base; nothing is written. */
#include "fuzz.h"
#include "mutate.h"

#include <string.h>

static void check_place(const lt_applied *a)
{
    FUZZ_CHECK(*a->module && *a->tensor && a->rank);
    FUZZ_CHECK(a->first + a->rows >= a->rows && a->row0 + a->rows >= a->rows);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_pair pair;
    if (!fuzz_unpack(&pair, data, size)) return 0;
    lt_error err = LT_ERROR_INIT;
    lt_merge_report report;
    fuzz_write("a.safetensors", pair.file[0], pair.size[0]);
    fuzz_write("b.safetensors", pair.file[1], pair.size[1]);
    lt_merge_input input = { fuzz_path("b.safetensors"), 1 };
    lt_merge_options x = { .base = fuzz_path("a.safetensors"),
        .inputs = &input,
        .n_inputs = 1,
        .dry_run = true,
        .explain = true,
        .threads = 1 };
    if (fuzz_judge(lt_merge(&x, &report, &err), &err))
        for (size_t i = 0; i < report.n_applied; i++)
            check_place(&report.applied[i]);
    FUZZ_CHECK(memchr(report.cause, 0, sizeof report.cause));
    lt_merge_report_release(&report);
    fuzz_sweep(NULL);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    return fuzz_mutate_pair(data, size, max_size, seed);
}
