/* SPDX-License-Identifier: MIT */
/* Mutations that know the structure of what they change. All write to data, of room
 * max_size, and return the new size; what they do depends on the arguments only. */
#ifndef LT_TESTS_MUTATE_H
#define LT_TESTS_MUTATE_H

#include <stddef.h>
#include <stdint.h>

/* A small generator of numbers (xorshift). */
typedef struct fuzz_rng {
    uint64_t state;
} fuzz_rng;
fuzz_rng fuzz_seed(unsigned seed);
uint64_t fuzz_random(fuzz_rng *rng);
size_t fuzz_below(fuzz_rng *rng, size_t n); /* 0 to n - 1; n > 0 */

/* Changes dtypes, shapes, names, offsets, entries, metadata or data; mostly lays the
 * tensors out anew, so that the file stays valid. */
size_t fuzz_mutate_safetensors(
    uint8_t *data, size_t size, size_t max_size, unsigned seed);
/* Changes the content of a stored entry, or renames, drops or doubles one. */
size_t fuzz_mutate_zip(uint8_t *data, size_t size, size_t max_size, unsigned seed);
/* Changes bytes, then makes the sums of the headers right. */
size_t fuzz_mutate_tar(uint8_t *data, size_t size, size_t max_size, unsigned seed);
/* Changes options, one of two files or both alike (see fuzz_pair). */
size_t fuzz_mutate_pair(uint8_t *data, size_t size, size_t max_size, unsigned seed);

#endif
