/* SPDX-License-Identifier: MIT */
/* What the values of a torch file's pickle are: containers to look into, tensors, things
 * to be described. */
#ifndef LT_FORMAT_TORCH_VALUE_H
#define LT_FORMAT_TORCH_VALUE_H

#include "format/torch_tensors.h"

/* What can be looked into: literal containers and calls of dict-like or list-like
 * classes. */
typedef struct lt_node {
    lt_value **pairs;   /* key, value, ... */
    lt_value **couples; /* lists or tuples of two, from OrderedDict([(key, value)]) */
    lt_value **items[2];
    size_t n_pairs, n_couples, n_items[2];
    bool is_map, is_sequence; /* neither: it cannot be looked into */
} lt_node;

/* The parameters of a ParameterDict or ParameterList, of a call that makes one; or NULL.
 */
lt_value *lt_parameters_of(const lt_value *v);

void lt_look_into(const lt_value *v, lt_node *n);
size_t lt_node_count(const lt_node *n);
/* *key is NULL in sequences. */
lt_value *lt_node_at(const lt_node *n, size_t i, const lt_value **key);

/* What makes a tensor. */
typedef struct lt_maker {
    int meaning, detail;
    const lt_value *args;
    const lt_referent *referent; /* of a tensor that is listed elsewhere */
} lt_maker;

/* False when v is no tensor. */
bool lt_find_maker(const lt_torch *t, const lt_value *v, lt_maker *out);
/* *unread is set to what it is, when it is of a kind that is not read. */
lt_status lt_make_tensor(const lt_torch *t, const lt_maker *m, lt_found *f,
    const char **unread, lt_error *err) LT_MUST_USE;

/* lt_meaning of what a call calls; LT_MEANS_NOTHING for everything else. */
int lt_callee_meaning(const lt_value *v);

/* "integer 12", "tensor F32 [2, 3]", "dict of 4": one line. */
void lt_show_value(const lt_torch *t, const lt_value *v, char *dst, size_t size);

#endif
