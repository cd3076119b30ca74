/* SPDX-License-Identifier: MIT */
/* info: a file read as what it is, its hashes, and the report as JSON. The second file is
 * an adapter_config.json beside it, if there is one. */
#include "fuzz.h"
#include "mutate.h"

#include "cli/info_report.h"

#include <stdlib.h>

static void report(const lt_info *info)
{
    lt_error err = LT_ERROR_INIT;
    lt_info_hashes hashes;
    cJSON *json = lt_info_json("a file", info, true);
    FUZZ_CHECK(json);
    if (fuzz_judge(lt_info_hash(info, 0, &hashes, &err), &err)) {
        cJSON *list = cJSON_AddArrayToObject(json, "hashes");
        lt_info_json_hashes(list, "a file", &hashes);
    }
    char *text = cJSON_PrintUnformatted(json);
    FUZZ_CHECK(text);
    free(text);
    cJSON_Delete(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_pair pair;
    if (!fuzz_unpack(&pair, data, size)) return 0;
    lt_info info;
    fuzz_write("adapter_model.safetensors", pair.file[0], pair.size[0]);
    if (pair.size[1]) fuzz_write("adapter_config.json", pair.file[1], pair.size[1]);
    for (int everything = 0; everything < 2; everything++) {
        lt_error err = LT_ERROR_INIT;
        lt_status st = lt_info_open_as(&info, fuzz_path("adapter_model.safetensors"),
            everything ? LT_READ_EVERYTHING : LT_READ_MODEL, &err);
        if (!fuzz_judge(st, &err)) continue;
        FUZZ_CHECK(!info.adapter || info.role == LT_ROLE_ADAPTER);
        report(&info);
        lt_info_release(&info);
    }
    fuzz_sweep(NULL);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    return fuzz_mutate_pair(data, size, max_size, seed);
}
