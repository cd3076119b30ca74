/* SPDX-License-Identifier: MIT */
#include "format/pickle_machine.h"

#include "base/limits.h"
#include "base/map.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

lt_status lt_machine_fault(lt_machine *m, const char *what)
{
    return lt_error_at(m->err, LT_ERR_FORMAT, m->at, "pickle: %s %s", m->op, what);
}

lt_status lt_machine_over(lt_machine *m, const char *what, uint64_t ceiling)
{
    return lt_error_at(m->err, LT_ERR_LIMIT, m->at, "pickle: over %llu %s",
        (unsigned long long)ceiling, what);
}

static lt_status count_value(lt_machine *m)
{
    if (m->p->n_values >= lt_limit(LT_LIMIT_PICKLE_VALUES))
        return lt_machine_over(m, "values", lt_limit(LT_LIMIT_PICKLE_VALUES));
    if (m->p->arena.size > lt_limit(LT_LIMIT_PICKLE_MEMORY))
        return lt_machine_over(
            m, "bytes of memory for its values", lt_limit(LT_LIMIT_PICKLE_MEMORY));
    m->p->n_values++;
    return LT_OK;
}

lt_value *lt_machine_new_value(lt_machine *m, lt_value_kind kind)
{
    if (count_value(m)) return NULL;
    lt_value *v = lt_arena_alloc(&m->p->arena, sizeof *v, m->err);
    if (!v) return NULL;
    v->kind = (uint8_t)kind;
    if (kind == LT_VALUE_DICT) {
        v->list.next = m->p->dicts;
        m->p->dicts = v;
    }
    return v;
}

/* The status of a failure whose function returned NULL or a sticky cursor's. */
lt_status lt_machine_failed(const lt_machine *m)
{
    if (m->c->status) return m->c->status;
    bool over = m->p->n_values >= lt_limit(LT_LIMIT_PICKLE_VALUES)
        || m->p->arena.size > lt_limit(LT_LIMIT_PICKLE_MEMORY);
    return over ? LT_ERR_LIMIT : LT_ERR_NOMEM;
}

lt_status lt_machine_push(lt_machine *m, lt_value *v)
{
    if (!v) return lt_machine_failed(m);
    if (m->depth >= lt_limit(LT_LIMIT_PICKLE_STACK))
        return lt_machine_over(m, "values on the stack", lt_limit(LT_LIMIT_PICKLE_STACK));
    lt_status st = lt_grow(
        (void **)&m->stack, &m->stack_capacity, m->depth + 1, sizeof *m->stack, m->err);
    if (!st) m->stack[m->depth++] = v;
    return st;
}

/* What lies on the stack above the last mark. */
size_t lt_machine_available(const lt_machine *m)
{
    return m->n_marks ? m->depth - m->marks[m->n_marks - 1] : m->depth;
}

lt_status lt_machine_need(lt_machine *m, size_t n)
{
    return lt_machine_available(m) < n
        ? lt_machine_fault(m, "finds too few values on the stack")
        : LT_OK;
}

lt_value *lt_machine_top(const lt_machine *m)
{
    return m->stack[m->depth - 1];
}

/* Takes the last mark off; what lay above it is stack[*from, depth). */
lt_status lt_machine_pop_mark(lt_machine *m, size_t *from)
{
    if (!m->n_marks) return lt_machine_fault(m, "finds no mark on the stack");
    *from = m->marks[--m->n_marks];
    return LT_OK;
}

lt_value *lt_machine_new_int(lt_machine *m, int64_t integer)
{
    lt_value *v = lt_machine_new_value(m, LT_VALUE_INT);
    if (v) v->integer = integer;
    return v;
}

lt_value *lt_machine_new_text(lt_machine *m, lt_value_kind kind, const void *p, size_t n)
{
    lt_value *v = lt_machine_new_value(m, kind);
    char *copy = v ? lt_arena_strndup(&m->p->arena, p, n, m->err) : NULL;
    if (!copy) return NULL;
    v->text.data = copy;
    v->text.size = (uint32_t)n;
    v->text.hash = (uint32_t)lt_hash(copy, n);
    return v;
}

lt_status lt_machine_add_item(lt_machine *m, lt_value *to, lt_value *item)
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
lt_status lt_machine_move_items(lt_machine *m, lt_value *to, size_t from)
{
    lt_status st = LT_OK;
    for (size_t i = from; i < m->depth && !st; i++)
        st = lt_machine_add_item(m, to, m->stack[i]);
    m->depth = from;
    return st;
}

lt_status lt_machine_push_sequence(lt_machine *m, lt_value_kind kind, size_t from)
{
    lt_value *v = lt_machine_new_value(m, kind);
    if (!v) return lt_machine_failed(m);
    lt_status st = lt_machine_move_items(m, v, from);
    return st ? st : lt_machine_push(m, v);
}

lt_status lt_machine_push_call(
    lt_machine *m, lt_value *callee, lt_value *args, lt_value *kwargs)
{
    lt_value *v = lt_machine_new_value(m, LT_VALUE_CALL);
    if (!v) return lt_machine_failed(m);
    v->call = lt_arena_alloc(&m->p->arena, sizeof *v->call, m->err);
    if (!v->call) return LT_ERR_NOMEM;
    *v->call = (lt_call){ .callee = callee, .args = args, .kwargs = kwargs };
    return lt_machine_push(m, v);
}
