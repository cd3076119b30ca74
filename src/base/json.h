/* SPDX-License-Identifier: MIT */
/* JSON, strictly read: as cJSON's tree, or as a list of tokens. The only place that
 * includes cJSON.
 *
 * cJSON reads leniently (control characters in strings, leading zeros, a byte order
 * mark), so every text is first checked against RFC 8259 and UTF-8. Its tree is handy for
 * configurations; for headers of thousands of tensors it costs more than all the rest of
 * the reading and keeps neither positions nor exact integers. Those are read from the
 * tokens that the check leaves. */
#ifndef LT_BASE_JSON_H
#define LT_BASE_JSON_H

#include "loratool/error.h"

#include <stdbool.h>

#include <cjson/cJSON.h>

typedef struct lt_json {
    cJSON *root;
} lt_json;

/* base_offset is added to the byte positions in errors. U+0000 in a string is refused:
 * no C string can hold it. On failure *json is empty. */
lt_status lt_json_parse(lt_json *json, const char *text, size_t size,
    uint64_t base_offset, lt_error *err) LT_MUST_USE;
void lt_json_release(lt_json *json);

/* First member of that exact name, or NULL. */
const cJSON *lt_json_get(const cJSON *object, const char *name);
/* The same when it is a string; otherwise NULL. */
const char *lt_json_get_string(const cJSON *object, const char *name);
/* Number or boolean members; fallback when absent or of another type. */
double lt_json_get_number(const cJSON *object, const char *name, double fallback);
bool lt_json_get_bool(const cJSON *object, const char *name, bool fallback);

/* Take item over, which is freed when they fail (or the object is NULL): cJSON's own
 * leave it to the caller. */
bool lt_json_append(cJSON *array, cJSON *item);
bool lt_json_put(cJSON *object, const char *name, cJSON *item);

/* Length of the UTF-8 sequence at p < end (RFC 3629), 0 when it is not one. */
int lt_utf8_length(const unsigned char *p, const unsigned char *end);
/* A copy in which every byte that is part of none is U+FFFD: names of files, and what old
 * torch files hold, may be of any bytes. NULL: out of memory. Release with free. */
char *lt_utf8_copy(const char *text, lt_error *err);

/* One value or member name. Inside an object names and values alternate. Small, for
 * there are a dozen to each tensor of a file. */
typedef struct lt_json_token {
    uint32_t at;          /* its place in the text */
    uint32_t extent : 31; /* of a container: the token behind it; of others: bytes */
    uint32_t escaped : 1; /* a string not yet decoded */
} lt_json_token;

#define LT_JSON_MAX_EXTENT 0x7fffffffu

typedef struct lt_json_tape {
    char *text;
    uint64_t base;
    lt_json_token *tokens; /* document order; the first one is the whole text's value */
    size_t count, capacity;
} lt_json_tape;

/* The text stays the caller's and must live as long as the tape, which changes it. On
 * failure *tape is empty. */
lt_status lt_json_scan(lt_json_tape *tape, char *text, size_t size, uint64_t base_offset,
    lt_error *err) LT_MUST_USE;
void lt_json_tape_release(lt_json_tape *tape);

/* The first byte of what the token stands for: { [ " t f n, or '0' for every number. */
static inline char lt_json_type(const lt_json_tape *tape, size_t token)
{
    char first = tape->text[tape->tokens[token].at];
    return first == '-' || (first >= '0' && first <= '9') ? '0' : first;
}

/* The token behind a value and all that it holds. */
static inline size_t lt_json_next(const lt_json_tape *tape, size_t token)
{
    char first = tape->text[tape->tokens[token].at];
    return first == '{' || first == '[' ? tape->tokens[token].extent : token + 1;
}

/* The token's byte position, base_offset included. */
uint64_t lt_json_at(const lt_json_tape *tape, size_t token);
/* The value of a string or name token. */
const char *lt_json_text(lt_json_tape *tape, size_t token);
/* False unless it is plain digits, no sign, point or exponent, below 2^64. */
bool lt_json_uint(const lt_json_tape *tape, size_t token, uint64_t *value);
/* Where in an object the value of the one member of that name is; 0 when the member is
 * absent or doubled. */
size_t lt_json_sole(lt_json_tape *tape, size_t object, const char *name);

#endif
