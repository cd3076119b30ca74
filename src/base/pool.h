/* SPDX-License-Identifier: MIT */
/* Runs independent work items on a few threads; locks for what they share. */
#ifndef LT_BASE_POOL_H
#define LT_BASE_POOL_H

#include "loratool/error.h"

/* Computes item; worker is in [0, threads) and indexes per-thread work memory. */
typedef lt_status (*lt_work_fn)(void *ctx, size_t item, int worker, lt_error *err);

/* Called in the calling order of completion, never concurrently; may be NULL. */
typedef void (*lt_done_fn)(void *ctx, size_t item);

/* Items are started in index order. After a failure no further item is started; the
 * error reported is that of the failed item with the lowest index. */
lt_status lt_pool_run(int threads, size_t n_items, lt_work_fn work, lt_done_fn done,
    void *ctx, lt_error *err) LT_MUST_USE;

/* For state that several readers change. */
typedef struct lt_lock lt_lock;

lt_status lt_lock_new(lt_lock **out, lt_error *err) LT_MUST_USE;
void lt_lock_free(lt_lock *lock); /* NULL allowed */
void lt_lock_take(lt_lock *lock);
void lt_lock_give(lt_lock *lock);

/* The cores this process may use (affinity mask and cgroup quota), at least 1. */
int lt_cpu_count(void);

#endif
