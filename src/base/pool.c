/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* sched_getaffinity */
#include "base/pool.h"

#include "base/limits.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

struct pool {
    pthread_mutex_t lock;
    size_t next, n_items, failed_item;
    lt_work_fn work;
    lt_done_fn done;
    void *ctx;
    lt_status status;
    lt_error error;
};

struct worker {
    struct pool *pool;
    int index;
};

static void record_failure(struct pool *p, size_t item, lt_status st, const lt_error *err)
{
    if (p->status && p->failed_item < item) return;
    p->status = st;
    p->failed_item = item;
    p->error = *err;
}

static void *run_worker(void *arg)
{
    struct worker *w = arg;
    struct pool *p = w->pool;
    pthread_mutex_lock(&p->lock);
    while (p->next < p->n_items && !p->status) {
        size_t item = p->next++;
        pthread_mutex_unlock(&p->lock);
        lt_error err = LT_ERROR_INIT;
        lt_status st = p->work(p->ctx, item, w->index, &err);
        pthread_mutex_lock(&p->lock);
        if (st)
            record_failure(p, item, st, &err);
        else if (p->done)
            p->done(p->ctx, item);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

lt_status lt_pool_run(int threads, size_t n_items, lt_work_fn work, lt_done_fn done,
    void *ctx, lt_error *err)
{
    if (threads < 1) threads = 1;
    if (threads > LT_MAX_THREADS) threads = LT_MAX_THREADS;
    if ((size_t)threads > n_items) threads = n_items ? (int)n_items : 1;
    struct pool pool = {
        .n_items = n_items, .work = work, .done = done, .ctx = ctx, .error = LT_ERROR_INIT
    };
    pthread_mutex_init(&pool.lock, NULL);
    pthread_t ids[LT_MAX_THREADS];
    struct worker workers[LT_MAX_THREADS];
    int started = 0;
    /* The calling thread is worker 0; a thread that cannot be had is done without. */
    for (int i = 1; i < threads; i++) {
        workers[i] = (struct worker){ &pool, i };
        if (pthread_create(&ids[i], NULL, run_worker, &workers[i])) break;
        started = i;
    }
    workers[0] = (struct worker){ &pool, 0 };
    run_worker(&workers[0]);
    for (int i = 1; i <= started; i++)
        pthread_join(ids[i], NULL);
    pthread_mutex_destroy(&pool.lock);
    if (pool.status && err) *err = pool.error;
    return pool.status;
}

struct lt_lock {
    pthread_mutex_t mutex;
};

lt_status lt_lock_new(lt_lock **out, lt_error *err)
{
    *out = malloc(sizeof **out);
    if (!*out) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    pthread_mutex_init(&(*out)->mutex, NULL);
    return LT_OK;
}

void lt_lock_free(lt_lock *lock)
{
    if (!lock) return;
    pthread_mutex_destroy(&lock->mutex);
    free(lock);
}

void lt_lock_take(lt_lock *lock)
{
    pthread_mutex_lock(&lock->mutex);
}

void lt_lock_give(lt_lock *lock)
{
    pthread_mutex_unlock(&lock->mutex);
}

/* cgroup v2: "max 100000" or "QUOTA PERIOD", in microseconds. */
static int cgroup_cpus(void)
{
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (!f) return LT_MAX_THREADS;
    long quota = 0, period = 0;
    int n = fscanf(f, "%ld %ld", &quota, &period);
    fclose(f);
    if (n != 2 || quota <= 0 || period <= 0) return LT_MAX_THREADS;
    return (int)((quota + period - 1) / period);
}

int lt_cpu_count(void)
{
    cpu_set_t set;
    int n = 1;
    if (!sched_getaffinity(0, sizeof set, &set)) n = CPU_COUNT(&set);
    int quota = cgroup_cpus();
    if (quota < n) n = quota;
    return n < 1 ? 1 : n;
}
