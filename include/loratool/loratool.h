/* SPDX-License-Identifier: MIT */
/* Everything. Call lt_init once before anything else, from one thread. */
#ifndef LORATOOL_LORATOOL_H
#define LORATOOL_LORATOOL_H

#include "loratool/adapter.h"
#include "loratool/error.h"
#include "loratool/model.h"
#include "loratool/ops.h"
#include "loratool/store.h"
#include "loratool/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

void lt_init(void);
const char *lt_version(void); /* "0.1.0" */
/* Removes the temporary files of unfinished outputs; async-signal-safe. */
void lt_abandon_outputs(void);

#ifdef __cplusplus
}
#endif
#endif
