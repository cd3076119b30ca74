/* SPDX-License-Identifier: MIT */
/* JSON through cJSON, made strict. The only place that includes cJSON.
 *
 * cJSON reads leniently (control characters in strings, leading zeros, a byte order
 * mark) and keeps numbers as doubles without their position. lt_json_parse therefore
 * first checks the text against RFC 8259 and UTF-8, noting where each number and each
 * top-level member stands and its exact unsigned value, and only then builds the tree. */
#ifndef LT_BASE_JSON_H
#define LT_BASE_JSON_H

#include "loratool/error.h"

#include <stdbool.h>

#include <cjson/cJSON.h>

typedef struct lt_json_number {
    uint64_t value;  /* when is_uint */
    uint64_t offset; /* byte position in the text */
    bool is_uint;    /* plain digits, no sign, point or exponent, below 2^64 */
} lt_json_number;

typedef struct lt_json {
    cJSON *root;
    lt_json_number *numbers; /* document order */
    uint64_t *member_at;     /* byte position of the i-th member of a top-level object */
    size_t n_numbers, n_members, numbers_capacity, members_capacity;
} lt_json;

/* base_offset is added to the byte positions in errors. U+0000 in a string is refused:
 * no C string can hold it. On failure *json is empty. */
lt_status lt_json_parse(lt_json *json, const char *text, size_t size,
    uint64_t base_offset, lt_error *err) LT_MUST_USE;
void lt_json_release(lt_json *json);

/* False unless node is a number of this json and is_uint. */
bool lt_json_uint(const lt_json *json, const cJSON *node, uint64_t *value);

/* First member of that exact name, or NULL. */
const cJSON *lt_json_get(const cJSON *object, const char *name);
/* The same when it is a string; otherwise NULL. */
const char *lt_json_get_string(const cJSON *object, const char *name);
/* Number or boolean members; fallback when absent or of another type. */
double lt_json_get_number(const cJSON *object, const char *name, double fallback);
bool lt_json_get_bool(const cJSON *object, const char *name, bool fallback);

#endif
