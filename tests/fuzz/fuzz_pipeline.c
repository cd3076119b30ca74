/* SPDX-License-Identifier: MIT */
/* model_index.json of a pipeline's folder, which holds two components with weights, one
 * of them in shards, and one without. */
#include "fuzz.h"

static const char unet[] =
    "{\"a.weight\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
static const char encoder[] =
    "{\"b.weight\":{\"dtype\":\"F16\",\"shape\":[2,2],\"data_offsets\":[0,8]}}";
static const char index[] =
    "{\"weight_map\":{\"b.weight\":\"model-00001-of-00001.safetensors\"}}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_folder("unet");
    fuzz_write_safetensors("unet/diffusion_pytorch_model.safetensors", unet, 8);
    fuzz_folder("text_encoder");
    fuzz_write_safetensors("text_encoder/model-00001-of-00001.safetensors", encoder, 8);
    fuzz_write("text_encoder/model.safetensors.index.json", index, sizeof index - 1);
    fuzz_folder("scheduler");
    fuzz_write("model_index.json", data, size);
    fuzz_model(fuzz_path(""));
    fuzz_sweep(NULL);
    return 0;
}
