/* SPDX-License-Identifier: MIT */
/* The pickle language as Lib/pickletools.py of CPython documents it: a byte each for the
 * operation, its argument behind it; a stack of values, marks on it where a container
 * begins, and a memo of values by number.
 *
 * Containers are shared and changed after they were put somewhere, so that a dict's keys
 * are made unique only when the whole pickle is read. */
#include "format/pickle.h"

#include "base/limits.h"
#include "base/map.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#define MAX_GLOBAL_SIZE 4096u

struct machine {
    lt_pickle *p;
    lt_cursor *c;
    lt_error *err;
    lt_value **stack;
    size_t depth, stack_capacity;
    size_t *marks; /* stack depths */
    size_t n_marks, marks_capacity;
    lt_value **memo; /* by number, NULL where there is none */
    size_t memo_size, memo_capacity, memo_count;
    uint64_t at;    /* of the operation */
    const char *op; /* its name */
    lt_value *root; /* once it has stopped */
};

const char *lt_value_kind_text(lt_value_kind kind)
{
    static const char *const texts[] = {
        [LT_VALUE_NONE] = "None",
        [LT_VALUE_BOOL] = "a boolean",
        [LT_VALUE_INT] = "an integer",
        [LT_VALUE_BIG] = "a large integer",
        [LT_VALUE_FLOAT] = "a number",
        [LT_VALUE_STRING] = "a string",
        [LT_VALUE_BYTES] = "bytes",
        [LT_VALUE_TUPLE] = "a tuple",
        [LT_VALUE_LIST] = "a list",
        [LT_VALUE_SET] = "a set",
        [LT_VALUE_DICT] = "a dict",
        [LT_VALUE_GLOBAL] = "a global",
        [LT_VALUE_CALL] = "an object",
        [LT_VALUE_PERSISTENT] = "a persistent object",
    };
    return texts[kind];
}

bool lt_value_is(const lt_value *v, const char *text)
{
    return v->kind == LT_VALUE_STRING && v->text.size == strlen(text)
        && !memcmp(v->text.data, text, v->text.size);
}

bool lt_value_uint(const lt_value *v, uint64_t *out)
{
    if (v->kind != LT_VALUE_INT || v->integer < 0) return false;
    *out = (uint64_t)v->integer;
    return true;
}

/* ---- values ------------------------------------------------------------------------ */

static lt_status fault(struct machine *m, const char *what)
{
    return lt_error_at(m->err, LT_ERR_FORMAT, m->at, "pickle: %s %s", m->op, what);
}

static lt_status over(struct machine *m, const char *what, uint64_t ceiling)
{
    return lt_error_at(m->err, LT_ERR_LIMIT, m->at, "pickle: over %llu %s",
        (unsigned long long)ceiling, what);
}

static lt_status count_value(struct machine *m)
{
    if (m->p->n_values >= LT_MAX_PICKLE_VALUES)
        return over(m, "values", LT_MAX_PICKLE_VALUES);
    m->p->n_values++;
    return LT_OK;
}

static lt_value *new_value(struct machine *m, lt_value_kind kind)
{
    if (count_value(m)) return NULL;
    lt_value *v = lt_arena_alloc(&m->p->arena, sizeof *v, m->err);
    if (!v) return NULL;
    v->kind = (uint8_t)kind;
    if (kind == LT_VALUE_DICT) {
        v->list.next = m->p->dicts;
        m->p->dicts = v;
    } else if (kind == LT_VALUE_PERSISTENT) {
        v->persistent.next = m->p->persistents;
        m->p->persistents = v;
    }
    return v;
}

/* The status of a failure whose function returned NULL or a sticky cursor's. */
static lt_status failed(const struct machine *m)
{
    if (m->c->status) return m->c->status;
    return m->p->n_values >= LT_MAX_PICKLE_VALUES ? LT_ERR_LIMIT : LT_ERR_NOMEM;
}

static lt_status push(struct machine *m, lt_value *v)
{
    if (!v) return failed(m);
    if (m->depth >= LT_MAX_PICKLE_STACK)
        return over(m, "values on the stack", LT_MAX_PICKLE_STACK);
    lt_status st = lt_grow(
        (void **)&m->stack, &m->stack_capacity, m->depth + 1, sizeof *m->stack, m->err);
    if (!st) m->stack[m->depth++] = v;
    return st;
}

/* What lies on the stack above the last mark. */
static size_t available(const struct machine *m)
{
    return m->n_marks ? m->depth - m->marks[m->n_marks - 1] : m->depth;
}

static lt_status need(struct machine *m, size_t n)
{
    return available(m) < n ? fault(m, "finds too few values on the stack") : LT_OK;
}

static lt_value *top(const struct machine *m)
{
    return m->stack[m->depth - 1];
}

/* Takes the last mark off; what lay above it is stack[*from, depth). */
static lt_status pop_mark(struct machine *m, size_t *from)
{
    if (!m->n_marks) return fault(m, "finds no mark on the stack");
    *from = m->marks[--m->n_marks];
    return LT_OK;
}

static lt_value *new_int(struct machine *m, int64_t integer)
{
    lt_value *v = new_value(m, LT_VALUE_INT);
    if (v) v->integer = integer;
    return v;
}

static lt_value *new_text(struct machine *m, lt_value_kind kind, const void *p, size_t n)
{
    lt_value *v = new_value(m, kind);
    char *copy = v ? lt_arena_strndup(&m->p->arena, p, n, m->err) : NULL;
    if (!copy) return NULL;
    v->text.data = copy;
    v->text.size = (uint32_t)n;
    v->text.hash = (uint32_t)lt_hash(copy, n);
    return v;
}

static lt_status add_item(struct machine *m, lt_value *to, lt_value *item)
{
    lt_status st = count_value(m);
    if (st) return st;
    if (to->list.count == to->list.capacity) {
        uint32_t capacity = to->list.capacity ? to->list.capacity * 2 : 4;
        lt_value **items =
            lt_arena_alloc(&m->p->arena, (uint64_t)capacity * sizeof *items, m->err);
        if (!items) return LT_ERR_NOMEM;
        if (to->list.count) memcpy(items, to->list.items, to->list.count * sizeof *items);
        to->list.items = items;
        to->list.capacity = capacity;
    }
    to->list.items[to->list.count++] = item;
    return LT_OK;
}

/* Moves stack[from, depth) into a container. */
static lt_status move_items(struct machine *m, lt_value *to, size_t from)
{
    lt_status st = LT_OK;
    for (size_t i = from; i < m->depth && !st; i++)
        st = add_item(m, to, m->stack[i]);
    m->depth = from;
    return st;
}

static lt_status push_sequence(struct machine *m, lt_value_kind kind, size_t from)
{
    lt_value *v = new_value(m, kind);
    if (!v) return failed(m);
    lt_status st = move_items(m, v, from);
    return st ? st : push(m, v);
}

static lt_status push_call(
    struct machine *m, lt_value *callee, lt_value *args, lt_value *kwargs)
{
    lt_value *v = new_value(m, LT_VALUE_CALL);
    if (!v) return failed(m);
    v->call = lt_arena_alloc(&m->p->arena, sizeof *v->call, m->err);
    if (!v->call) return LT_ERR_NOMEM;
    *v->call = (lt_call){ .callee = callee, .args = args, .kwargs = kwargs };
    return push(m, v);
}

/* ---- plain values ------------------------------------------------------------------ */

static lt_status op_none(struct machine *m, int arg)
{
    (void)arg;
    return push(m, m->p->none);
}

static lt_status op_bool(struct machine *m, int arg)
{
    return push(m, m->p->truth[arg]);
}

/* arg: bytes; BININT alone has a sign. */
static lt_status op_binint(struct machine *m, int arg)
{
    uint64_t v = lt_cursor_uint(m->c, (unsigned)arg);
    if (m->c->status) return m->c->status;
    return push(m, new_int(m, arg == 4 ? (int32_t)(uint32_t)v : (int64_t)v));
}

/* Decimal digits with an optional sign. False when they are none; *fits tells whether
 * the number does. */
static bool read_decimal(const unsigned char *p, size_t n, int64_t *out, bool *fits)
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
static lt_status op_decimal(struct machine *m, int is_long)
{
    size_t n;
    const unsigned char *p = lt_cursor_line(m->c, LT_MAX_PICKLE_STRING, &n);
    if (!p) return m->c->status;
    if (!is_long && n == 2 && p[0] == '0' && (p[1] == '0' || p[1] == '1'))
        return push(m, m->p->truth[p[1] - '0']);
    if (is_long && n && p[n - 1] == 'L') n--;
    int64_t v;
    bool fits;
    if (!read_decimal(p, n, &v, &fits)) return fault(m, "has no integer");
    return push(m, fits ? new_int(m, v) : new_text(m, LT_VALUE_BIG, p, n));
}

static lt_status take_size(struct machine *m, int bytes, uint64_t *size)
{
    *size = lt_cursor_uint(m->c, (unsigned)bytes);
    if (m->c->status) return m->c->status;
    if (*size > lt_cursor_left(m->c)) return fault(m, "goes past the end of the data");
    if (*size > LT_MAX_PICKLE_STRING)
        return over(m, "bytes in a string", LT_MAX_PICKLE_STRING);
    return LT_OK;
}

/* LONG1 and LONG4: two's complement, little-endian. */
static lt_status op_long(struct machine *m, int bytes)
{
    uint64_t n, v = 0;
    lt_status st = take_size(m, bytes, &n);
    const unsigned char *p = st ? NULL : lt_cursor_take(m->c, (size_t)n);
    if (!p) return st ? st : m->c->status;
    if (n > 8) return push(m, new_text(m, LT_VALUE_BIG, p, (size_t)n));
    if (n && p[n - 1] & 0x80) v = UINT64_MAX;
    for (size_t i = (size_t)n; i--;)
        v = v << 8 | p[i];
    return push(m, new_int(m, (int64_t)v));
}

static lt_status push_float(struct machine *m, double real)
{
    lt_value *v = new_value(m, LT_VALUE_FLOAT);
    if (v) v->real = real;
    return push(m, v);
}

static lt_status op_float(struct machine *m, int arg)
{
    (void)arg;
    size_t n;
    char text[64], *end;
    const unsigned char *p = lt_cursor_line(m->c, LT_MAX_PICKLE_STRING, &n);
    if (!p) return m->c->status;
    if (!n || n >= sizeof text || strspn((const char *)p, "0123456789+-.eEinfa") != n)
        return fault(m, "has no number");
    memcpy(text, p, n);
    text[n] = 0;
    double real = strtod(text, &end);
    return *end ? fault(m, "has no number") : push_float(m, real);
}

/* The one argument that is big-endian. */
static lt_status op_binfloat(struct machine *m, int arg)
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

static lt_status push_bytes(struct machine *m, lt_value_kind kind, int bytes)
{
    uint64_t n;
    lt_status st = take_size(m, bytes, &n);
    const unsigned char *p = st ? NULL : lt_cursor_take(m->c, (size_t)n);
    if (!p) return st ? st : m->c->status;
    return push(m, new_text(m, kind, p, (size_t)n));
}

static lt_status op_text(struct machine *m, int bytes)
{
    return push_bytes(m, LT_VALUE_STRING, bytes);
}

static lt_status op_bytes(struct machine *m, int bytes)
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

static lt_status push_buffer(struct machine *m, char *buffer, size_t n)
{
    lt_status st = push(m, new_text(m, LT_VALUE_STRING, buffer, n));
    free(buffer);
    return st;
}

/* STRING: a literal in quotes, as Python 2 shows a string. */
static lt_status op_string(struct machine *m, int arg)
{
    (void)arg;
    size_t n, used = 0, more, length;
    const unsigned char *p = lt_cursor_line(m->c, LT_MAX_PICKLE_STRING, &n);
    if (!p) return m->c->status;
    if (n < 2 || p[0] != p[n - 1] || (p[0] != '\'' && p[0] != '"'))
        return fault(m, "has no quoted string");
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
            return fault(m, "has a string with a broken escape");
        }
        used += more;
    }
    return push_buffer(m, buffer, used);
}

/* UNICODE: Latin-1 with \uXXXX and \UXXXXXXXX. */
static lt_status op_unicode(struct machine *m, int arg)
{
    (void)arg;
    size_t n, used = 0;
    const unsigned char *p = lt_cursor_line(m->c, LT_MAX_PICKLE_STRING, &n);
    if (!p) return m->c->status;
    char *buffer = malloc(2 * n + 4);
    if (!buffer) return lt_error_set(m->err, LT_ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < n;) {
        uint32_t c = p[i++];
        if (c == '\\' && i < n && (p[i] == 'u' || p[i] == 'U')) {
            size_t digits = p[i++] == 'u' ? 4 : 8;
            if (!read_hex(p + i, n - i, digits, &c) || c > 0x10ffff) {
                free(buffer);
                return fault(m, "has a string with a broken escape");
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

/* ---- containers -------------------------------------------------------------------- */

static lt_status op_mark(struct machine *m, int arg)
{
    (void)arg;
    if (m->n_marks >= LT_MAX_PICKLE_MARKS)
        return over(m, "marks on the stack", LT_MAX_PICKLE_MARKS);
    lt_status st = lt_grow(
        (void **)&m->marks, &m->marks_capacity, m->n_marks + 1, sizeof *m->marks, m->err);
    if (!st) m->marks[m->n_marks++] = m->depth;
    return st;
}

static lt_status op_empty(struct machine *m, int kind)
{
    return push(m, new_value(m, (lt_value_kind)kind));
}

/* TUPLE1 to TUPLE3. */
static lt_status op_short_tuple(struct machine *m, int n)
{
    lt_status st = need(m, (size_t)n);
    return st ? st : push_sequence(m, LT_VALUE_TUPLE, m->depth - (size_t)n);
}

static lt_status op_sequence(struct machine *m, int kind)
{
    size_t from = 0;
    lt_status st = pop_mark(m, &from);
    if (!st && kind == LT_VALUE_DICT && (m->depth - from) % 2)
        st = fault(m, "finds a key without a value");
    return st ? st : push_sequence(m, (lt_value_kind)kind, from);
}

/* The container that what is on the stack from there on goes into: the value below, or
 * its part when it is a call's result. */
static lt_status find_target(
    struct machine *m, size_t from, lt_value_kind kind, lt_value **target)
{
    size_t floor = m->depth - available(m);
    if (from <= floor) return fault(m, "finds too few values on the stack");
    lt_value *v = m->stack[from - 1];
    *target = v;
    if (v->kind == kind) return LT_OK;
    if (v->kind != LT_VALUE_CALL) {
        return lt_error_at(m->err, LT_ERR_FORMAT, m->at, "pickle: %s on %s", m->op,
            lt_value_kind_text(v->kind));
    }
    lt_value **part = kind == LT_VALUE_DICT ? &v->call->pairs : &v->call->items;
    if (!*part) *part = new_value(m, kind == LT_VALUE_DICT ? kind : LT_VALUE_LIST);
    *target = *part;
    return *part ? LT_OK : failed(m);
}

static lt_status fill_container(struct machine *m, size_t from, lt_value_kind kind)
{
    lt_value *target = NULL;
    lt_status st = find_target(m, from, kind, &target);
    if (!st && kind == LT_VALUE_DICT && (m->depth - from) % 2)
        st = fault(m, "finds a key without a value");
    return st ? st : move_items(m, target, from);
}

/* APPEND and SETITEM. */
static lt_status op_add(struct machine *m, int kind)
{
    size_t n = kind == LT_VALUE_DICT ? 2 : 1;
    lt_status st = need(m, n + 1);
    return st ? st : fill_container(m, m->depth - n, (lt_value_kind)kind);
}

/* APPENDS, SETITEMS and ADDITEMS. */
static lt_status op_add_all(struct machine *m, int kind)
{
    size_t from = 0;
    lt_status st = pop_mark(m, &from);
    return st ? st : fill_container(m, from, (lt_value_kind)kind);
}

static lt_status op_pop(struct machine *m, int arg)
{
    (void)arg;
    if (available(m))
        m->depth--;
    else if (m->n_marks)
        m->n_marks--;
    else
        return need(m, 1);
    return LT_OK;
}

static lt_status op_pop_mark(struct machine *m, int arg)
{
    (void)arg;
    size_t from = 0;
    lt_status st = pop_mark(m, &from);
    if (!st) m->depth = from;
    return st;
}

static lt_status op_dup(struct machine *m, int arg)
{
    (void)arg;
    lt_status st = need(m, 1);
    return st ? st : push(m, top(m));
}

/* ---- memo -------------------------------------------------------------------------- */

static lt_status remember(struct machine *m, uint64_t number)
{
    lt_status st = need(m, 1);
    if (st) return st;
    if (number >= LT_MAX_PICKLE_MEMO)
        return over(m, "values to remember", LT_MAX_PICKLE_MEMO);
    if (number >= m->memo_size) {
        st = lt_grow((void **)&m->memo, &m->memo_capacity, (size_t)number + 1,
            sizeof *m->memo, m->err);
        if (st) return st;
        memset(m->memo + m->memo_size, 0,
            (m->memo_capacity - m->memo_size) * sizeof *m->memo);
        m->memo_size = m->memo_capacity;
    }
    m->memo_count += !m->memo[number];
    m->memo[number] = top(m);
    return LT_OK;
}

static lt_status recall(struct machine *m, uint64_t number)
{
    if (number >= m->memo_size || !m->memo[number])
        return fault(m, "names a value that was not remembered");
    return push(m, m->memo[number]);
}

/* The number of an operation: arg bytes, or a line of digits for 0. */
static lt_status take_number(struct machine *m, int bytes, uint64_t *number)
{
    if (bytes) {
        *number = lt_cursor_uint(m->c, (unsigned)bytes);
        return m->c->status;
    }
    size_t n;
    int64_t v;
    bool fits;
    const unsigned char *p = lt_cursor_line(m->c, LT_MAX_PICKLE_STRING, &n);
    if (!p) return m->c->status;
    if (!read_decimal(p, n, &v, &fits) || v < 0) return fault(m, "has no number");
    *number = fits ? (uint64_t)v : UINT64_MAX;
    return LT_OK;
}

static lt_status op_get(struct machine *m, int bytes)
{
    uint64_t number = 0;
    lt_status st = take_number(m, bytes, &number);
    return st ? st : recall(m, number);
}

static lt_status op_put(struct machine *m, int bytes)
{
    uint64_t number = 0;
    lt_status st = take_number(m, bytes, &number);
    return st ? st : remember(m, number);
}

static lt_status op_memoize(struct machine *m, int arg)
{
    (void)arg;
    return remember(m, m->memo_count);
}

/* ---- objects ----------------------------------------------------------------------- */

struct span {
    const char *p;
    size_t n;
};

/* Python 2's names of two modules that pickles of all ages name. */
static struct span modern_name(struct span module)
{
    static const char *const names[][2] = {
        { "__builtin__", "builtins" },
        { "copy_reg", "copyreg" },
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (module.n == strlen(names[i][0]) && !memcmp(module.p, names[i][0], module.n))
            return (struct span){ names[i][1], strlen(names[i][1]) };
    return module;
}

static lt_status push_global(struct machine *m, struct span module, struct span name)
{
    module = modern_name(module);
    if (!module.n || !name.n || memchr(module.p, 0, module.n)
        || memchr(name.p, 0, name.n))
        return fault(m, "names no global");
    if (module.n + name.n > MAX_GLOBAL_SIZE)
        return over(m, "bytes in a global's name", MAX_GLOBAL_SIZE);
    lt_value *v = new_value(m, LT_VALUE_GLOBAL);
    char *text = v ? lt_arena_alloc(&m->p->arena, module.n + name.n + 2, m->err) : NULL;
    if (!text) return failed(m);
    memcpy(text, module.p, module.n);
    text[module.n] = '.';
    memcpy(text + module.n + 1, name.p, name.n);
    v->global.name = text;
    lt_status st = LT_OK;
    if (m->p->on_global) st = m->p->on_global(m->p->ctx, v, module.n, m->err);
    return st ? st : push(m, v);
}

/* Two lines: the module's name and the global's. */
static lt_status take_global(struct machine *m)
{
    size_t n;
    const unsigned char *p = lt_cursor_line(m->c, MAX_GLOBAL_SIZE, &n);
    if (!p) return m->c->status;
    char module[MAX_GLOBAL_SIZE];
    struct span first = { module, n };
    memcpy(module, p, n); /* the cursor may move */
    p = lt_cursor_line(m->c, MAX_GLOBAL_SIZE, &n);
    if (!p) return m->c->status;
    return push_global(m, first, (struct span){ (const char *)p, n });
}

static lt_status op_global(struct machine *m, int arg)
{
    (void)arg;
    return take_global(m);
}

static lt_status op_stack_global(struct machine *m, int arg)
{
    (void)arg;
    lt_status st = need(m, 2);
    if (st) return st;
    const lt_value *module = m->stack[m->depth - 2], *name = m->stack[m->depth - 1];
    if (module->kind != LT_VALUE_STRING || name->kind != LT_VALUE_STRING)
        return fault(m, "finds no names on the stack");
    m->depth -= 2;
    return push_global(m, (struct span){ module->text.data, module->text.size },
        (struct span){ name->text.data, name->text.size });
}

/* REDUCE and NEWOBJ (2 values), NEWOBJ_EX (3). */
static lt_status op_call(struct machine *m, int n)
{
    lt_status st = need(m, (size_t)n);
    if (st) return st;
    m->depth -= (size_t)n;
    lt_value **v = m->stack + m->depth;
    if (v[1]->kind != LT_VALUE_TUPLE) return fault(m, "finds no tuple of arguments");
    return push_call(m, v[0], v[1], n > 2 ? v[2] : NULL);
}

/* OBJ: mark, class, arguments. */
static lt_status op_obj(struct machine *m, int arg)
{
    (void)arg;
    size_t from = 0;
    lt_status st = pop_mark(m, &from);
    if (st) return st;
    if (from == m->depth) return fault(m, "finds no class on the stack");
    st = push_sequence(m, LT_VALUE_TUPLE, from + 1);
    if (st) return st;
    m->depth = from;
    return push_call(m, m->stack[from], m->stack[from + 1], NULL);
}

/* INST: the class by its name, mark, arguments. */
static lt_status op_inst(struct machine *m, int arg)
{
    (void)arg;
    lt_status st = take_global(m);
    if (st) return st;
    lt_value *class = m->stack[--m->depth];
    size_t from = 0;
    st = pop_mark(m, &from);
    if (!st) st = push_sequence(m, LT_VALUE_TUPLE, from);
    if (st) return st;
    lt_value *args = m->stack[--m->depth];
    return push_call(m, class, args, NULL);
}

static lt_status op_build(struct machine *m, int arg)
{
    (void)arg;
    lt_status st = need(m, 2);
    if (st) return st;
    lt_value *state = m->stack[--m->depth], *object = top(m);
    if (object->kind != LT_VALUE_CALL)
        return lt_error_at(m->err, LT_ERR_FORMAT, m->at, "pickle: BUILD on %s",
            lt_value_kind_text(object->kind));
    if (object->call->state) {
        lt_value *both = new_value(m, LT_VALUE_TUPLE);
        if (!both) return failed(m);
        st = add_item(m, both, object->call->state);
        if (!st) st = add_item(m, both, state);
        state = both;
    }
    object->call->state = state;
    return st;
}

static lt_status push_persistent(struct machine *m, lt_value *id)
{
    lt_value *v = id ? new_value(m, LT_VALUE_PERSISTENT) : NULL;
    if (v) v->persistent.id = id;
    return push(m, v);
}

static lt_status op_persid(struct machine *m, int arg)
{
    (void)arg;
    size_t n;
    const unsigned char *p = lt_cursor_line(m->c, LT_MAX_PICKLE_STRING, &n);
    if (!p) return m->c->status;
    return push_persistent(m, new_text(m, LT_VALUE_STRING, p, n));
}

static lt_status op_binpersid(struct machine *m, int arg)
{
    (void)arg;
    lt_status st = need(m, 1);
    return st ? st : push_persistent(m, m->stack[--m->depth]);
}

/* ---- the stream -------------------------------------------------------------------- */

static lt_status op_proto(struct machine *m, int arg)
{
    (void)arg;
    uint64_t version = lt_cursor_uint(m->c, 1);
    if (m->c->status) return m->c->status;
    return version > 5 ? fault(m, "is of a later protocol than 5") : LT_OK;
}

static lt_status op_frame(struct machine *m, int arg)
{
    (void)arg;
    uint64_t size = lt_cursor_uint(m->c, 8);
    if (m->c->status) return m->c->status;
    return size > lt_cursor_left(m->c) ? fault(m, "goes past the end of the data")
                                       : LT_OK;
}

static lt_status op_stop(struct machine *m, int arg)
{
    (void)arg;
    if (m->depth != 1 || m->n_marks) return fault(m, "finds more or less than one value");
    m->root = top(m);
    return LT_OK;
}

static lt_status op_refuse(struct machine *m, int arg)
{
    (void)arg;
    return fault(m, "is not an operation of saved tensors");
}

static const struct operation {
    const char *name;
    lt_status (*run)(struct machine *m, int arg);
    int arg;
} operations[256] = {
    ['('] = { "MARK", op_mark, 0 },
    ['.'] = { "STOP", op_stop, 0 },
    ['0'] = { "POP", op_pop, 0 },
    ['1'] = { "POP_MARK", op_pop_mark, 0 },
    ['2'] = { "DUP", op_dup, 0 },
    ['F'] = { "FLOAT", op_float, 0 },
    ['I'] = { "INT", op_decimal, 0 },
    ['J'] = { "BININT", op_binint, 4 },
    ['K'] = { "BININT1", op_binint, 1 },
    ['L'] = { "LONG", op_decimal, 1 },
    ['M'] = { "BININT2", op_binint, 2 },
    ['N'] = { "NONE", op_none, 0 },
    ['P'] = { "PERSID", op_persid, 0 },
    ['Q'] = { "BINPERSID", op_binpersid, 0 },
    ['R'] = { "REDUCE", op_call, 2 },
    ['S'] = { "STRING", op_string, 0 },
    ['T'] = { "BINSTRING", op_text, 4 },
    ['U'] = { "SHORT_BINSTRING", op_text, 1 },
    ['V'] = { "UNICODE", op_unicode, 0 },
    ['X'] = { "BINUNICODE", op_text, 4 },
    ['a'] = { "APPEND", op_add, LT_VALUE_LIST },
    ['b'] = { "BUILD", op_build, 0 },
    ['c'] = { "GLOBAL", op_global, 0 },
    ['d'] = { "DICT", op_sequence, LT_VALUE_DICT },
    ['}'] = { "EMPTY_DICT", op_empty, LT_VALUE_DICT },
    ['e'] = { "APPENDS", op_add_all, LT_VALUE_LIST },
    ['g'] = { "GET", op_get, 0 },
    ['h'] = { "BINGET", op_get, 1 },
    ['i'] = { "INST", op_inst, 0 },
    ['j'] = { "LONG_BINGET", op_get, 4 },
    ['l'] = { "LIST", op_sequence, LT_VALUE_LIST },
    [']'] = { "EMPTY_LIST", op_empty, LT_VALUE_LIST },
    ['o'] = { "OBJ", op_obj, 0 },
    ['p'] = { "PUT", op_put, 0 },
    ['q'] = { "BINPUT", op_put, 1 },
    ['r'] = { "LONG_BINPUT", op_put, 4 },
    ['s'] = { "SETITEM", op_add, LT_VALUE_DICT },
    ['t'] = { "TUPLE", op_sequence, LT_VALUE_TUPLE },
    [')'] = { "EMPTY_TUPLE", op_empty, LT_VALUE_TUPLE },
    ['u'] = { "SETITEMS", op_add_all, LT_VALUE_DICT },
    ['G'] = { "BINFLOAT", op_binfloat, 0 },
    ['B'] = { "BINBYTES", op_bytes, 4 },
    ['C'] = { "SHORT_BINBYTES", op_bytes, 1 },
    [0x80] = { "PROTO", op_proto, 0 },
    [0x81] = { "NEWOBJ", op_call, 2 },
    [0x82] = { "EXT1", op_refuse, 0 },
    [0x83] = { "EXT2", op_refuse, 0 },
    [0x84] = { "EXT4", op_refuse, 0 },
    [0x85] = { "TUPLE1", op_short_tuple, 1 },
    [0x86] = { "TUPLE2", op_short_tuple, 2 },
    [0x87] = { "TUPLE3", op_short_tuple, 3 },
    [0x88] = { "NEWTRUE", op_bool, 1 },
    [0x89] = { "NEWFALSE", op_bool, 0 },
    [0x8a] = { "LONG1", op_long, 1 },
    [0x8b] = { "LONG4", op_long, 4 },
    [0x8c] = { "SHORT_BINUNICODE", op_text, 1 },
    [0x8d] = { "BINUNICODE8", op_text, 8 },
    [0x8e] = { "BINBYTES8", op_bytes, 8 },
    [0x8f] = { "EMPTY_SET", op_empty, LT_VALUE_SET },
    [0x90] = { "ADDITEMS", op_add_all, LT_VALUE_SET },
    [0x91] = { "FROZENSET", op_sequence, LT_VALUE_SET },
    [0x92] = { "NEWOBJ_EX", op_call, 3 },
    [0x93] = { "STACK_GLOBAL", op_stack_global, 0 },
    [0x94] = { "MEMOIZE", op_memoize, 0 },
    [0x95] = { "FRAME", op_frame, 0 },
    [0x96] = { "BYTEARRAY8", op_bytes, 8 },
    [0x97] = { "NEXT_BUFFER", op_refuse, 0 },
    [0x98] = { "READONLY_BUFFER", op_refuse, 0 },
};

static lt_status run(struct machine *m)
{
    uint64_t begin = lt_cursor_position(m->c);
    lt_status st = LT_OK;
    while (!st && !m->root) {
        m->at = lt_cursor_position(m->c);
        if (m->at - begin > LT_MAX_PICKLE_SIZE)
            return over(m, "bytes", LT_MAX_PICKLE_SIZE);
        const unsigned char *p = lt_cursor_take(m->c, 1);
        if (!p) return m->c->status;
        const struct operation *op = &operations[*p];
        m->op = op->name;
        if (!op->run)
            return lt_error_at(
                m->err, LT_ERR_FORMAT, m->at, "pickle: unknown operation 0x%02x", *p);
        st = op->run(m, op->arg);
    }
    return st;
}

/* ---- keys -------------------------------------------------------------------------- */

/* A dict's key such that equal keys sort together; kind, a and b are equal for equal
 * ones. Python's 1, 1.0 and True are one key. Objects are compared by identity. */
struct key {
    int kind;
    uint64_t a, b;
    uint32_t index; /* of the pair */
    const lt_value *value;
};

static struct key make_key(const lt_value *v, uint32_t index)
{
    struct key k = { v->kind, 0, 0, index, v };
    if (v->kind == LT_VALUE_BOOL || v->kind == LT_VALUE_INT) {
        k.kind = LT_VALUE_INT;
        k.a = v->kind == LT_VALUE_INT ? (uint64_t)v->integer : v->flag;
    } else if (v->kind == LT_VALUE_FLOAT) {
        bool whole =
            v->real >= -9e15 && v->real <= 9e15 && v->real == (double)(int64_t)v->real;
        if (whole) k.kind = LT_VALUE_INT;
        if (whole)
            k.a = (uint64_t)(int64_t)v->real;
        else
            memcpy(&k.a, &v->real, sizeof k.a);
    } else if (v->kind == LT_VALUE_STRING || v->kind == LT_VALUE_BYTES) {
        k.a = v->text.size;
        k.b = v->text.hash;
    } else if (v->kind != LT_VALUE_NONE) {
        k.a = (uint64_t)(uintptr_t)v;
    }
    return k;
}

static int compare_keys(const struct key *x, const struct key *y)
{
    if (x->kind != y->kind) return x->kind < y->kind ? -1 : 1;
    if (x->a != y->a) return x->a < y->a ? -1 : 1;
    if (x->b != y->b) return x->b < y->b ? -1 : 1;
    return 0;
}

static int by_key(const void *a, const void *b)
{
    const struct key *x = a, *y = b;
    int order = compare_keys(x, y);
    if (order) return order;
    return x->index < y->index ? -1 : x->index > y->index;
}

static bool equal_keys(const struct key *x, const struct key *y)
{
    if (compare_keys(x, y)) return false;
    if (x->value == y->value) return true;
    if (x->kind != LT_VALUE_STRING && x->kind != LT_VALUE_BYTES) return true;
    return !memcmp(x->value->text.data, y->value->text.data, (size_t)x->a);
}

/* As in Python, a later pair of the same key changes the value of the first. */
static lt_status make_unique(lt_value *dict, lt_error *err)
{
    uint32_t n = dict->list.count / 2, kept = 0;
    lt_value **items = dict->list.items;
    if (n < 2) return LT_OK;
    struct key *keys = lt_alloc_work(n, sizeof *keys, err);
    if (!keys) return LT_ERR_NOMEM;
    for (uint32_t i = 0; i < n; i++)
        keys[i] = make_key(items[2 * i], i);
    qsort(keys, n, sizeof *keys, by_key);
    for (uint32_t i = 1, first = 0; i < n; i++) {
        if (!equal_keys(&keys[first], &keys[i])) {
            first = i;
            continue;
        }
        items[2 * keys[first].index + 1] = items[2 * keys[i].index + 1];
        items[2 * keys[i].index] = NULL;
    }
    lt_free(keys);
    for (uint32_t i = 0; i < n; i++) {
        if (!items[2 * i]) continue;
        items[2 * kept] = items[2 * i];
        items[2 * kept++ + 1] = items[2 * i + 1];
    }
    dict->list.count = 2 * kept;
    return LT_OK;
}

/* ---- entry ------------------------------------------------------------------------- */

static lt_status make_constants(struct machine *m)
{
    lt_pickle *p = m->p;
    if (p->none) return LT_OK;
    lt_value *v = lt_arena_alloc(&p->arena, 3 * sizeof *v, m->err);
    if (!v) return LT_ERR_NOMEM;
    v[1].kind = v[2].kind = LT_VALUE_BOOL;
    v[2].flag = true;
    p->none = &v[0];
    p->truth[0] = &v[1];
    p->truth[1] = &v[2];
    return LT_OK;
}

lt_status lt_pickle_read(lt_pickle *p, lt_cursor *c, lt_value **root, lt_error *err)
{
    struct machine m = { .p = p, .c = c, .err = err, .op = "" };
    const lt_value *last = p->dicts;
    *root = NULL;
    lt_status st = make_constants(&m);
    if (!st) st = run(&m);
    for (lt_value *d = p->dicts; d != last && !st; d = d->list.next)
        st = make_unique(d, err);
    free(m.stack);
    free(m.marks);
    free(m.memo);
    if (!st) *root = m.root;
    return st;
}

void lt_pickle_release(lt_pickle *p)
{
    lt_arena_release(&p->arena);
    *p = (lt_pickle){ 0 };
}
