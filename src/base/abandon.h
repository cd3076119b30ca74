/* SPDX-License-Identifier: MIT */
/* Paths that are to be removed when the process is ended by a signal. */
#ifndef LT_BASE_ABANDON_H
#define LT_BASE_ABANDON_H

/* path is borrowed until lt_abandon_forget. A full table is harmless: the file is then
 * left behind when a signal comes. */
void lt_abandon_remember(char *path);
void lt_abandon_forget(const char *path);

/* Removes all of them, files first, then folders that are empty by then.
 * Async-signal-safe.
 */
void lt_abandon_all(void);

#endif
