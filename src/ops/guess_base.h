/* SPDX-License-Identifier: MIT */
/* The base that an adapter was made for, when only the adapter is there: its names and
 * shapes from the families' tables, or, for a model whose modules the adapter names by
 * their own paths, from the adapter. */
#ifndef LT_OPS_GUESS_BASE_H
#define LT_OPS_GUESS_BASE_H

#include "model/family.h"
#include "ops/common.h"

typedef struct lt_guess {
    lt_store *store; /* without data */
    lt_model *model;
    lt_alias_map *aliases;
} lt_guess;

/* family: an id, or NULL for whichever all modules fit; of two such families, whose
 * modules have other names in that naming, none is taken. The guess is the caller's, to
 * release. */
lt_status lt_guess_base(lt_guess *guess, const lt_adapter *adapter, const char *family,
    lt_naming naming, lt_error *err) LT_MUST_USE;
void lt_guess_release(lt_guess *guess);

#endif
