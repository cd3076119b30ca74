/* SPDX-License-Identifier: MIT */
/* Finds the tensors in the object that a torch file holds, names them, and says what
 * else there is. */
#ifndef LT_FORMAT_TORCH_OBJECT_H
#define LT_FORMAT_TORCH_OBJECT_H

#include "format/torch_tensors.h"

/* Fills t->found, and of its store the asides and the wrapper. */
lt_status lt_torch_collect(lt_torch *t, lt_value *root, lt_error *err) LT_MUST_USE;

#endif
