/* SPDX-License-Identifier: MIT */
/* Zip archives, through libzip. The only user of it.
 *
 * Checksums are not looked at: torch can be told to write none. */
#ifndef LT_FORMAT_ARCHIVE_H
#define LT_FORMAT_ARCHIVE_H

#include "base/source.h"

typedef struct lt_archive lt_archive;

/* Borrowed; lives as long as the archive. */
typedef struct lt_entry {
    const char *name;
    uint64_t size; /* of the content, in bytes */
    uint64_t packed_size;
    uint64_t offset; /* of its data in the file; LT_NO_OFFSET when there is none */
    bool stored;     /* the data is the content as it is */
} lt_entry;

/* The source must outlive the archive. Refuses what no archive of tensors has: encrypted
 * entries, other methods than stored and deflated, names that stand twice or lead out of
 * the archive, entries that share bytes or unpack out of all proportion. */
lt_status lt_archive_open(
    lt_archive **out, const lt_source *source, lt_error *err) LT_MUST_USE;
void lt_archive_close(lt_archive *archive); /* NULL allowed */

size_t lt_archive_count(const lt_archive *archive);
const lt_entry *lt_archive_entry(const lt_archive *archive, size_t index);
/* Index of the entry of that name; LT_MAP_NONE when there is none. */
size_t lt_archive_find(const lt_archive *archive, const char *name);

/* Bytes [first, first + size) of an entry's content, which must be inside it.
 * Thread-safe. Cheap for stored entries; deflated ones are unpacked from where one of
 * the last reads ended, or from their beginning. What that unpacks several times is kept in
 * a scratch file ($TMPDIR), LT_LIMIT_SPOOL_SIZE bytes of all entries at most. */
lt_status lt_archive_read(const lt_archive *archive, size_t index, uint64_t first,
    void *dst, size_t size, lt_error *err) LT_MUST_USE;

#endif
