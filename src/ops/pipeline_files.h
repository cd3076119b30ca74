/* SPDX-License-Identifier: MIT */
/* The JSON files of a pipeline's folder: model_index.json and config.json of the
 * components, as far as the model tells them. */
#ifndef LT_OPS_PIPELINE_FILES_H
#define LT_OPS_PIPELINE_FILES_H

#include "model/family.h"
#include "ops/common.h"

/* family is the model's in diffusers' layout; several: the components lie in folders of
 * their own. What cannot be written goes to missing. */
lt_status lt_pipeline_files_write(lt_writer *writer, const lt_model *model,
    const lt_family *family, bool several, lt_notes *missing, lt_error *err) LT_MUST_USE;

#endif
