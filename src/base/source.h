/* SPDX-License-Identifier: MIT */
/* A read-only file, read by offset. Safe for concurrent readers. */
#ifndef LT_BASE_SOURCE_H
#define LT_BASE_SOURCE_H

#include "loratool/error.h"

#include <stdbool.h>

typedef struct lt_source lt_source;

/* Opens a regular file, or standard input when path is "-". Input that cannot seek, and
 * what is left of standard input where its start was read, is copied to an unlinked
 * temporary file first ($TMPDIR, at most LT_MAX_SPOOL_SIZE). */
lt_status lt_source_open(lt_source **out, const char *path, lt_error *err) LT_MUST_USE;
/* Opens a file that nobody named: it was found in a folder or by an index. A link there
 * may lead anywhere; anything but a regular file is LT_ERR_FORMAT, and not waited for. */
lt_status lt_source_open_found(
    lt_source **out, const char *path, lt_error *err) LT_MUST_USE;
void lt_source_close(lt_source *src);

uint64_t lt_source_size(const lt_source *src);
const char *lt_source_path(const lt_source *src); /* "standard input" for "-" */
int lt_source_fd(const lt_source *src);           /* borrowed */

/* Reads exactly size bytes at offset; a file that ends before is LT_ERR_IO (it was
 * changed while it was read: offsets are checked against the size beforehand). */
lt_status lt_source_read(const lt_source *src, uint64_t offset, void *dst, size_t size,
    lt_error *err) LT_MUST_USE;

/* LT_ERR_IO when the file is not what it was when it was opened: another size, or written
 * since. */
lt_status lt_source_unchanged(const lt_source *src, lt_error *err) LT_MUST_USE;

/* The whole of a regular file of text, of at most limit bytes, NUL-terminated; release
 * with free. */
lt_status lt_read_text(const char *path, uint64_t limit, char **text, size_t *size,
    lt_error *err) LT_MUST_USE;

/* What a path leads to, through links. */
typedef enum lt_path_kind {
    LT_PATH_NONE, /* there is nothing of that name, or a link leads nowhere */
    LT_PATH_FILE,
    LT_PATH_FOLDER,
    LT_PATH_OTHER, /* a pipe, a device */
} lt_path_kind;

/* LT_ERR_IO when it cannot be told: what cannot be looked at is not taken for absent. */
lt_status lt_path_look(const char *path, lt_path_kind *kind, lt_error *err) LT_MUST_USE;

bool lt_is_folder(const char *path); /* false also when that cannot be told */

#endif
