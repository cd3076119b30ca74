/* SPDX-License-Identifier: MIT */
/* Paths that are to be removed when the process is ended by a signal. */
#ifndef LT_BASE_ABANDON_H
#define LT_BASE_ABANDON_H

#include <signal.h>

/* path is borrowed until lt_abandon_forget. A full table is harmless: the file is then
 * left behind when a signal comes. */
void lt_abandon_remember(char *path);
void lt_abandon_forget(const char *path);

/* Removes all of them, files first, then folders that are empty by then.
 * Async-signal-safe.
 */
void lt_abandon_all(void);

/* Signals that a process is told to end by wait in this thread from hold to release. */
void lt_abandon_hold(sigset_t *before);
void lt_abandon_release(const sigset_t *before);

#endif
