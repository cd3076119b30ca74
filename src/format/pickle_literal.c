/* SPDX-License-Identifier: MIT */
#include "format/pickle_machine.h"

#include "base/limits.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

lt_status lt_op_none(lt_machine *m, int arg)
{
    (void)arg;
    return lt_machine_push(m, m->p->none);
}

lt_status lt_op_bool(lt_machine *m, int arg)
{
    return lt_machine_push(m, m->p->truth[arg]);
}

/* arg: bytes; BININT alone has a sign. */
lt_status lt_op_binint(lt_machine *m, int arg)
{
    uint64_t v = lt_cursor_uint(m->c, (unsigned)arg);
    if (m->c->status) return m->c->status;
    return lt_machine_push(
        m, lt_machine_new_int(m, arg == 4 ? (int32_t)(uint32_t)v : (int64_t)v));
}

/* Decimal digits with an optional sign. False when they are none; *fits tells whether
 * the number does. */
bool lt_read_decimal(const unsigned char *p, size_t n, int64_t *out, bool *fits)
{
    size_t i = n && (p[0] == '-' || p[0] == '+') ? 1 : 0;
    bool minus = i && p[0] == '-';
    int64_t v = 0;
    *fits = true;
    if (i == n) return false;
    for (; i < n; i++) {
        if (p[i] < '0' || p[i] > '9') return false;
        int digit = p[i] - '0';
        if (__builtin_mul_overflow(v, (int64_t)10, &v)
            || __builtin_add_overflow(v, (int64_t)(minus ? -digit : digit), &v)) {
            *fits = false;
            v = 0;
        }
    }
    *out = v;
    return true;
}

/* INT and LONG. "00" and "01" are how protocol 0 writes booleans. */
lt_status lt_op_decimal(lt_machine *m, int is_long)
{
    size_t n;
    const unsigned char *p = lt_cursor_line(m->c, lt_limit(LT_LIMIT_PICKLE_STRING), &n);
    if (!p) return m->c->status;
    if (!is_long && n == 2 && p[0] == '0' && (p[1] == '0' || p[1] == '1'))
        return lt_machine_push(m, m->p->truth[p[1] - '0']);
    if (is_long && n && p[n - 1] == 'L') n--;
    int64_t v;
    bool fits;
    if (!lt_read_decimal(p, n, &v, &fits)) return lt_machine_fault(m, "has no integer");
    return lt_machine_push(
        m, fits ? lt_machine_new_int(m, v) : lt_machine_new_text(m, LT_VALUE_BIG, p, n));
}

static lt_status take_size(lt_machine *m, int bytes, uint64_t *size)
{
    *size = lt_cursor_uint(m->c, (unsigned)bytes);
    if (m->c->status) return m->c->status;
    if (*size > lt_cursor_left(m->c))
        return lt_machine_fault(m, "goes past the end of the data");
    if (*size > lt_limit(LT_LIMIT_PICKLE_STRING))
        return lt_machine_over(m, "bytes in a string", lt_limit(LT_LIMIT_PICKLE_STRING));
    return LT_OK;
}

/* LONG1 and LONG4: two's complement, little-endian. */
lt_status lt_op_long(lt_machine *m, int bytes)
{
    uint64_t n, v = 0;
    lt_status st = take_size(m, bytes, &n);
    const unsigned char *p = st ? NULL : lt_cursor_take(m->c, (size_t)n);
    if (!p) return st ? st : m->c->status;
    /* Bytes that only repeat the sign, as writers put one to keep the value positive. */
    while (n > 8 && p[n - 1] == (p[n - 2] & 0x80 ? 0xff : 0))
        n--;
    if (n > 8)
        return lt_machine_push(m, lt_machine_new_text(m, LT_VALUE_BIG, p, (size_t)n));
    if (n && p[n - 1] & 0x80) v = UINT64_MAX;
    for (size_t i = (size_t)n; i--;)
        v = v << 8 | p[i];
    return lt_machine_push(m, lt_machine_new_int(m, (int64_t)v));
}

static lt_status push_float(lt_machine *m, double real)
{
    lt_value *v = lt_machine_new_value(m, LT_VALUE_FLOAT);
    if (v) v->real = real;
    return lt_machine_push(m, v);
}

lt_status lt_op_float(lt_machine *m, int arg)
{
    (void)arg;
    size_t n;
    char text[64], *end;
    const unsigned char *p = lt_cursor_line(m->c, lt_limit(LT_LIMIT_PICKLE_STRING), &n);
    if (!p) return m->c->status;
    if (!n || n >= sizeof text || strspn((const char *)p, "0123456789+-.eEinfa") != n)
        return lt_machine_fault(m, "has no number");
    memcpy(text, p, n);
    text[n] = 0;
    double real = strtod(text, &end);
    return *end ? lt_machine_fault(m, "has no number") : push_float(m, real);
}

/* The one argument that is big-endian. */
lt_status lt_op_binfloat(lt_machine *m, int arg)
{
    (void)arg;
    const unsigned char *p = lt_cursor_take(m->c, 8);
    if (!p) return m->c->status;
    uint64_t bits = 0;
    double real;
    for (int i = 0; i < 8; i++)
        bits = bits << 8 | p[i];
    memcpy(&real, &bits, 8);
    return push_float(m, real);
}

static lt_status push_bytes(lt_machine *m, lt_value_kind kind, int bytes)
{
    uint64_t n;
    lt_status st = take_size(m, bytes, &n);
    const unsigned char *p = st ? NULL : lt_cursor_take(m->c, (size_t)n);
    if (!p) return st ? st : m->c->status;
    return lt_machine_push(m, lt_machine_new_text(m, kind, p, (size_t)n));
}

lt_status lt_op_text(lt_machine *m, int bytes)
{
    return push_bytes(m, LT_VALUE_STRING, bytes);
}

lt_status lt_op_bytes(lt_machine *m, int bytes)
{
    return push_bytes(m, LT_VALUE_BYTES, bytes);
}

static int hex_digit(unsigned char c)
{
    return c >= '0' && c <= '9' ? c - '0'
        : c >= 'a' && c <= 'f'  ? c - 'a' + 10
        : c >= 'A' && c <= 'F'  ? c - 'A' + 10
                                : -1;
}

/* Exactly n hexadecimal digits. */
static bool read_hex(const unsigned char *p, size_t left, size_t n, uint32_t *out)
{
    *out = 0;
    if (left < n) return false;
    for (size_t i = 0; i < n; i++) {
        int d = hex_digit(p[i]);
        if (d < 0) return false;
        *out = *out << 4 | (uint32_t)d;
    }
    return true;
}

static size_t put_utf8(char *dst, uint32_t c)
{
    if (c < 0x80) {
        dst[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        dst[0] = (char)(0xc0 | c >> 6);
        dst[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    size_t n = c < 0x10000 ? 3 : 4;
    dst[0] = (char)(n == 3 ? 0xe0 | c >> 12 : 0xf0 | c >> 18);
    for (size_t i = 1; i < n; i++)
        dst[i] = (char)(0x80 | (c >> 6 * (n - 1 - i) & 0x3f));
    return n;
}

/* One escape of a quoted string, p behind the backslash. Its length; 0 for none. */
static size_t read_escape(const unsigned char *p, size_t left, char *dst, size_t *n)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    const char *hit = left && p[0] ? strchr(from, p[0]) : NULL;
    uint32_t c = 0;
    size_t used = 0;
    *n = 1;
    if (hit) {
        *dst = to[hit - from];
        return 1;
    }
    if (left && p[0] == 'x') {
        if (!read_hex(p + 1, left - 1, 2, &c)) return 0;
        used = 3;
    }
    while (used < 3 && used < left && p[used] >= '0' && p[used] <= '7')
        c = c << 3 | (uint32_t)(p[used++] - '0');
    *dst = (char)c;
    return used;
}

static lt_status push_buffer(lt_machine *m, char *buffer, size_t n)
{
    lt_status st = lt_machine_push(m, lt_machine_new_text(m, LT_VALUE_STRING, buffer, n));
    free(buffer);
    return st;
}

/* STRING: a literal in quotes, as Python 2 shows a string. */
lt_status lt_op_string(lt_machine *m, int arg)
{
    (void)arg;
    size_t n, used = 0, more, length;
    const unsigned char *p = lt_cursor_line(m->c, lt_limit(LT_LIMIT_PICKLE_STRING), &n);
    if (!p) return m->c->status;
    if (n < 2 || p[0] != p[n - 1] || (p[0] != '\'' && p[0] != '"'))
        return lt_machine_fault(m, "has no quoted string");
    char *buffer = malloc(n);
    if (!buffer) return lt_error_set(m->err, LT_ERR_NOMEM, "out of memory");
    for (size_t i = 1; i < n - 1; i += length) {
        length = more = 1;
        if (p[i] != '\\')
            buffer[used] = (char)p[i];
        else
            length += read_escape(p + i + 1, n - 2 - i, buffer + used, &more);
        if (p[i] == '\\' && length == 1) {
            free(buffer);
            return lt_machine_fault(m, "has a string with a broken escape");
        }
        used += more;
    }
    return push_buffer(m, buffer, used);
}

/* UNICODE: Latin-1 with \uXXXX and \UXXXXXXXX. */
lt_status lt_op_unicode(lt_machine *m, int arg)
{
    (void)arg;
    size_t n, used = 0;
    const unsigned char *p = lt_cursor_line(m->c, lt_limit(LT_LIMIT_PICKLE_STRING), &n);
    if (!p) return m->c->status;
    char *buffer = malloc(2 * n + 4);
    if (!buffer) return lt_error_set(m->err, LT_ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < n;) {
        uint32_t c = p[i++];
        if (c == '\\' && i < n && (p[i] == 'u' || p[i] == 'U')) {
            size_t digits = p[i++] == 'u' ? 4 : 8;
            if (!read_hex(p + i, n - i, digits, &c) || c > 0x10ffff) {
                free(buffer);
                return lt_machine_fault(m, "has a string with a broken escape");
            }
            i += digits;
        } else if (c == '\\' && i < n) {
            buffer[used++] = '\\';
            c = p[i++];
        }
        used += put_utf8(buffer + used, c);
    }
    return push_buffer(m, buffer, used);
}
