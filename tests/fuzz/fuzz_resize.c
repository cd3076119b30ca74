/* SPDX-License-Identifier: MIT */
/* resize: one adapter. */
#include "fuzz.h"
#include "mutate.h"

#include <math.h>

static const char *const dtypes[] = { NULL, "f32", "f16", "bf16" };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_pair pair;
    if (!fuzz_unpack(&pair, data, size)) return 0;
    lt_error err = LT_ERROR_INIT;
    lt_resize_report report;
    const uint8_t *o = pair.options;
    const char *name = o[3] & 1 ? "out.pt" : "out.safetensors";
    double max_error = 0.5;
    fuzz_write("a.safetensors", pair.file[0], pair.size[0]);
    lt_resize_options x = { .input = fuzz_path("a.safetensors"),
        .output = fuzz_path(name),
        .rank = 1 + o[0] % 6,
        .conv_rank = o[1] % 4,
        .dtype = dtypes[o[2] % 4],
        .alpha = o[4] % 3,
        .max_error = o[3] & 2 ? &max_error : NULL,
        .split = o[3] & 4 ? LT_FACTORS_UP : LT_FACTORS_BALANCED,
        .threads = 1 };
    lt_status st = lt_resize(&x, &report, &err);
    if (fuzz_judge(st, &err)) {
        FUZZ_CHECK(report.error >= 0 && isfinite(report.error));
        FUZZ_CHECK(report.retained >= 0 && report.retained <= 1);
    }
    lt_resize_report_release(&report);
    fuzz_output(st, x.output);
    fuzz_sweep(name);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    return fuzz_mutate_pair(data, size, max_size, seed);
}
