/* SPDX-License-Identifier: MIT */
#include "adapter/kind.h"

#include <string.h>

/* Recognised by the first module name prefix that fits, in this order; the suffixes are
 * those that are written. */
static const lt_dialect dialects[] = {
    { "kohya", LT_NAMING_KOHYA, ".lora_down.weight", ".lora_up.weight", true,
        { "lora_unet_", "lora_te", "lora_prior_", "oft_unet_" } },
    { "lycoris", LT_NAMING_KOHYA, NULL, NULL, true, { "lycoris_" } },
    { "onetrainer", LT_NAMING_KOHYA, NULL, NULL, true, { "lora_transformer_" } },
    { "peft", LT_NAMING_PEFT, ".lora_A.weight", ".lora_B.weight", false,
        { "base_model.model." } },
    { "comfyui", LT_NAMING_COMFYUI, ".lora_down.weight", ".lora_up.weight", true,
        { "diffusion_model.", "text_encoders." } },
    /* Written only: without a prefix its names are read as bare ones. */
    { "bfl", LT_NAMING_BFL, ".lora_A.weight", ".lora_B.weight", false, { NULL } },
    { "diffusers", LT_NAMING_DIFFUSERS, ".lora_A.weight", ".lora_B.weight", false,
        { "unet.", "text_encoder.", "text_encoder_2.", "text_encoder_3.",
            "transformer." } },
    { "bare", LT_NAMING_PEFT, NULL, NULL, false, { "" } },
};

#define N_DIALECTS (sizeof dialects / sizeof *dialects)

const char *lt_dialect_id(const lt_dialect *dialect)
{
    return dialect->id;
}

lt_naming lt_dialect_naming(const lt_dialect *dialect)
{
    return dialect->naming;
}

bool lt_dialect_holds_alpha(const lt_dialect *dialect)
{
    return dialect->alpha;
}

const lt_dialect *lt_dialect_by_id(const char *id)
{
    if (!strcmp(id, "comfy")) id = "comfyui";
    for (size_t i = 0; i < N_DIALECTS; i++)
        if (dialects[i].up && !strcmp(dialects[i].id, id)) return &dialects[i];
    return NULL;
}

const lt_dialect *lt_dialect_of_naming(lt_naming naming)
{
    for (size_t i = 0; i < N_DIALECTS; i++)
        if (dialects[i].up && dialects[i].naming == naming) return &dialects[i];
    return NULL;
}

static bool speaks(const lt_dialect *d, const char *name)
{
    for (int i = 0; i < 6 && d->prefixes[i]; i++)
        if (!strncmp(name, d->prefixes[i], strlen(d->prefixes[i]))) return true;
    return false;
}

const lt_dialect *lt_dialect_detect(const lt_module *modules, size_t count)
{
    /* The dialect of most modules: bundled extras must not decide. */
    size_t votes[N_DIALECTS] = { 0 }, best = N_DIALECTS - 1;
    for (size_t i = 0; i < count; i++)
        for (size_t d = 0; d < N_DIALECTS; d++)
            if (speaks(&dialects[d], modules[i].name)) {
                votes[d]++;
                break;
            }
    for (size_t d = N_DIALECTS; d-- > 0;)
        if (votes[d] >= votes[best]) best = d;
    return &dialects[best];
}
