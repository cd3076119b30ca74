/* SPDX-License-Identifier: MIT */
#include "base/json.h"

#include "base/cursor.h"
#include "base/limits.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* What the checker expects next inside the innermost container. */
enum expect { VALUE, VALUE_OR_END, KEY, KEY_OR_END, COLON, COMMA_OR_END };

struct checker {
    const unsigned char *p, *end, *start;
    uint64_t base, values, max_values;
    lt_json_tape *tape; /* NULL: only check */
    lt_error *err;
    int depth;
    char open[LT_HARD_JSON_DEPTH];         /* '{' or '[' */
    size_t open_token[LT_HARD_JSON_DEPTH]; /* on the tape */
};

static lt_status bad(const struct checker *c, const unsigned char *at, const char *what)
{
    return lt_error_at(c->err, LT_ERR_FORMAT, c->base + (uint64_t)(at - c->start),
        "invalid JSON: %s", what);
}

/* The token that ends where the checker stands. */
static lt_status put_token(struct checker *c, const unsigned char *at, bool escaped)
{
    lt_json_tape *t = c->tape;
    if (!t) return LT_OK;
    if (t->count == t->capacity) {
        lt_status st = lt_grow(
            (void **)&t->tokens, &t->capacity, t->count + 1, sizeof *t->tokens, c->err);
        if (st) return st;
    }
    t->tokens[t->count++] = (lt_json_token){ .at = (uint32_t)(at - c->start),
        .extent = (uint32_t)(c->p - at) & LT_JSON_MAX_EXTENT,
        .escaped = escaped };
    return LT_OK;
}

static void skip_space(struct checker *c)
{
    while (c->p < c->end
        && (*c->p == ' ' || *c->p == '\t' || *c->p == '\n' || *c->p == '\r'))
        c->p++;
}

int lt_utf8_length(const unsigned char *p, const unsigned char *end)
{
    if (p[0] < 0x80) return 1;
    int n = p[0] >= 0xc2 && p[0] <= 0xdf ? 2
        : (p[0] & 0xf0) == 0xe0          ? 3
        : p[0] >= 0xf0 && p[0] <= 0xf4   ? 4
                                         : 0;
    if (!n || end - p < n) return 0;
    for (int i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    if (p[0] == 0xe0 && p[1] < 0xa0) return 0;
    if (p[0] == 0xed && p[1] > 0x9f) return 0;
    if (p[0] == 0xf0 && p[1] < 0x90) return 0;
    if (p[0] == 0xf4 && p[1] > 0x8f) return 0;
    return n;
}

char *lt_utf8_copy(const char *text, lt_error *err)
{
    static const char replacement[] = "\xef\xbf\xbd";
    const unsigned char *p, *end = (const unsigned char *)text + strlen(text);
    size_t size = 1;
    int n;
    for (p = (const unsigned char *)text; p < end; p += n ? n : 1) {
        n = lt_utf8_length(p, end);
        size += n ? (size_t)n : sizeof replacement - 1;
    }
    char *copy = malloc(size), *out = copy;
    if (!copy) {
        lt_error_set(err, LT_ERR_NOMEM, "out of memory");
        return NULL;
    }
    for (p = (const unsigned char *)text; p < end; p += n ? n : 1) {
        n = lt_utf8_length(p, end);
        size = n ? (size_t)n : sizeof replacement - 1;
        memcpy(out, n ? (const void *)p : replacement, size);
        out += size;
    }
    *out = '\0';
    return copy;
}

static bool hex4(const unsigned char *p, const unsigned char *end, unsigned *out)
{
    *out = 0;
    if (end - p < 4) return false;
    for (int i = 0; i < 4; i++) {
        unsigned d = p[i] >= '0' && p[i] <= '9' ? p[i] - (unsigned)'0'
            : p[i] >= 'a' && p[i] <= 'f'        ? p[i] - (unsigned)'a' + 10
            : p[i] >= 'A' && p[i] <= 'F'        ? p[i] - (unsigned)'A' + 10
                                                : 16u;
        if (d == 16) return false;
        *out = *out * 16 + d;
    }
    return true;
}

static lt_status check_escape(struct checker *c)
{
    const unsigned char *at = c->p++; /* the backslash */
    if (c->p < c->end && *c->p && strchr("\"\\/bfnrt", *c->p)) {
        c->p++;
        return LT_OK;
    }
    unsigned hi, lo;
    if (c->p >= c->end || *c->p != 'u' || !hex4(c->p + 1, c->end, &hi))
        return bad(c, at, "bad escape in a string");
    c->p += 5;
    if (hi == 0) return bad(c, at, "U+0000 in a string");
    if (hi >= 0xdc00 && hi <= 0xdfff) return bad(c, at, "lone surrogate in a string");
    if (hi < 0xd800 || hi > 0xdbff) return LT_OK;
    if (c->end - c->p < 6 || c->p[0] != '\\' || c->p[1] != 'u'
        || !hex4(c->p + 2, c->end, &lo) || lo < 0xdc00 || lo > 0xdfff)
        return bad(c, at, "lone surrogate in a string");
    c->p += 6;
    return LT_OK;
}

#define EACH_BYTE(x) (UINT64_C(0x0101010101010101) * (x))

/* How many of the next eight bytes stand for themselves: before the first that is a
 * quote, a backslash, a control character or above ASCII. A byte below 0x20, and one that
 * the quote or backslash made zero, borrows its top bit; what that does to later bytes
 * does not matter. */
static unsigned plain_bytes(const unsigned char *p)
{
    uint64_t w = lt_little_u64(p);
    uint64_t quote = w ^ EACH_BYTE('"'), slash = w ^ EACH_BYTE('\\');
    uint64_t odd =
        w | (w - EACH_BYTE(0x20)) | (quote - EACH_BYTE(1)) | (slash - EACH_BYTE(1));
    odd &= EACH_BYTE(0x80);
    return odd ? (unsigned)__builtin_ctzll(odd) / 8 : 8;
}

static void skip_plain(struct checker *c)
{
    unsigned n = 8;
    while (n == 8 && c->end - c->p >= 8) {
        n = plain_bytes(c->p);
        c->p += n;
    }
}

static lt_status check_string(struct checker *c)
{
    const unsigned char *at = c->p++;
    bool escaped = false;
    for (skip_plain(c); c->p < c->end && *c->p != '"'; skip_plain(c)) {
        if (*c->p == '\\') {
            escaped = true;
            lt_status st = check_escape(c);
            if (st) return st;
            continue;
        }
        if (*c->p < 0x20) return bad(c, c->p, "control character in a string");
        int n = lt_utf8_length(c->p, c->end);
        if (!n) return bad(c, c->p, "not UTF-8");
        c->p += n;
    }
    if (c->p >= c->end) return bad(c, at, "unterminated string");
    c->p++;
    return put_token(c, at, escaped);
}

static bool digit(const struct checker *c)
{
    return c->p < c->end && *c->p >= '0' && *c->p <= '9';
}

static lt_status check_number(struct checker *c)
{
    const unsigned char *at = c->p;
    if (*c->p == '-') c->p++;
    if (!digit(c)) return bad(c, at, "unexpected character");
    bool zero = *c->p == '0';
    for (size_t i = 0; digit(c); i++, c->p++)
        if (zero && i) return bad(c, at, "number with a leading zero");
    if (c->p < c->end && *c->p == '.') {
        c->p++;
        if (!digit(c)) return bad(c, at, "bad number");
        while (digit(c))
            c->p++;
    }
    if (c->p < c->end && (*c->p == 'e' || *c->p == 'E')) {
        c->p++;
        if (c->p < c->end && (*c->p == '+' || *c->p == '-')) c->p++;
        if (!digit(c)) return bad(c, at, "bad number");
        while (digit(c))
            c->p++;
    }
    return put_token(c, at, false);
}

static lt_status check_literal(struct checker *c)
{
    static const char *const words[] = { "true", "false", "null" };
    for (int i = 0; i < 3; i++) {
        size_t n = strlen(words[i]);
        if ((size_t)(c->end - c->p) >= n && !memcmp(c->p, words[i], n)) {
            c->p += n;
            return put_token(c, c->p - n, false);
        }
    }
    return bad(c, c->p, "unexpected character");
}

static lt_status check_key(struct checker *c)
{
    return *c->p == '"' ? check_string(c) : bad(c, c->p, "expected a member name");
}

/* Checks a value that is not a container, or opens one. */
static lt_status check_value(struct checker *c, enum expect *next)
{
    if (++c->values > c->max_values)
        return lt_error_at(c->err, LT_ERR_LIMIT, c->base + (uint64_t)(c->p - c->start),
            "JSON holds over %llu values", (unsigned long long)c->max_values);
    *next = COMMA_OR_END;
    if (*c->p == '"') return check_string(c);
    if (*c->p == '-' || (*c->p >= '0' && *c->p <= '9')) return check_number(c);
    if (*c->p != '{' && *c->p != '[') return check_literal(c);
    if ((unsigned)c->depth >= lt_limit(LT_LIMIT_JSON_DEPTH))
        return lt_error_at(c->err, LT_ERR_LIMIT, c->base + (uint64_t)(c->p - c->start),
            "JSON is nested over %llu deep", lt_limit(LT_LIMIT_JSON_DEPTH));
    c->open_token[c->depth] = c->tape ? c->tape->count : 0;
    c->open[c->depth++] = (char)*c->p;
    *next = *c->p == '{' ? KEY_OR_END : VALUE_OR_END;
    c->p++;
    return put_token(c, c->p - 1, false);
}

static lt_status check_step(struct checker *c, enum expect *want)
{
    bool in_object = c->depth && c->open[c->depth - 1] == '{';
    unsigned char close = in_object ? '}' : ']';
    bool may_end = *want == KEY_OR_END || *want == VALUE_OR_END || *want == COMMA_OR_END;
    if (c->depth && may_end && *c->p == close) {
        c->p++;
        c->depth--;
        if (c->tape)
            c->tape->tokens[c->open_token[c->depth]].extent =
                (uint32_t)c->tape->count & LT_JSON_MAX_EXTENT;
        *want = COMMA_OR_END;
        return LT_OK;
    }
    switch (*want) {
    case KEY:
    case KEY_OR_END: *want = COLON; return check_key(c);
    case COLON:
        if (*c->p++ != ':') return bad(c, c->p - 1, "expected ':'");
        *want = VALUE;
        return LT_OK;
    case COMMA_OR_END:
        if (*c->p++ != ',') return bad(c, c->p - 1, "expected ',' or a closing bracket");
        *want = in_object ? KEY : VALUE;
        return LT_OK;
    case VALUE:
    case VALUE_OR_END: break;
    }
    return check_value(c, want);
}

static lt_status check_text(struct checker *c)
{
    c->max_values = lt_limit(LT_LIMIT_JSON_VALUES);
    enum expect want = VALUE;
    do {
        skip_space(c);
        if (c->p >= c->end) return bad(c, c->p, "the text ends early");
        lt_status st = check_step(c, &want);
        if (st) return st;
    } while (c->depth);
    skip_space(c);
    return c->p < c->end ? bad(c, c->p, "text after the end") : LT_OK;
}

lt_status lt_json_parse(
    lt_json *json, const char *text, size_t size, uint64_t base_offset, lt_error *err)
{
    *json = (lt_json){ 0 };
    const unsigned char *p = (const unsigned char *)text;
    struct checker c = {
        .p = p, .start = p, .end = p + size, .base = base_offset, .err = err
    };
    lt_status st = check_text(&c);
    if (st) return st;
    json->root = cJSON_ParseWithLength(text, size);
    return json->root
        ? LT_OK
        : lt_error_set(err, LT_ERR_NOMEM, "out of memory for the JSON text");
}

void lt_json_release(lt_json *json)
{
    cJSON_Delete(json->root);
    *json = (lt_json){ 0 };
}

const cJSON *lt_json_get(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

const char *lt_json_get_string(const cJSON *object, const char *name)
{
    const cJSON *node = lt_json_get(object, name);
    return cJSON_IsString(node) ? node->valuestring : NULL;
}

double lt_json_get_number(const cJSON *object, const char *name, double fallback)
{
    const cJSON *node = lt_json_get(object, name);
    return cJSON_IsNumber(node) ? node->valuedouble : fallback;
}

bool lt_json_get_bool(const cJSON *object, const char *name, bool fallback)
{
    const cJSON *node = lt_json_get(object, name);
    return cJSON_IsBool(node) ? cJSON_IsTrue(node) : fallback;
}

bool lt_json_append(cJSON *array, cJSON *item)
{
    if (item && cJSON_AddItemToArray(array, item)) return true;
    cJSON_Delete(item);
    return false;
}

bool lt_json_put(cJSON *object, const char *name, cJSON *item)
{
    if (item && cJSON_AddItemToObject(object, name, item)) return true;
    cJSON_Delete(item);
    return false;
}

lt_status lt_json_scan(
    lt_json_tape *tape, char *text, size_t size, uint64_t base_offset, lt_error *err)
{
    *tape = (lt_json_tape){ .text = text, .base = base_offset };
    if (size > LT_JSON_MAX_EXTENT)
        return lt_error_at(
            err, LT_ERR_LIMIT, base_offset, "a JSON text of %zu bytes", size);
    const unsigned char *p = (const unsigned char *)text;
    struct checker c = {
        .p = p, .start = p, .end = p + size, .base = base_offset, .tape = tape, .err = err
    };
    /* More than a header's text holds; what is not needed is never touched. */
    lt_status st = lt_grow(
        (void **)&tape->tokens, &tape->capacity, size / 8, sizeof *tape->tokens, err);
    if (!st) st = check_text(&c);
    if (st) lt_json_tape_release(tape);
    return st;
}

void lt_json_tape_release(lt_json_tape *tape)
{
    free(tape->tokens);
    *tape = (lt_json_tape){ 0 };
}

uint64_t lt_json_at(const lt_json_tape *tape, size_t token)
{
    return tape->base + tape->tokens[token].at;
}

/* The character that the escape at *p (checked before) stands for; *p moves past it. */
static unsigned decode_escape(const unsigned char **p)
{
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    const unsigned char *at = *p + 1, *end = at + 5;
    *p += 2;
    const char *plain = strchr(from, *at);
    if (*at != 'u') return plain ? (unsigned char)to[plain - from] : *at;
    unsigned high = 0, low = 0;
    hex4(at + 1, end, &high);
    *p += 4;
    if (high < 0xd800 || high > 0xdbff) return high;
    hex4(at + 7, end + 6, &low);
    *p += 6;
    return 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
}

static char *put_utf8(char *out, unsigned u)
{
    if (u < 0x80) {
        *out++ = (char)u;
        return out;
    }
    int more = u < 0x800 ? 1 : u < 0x10000 ? 2 : 3;
    static const unsigned char lead[] = { 0, 0xc0, 0xe0, 0xf0 };
    *out++ = (char)(lead[more] | u >> 6 * more);
    while (more--)
        *out++ = (char)(0x80 | (u >> 6 * more & 0x3f));
    return out;
}

/* Decoded in place, which never needs more room than it stood in. */
const char *lt_json_text(lt_json_tape *tape, size_t token)
{
    lt_json_token *t = &tape->tokens[token];
    char *text = tape->text + t->at + 1;
    if (!t->escaped) {
        text[t->extent - 2] = '\0'; /* the closing quote's place */
        return text;
    }
    const unsigned char *p = (unsigned char *)text, *end = p + t->extent - 2;
    char *out = text;
    while (p < end)
        if (*p == '\\')
            out = put_utf8(out, decode_escape(&p));
        else
            *out++ = (char)*p++;
    *out = '\0';
    t->escaped = false;
    t->extent = (uint32_t)(out - text + 2) & LT_JSON_MAX_EXTENT;
    return text;
}

bool lt_json_uint(const lt_json_tape *tape, size_t token, uint64_t *value)
{
    const lt_json_token *t = &tape->tokens[token];
    if (lt_json_type(tape, token) != '0') return false;
    *value = 0;
    for (uint32_t i = 0; i < t->extent; i++) {
        char digit = tape->text[t->at + i];
        if (digit < '0' || digit > '9' || __builtin_mul_overflow(*value, 10u, value)
            || __builtin_add_overflow(*value, (uint64_t)(digit - '0'), value))
            return false;
    }
    return true;
}

size_t lt_json_sole(lt_json_tape *tape, size_t object, const char *name)
{
    size_t hit = 0, size = strlen(name), end = lt_json_next(tape, object);
    for (size_t i = object + 1; i < end; i = lt_json_next(tape, i + 1)) {
        if (tape->tokens[i].escaped) lt_json_text(tape, i);
        const lt_json_token *key = &tape->tokens[i];
        if (key->extent != size + 2 || memcmp(tape->text + key->at + 1, name, size))
            continue;
        if (hit) return 0;
        hit = i + 1;
    }
    return hit;
}
