/* SPDX-License-Identifier: MIT */
/* What lies beside a model's weights in its folder: configs, tokenizers, schedulers. */
#ifndef LT_OPS_SIDECARS_H
#define LT_OPS_SIDECARS_H

#include "ops/common.h"

/* Copies every file of the folder that store was read from into the writer's folder, but
 * weights, their indices, hidden files, linked folders and links that lead out of it
 * (but into the blobs of a Hugging Face cache); of a component behind a link its
 * config.json alone. Nothing when store is no folder or the
 * writer writes none. What is not copied is noted in left, the store's own files and
 * hidden ones aside. */
lt_status lt_sidecars_copy(lt_writer *writer, const lt_store *store, const char *output,
    size_t *copied, lt_notes *left, lt_error *err) LT_MUST_USE;

#endif
