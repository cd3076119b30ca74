/* SPDX-License-Identifier: MIT */
/* What diffusers keeps beside a model's tensors: the classes that a pipeline's
 * model_index.json names, and each component's config.json. */
#ifndef LT_MODEL_PIPELINE_H
#define LT_MODEL_PIPELINE_H

#include "model/family.h"

typedef struct lt_pipeline_part {
    const char *family, *component; /* ids */
    const char *library, *class_name;
    const char *config; /* JSON, for the sizes as published; NULL: not known */
} lt_pipeline_part;

/* The pipeline's class; NULL when it is not known. */
const char *lt_pipeline_class(const lt_family *family);
/* NULL when it is not known. */
const lt_pipeline_part *lt_pipeline_find(
    const lt_family *family, const lt_component *component);

#endif
