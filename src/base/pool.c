/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* sched_getaffinity */
#include "base/pool.h"

#include "base/abandon.h"
#include "base/limits.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Parts of one item that whoever is free works on. */
struct shared {
    struct shared *next;
    lt_part_fn part;
    void *ctx;
    size_t n, started, finished, failed;
    lt_status status;
    lt_error error;
};

struct pool {
    const lt_job *job;
    pthread_mutex_t lock;
    pthread_cond_t change; /* something may be started, or all is done */
    int threads;
    uint64_t memory, reserved; /* for items being worked on */
    size_t next, running, failed_item;
    struct shared *shared; /* with parts that are not started */
    lt_status status;
    lt_error error;
};

struct lt_worker {
    struct pool *pool;
    int index;
};

int lt_worker_index(const lt_worker *worker)
{
    return worker->index;
}

static int clamp_threads(int threads)
{
    return threads < 1 ? 1 : threads > LT_MAX_THREADS ? LT_MAX_THREADS : threads;
}

static uint64_t need_of(const lt_job *job, size_t item)
{
    return job->need ? job->need(job->ctx, item) : 0;
}

static uint64_t ceiling_of(const lt_job *job)
{
    uint64_t most = 0;
    if (job->memory) return job->memory;
    for (size_t i = 0; i < job->n_items; i++) {
        uint64_t need = need_of(job, i);
        if (need > most) most = need;
    }
    return most + LT_SPARE_MEMORY;
}

/* Of all threads together: what fits beside the neediest item by default, and a quarter
 * of a ceiling that is lower than that. */
static uint64_t kept_of(const lt_job *job)
{
    uint64_t most = LT_SPARE_MEMORY / 2;
    return job->memory && job->memory / 4 < most ? job->memory / 4 : most;
}

uint64_t lt_job_keep(const lt_job *job)
{
    return kept_of(job) / (uint64_t)clamp_threads(job->threads);
}

static bool may_start(const struct pool *p)
{
    if (p->status || p->next >= p->job->n_items) return false;
    uint64_t need = need_of(p->job, p->next);
    return !p->running || (need <= p->memory && p->reserved <= p->memory - need);
}

static void record_failure(struct pool *p, size_t item, lt_status st, const lt_error *err)
{
    if (p->status && p->failed_item < item) return;
    p->status = st;
    p->failed_item = item;
    p->error = *err;
}

/* With the lock held, which is given up meanwhile. */
static void run_item(struct pool *p, lt_worker *w)
{
    size_t item = p->next++;
    uint64_t need = need_of(p->job, item);
    p->running++;
    p->reserved += need;
    pthread_mutex_unlock(&p->lock);
    lt_error err = LT_ERROR_INIT;
    lt_status st = p->job->work(p->job->ctx, item, w, &err);
    pthread_mutex_lock(&p->lock);
    p->running--;
    p->reserved -= need;
    if (st)
        record_failure(p, item, st, &err);
    else if (p->job->done)
        p->job->done(p->job->ctx, item);
    pthread_cond_broadcast(&p->change);
}

/* The same for the next part of s; the last one started takes s off the list. */
static void run_part(struct pool *p, struct shared *s)
{
    size_t part = s->started++;
    if (s->started == s->n) {
        struct shared **at = &p->shared;
        while (*at != s)
            at = &(*at)->next;
        *at = s->next;
    }
    pthread_mutex_unlock(&p->lock);
    lt_error err = LT_ERROR_INIT;
    lt_status st = s->part(s->ctx, part, &err);
    pthread_mutex_lock(&p->lock);
    if (st && (!s->status || part < s->failed)) {
        s->status = st;
        s->failed = part;
        s->error = err;
    }
    /* Nothing may touch s after the last count: its owner returns. */
    if (++s->finished == s->n) pthread_cond_broadcast(&p->change);
}

static void *run_worker(void *arg)
{
    lt_worker *w = arg;
    struct pool *p = w->pool;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        if (may_start(p))
            run_item(p, w);
        else if (p->shared)
            run_part(p, p->shared);
        else if (p->running)
            pthread_cond_wait(&p->change, &p->lock);
        else
            break;
    }
    pthread_cond_broadcast(&p->change);
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static lt_status run_serially(size_t n, lt_part_fn part, void *ctx, lt_error *err)
{
    lt_status st = LT_OK;
    for (size_t i = 0; i < n && !st; i++)
        st = part(ctx, i, err);
    return st;
}

lt_status lt_worker_share(
    lt_worker *w, size_t n, lt_part_fn part, void *ctx, lt_error *err)
{
    if (!w || w->pool->threads == 1 || n < 2) return run_serially(n, part, ctx, err);
    struct pool *p = w->pool;
    struct shared s = { .part = part, .ctx = ctx, .n = n, .error = LT_ERROR_INIT };
    pthread_mutex_lock(&p->lock);
    s.next = p->shared;
    p->shared = &s;
    pthread_cond_broadcast(&p->change);
    while (s.started < s.n)
        run_part(p, &s);
    while (s.finished < s.n)
        pthread_cond_wait(&p->change, &p->lock);
    pthread_mutex_unlock(&p->lock);
    if (s.status && err) *err = s.error;
    return s.status;
}

/* A thread that takes no signals: they go to the one that makes and names files, whose
 * list of those to remove is then never seen half changed. */
static int start_thread(pthread_t *id, void *(*run)(void *), void *arg)
{
    sigset_t before;
    lt_abandon_hold(&before);
    int rc = pthread_create(id, NULL, run, arg);
    lt_abandon_release(&before);
    return rc;
}

lt_status lt_pool_run(const lt_job *job, lt_error *err)
{
    struct pool pool = { .job = job, .error = LT_ERROR_INIT };
    int threads = clamp_threads(job->threads);
    pool.memory = ceiling_of(job);
    pool.memory -= kept_of(job);
    pool.threads = threads;
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.change, NULL);
    pthread_t ids[LT_MAX_THREADS];
    lt_worker workers[LT_MAX_THREADS];
    int started = 0;
    /* The calling thread is worker 0; a thread that cannot be had is done without. */
    for (int i = 1; i < threads && job->n_items; i++) {
        workers[i] = (lt_worker){ &pool, i };
        if (start_thread(&ids[i], run_worker, &workers[i])) break;
        started = i;
    }
    workers[0] = (lt_worker){ &pool, 0 };
    run_worker(&workers[0]);
    for (int i = 1; i <= started; i++)
        pthread_join(ids[i], NULL);
    pthread_cond_destroy(&pool.change);
    pthread_mutex_destroy(&pool.lock);
    if (pool.status && err) *err = pool.error;
    return pool.status;
}

struct lt_lock {
    pthread_mutex_t mutex;
    pthread_cond_t change;
};

lt_status lt_lock_new(lt_lock **out, lt_error *err)
{
    *out = malloc(sizeof **out);
    if (!*out) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    pthread_mutex_init(&(*out)->mutex, NULL);
    pthread_cond_init(&(*out)->change, NULL);
    return LT_OK;
}

void lt_lock_free(lt_lock *lock)
{
    if (!lock) return;
    pthread_cond_destroy(&lock->change);
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

void lt_lock_wait(lt_lock *lock)
{
    pthread_cond_wait(&lock->change, &lock->mutex);
}

void lt_lock_wake(lt_lock *lock)
{
    pthread_cond_broadcast(&lock->change);
}

struct lt_thread {
    pthread_t id;
    void (*run)(void *ctx);
    void *ctx;
};

static void *run_thread(void *arg)
{
    const lt_thread *t = arg;
    t->run(t->ctx);
    return NULL;
}

lt_status lt_thread_start(
    lt_thread **out, void (*run)(void *ctx), void *ctx, lt_error *err)
{
    *out = NULL;
    lt_thread *t = malloc(sizeof *t);
    if (!t) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    *t = (lt_thread){ .run = run, .ctx = ctx };
    int rc = start_thread(&t->id, run_thread, t);
    if (rc) {
        free(t);
        return lt_error_sys(err, rc, "cannot start a thread: %s", strerror(rc));
    }
    *out = t;
    return LT_OK;
}

void lt_thread_join(lt_thread *t)
{
    if (!t) return;
    pthread_join(t->id, NULL);
    free(t);
}

void lt_once_run(lt_once *once, void (*init)(void))
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    if (once->done) return;
    pthread_mutex_lock(&mutex);
    if (!once->done) {
        init();
        once->done = true;
    }
    pthread_mutex_unlock(&mutex);
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
