/* SPDX-License-Identifier: MIT */
/* SHA-256 of several ranges of one file in one pass over it: each chunk is read once, and
 * the ranges are hashed side by side while the next chunks are read. */
#ifndef LT_BASE_DIGEST_FILE_H
#define LT_BASE_DIGEST_FILE_H

#include "base/digest.h"
#include "base/source.h"

#define LT_DIGEST_RANGES 4

typedef struct lt_digest_range {
    uint64_t from,
        to; /* bytes [from, to) of the file; what is past its end is left out */
    char hex[LT_SHA256_HEX];
} lt_digest_range;

/* Fills hex of n ranges, at most LT_DIGEST_RANGES, on at most that many threads. A file
 * that changes meanwhile is LT_ERR_IO. */
lt_status lt_digest_file(const lt_source *src, lt_digest_range *ranges, size_t n,
    int threads, lt_error *err) LT_MUST_USE;

#endif
