/* SPDX-License-Identifier: MIT */
/* A model that is not there: the names and shapes of a published one, from the layout
 * tables of its family. */
#ifndef LT_MODEL_OUTLINE_H
#define LT_MODEL_OUTLINE_H

#include "model/family.h"

/* Which variant of each component's table; of components without a table it is not
 * looked at. */
typedef struct lt_outline {
    const lt_family *family;
    size_t variant[LT_MAX_COMPONENTS];
} lt_outline;

/* True for a family whose main component has a table; of two layouts, the published one.
 */
bool lt_outline_exists(const lt_family *family);
/* The variants of a component, 0 when it has no table. */
size_t lt_outline_variants(const lt_component *component);
/* A store without data; close it as any other. */
lt_status lt_outline_store(
    lt_store **out, const lt_outline *outline, lt_error *err) LT_MUST_USE;

#endif
