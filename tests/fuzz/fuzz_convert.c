/* SPDX-License-Identifier: MIT */
/* convert: into another container, an adapter into another dialect with the second file
 * as the base (or without a base, and that file as its PEFT config), a model into its
 * other layout. */
#include "fuzz.h"
#include "mutate.h"

#include <string.h>

#define ADAPTER "adapter_model.safetensors"

static const char *const dtypes[] = { NULL, "f32", "f16", "bf16" };
static const char *const dialects[] = { "kohya", "peft", "diffusers", "comfyui", "bfl" };
static const char *const consumers[] = { "a1111", "forge", "comfyui", "sd-scripts",
    "diffusers", "sd.cpp", "invoke" };
static const char *const families[] = { NULL, NULL, "sd1", "sdxl", "flux", "sd3", "wan",
    "qwen-image" };
static const uint64_t shard_sizes[] = { 0, 1, 100, 4096 };

static lt_status convert(const uint8_t *o, const char *name, lt_error *err)
{
    lt_convert_report report;
    lt_convert_options x = { .input = fuzz_path("a.safetensors"),
        .output = fuzz_path(name),
        .dtype = dtypes[o[2] % 4],
        .ema = (lt_ema)(o[3] % 3),
        .max_shard_size = strchr(name, '/') ? shard_sizes[o[5] % 4] : 0,
        .everything = o[4] & 1,
        .salvage = o[4] & 2,
        .threads = 1 };
    lt_status st = lt_convert(&x, &report, err);
    if (!st) FUZZ_CHECK(report.cast <= report.tensors);
    lt_convert_report_release(&report);
    return st;
}

static lt_status respell(const uint8_t *o, const char *name, lt_error *err)
{
    lt_respell_report report;
    bool by_consumer = o[3] & 1, based = !(o[5] & 1);
    lt_respell_options x = { .input = fuzz_path(ADAPTER),
        .output = fuzz_path(name),
        .base = based ? fuzz_path("b.safetensors") : NULL,
        .family = based ? NULL : families[o[6] % 8],
        .to = by_consumer ? NULL : dialects[o[4] % 5],
        .consumer = by_consumer ? consumers[o[4] % 7] : NULL,
        .dtype = dtypes[o[2] % 4],
        .allow_unmatched = o[3] & 2 };
    lt_status st = lt_respell(&x, &report, err);
    lt_respell_report_release(&report);
    return st;
}

static lt_status relayout(const uint8_t *o, const char *name, lt_error *err)
{
    lt_relayout_report report;
    lt_relayout_options x = { .input = fuzz_path("a.safetensors"),
        .output = fuzz_path(name),
        .to = o[4] & 1 ? "diffusers" : "single",
        .allow_unmatched = o[3] & 2 };
    lt_status st = lt_relayout(&x, &report, err);
    lt_relayout_report_release(&report);
    return st;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_pair pair;
    if (!fuzz_unpack(&pair, data, size)) return 0;
    lt_error err = LT_ERROR_INIT;
    const uint8_t *o = pair.options;
    const char *name = fuzz_output_name(o[1]);
    bool config = o[0] % 3 == 1 && o[5] & 1;
    fuzz_write(o[0] % 3 == 1 ? ADAPTER : "a.safetensors", pair.file[0], pair.size[0]);
    if (!config || pair.size[1])
        fuzz_write(
            config ? "adapter_config.json" : "b.safetensors", pair.file[1], pair.size[1]);
    lt_status st = o[0] % 3 == 0 ? convert(o, name, &err)
        : o[0] % 3 == 1          ? respell(o, name, &err)
                                 : relayout(o, name, &err);
    fuzz_judge(st, &err);
    fuzz_output(st, fuzz_path(name));
    fuzz_sweep(name);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    return fuzz_mutate_pair(data, size, max_size, seed);
}
