/* SPDX-License-Identifier: MIT */
/* Hashes data sections while they are written: a thread of its own reads back what is
 * complete from the start on, so that little is left to hash when the last byte is put.
 */
#ifndef LT_FORMAT_FOLLOW_H
#define LT_FORMAT_FOLLOW_H

#include "format/format.h"

/* Files with less data are hashed faster than it is worth a thread. */
#define LT_FOLLOW_FROM ((uint64_t)64 << 20)

typedef struct lt_follower lt_follower;

/* For a writer that has begun: follows those of its files whose hash is expected and that
 * are large enough. *out is NULL when there are none. The writer must outlive it. */
lt_status lt_follower_start(
    lt_follower **out, const lt_writer *writer, lt_error *err) LT_MUST_USE;

/* Bytes [first, first + size) of a tensor are in the file. Every byte is noted once; from
 * any thread, in any order. follower NULL: nothing. */
void lt_follower_note(
    lt_follower *follower, size_t tensor, uint64_t first, uint64_t size);

/* True when all data up to that of the file is noted, and its hash is thus worth waiting
 * for. follower NULL: false. */
bool lt_follower_knows(lt_follower *follower, size_t file);
/* Waits for the hash of a file that is known. */
lt_status lt_follower_hash(lt_follower *follower, size_t file, char hex[LT_HASH_SIZE],
    lt_error *err) LT_MUST_USE;

/* Ends the thread, wherever it is. NULL allowed. */
void lt_follower_stop(lt_follower *follower);

#endif
