/* SPDX-License-Identifier: MIT */
/* Files that belong to an output and hold no tensors. */
#ifndef LT_FORMAT_EXTRA_H
#define LT_FORMAT_EXTRA_H

#include "base/outfile.h"
#include "loratool/store.h"

/* Sealed now, given its name with the others by commit, which takes it over (*file is
 * then NULL): before them when added before commit. size: what lt_writer_size counts of
 * it. */
lt_status lt_writer_add_extra(
    lt_writer *writer, lt_outfile **file, uint64_t size, lt_error *err) LT_MUST_USE;

#endif
