/* SPDX-License-Identifier: MIT */
/* A module pattern of a PEFT config: the pattern, a line feed, a path. */
#include "fuzz.h"

#include "adapter/pattern.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lt_error err = LT_ERROR_INIT;
    lt_pattern pattern;
    char *text = malloc(size + 1);
    FUZZ_CHECK(text);
    memcpy(text, data, size);
    text[size] = '\0';
    char *path = strchr(text, '\n');
    if (path) *path++ = '\0';
    lt_status st = lt_pattern_compile(&pattern, text, &err);
    if (fuzz_judge(st, &err)) {
        bool matches = false;
        uint64_t work = 0;
        const char *on = path ? path : "model.layers.0.self_attn.q_proj";
        lt_subject subject = lt_subject_of(on), itself = lt_subject_of(text);
        st = lt_pattern_match(&pattern, &subject, &matches, &work, &err);
        if (fuzz_judge(st, &err) && matches && pattern.exact)
            FUZZ_CHECK(!strcmp(pattern.text, on));
        /* What is spelled out matches itself. */
        if (!strpbrk(text, "\\^$.|?*+()[]{}"))
            FUZZ_CHECK(
                !lt_pattern_match(&pattern, &itself, &matches, &work, &err) && matches);
        lt_pattern_release(&pattern);
    }
    free(text);
    return 0;
}
