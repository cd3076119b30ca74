/* SPDX-License-Identifier: MIT */
/* A digest goes through its range in order, so it can use one thread at a time; reading
 * is a third thing to do. Chunks wait in a ring, and every thread does what is there to
 * be done: reads on while the ring has room, else takes the next chunk to the digest that
 * is furthest behind. No step waits for another, so that any number of threads gets
 * through, also one. */
#include "base/digest_file.h"

#include "base/mem.h"
#include "base/pool.h"

#define CHUNK ((size_t)256 << 10)
#define SLOTS 16

struct lane {
    lt_digest_range *range;
    lt_sha256 *hash;
    uint64_t next; /* chunk that it takes next */
    bool busy;
};

struct pass {
    const lt_source *src;
    lt_lock *lock;
    char *ring;
    struct lane lanes[LT_DIGEST_RANGES];
    size_t n_lanes;
    uint64_t n_chunks, loaded; /* loaded: chunks that were read */
    bool reading, failed;
};

static uint64_t slowest(const struct pass *p)
{
    uint64_t least = p->n_chunks;
    for (size_t i = 0; i < p->n_lanes; i++)
        if (p->lanes[i].next < least) least = p->lanes[i].next;
    return least;
}

static bool may_read(const struct pass *p)
{
    return !p->reading && p->loaded < p->n_chunks && p->loaded - slowest(p) < SLOTS;
}

/* The digest furthest behind of those that have a chunk to take, or NULL. */
static struct lane *laggard(struct pass *p)
{
    struct lane *found = NULL;
    for (size_t i = 0; i < p->n_lanes; i++) {
        struct lane *lane = &p->lanes[i];
        if (lane->busy || lane->next >= p->loaded) continue;
        if (!found || lane->next < found->next) found = lane;
    }
    return found;
}

static size_t chunk_size(const struct pass *p, uint64_t chunk)
{
    uint64_t left = lt_source_size(p->src) - chunk * CHUNK;
    return left < CHUNK ? (size_t)left : CHUNK;
}

/* This and the next with the lock held, which is given up meanwhile. */
static lt_status read_chunk(struct pass *p, lt_error *err)
{
    uint64_t chunk = p->loaded;
    p->reading = true;
    lt_lock_give(p->lock);
    lt_status st = lt_source_read(p->src, chunk * CHUNK, p->ring + chunk % SLOTS * CHUNK,
        chunk_size(p, chunk), err);
    lt_lock_take(p->lock);
    p->reading = false;
    p->failed |= st != LT_OK;
    if (!st) p->loaded++;
    lt_lock_wake(p->lock);
    return st;
}

static void hash_chunk(struct pass *p, struct lane *lane)
{
    const lt_digest_range *r = lane->range;
    uint64_t chunk = lane->next, at = chunk * CHUNK, end = at + chunk_size(p, chunk);
    uint64_t from = r->from > at ? r->from : at, to = r->to < end ? r->to : end;
    if (from < to) {
        lane->busy = true;
        lt_lock_give(p->lock);
        const char *bytes = p->ring + chunk % SLOTS * CHUNK;
        lt_sha256_update(lane->hash, bytes + (from - at), (size_t)(to - from));
        lt_lock_take(p->lock);
        lane->busy = false;
    }
    lane->next++;
    lt_lock_wake(p->lock);
}

static lt_status lend_a_hand(void *ctx, size_t item, lt_worker *worker, lt_error *err)
{
    struct pass *p = ctx;
    lt_status st = LT_OK;
    (void)item, (void)worker;
    lt_lock_take(p->lock);
    while (!p->failed && slowest(p) < p->n_chunks) {
        struct lane *lane = NULL;
        if (may_read(p))
            st = read_chunk(p, err);
        else if ((lane = laggard(p)))
            hash_chunk(p, lane);
        else
            lt_lock_wait(p->lock);
    }
    lt_lock_give(p->lock);
    return st;
}

static lt_status prepare(struct pass *p, lt_digest_range *ranges, size_t n, lt_error *err)
{
    lt_status st = lt_lock_new(&p->lock, err);
    p->ring = st ? NULL : lt_alloc_work(SLOTS, CHUNK, err);
    if (!st && !p->ring) st = LT_ERR_NOMEM;
    for (size_t i = 0; i < n && !st; i++) {
        p->lanes[i].range = &ranges[i];
        st = lt_sha256_new(&p->lanes[i].hash, err);
        p->n_lanes += !st;
    }
    return st;
}

lt_status lt_digest_file(
    const lt_source *src, lt_digest_range *ranges, size_t n, int threads, lt_error *err)
{
    struct pass p = { .src = src };
    uint64_t size = lt_source_size(src);
    p.n_chunks = size / CHUNK + (size % CHUNK != 0);
    if (n > LT_DIGEST_RANGES) return lt_error_set(err, LT_ERR_INTERNAL, "many ranges");
    if ((size_t)threads > n + 1) threads = (int)n + 1;
    lt_status st = prepare(&p, ranges, n, err);
    if (!st)
        st = lt_pool_run(&(lt_job){ .threads = threads,
                             .n_items = (size_t)threads,
                             .work = lend_a_hand,
                             .ctx = &p },
            err);
    if (!st) st = lt_source_unchanged(src, err);
    for (size_t i = 0; i < p.n_lanes; i++) {
        if (!st) lt_sha256_hex(p.lanes[i].hash, ranges[i].hex);
        lt_sha256_free(p.lanes[i].hash);
    }
    lt_free(p.ring);
    lt_lock_free(p.lock);
    return st;
}
