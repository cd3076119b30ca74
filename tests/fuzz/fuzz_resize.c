/* SPDX-License-Identifier: MIT */
/* resize: one adapter. The second file is the PEFT config beside it, if there is one. */
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
    const char *name = fuzz_output_name(o[3]);
    double max_error = 0.5;
    fuzz_write("adapter_model.safetensors", pair.file[0], pair.size[0]);
    if (pair.size[1]) fuzz_write("adapter_config.json", pair.file[1], pair.size[1]);
    lt_resize_options x = { .input = fuzz_path("adapter_model.safetensors"),
        .output = fuzz_path(name),
        .rank = 1 + o[0] % 6,
        .conv_rank = o[1] % 4,
        .dtype = dtypes[o[2] % 4],
        .alpha = o[4] % 3,
        .max_error = o[5] & 2 ? &max_error : NULL,
        .split = o[5] & 4 ? LT_FACTORS_UP : LT_FACTORS_BALANCED,
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
