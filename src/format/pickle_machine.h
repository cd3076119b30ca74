/* SPDX-License-Identifier: MIT */
/* The inside of the pickle machine: its stack, and the operations that push plain values.
 * Only the pickle_*.c files include it. */
#ifndef LT_FORMAT_PICKLE_MACHINE_H
#define LT_FORMAT_PICKLE_MACHINE_H

#include "format/pickle.h"

typedef struct lt_machine {
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
} lt_machine;

/* "pickle: OPERATION what", at the operation. */
lt_status lt_machine_fault(lt_machine *m, const char *what);
/* LT_ERR_LIMIT: "over CEILING what". */
lt_status lt_machine_over(lt_machine *m, const char *what, uint64_t ceiling);
/* The status of a failure whose function returned NULL or a sticky cursor's. */
lt_status lt_machine_failed(const lt_machine *m);

/* NULL on failure, which lt_machine_failed tells. */
lt_value *lt_machine_new_value(lt_machine *m, lt_value_kind kind);
lt_value *lt_machine_new_int(lt_machine *m, int64_t integer);
lt_value *lt_machine_new_text(lt_machine *m, lt_value_kind kind, const void *p, size_t n);

/* NULL is a failure. */
lt_status lt_machine_push(lt_machine *m, lt_value *v);
lt_status lt_machine_push_sequence(lt_machine *m, lt_value_kind kind, size_t from);
lt_status lt_machine_push_call(
    lt_machine *m, lt_value *callee, lt_value *args, lt_value *kwargs);
/* Values above the last mark; need is an error when they are fewer. */
size_t lt_machine_available(const lt_machine *m);
lt_status lt_machine_need(lt_machine *m, size_t n);
lt_value *lt_machine_top(const lt_machine *m);
/* Takes the last mark away; *from is where its values begin. */
lt_status lt_machine_pop_mark(lt_machine *m, size_t *from);
/* Moves stack[from, depth) into a container. */
lt_status lt_machine_move_items(lt_machine *m, lt_value *to, size_t from);
lt_status lt_machine_add_item(lt_machine *m, lt_value *to, lt_value *item);

/* pickle_literal.c; arg is that of the operation's row. */
lt_status lt_op_none(lt_machine *m, int arg);
lt_status lt_op_bool(lt_machine *m, int arg);
lt_status lt_op_binint(lt_machine *m, int arg);
lt_status lt_op_decimal(lt_machine *m, int is_long);
lt_status lt_op_long(lt_machine *m, int bytes);
lt_status lt_op_float(lt_machine *m, int arg);
lt_status lt_op_binfloat(lt_machine *m, int arg);
lt_status lt_op_text(lt_machine *m, int bytes);
lt_status lt_op_bytes(lt_machine *m, int bytes);
lt_status lt_op_string(lt_machine *m, int arg);
lt_status lt_op_unicode(lt_machine *m, int arg);

/* Decimal digits with an optional sign. False when they are none; *fits tells whether the
 * number does. */
bool lt_read_decimal(const unsigned char *p, size_t n, int64_t *out, bool *fits);

/* As in Python, a later pair of the same key changes the value of the first. */
lt_status lt_pickle_make_unique(lt_value *dict, lt_error *err);

#endif
