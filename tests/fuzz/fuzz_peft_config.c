/* SPDX-License-Identifier: MIT */
/* adapter_config.json: its fields, the patterns in it, and what is made of it again. */
#include "fuzz.h"

#include "adapter/kind.h"

#include <stdlib.h>
#include <string.h>

static const char *const paths[] = { "model.layers.0.self_attn.q_proj",
    "model.layers.11.mlp.down_proj", "transformer.h.0.attn.c_attn", "lm_head", "" };
#define N_PATHS (sizeof paths / sizeof *paths)

static void use(const lt_peft_config *config)
{
    for (size_t i = 0; i < N_PATHS; i++) {
        lt_error err = LT_ERROR_INIT;
        double alpha, scale;
        uint64_t work = 0;
        fuzz_judge(
            lt_peft_config_scale(config, paths[i], 4, &alpha, &scale, &work, &err), &err);
        bool saves;
        fuzz_judge(lt_peft_config_saves(config, paths[i], &saves, &work, &err), &err);
    }
}

/* A config that is made over any template is one that can be read. */
static void make_again(const char *text)
{
    lt_error err = LT_ERROR_INIT;
    lt_peft_entry entries[N_PATHS];
    for (size_t i = 0; i < N_PATHS; i++)
        entries[i] = (lt_peft_entry){ paths[i], 1 + i % 3, 2.0 };
    char *made = NULL;
    lt_status st =
        lt_peft_config_make(entries, N_PATHS - 1, false, true, text, &made, &err);
    if (!fuzz_judge(st, &err)) return;
    lt_peft_config config;
    st = lt_peft_config_parse(&config, made, strlen(made), &err);
    if (fuzz_judge(st, &err)) use(&config);
    lt_peft_config_release(&config);
    free(made);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lt_error err = LT_ERROR_INIT;
    lt_peft_config config;
    char *text = malloc(size + 1);
    FUZZ_CHECK(text);
    memcpy(text, data, size);
    text[size] = '\0';
    lt_status st = lt_peft_config_parse(&config, text, size, &err);
    if (fuzz_judge(st, &err)) {
        use(&config);
        make_again(text);
    }
    lt_peft_config_release(&config);
    free(text);
    return 0;
}
