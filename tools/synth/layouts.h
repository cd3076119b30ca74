/* SPDX-License-Identifier: MIT */
/* What tensors a real checkpoint of each kind holds: keys and shapes. */
#ifndef SYNTH_LAYOUTS_H
#define SYNTH_LAYOUTS_H

#include "base/arena.h"
#include "loratool/tensor.h"

typedef struct synth_layout {
    const char *name;
    lt_tensor *items; /* sorted by name; integer buffers are I64, the rest is of dtype */
    size_t count, capacity;
    lt_arena arena;
} synth_layout;

/* Also "TABLE:VARIANT" and "TABLE-diffusers:PARAMETERS" for the library's layout tables.
 * LT_ERR_ARG when there is no such layout. Release it in any case. */
lt_status synth_layout_init(
    synth_layout *layout, const char *name, lt_dtype dtype, lt_error *err) LT_MUST_USE;
void synth_layout_release(synth_layout *layout);

/* The names of all layouts, NULL at the end. */
const char *synth_layout_name(size_t index);

/* True for the tensors that a synthetic fine-tune leaves as they are. */
bool synth_is_frozen(const lt_tensor *tensor);

#endif
