/* SPDX-License-Identifier: MIT */
/* merge: base and adapter, alone or with a PEFT config beside it. */
#include "fuzz.h"
#include "mutate.h"

#include <string.h>

static const char *const dtypes[] = { NULL, "f32", "f16", "bf16" };
static const char config[] = "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,"
                             "\"rank_pattern\":{\"q_proj\":4},\"bias\":\"lora_only\","
                             "\"modules_to_save\":[\"norm\"],\"use_rslora\":true}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const bool blocks[] = { true, false, true };
    fuzz_pair pair;
    if (!fuzz_unpack(&pair, data, size)) return 0;
    lt_error err = LT_ERROR_INIT;
    lt_merge_report report;
    const uint8_t *o = pair.options;
    const char *name = fuzz_output_name(o[1]);
    const char *adapter = o[2] & 1 ? "adapter_model.safetensors" : "b.safetensors";
    fuzz_write("a.safetensors", pair.file[0], pair.size[0]);
    fuzz_write(adapter, pair.file[1], pair.size[1]);
    if (o[2] & 1) fuzz_write("adapter_config.json", config, strlen(config));
    lt_merge_input inputs[2] = { { fuzz_path(adapter), (o[0] - 128) / 64.0 } };
    inputs[1] = inputs[0];
    lt_merge_options x = { .base = fuzz_path("a.safetensors"),
        .output = fuzz_path(name),
        .inputs = inputs,
        .n_inputs = o[3] & 1 ? 2 : 1,
        .dtype = dtypes[o[4] % 4],
        .max_shard_size = strchr(name, '/') ? o[6] : 0,
        .allow_unmatched = o[3] & 2,
        .untie = o[3] & 4,
        .alpha = o[5] % 3,
        .enable_lora = o[3] & 8 ? blocks : NULL,
        .n_enable_lora = o[3] & 8 ? 3 : 0,
        .threads = 1 };
    lt_status st = lt_merge(&x, &report, &err);
    if (fuzz_judge(st, &err)) FUZZ_CHECK(report.modules_applied <= report.n_applied);
    lt_merge_report_release(&report);
    fuzz_output(st, x.output);
    fuzz_sweep(name);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    return fuzz_mutate_pair(data, size, max_size, seed);
}
