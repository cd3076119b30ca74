/* SPDX-License-Identifier: MIT */
/* An output that appears whole or not at all.
 *
 * Bytes go to a temporary file ".NAME.XXXXXX.lt-part" in the target's own folder; commit
 * flushes it to disk and renames it into place. Anything else (close without commit)
 * removes it. With path "-" the bytes are held in an unlinked temporary file and copied
 * to standard output by commit, so a failed run writes nothing there either. */
#ifndef LT_BASE_OUTFILE_H
#define LT_BASE_OUTFILE_H

#include "loratool/error.h"

#include <stdbool.h>

typedef struct lt_outfile lt_outfile;

/* Through a symbolic link the file that it leads to is replaced, in that file's folder;
 * one that leads nowhere is refused. LT_ERR_EXISTS when the target is there and overwrite
 * is false (checked now and again, atomically, at commit). */
lt_status lt_outfile_open(
    lt_outfile **out, const char *path, bool overwrite, lt_error *err) LT_MUST_USE;

/* A nameless file in the folder that beside will be in, for what is assembled later, or
 * in $TMPDIR (beside NULL or standard output); it is gone with lt_outfile_close. */
lt_status lt_outfile_scratch(
    lt_outfile **out, const lt_outfile *beside, lt_error *err) LT_MUST_USE;

/* Writes size bytes at offset; safe to call from several threads. */
lt_status lt_outfile_write(lt_outfile *file, uint64_t offset, const void *src,
    size_t size, lt_error *err) LT_MUST_USE;

/* Reads back what was written (for hashing). */
lt_status lt_outfile_read(
    lt_outfile *file, uint64_t offset, void *dst, size_t size, lt_error *err) LT_MUST_USE;

/* Copies size bytes from descriptor in at in_offset, in the kernel where it can. */
lt_status lt_outfile_copy(lt_outfile *file, uint64_t offset, int in, uint64_t in_offset,
    uint64_t size, lt_error *err) LT_MUST_USE;

/* Flushes the file to disk and closes it; what is left to commit is the rename. Nothing
 * can be written or read any more. */
lt_status lt_outfile_seal(lt_outfile *file, lt_error *err) LT_MUST_USE;

lt_status lt_outfile_commit(lt_outfile *file, lt_error *err) LT_MUST_USE;

/* Commit in two steps, for several files that belong together: all sealed ones are
 * placed, then all settled. Until then what stood there is kept under the temporary name
 * (where the file system can exchange names), and lt_outfile_close puts it back.
 * Meanwhile no signal should come (lt_abandon_hold). */
lt_status lt_outfile_place(lt_outfile *file, lt_error *err) LT_MUST_USE;
void lt_outfile_settle(lt_outfile *file);

void lt_outfile_close(lt_outfile *file); /* NULL allowed */

#endif
