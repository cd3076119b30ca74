/* SPDX-License-Identifier: MIT */
/* Both readings of a JSON text: they must accept the same and find the same in it. */
#include "fuzz.h"

#include "base/json.h"

#include <stdlib.h>
#include <string.h>

/* The token stands for the node, and so does what is in it; returns the token behind. */
static size_t compare(lt_json_tape *tape, size_t at, const cJSON *node)
{
    char type = lt_json_type(tape, at);
    size_t end = lt_json_next(tape, at);
    uint64_t number;
    FUZZ_CHECK(lt_json_at(tape, at) >= 100);
    if (cJSON_IsString(node)) {
        FUZZ_CHECK(type == '"' && !strcmp(lt_json_text(tape, at), node->valuestring));
    } else if (cJSON_IsNumber(node)) {
        FUZZ_CHECK(type == '0');
        if (lt_json_uint(tape, at, &number))
            FUZZ_CHECK((double)number == node->valuedouble);
    } else if (cJSON_IsObject(node) || cJSON_IsArray(node)) {
        bool object = cJSON_IsObject(node);
        FUZZ_CHECK(type == (object ? '{' : '['));
        const cJSON *child;
        size_t next = at + 1;
        cJSON_ArrayForEach(child, node)
        {
            FUZZ_CHECK(next < end);
            if (object) FUZZ_CHECK(!strcmp(lt_json_text(tape, next++), child->string));
            next = compare(tape, next, child);
        }
        FUZZ_CHECK(next == end);
    } else {
        FUZZ_CHECK(type == (cJSON_IsNull(node) ? 'n' : cJSON_IsTrue(node) ? 't' : 'f'));
    }
    return end;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lt_error parse_err = LT_ERROR_INIT, scan_err = LT_ERROR_INIT;
    lt_json json;
    lt_json_tape tape;
    char *text = malloc(size ? size : 1);
    FUZZ_CHECK(text);
    memcpy(text, data, size);
    lt_status parsed = lt_json_parse(&json, text, size, 100, &parse_err);
    lt_status scanned = lt_json_scan(&tape, text, size, 100, &scan_err);
    fuzz_judge(parsed, &parse_err);
    fuzz_judge(scanned, &scan_err);
    FUZZ_CHECK(parsed == scanned && parse_err.offset == scan_err.offset);
    if (parsed)
        FUZZ_CHECK(parse_err.offset >= 100 && parse_err.offset <= 100 + size);
    else
        FUZZ_CHECK(compare(&tape, 0, json.root) == tape.count);
    if (!parsed && cJSON_IsObject(json.root)) {
        size_t sole = lt_json_sole(&tape, 0, "dtype");
        FUZZ_CHECK(!sole || lt_json_get(json.root, "dtype") != NULL);
        lt_json_get_string(json.root, "dtype");
        lt_json_get_number(json.root, "r", 0);
        lt_json_get_bool(json.root, "use_rslora", false);
    }
    lt_json_tape_release(&tape);
    lt_json_release(&json);
    free(text);
    return 0;
}
