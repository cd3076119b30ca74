/* SPDX-License-Identifier: MIT */
/* What is complete is kept as two counts a tensor, whatever the order in which bytes
 * come: those from its start on without a gap, as long as it is put from start to end,
 * and all of them. The files are followed one after the other, as they are mostly filled.
 */
#include "format/follow.h"

#include "base/digest.h"
#include "base/mem.h"
#include "base/pool.h"

#include <stdlib.h>
#include <string.h>

#define CHUNK ((uint64_t)1 << 20)

struct piece {
    uint64_t put, head; /* bytes of a tensor: all, and from its start on */
};

struct track {
    bool followed, hashed;
    size_t cursor;     /* in the layout: the first tensor that is not complete */
    uint64_t complete; /* bytes of data from its start on */
    char hex[LT_HASH_SIZE];
};

struct lt_follower {
    const lt_writer *writer;
    lt_lock *lock; /* over all that follows but buf */
    lt_thread *thread;
    char *buf;
    struct piece *pieces; /* of each tensor */
    struct track *tracks; /* of each file */
    size_t file;          /* that is followed now */
    uint64_t wanted;      /* of its data, before the thread goes on */
    bool stop;
    lt_status status;
    lt_error error;
};

/* With the lock held. */
static void advance(lt_follower *f, size_t file)
{
    const lt_volume *v = &f->writer->volumes[file];
    struct track *track = &f->tracks[file];
    for (; track->cursor < v->count; track->cursor++) {
        size_t tensor = v->layout[track->cursor];
        const lt_tensor *t = &f->writer->tensors[tensor];
        const struct piece *piece = &f->pieces[tensor];
        bool whole = piece->put == t->size;
        track->complete = t->offset + (whole ? t->size : piece->head);
        if (!whole) break;
    }
}

void lt_follower_note(lt_follower *f, size_t tensor, uint64_t first, uint64_t size)
{
    if (!f) return;
    size_t file = f->writer->volume_of[tensor];
    if (!f->tracks[file].followed) return;
    struct piece *piece = &f->pieces[tensor];
    lt_lock_take(f->lock);
    piece->put += size;
    if (piece->head == first) piece->head += size;
    advance(f, file);
    if (file == f->file && f->tracks[file].complete >= f->wanted) lt_lock_wake(f->lock);
    lt_lock_give(f->lock);
}

/* Waits until that much of the file is complete; false when the thread is to end. */
static bool await(lt_follower *f, size_t file, uint64_t wanted)
{
    lt_lock_take(f->lock);
    f->file = file;
    f->wanted = wanted;
    while (!f->stop && f->tracks[file].complete < wanted)
        lt_lock_wait(f->lock);
    bool go_on = !f->stop;
    lt_lock_give(f->lock);
    return go_on;
}

/* *hashed stays false when the thread was stopped before the end. */
static lt_status hash_volume(
    lt_follower *f, size_t file, bool *hashed, char hex[LT_HASH_SIZE], lt_error *err)
{
    const lt_volume *v = &f->writer->volumes[file];
    lt_sha256 *h = NULL;
    lt_status st = lt_sha256_new(&h, err);
    uint64_t at = 0;
    while (!st && at < v->data_size) {
        uint64_t left = v->data_size - at, n = left < CHUNK ? left : CHUNK;
        if (!await(f, file, at + n)) break;
        st = lt_outfile_read(v->data, v->data_at + at, f->buf, (size_t)n, err);
        if (!st) lt_sha256_update(h, f->buf, (size_t)n);
        at += n;
    }
    *hashed = !st && at == v->data_size;
    if (*hashed) lt_sha256_hex(h, hex);
    lt_sha256_free(h);
    return st;
}

static void follow(void *ctx)
{
    lt_follower *f = ctx;
    bool go_on = true;
    for (size_t i = 0; i < f->writer->n_volumes && go_on; i++) {
        char hex[LT_HASH_SIZE] = "";
        lt_error err = LT_ERROR_INIT;
        if (!f->tracks[i].followed) continue;
        lt_status st = hash_volume(f, i, &go_on, hex, &err);
        lt_lock_take(f->lock);
        f->status = st;
        f->error = err;
        f->tracks[i].hashed = go_on;
        memcpy(f->tracks[i].hex, hex, sizeof hex);
        lt_lock_wake(f->lock);
        lt_lock_give(f->lock);
    }
}

static bool worth_following(const lt_volume *v)
{
    return v->hash_expected && v->data == v->file && v->data_size >= LT_FOLLOW_FROM;
}

static lt_status start(lt_follower *f, lt_error *err)
{
    const lt_writer *w = f->writer;
    f->buf = lt_alloc_work(CHUNK, 1, err);
    f->pieces = lt_alloc(w->count, sizeof *f->pieces, err);
    f->tracks = lt_alloc(w->n_volumes, sizeof *f->tracks, err);
    if (!f->buf || !f->pieces || !f->tracks) return LT_ERR_NOMEM;
    lt_status st = lt_lock_new(&f->lock, err);
    if (st) return st;
    for (size_t i = 0; i < w->n_volumes; i++) {
        f->tracks[i].followed = worth_following(&w->volumes[i]);
        if (f->tracks[i].followed) advance(f, i);
    }
    return lt_thread_start(&f->thread, follow, f, err);
}

lt_status lt_follower_start(lt_follower **out, const lt_writer *w, lt_error *err)
{
    bool any = false;
    *out = NULL;
    for (size_t i = 0; i < w->n_volumes; i++)
        any |= worth_following(&w->volumes[i]);
    if (!any) return LT_OK;
    lt_follower *f = calloc(1, sizeof *f);
    if (!f) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    f->writer = w;
    lt_status st = start(f, err);
    if (st)
        lt_follower_stop(f);
    else
        *out = f;
    return st;
}

bool lt_follower_knows(lt_follower *f, size_t file)
{
    if (!f || !f->tracks[file].followed) return false;
    bool all = true;
    lt_lock_take(f->lock);
    for (size_t i = 0; i <= file; i++)
        if (f->tracks[i].followed)
            all &= f->tracks[i].complete == f->writer->volumes[i].data_size;
    lt_lock_give(f->lock);
    return all;
}

lt_status lt_follower_hash(
    lt_follower *f, size_t file, char hex[LT_HASH_SIZE], lt_error *err)
{
    const struct track *track = &f->tracks[file];
    lt_lock_take(f->lock);
    while (!track->hashed && !f->status)
        lt_lock_wait(f->lock);
    lt_status st = track->hashed ? LT_OK : f->status;
    memcpy(hex, track->hex, LT_HASH_SIZE);
    if (st && err) *err = f->error;
    lt_lock_give(f->lock);
    return st;
}

void lt_follower_stop(lt_follower *f)
{
    if (!f) return;
    if (f->thread) {
        lt_lock_take(f->lock);
        f->stop = true;
        lt_lock_wake(f->lock);
        lt_lock_give(f->lock);
        lt_thread_join(f->thread);
    }
    lt_lock_free(f->lock);
    lt_free(f->tracks);
    lt_free(f->pieces);
    lt_free(f->buf);
    free(f);
}
