/* SPDX-License-Identifier: MIT */
/* Zip archives of stored entries, made by libzip. */
#ifndef LT_FORMAT_ARCHIVE_WRITE_H
#define LT_FORMAT_ARCHIVE_WRITE_H

#include "base/outfile.h"

/* One entry: bytes in memory, or a part of a scratch file. Borrowed until commit. */
typedef struct lt_entry {
    const char *name;
    const void *bytes; /* NULL: from data */
    lt_outfile *data;
    uint64_t offset, size;
} lt_entry;

/* The archive is written into file from its start. Entries' data begins at multiples of
 * alignment. The same entries give the same bytes: no dates are stored. *size gets the
 * file's size. */
lt_status lt_archive_write(lt_outfile *file, const lt_entry *entries, size_t count,
    unsigned alignment, uint64_t *size, lt_error *err) LT_MUST_USE;

#endif
