/* SPDX-License-Identifier: MIT */
/* The pickle language as Lib/pickletools.py of CPython documents it: a byte each for the
 * operation, its argument behind it; a stack of values, marks on it where a container
 * begins, and a memo of values by number.
 *
 * Containers are shared and changed after they were put somewhere, so that a dict's keys
 * are made unique only when the whole pickle is read. */
#include "format/pickle_machine.h"

#include "base/limits.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#define MAX_GLOBAL_SIZE 4096u

/* ---- containers -------------------------------------------------------------------- */

static lt_status op_mark(lt_machine *m, int arg)
{
    (void)arg;
    if (m->n_marks >= lt_limit(LT_LIMIT_PICKLE_MARKS))
        return lt_machine_over(m, "marks on the stack", lt_limit(LT_LIMIT_PICKLE_MARKS));
    lt_status st = lt_grow(
        (void **)&m->marks, &m->marks_capacity, m->n_marks + 1, sizeof *m->marks, m->err);
    if (!st) m->marks[m->n_marks++] = m->depth;
    return st;
}

static lt_status op_empty(lt_machine *m, int kind)
{
    return lt_machine_push(m, lt_machine_new_value(m, (lt_value_kind)kind));
}

/* TUPLE1 to TUPLE3. */
static lt_status op_short_tuple(lt_machine *m, int n)
{
    lt_status st = lt_machine_need(m, (size_t)n);
    return st ? st : lt_machine_push_sequence(m, LT_VALUE_TUPLE, m->depth - (size_t)n);
}

static lt_status op_sequence(lt_machine *m, int kind)
{
    size_t from = 0;
    lt_status st = lt_machine_pop_mark(m, &from);
    if (!st && kind == LT_VALUE_DICT && (m->depth - from) % 2)
        st = lt_machine_fault(m, "finds a key without a value");
    return st ? st : lt_machine_push_sequence(m, (lt_value_kind)kind, from);
}

/* The container that what is on the stack from there on goes into: the value below, or
 * its part when it is a call's result. */
static lt_status find_target(
    lt_machine *m, size_t from, lt_value_kind kind, lt_value **target)
{
    size_t floor = m->depth - lt_machine_available(m);
    if (from <= floor) return lt_machine_fault(m, "finds too few values on the stack");
    lt_value *v = m->stack[from - 1];
    *target = v;
    if (v->kind == kind) return LT_OK;
    if (v->kind != LT_VALUE_CALL) {
        return lt_error_at(m->err, LT_ERR_FORMAT, m->at, "pickle: %s on %s", m->op,
            lt_value_kind_text(v->kind));
    }
    lt_value **part = kind == LT_VALUE_DICT ? &v->call->pairs : &v->call->items;
    if (!*part)
        *part = lt_machine_new_value(m, kind == LT_VALUE_DICT ? kind : LT_VALUE_LIST);
    *target = *part;
    return *part ? LT_OK : lt_machine_failed(m);
}

static lt_status fill_container(lt_machine *m, size_t from, lt_value_kind kind)
{
    lt_value *target = NULL;
    lt_status st = find_target(m, from, kind, &target);
    if (!st && kind == LT_VALUE_DICT && (m->depth - from) % 2)
        st = lt_machine_fault(m, "finds a key without a value");
    return st ? st : lt_machine_move_items(m, target, from);
}

/* APPEND and SETITEM. */
static lt_status op_add(lt_machine *m, int kind)
{
    size_t n = kind == LT_VALUE_DICT ? 2 : 1;
    lt_status st = lt_machine_need(m, n + 1);
    return st ? st : fill_container(m, m->depth - n, (lt_value_kind)kind);
}

/* APPENDS, SETITEMS and ADDITEMS. */
static lt_status op_add_all(lt_machine *m, int kind)
{
    size_t from = 0;
    lt_status st = lt_machine_pop_mark(m, &from);
    return st ? st : fill_container(m, from, (lt_value_kind)kind);
}

static lt_status op_pop(lt_machine *m, int arg)
{
    (void)arg;
    if (lt_machine_available(m))
        m->depth--;
    else if (m->n_marks)
        m->n_marks--;
    else
        return lt_machine_need(m, 1);
    return LT_OK;
}

static lt_status op_pop_mark(lt_machine *m, int arg)
{
    (void)arg;
    size_t from = 0;
    lt_status st = lt_machine_pop_mark(m, &from);
    if (!st) m->depth = from;
    return st;
}

static lt_status op_dup(lt_machine *m, int arg)
{
    (void)arg;
    lt_status st = lt_machine_need(m, 1);
    return st ? st : lt_machine_push(m, lt_machine_top(m));
}

/* ---- memo -------------------------------------------------------------------------- */

static lt_status remember(lt_machine *m, uint64_t number)
{
    lt_status st = lt_machine_need(m, 1);
    if (st) return st;
    if (number >= lt_limit(LT_LIMIT_PICKLE_MEMO))
        return lt_machine_over(m, "values to remember", lt_limit(LT_LIMIT_PICKLE_MEMO));
    if (number >= m->memo_size) {
        st = lt_grow((void **)&m->memo, &m->memo_capacity, (size_t)number + 1,
            sizeof *m->memo, m->err);
        if (st) return st;
        memset(m->memo + m->memo_size, 0,
            (m->memo_capacity - m->memo_size) * sizeof *m->memo);
        m->memo_size = m->memo_capacity;
    }
    m->memo_count += !m->memo[number];
    m->memo[number] = lt_machine_top(m);
    return LT_OK;
}

static lt_status recall(lt_machine *m, uint64_t number)
{
    if (number >= m->memo_size || !m->memo[number])
        return lt_machine_fault(m, "names a value that was not remembered");
    return lt_machine_push(m, m->memo[number]);
}

/* The number of an operation: arg bytes, or a line of digits for 0. */
static lt_status take_number(lt_machine *m, int bytes, uint64_t *number)
{
    if (bytes) {
        *number = lt_cursor_uint(m->c, (unsigned)bytes);
        return m->c->status;
    }
    size_t n;
    int64_t v;
    bool fits;
    const unsigned char *p = lt_cursor_line(m->c, lt_limit(LT_LIMIT_PICKLE_STRING), &n);
    if (!p) return m->c->status;
    if (!lt_read_decimal(p, n, &v, &fits) || v < 0)
        return lt_machine_fault(m, "has no number");
    *number = fits ? (uint64_t)v : UINT64_MAX;
    return LT_OK;
}

static lt_status op_get(lt_machine *m, int bytes)
{
    uint64_t number = 0;
    lt_status st = take_number(m, bytes, &number);
    return st ? st : recall(m, number);
}

static lt_status op_put(lt_machine *m, int bytes)
{
    uint64_t number = 0;
    lt_status st = take_number(m, bytes, &number);
    return st ? st : remember(m, number);
}

static lt_status op_memoize(lt_machine *m, int arg)
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

static lt_status push_global(lt_machine *m, struct span module, struct span name)
{
    module = modern_name(module);
    if (!module.n || !name.n || memchr(module.p, 0, module.n)
        || memchr(name.p, 0, name.n))
        return lt_machine_fault(m, "names no global");
    if (module.n + name.n > MAX_GLOBAL_SIZE)
        return lt_machine_over(m, "bytes in a global's name", MAX_GLOBAL_SIZE);
    lt_value *v = lt_machine_new_value(m, LT_VALUE_GLOBAL);
    char *text = v ? lt_arena_alloc(&m->p->arena, module.n + name.n + 2, m->err) : NULL;
    if (!text) return lt_machine_failed(m);
    memcpy(text, module.p, module.n);
    text[module.n] = '.';
    memcpy(text + module.n + 1, name.p, name.n);
    v->global.name = text;
    lt_status st = LT_OK;
    if (m->p->on_global) st = m->p->on_global(m->p->ctx, v, module.n, m->at, m->err);
    return st ? st : lt_machine_push(m, v);
}

/* Two lines: the module's name and the global's. */
static lt_status take_global(lt_machine *m)
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

static lt_status op_global(lt_machine *m, int arg)
{
    (void)arg;
    return take_global(m);
}

static lt_status op_stack_global(lt_machine *m, int arg)
{
    (void)arg;
    lt_status st = lt_machine_need(m, 2);
    if (st) return st;
    const lt_value *module = m->stack[m->depth - 2], *name = m->stack[m->depth - 1];
    if (module->kind != LT_VALUE_STRING || name->kind != LT_VALUE_STRING)
        return lt_machine_fault(m, "finds no names on the stack");
    m->depth -= 2;
    return push_global(m, (struct span){ module->text.data, module->text.size },
        (struct span){ name->text.data, name->text.size });
}

/* REDUCE and NEWOBJ (2 values), NEWOBJ_EX (3). */
static lt_status op_call(lt_machine *m, int n)
{
    lt_status st = lt_machine_need(m, (size_t)n);
    if (st) return st;
    m->depth -= (size_t)n;
    lt_value **v = m->stack + m->depth;
    if (v[1]->kind != LT_VALUE_TUPLE)
        return lt_machine_fault(m, "finds no tuple of arguments");
    return lt_machine_push_call(m, v[0], v[1], n > 2 ? v[2] : NULL);
}

/* OBJ: mark, class, arguments. */
static lt_status op_obj(lt_machine *m, int arg)
{
    (void)arg;
    size_t from = 0;
    lt_status st = lt_machine_pop_mark(m, &from);
    if (st) return st;
    if (from == m->depth) return lt_machine_fault(m, "finds no class on the stack");
    st = lt_machine_push_sequence(m, LT_VALUE_TUPLE, from + 1);
    if (st) return st;
    m->depth = from;
    return lt_machine_push_call(m, m->stack[from], m->stack[from + 1], NULL);
}

/* INST: the class by its name, mark, arguments. */
static lt_status op_inst(lt_machine *m, int arg)
{
    (void)arg;
    lt_status st = take_global(m);
    if (st) return st;
    lt_value *class = m->stack[--m->depth];
    size_t from = 0;
    st = lt_machine_pop_mark(m, &from);
    if (!st) st = lt_machine_push_sequence(m, LT_VALUE_TUPLE, from);
    if (st) return st;
    lt_value *args = m->stack[--m->depth];
    return lt_machine_push_call(m, class, args, NULL);
}

static lt_status op_build(lt_machine *m, int arg)
{
    (void)arg;
    lt_status st = lt_machine_need(m, 2);
    if (st) return st;
    lt_value *state = m->stack[--m->depth], *object = lt_machine_top(m);
    if (object->kind != LT_VALUE_CALL)
        return lt_error_at(m->err, LT_ERR_FORMAT, m->at, "pickle: BUILD on %s",
            lt_value_kind_text(object->kind));
    if (object->call->state) {
        lt_value *both = lt_machine_new_value(m, LT_VALUE_TUPLE);
        if (!both) return lt_machine_failed(m);
        st = lt_machine_add_item(m, both, object->call->state);
        if (!st) st = lt_machine_add_item(m, both, state);
        state = both;
    }
    object->call->state = state;
    return st;
}

static lt_status push_persistent(lt_machine *m, lt_value *id)
{
    lt_value *v = id ? lt_machine_new_value(m, LT_VALUE_PERSISTENT) : NULL;
    lt_persistent *p = v ? lt_arena_alloc(&m->p->arena, sizeof *p, m->err) : NULL;
    if (!p) return lt_machine_failed(m);
    *p = (lt_persistent){ .id = id, .next = m->p->persistents, .at = m->at };
    v->persistent = m->p->persistents = p;
    return lt_machine_push(m, v);
}

static lt_status op_persid(lt_machine *m, int arg)
{
    (void)arg;
    size_t n;
    const unsigned char *p = lt_cursor_line(m->c, lt_limit(LT_LIMIT_PICKLE_STRING), &n);
    if (!p) return m->c->status;
    return push_persistent(m, lt_machine_new_text(m, LT_VALUE_STRING, p, n));
}

static lt_status op_binpersid(lt_machine *m, int arg)
{
    (void)arg;
    lt_status st = lt_machine_need(m, 1);
    return st ? st : push_persistent(m, m->stack[--m->depth]);
}

/* ---- the stream -------------------------------------------------------------------- */

static lt_status op_proto(lt_machine *m, int arg)
{
    (void)arg;
    uint64_t version = lt_cursor_uint(m->c, 1);
    if (m->c->status) return m->c->status;
    return version > 5 ? lt_machine_fault(m, "is of a later protocol than 5") : LT_OK;
}

static lt_status op_frame(lt_machine *m, int arg)
{
    (void)arg;
    uint64_t size = lt_cursor_uint(m->c, 8);
    if (m->c->status) return m->c->status;
    return size > lt_cursor_left(m->c)
        ? lt_machine_fault(m, "goes past the end of the data")
        : LT_OK;
}

static lt_status op_stop(lt_machine *m, int arg)
{
    (void)arg;
    if (m->depth != 1 || m->n_marks)
        return lt_machine_fault(m, "finds more or less than one value");
    m->root = lt_machine_top(m);
    return LT_OK;
}

static lt_status op_refuse(lt_machine *m, int arg)
{
    (void)arg;
    return lt_machine_fault(m, "is not an operation of saved tensors");
}

static const struct operation {
    const char *name;
    lt_status (*run)(lt_machine *m, int arg);
    int arg;
} operations[256] = {
    ['('] = { "MARK", op_mark, 0 },
    ['.'] = { "STOP", op_stop, 0 },
    ['0'] = { "POP", op_pop, 0 },
    ['1'] = { "POP_MARK", op_pop_mark, 0 },
    ['2'] = { "DUP", op_dup, 0 },
    ['F'] = { "FLOAT", lt_op_float, 0 },
    ['I'] = { "INT", lt_op_decimal, 0 },
    ['J'] = { "BININT", lt_op_binint, 4 },
    ['K'] = { "BININT1", lt_op_binint, 1 },
    ['L'] = { "LONG", lt_op_decimal, 1 },
    ['M'] = { "BININT2", lt_op_binint, 2 },
    ['N'] = { "NONE", lt_op_none, 0 },
    ['P'] = { "PERSID", op_persid, 0 },
    ['Q'] = { "BINPERSID", op_binpersid, 0 },
    ['R'] = { "REDUCE", op_call, 2 },
    ['S'] = { "STRING", lt_op_string, 0 },
    ['T'] = { "BINSTRING", lt_op_text, 4 },
    ['U'] = { "SHORT_BINSTRING", lt_op_text, 1 },
    ['V'] = { "UNICODE", lt_op_unicode, 0 },
    ['X'] = { "BINUNICODE", lt_op_text, 4 },
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
    ['G'] = { "BINFLOAT", lt_op_binfloat, 0 },
    ['B'] = { "BINBYTES", lt_op_bytes, 4 },
    ['C'] = { "SHORT_BINBYTES", lt_op_bytes, 1 },
    [0x80] = { "PROTO", op_proto, 0 },
    [0x81] = { "NEWOBJ", op_call, 2 },
    [0x82] = { "EXT1", op_refuse, 0 },
    [0x83] = { "EXT2", op_refuse, 0 },
    [0x84] = { "EXT4", op_refuse, 0 },
    [0x85] = { "TUPLE1", op_short_tuple, 1 },
    [0x86] = { "TUPLE2", op_short_tuple, 2 },
    [0x87] = { "TUPLE3", op_short_tuple, 3 },
    [0x88] = { "NEWTRUE", lt_op_bool, 1 },
    [0x89] = { "NEWFALSE", lt_op_bool, 0 },
    [0x8a] = { "LONG1", lt_op_long, 1 },
    [0x8b] = { "LONG4", lt_op_long, 4 },
    [0x8c] = { "SHORT_BINUNICODE", lt_op_text, 1 },
    [0x8d] = { "BINUNICODE8", lt_op_text, 8 },
    [0x8e] = { "BINBYTES8", lt_op_bytes, 8 },
    [0x8f] = { "EMPTY_SET", op_empty, LT_VALUE_SET },
    [0x90] = { "ADDITEMS", op_add_all, LT_VALUE_SET },
    [0x91] = { "FROZENSET", op_sequence, LT_VALUE_SET },
    [0x92] = { "NEWOBJ_EX", op_call, 3 },
    [0x93] = { "STACK_GLOBAL", op_stack_global, 0 },
    [0x94] = { "MEMOIZE", op_memoize, 0 },
    [0x95] = { "FRAME", op_frame, 0 },
    [0x96] = { "BYTEARRAY8", lt_op_bytes, 8 },
    [0x97] = { "NEXT_BUFFER", op_refuse, 0 },
    [0x98] = { "READONLY_BUFFER", op_refuse, 0 },
};

static lt_status run(lt_machine *m)
{
    uint64_t begin = lt_cursor_position(m->c);
    lt_status st = LT_OK;
    while (!st && !m->root) {
        m->at = lt_cursor_position(m->c);
        if (m->at - begin >= lt_limit(LT_LIMIT_PICKLE_SIZE))
            return lt_machine_over(m, "bytes", lt_limit(LT_LIMIT_PICKLE_SIZE));
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

/* ---- entry ------------------------------------------------------------------------- */

static lt_status make_constants(lt_machine *m)
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
    lt_machine m = { .p = p, .c = c, .err = err, .op = "" };
    const lt_value *last = p->dicts;
    *root = NULL;
    lt_status st = make_constants(&m);
    if (!st) st = run(&m);
    for (lt_value *d = p->dicts; d != last && !st; d = d->list.next)
        st = lt_pickle_make_unique(d, err);
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
