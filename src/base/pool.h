/* SPDX-License-Identifier: MIT */
/* Runs independent work items on a few threads, under a ceiling of work memory; locks for
 * what items share. */
#ifndef LT_BASE_POOL_H
#define LT_BASE_POOL_H

#include "loratool/error.h"

#include <stdbool.h>

/* The thread that works on an item. */
typedef struct lt_worker lt_worker;

/* In [0, threads): indexes work memory that a thread keeps from item to item. */
int lt_worker_index(const lt_worker *worker);

typedef lt_status (*lt_work_fn)(void *ctx, size_t item, lt_worker *worker, lt_error *err);

/* Bytes of work memory that an item takes while it is worked on. */
typedef uint64_t (*lt_need_fn)(void *ctx, size_t item);

/* Called in the order of completion, never concurrently. */
typedef void (*lt_done_fn)(void *ctx, size_t item);

typedef struct lt_job {
    int threads;
    uint64_t memory; /* ceiling in bytes; 0: what the neediest item takes and
                        LT_SPARE_MEMORY beside it */
    size_t n_items;
    lt_work_fn work;
    lt_need_fn need; /* NULL: items take nothing worth counting */
    lt_done_fn done; /* NULL: nobody is told */
    void *ctx;
} lt_job;

/* Items are started in index order, each as soon as a thread is free and the memory of
 * those being worked on allows it beside what threads keep (lt_job_keep); one that alone
 * is over that runs alone. After
 * a failure no further item is started; the error reported is that of the failed item
 * with the lowest index. */
lt_status lt_pool_run(const lt_job *job, lt_error *err) LT_MUST_USE;

/* What a thread may keep between items so that the ceiling holds, in bytes; whoever keeps
 * work memory gives it back when it is more (lt_scratch_trim). */
uint64_t lt_job_keep(const lt_job *job);

/* One part of an item. Parts must not depend on one another. */
typedef lt_status (*lt_part_fn)(void *ctx, size_t part, lt_error *err);

/* Runs the n parts of the worker's item, helped by threads that have no item of their
 * own; returns when all are done. The error is that of the failed part with the lowest
 * index. worker NULL: the calling thread does it all. */
lt_status lt_worker_share(
    lt_worker *worker, size_t n, lt_part_fn part, void *ctx, lt_error *err) LT_MUST_USE;

/* For state that several readers change. */
typedef struct lt_lock lt_lock;

lt_status lt_lock_new(lt_lock **out, lt_error *err) LT_MUST_USE;
void lt_lock_free(lt_lock *lock); /* NULL allowed */
void lt_lock_take(lt_lock *lock);
void lt_lock_give(lt_lock *lock);
/* Both with the lock held. wait gives it up until somebody wakes all that wait, and may
 * also come back without that: what is waited for is tested again. */
void lt_lock_wait(lt_lock *lock);
void lt_lock_wake(lt_lock *lock);

/* A thread beside the caller's, for what goes on while a job runs. */
typedef struct lt_thread lt_thread;

lt_status lt_thread_start(
    lt_thread **out, void (*run)(void *ctx), void *ctx, lt_error *err) LT_MUST_USE;
void lt_thread_join(lt_thread *thread); /* when run has returned; NULL allowed */

/* Work that is done once in a process, by whoever needs it first; others wait for it.
 * Starts zeroed. init must not call lt_once_run itself. */
typedef struct lt_once {
    _Atomic bool done;
} lt_once;

void lt_once_run(lt_once *once, void (*init)(void));

/* The cores this process may use (affinity mask and cgroup quota), at least 1. */
int lt_cpu_count(void);

#endif
