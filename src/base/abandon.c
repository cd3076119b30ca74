/* SPDX-License-Identifier: MIT */
#include "base/abandon.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <unistd.h>

/* What it will be called and what it is called meanwhile, of each file of the largest
 * output, and its folders. */
#define MAX_PATHS (1 << 18)

static _Atomic(char *) paths[MAX_PATHS];
static atomic_int
    used; /* slots from here on were never written: they are not looked at */

/* Where the next free slot is looked for first: a hint, changed without care. */
static atomic_int next_free;

static bool take_slot(int i, char *path)
{
    char *none = NULL;
    int seen = atomic_load(&used);
    if (atomic_load(&paths[i])) return false;
    /* Before the slot is filled: who reads it then looks far enough. */
    while (seen <= i && !atomic_compare_exchange_weak(&used, &seen, i + 1)) {
    }
    return atomic_compare_exchange_strong(&paths[i], &none, path);
}

void lt_abandon_remember(char *path)
{
    int first = atomic_load(&next_free);
    for (int k = 0; k < MAX_PATHS; k++) {
        int i = (first + k) % MAX_PATHS;
        if (!take_slot(i, path)) continue;
        atomic_store(&next_free, (i + 1) % MAX_PATHS);
        return;
    }
}

/* Most are forgotten soon after they were remembered. */
void lt_abandon_forget(const char *path)
{
    for (int i = atomic_load(&used); i-- > 0;) {
        char *mine = (char *)path;
        if (atomic_load(&paths[i]) != mine) continue;
        if (!atomic_compare_exchange_strong(&paths[i], &mine, NULL)) continue;
        atomic_store(&next_free, i);
        return;
    }
}

void lt_abandon_all(void)
{
    int n = atomic_load(&used);
    for (int i = 0; i < n; i++) {
        char *path = atomic_load(&paths[i]);
        if (path) unlink(path);
    }
    /* Folders were remembered before those in them, unless a slot was used again. */
    for (int pass = 0; pass < 3; pass++)
        for (int i = n; i-- > 0;) {
            char *path = atomic_load(&paths[i]);
            if (path) rmdir(path);
        }
}

void lt_abandon_hold(sigset_t *before)
{
    sigset_t ending;
    sigemptyset(&ending);
    sigaddset(&ending, SIGINT);
    sigaddset(&ending, SIGTERM);
    sigaddset(&ending, SIGHUP);
    sigaddset(&ending, SIGQUIT);
    sigaddset(&ending, SIGPIPE);
    sigaddset(&ending, SIGXCPU);
    pthread_sigmask(SIG_BLOCK, &ending, before);
}

void lt_abandon_release(const sigset_t *before)
{
    pthread_sigmask(SIG_SETMASK, before, NULL);
}
