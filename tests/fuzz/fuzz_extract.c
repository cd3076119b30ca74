/* SPDX-License-Identifier: MIT */
/* extract: base and tuned model. */
#include "fuzz.h"
#include "mutate.h"

#include <math.h>

static const char *const dtypes[] = { NULL, "f32", "f16", "bf16" };
static const char *const dialects[] = { NULL, "kohya", "peft", "diffusers", "comfyui",
    "bfl" };
static const char *const some[] = { "attn|mlp", NULL };

static void check_report(const lt_extract_report *r)
{
    FUZZ_CHECK(r->error >= 0 && isfinite(r->error));
    FUZZ_CHECK(r->skipped_share >= 0 && r->skipped_share <= 1);
    for (size_t i = 0; i < r->modules_written; i++) {
        FUZZ_CHECK(r->modules[i].energy >= 0 && r->modules[i].residual >= 0);
        FUZZ_CHECK(*r->modules[i].name && *r->modules[i].tensor);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_pair pair;
    if (!fuzz_unpack(&pair, data, size)) return 0;
    lt_error err = LT_ERROR_INIT;
    lt_extract_report report;
    const uint8_t *o = pair.options;
    const char *name = fuzz_output_name(o[4]);
    double max_error = 0.5;
    fuzz_write("a.safetensors", pair.file[0], pair.size[0]);
    fuzz_write("b.safetensors", pair.file[1], pair.size[1]);
    lt_extract_options x = { .base = fuzz_path("a.safetensors"),
        .tuned = fuzz_path("b.safetensors"),
        .output = fuzz_path(name),
        .rank = 1 + o[0] % 12,
        .conv_rank = o[1] % 4,
        .dtype = dtypes[o[2] % 4],
        .dialect = dialects[o[3] % 6],
        .include = o[7] & 1 ? some : NULL,
        .exclude = o[7] & 2 ? some : NULL,
        .alpha = o[5] % 3,
        .min_diff = o[6] & 1 ? 1e-3 : 0,
        .max_error = o[6] & 2 ? &max_error : NULL,
        .all_modules = o[6] & 4,
        .split = o[6] & 8 ? LT_FACTORS_UP : LT_FACTORS_BALANCED,
        .threads = 1 };
    lt_status st = lt_extract(&x, &report, &err);
    if (fuzz_judge(st, &err)) check_report(&report);
    lt_extract_report_release(&report);
    fuzz_output(st, x.output);
    fuzz_sweep(name);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    return fuzz_mutate_pair(data, size, max_size, seed);
}
