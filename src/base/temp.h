/* SPDX-License-Identifier: MIT */
/* Temporary files and folders.
 *
 * What will be renamed to its own name at last lies beside that, under the name
 * ".NAME.XXXXXX.lt-part" (of a long NAME the first 200 bytes), with the permissions that
 * the umask gives; such names are removed when a signal ends the process (abandon.h).
 * What needs no name has none, where the file system can do that. */
#ifndef LT_BASE_TEMP_H
#define LT_BASE_TEMP_H

#include "loratool/error.h"

#include <stdbool.h>

/* A new file for what will be path: its descriptor, or -1 with *err set. *name is
 * remembered for removal (lt_abandon_forget) and released with free. */
int lt_temp_file(char **name, const char *path, lt_error *err) LT_MUST_USE;

/* The same for a folder, which path names without a slash at its end. */
lt_status lt_temp_folder(char **name, const char *path, lt_error *err) LT_MUST_USE;

/* A file without a name in the folder that path is in; -1 with *err set on failure. */
int lt_temp_nameless(const char *path, lt_error *err) LT_MUST_USE;

/* The same in $TMPDIR (or /tmp). */
int lt_temp_fd(lt_error *err) LT_MUST_USE;

/* That a call failed with sys because the kernel or the file system has no such thing. */
bool lt_is_unsupported(int sys);

#endif
