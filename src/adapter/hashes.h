/* SPDX-License-Identifier: MIT */
/* Hashes of the data that a file carries in its own metadata: kohya's sshs_model_hash and
 * sshs_legacy_hash, ModelSpec's modelspec.hash_sha256. */
#ifndef LT_ADAPTER_HASHES_H
#define LT_ADAPTER_HASHES_H

#include "loratool/store.h"

/* When it is known which files there are, before the layout is fixed: gives every hash
 * that is there a value of zeros of the size its value will have. */
lt_status lt_hashes_reserve(lt_writer *writer, lt_error *err) LT_MUST_USE;

/* When all data is put: computes those that are there, in every file. */
lt_status lt_hashes_fill(lt_writer *writer, lt_error *err) LT_MUST_USE;

#endif
