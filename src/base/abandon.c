/* SPDX-License-Identifier: MIT */
#include "base/abandon.h"

#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

#define MAX_PATHS 32768

static _Atomic(char *) paths[MAX_PATHS];
static atomic_int
    used; /* slots from here on were never written: they are not looked at */

void lt_abandon_remember(char *path)
{
    for (int i = 0; i < MAX_PATHS; i++) {
        char *none = NULL;
        int seen = atomic_load(&used);
        /* Before the slot is filled: who reads it then looks far enough. */
        while (seen <= i && !atomic_compare_exchange_weak(&used, &seen, i + 1)) {
        }
        if (atomic_compare_exchange_strong(&paths[i], &none, path)) return;
    }
}

void lt_abandon_forget(const char *path)
{
    for (int i = 0; i < atomic_load(&used); i++) {
        char *mine = (char *)path;
        if (atomic_compare_exchange_strong(&paths[i], &mine, NULL)) return;
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
