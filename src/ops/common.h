/* SPDX-License-Identifier: MIT */
/* Shared by the operations. */
#ifndef LT_OPS_COMMON_H
#define LT_OPS_COMMON_H

#include "base/arena.h"
#include "base/mem.h"
#include "loratool/ops.h"

#include <regex.h>

lt_status lt_notes_add(lt_notes *notes, const char *name, double energy, lt_error *err,
    const char *fmt, ...) LT_PRINTF(5, 6) LT_MUST_USE;
void lt_notes_release(lt_notes *notes);

/* A model that an adapter is for: whole, harmless, and no adapter itself. */
lt_status lt_open_base(lt_store **out, const char *path, lt_error *err) LT_MUST_USE;

/* What store holds besides its tensors, which no output holds. */
lt_status lt_notes_add_asides(
    lt_notes *notes, const lt_store *store, lt_error *err) LT_MUST_USE;
/* The metadata of store's files, of which an output has none. */
lt_status lt_notes_drop_metadata(
    lt_notes *notes, const lt_store *store, lt_error *err) LT_MUST_USE;
/* store's metadata, when writer's format has no place for it, and those entries of its
 * further files that the output lacks. */
lt_status lt_notes_add_metadata(lt_notes *notes, const lt_writer *writer,
    const lt_store *store, lt_error *err) LT_MUST_USE;

/* An adapter whose scale is a guess, for want of its config. */
lt_status lt_notes_add_assumed(
    lt_notes *notes, const lt_adapter *adapter, lt_error *err) LT_MUST_USE;

double lt_now(void); /* seconds, monotonic */
void lt_cost_finish(lt_cost *cost, double started);

int lt_thread_count(int asked);

/* Compiled --include / --exclude lists. */
typedef struct lt_filter {
    regex_t *include, *exclude;
    size_t n_include, n_exclude;
} lt_filter;
lt_status lt_filter_compile(lt_filter *filter, const char *const *include,
    const char *const *exclude, lt_error *err) LT_MUST_USE;
/* A name passes when any include matches one of the two names (or there is none) and no
 * exclude does. */
bool lt_filter_passes(const lt_filter *filter, const char *name, const char *other);
void lt_filter_release(lt_filter *filter);

/* Casts p in place to what dtype would store. */
void lt_round_to(float *p, size_t n, lt_dtype dtype, void *work);

/* keep/NULL leaves *has false; otherwise the dtype of an option's text. */
lt_status lt_parse_dtype(
    const char *text, bool *has, lt_dtype *dtype, lt_error *err) LT_MUST_USE;

/* Alpha is stored in float32 and divides the factors: 0 (not given) or a number that
 * leaves both far from overflow. */
lt_status lt_check_alpha(double alpha, lt_error *err) LT_MUST_USE;

#endif
