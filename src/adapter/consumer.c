/* SPDX-License-Identifier: MIT */
/* What programs that load adapters need of a file, as far as it decides how one is
 * written. */
#include "adapter/kind.h"

#include <string.h>

static const lt_consumer consumers[] = {
    { .id = "a1111",
        .title = "AUTOMATIC1111's web UI",
        .dialect = "kohya",
        .families = { "sd1", "sd2", "sdxl" } },
    { .id = "forge",
        .title = "Forge",
        .dialect = "kohya",
        .families = { "sd1", "sd2", "sdxl", "flux" } },
    { .id = "comfyui", .title = "ComfyUI", .dialect = "comfyui" },
    { .id = "sd-scripts", .title = "sd-scripts", .dialect = "kohya" },
    { .id = "diffusers", .title = "diffusers", .dialect = "diffusers", .without = "te3" },
    { .id = "peft", .title = "PEFT", .dialect = "peft", .folder = true },
    /* It tells a file of FLUX.1 by names that are all in its blocks. */
    { .id = "invoke",
        .title = "InvokeAI",
        .dialect = "kohya",
        .families = { "sd1", "sd2", "sdxl", "flux" },
        .only_standard = true },
    /* It takes a down factor of one row for one of as many as it has columns. */
    { .id = "sd.cpp",
        .title = "stable-diffusion.cpp",
        .dialect = "kohya",
        .least_rank = 2 },
};

#define N_CONSUMERS (sizeof consumers / sizeof *consumers)

const lt_consumer *lt_consumer_by_id(const char *id)
{
    for (size_t i = 0; i < N_CONSUMERS; i++)
        if (!strcmp(consumers[i].id, id)) return &consumers[i];
    return NULL;
}

bool lt_consumer_takes(const lt_consumer *consumer, const lt_family *family)
{
    if (!consumer->families[0]) return true;
    for (int i = 0; i < 4 && consumer->families[i]; i++)
        if (!strcmp(consumer->families[i], lt_family_id(family))) return true;
    return false;
}
