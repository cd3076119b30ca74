/* SPDX-License-Identifier: MIT */
/* Every ceiling on what a file may ask of us. Counts and lengths read from a file are
 * compared with these before anything is allocated from them.
 *
 * Those that a user may need to change (--limit) have a row in limits.c: code asks for
 * lt_limit(LT_LIMIT_X), whose default is LT_MAX_X here. */
#ifndef LT_BASE_LIMITS_H
#define LT_BASE_LIMITS_H

#include "loratool/error.h"

/* safetensors: the reference reader's own cap on the JSON header. */
#define LT_MAX_HEADER_SIZE 100000000u
#define LT_MAX_TENSORS 500000u
#define LT_MAX_METADATA_ENTRIES 8192u
#define LT_MAX_NAME_SIZE 65536u
/* Nesting of any JSON text we read; real headers nest three deep. */
#define LT_MAX_JSON_DEPTH 64
/* What --limit can raise that to: cJSON goes no deeper, and the reader keeps its place in
 * arrays of that size. */
#define LT_HARD_JSON_DEPTH 1000
/* Values in one JSON text, counted before any tree is built from it. */
#define LT_MAX_JSON_VALUES 8000000u
#define LT_MAX_CONFIG_SIZE 16777216u
#define LT_MAX_ARGUMENTS_SIZE 65536u /* ss_network_args */
/* A pipe that must be seekable is copied to a temporary file of at most this size. */
#define LT_MAX_SPOOL_SIZE (64ull << 30)
/* Files of one model. */
#define LT_MAX_SHARDS 1000u
/* Entries of one folder; files copied beside a model's weights and how deep they lie. */
#define LT_MAX_FOLDER_ENTRIES 100000u
#define LT_MAX_SIDECARS 20000u
#define LT_MAX_FOLDER_DEPTH 8
/* Different globals that one file's pickles may name. */
#define LT_MAX_GLOBALS 10000u
/* Bytes of one pickle, and of one of the small texts beside it in an archive. */
#define LT_MAX_PICKLE_SIZE (256u << 20)
/* Values of a file's pickles, and places in their lists and dicts. */
#define LT_MAX_PICKLE_VALUES 8000000u
/* Memory that the values of a file's pickles take. */
#define LT_MAX_PICKLE_MEMORY (4ull << 30)
/* Values a pickle remembers, and the highest number it may remember one under. */
#define LT_MAX_PICKLE_MEMO 8000000u
/* Values waiting on the pickle machine's stack: a tuple's items all do. */
#define LT_MAX_PICKLE_STACK 4000000u
/* Containers that a pickle has begun and not ended. */
#define LT_MAX_PICKLE_MARKS 10000u
#define LT_MAX_PICKLE_STRING (64u << 20)
/* Nesting of the containers that lead to a torch file's tensors. */
#define LT_MAX_TORCH_DEPTH 100
/* Looks at a pickled value, one value looked at several times included. */
#define LT_MAX_TORCH_VISITS 50000000u
/* Views of a torch file's storages may repeat elements: to so much beside what the
 * storages hold, or to twice that. */
#define LT_MAX_OVERLAP_SIZE (4ull << 30)
#define LT_MAX_ZIP_ENTRIES 500000u
/* A compressed entry over the size must not shrink by more than the ratio: deflate
 * reaches 1032, weights do not reach 2. */
#define LT_MAX_ZIP_FREE_SIZE (64u << 20)
#define LT_MAX_ZIP_RATIO 200u
#define LT_MAX_THREADS 256
/* Work memory beside that of the largest item, unless the user sets a ceiling. */
#define LT_SPARE_MEMORY (512ull << 20)
#define LT_MAX_RANK 65536
#define LT_MAX_SIDE 2147483647 /* of a matrix that is computed with: BLAS has int */
/* Modules of an adapter that become one, and the blocks of a MergedLinear, get zeros
 * beside them: at most so many times their own values, or (modules) as many as the base's
 * weight has. */
#define LT_MAX_PADDING 64
/* Elements of a convolution's kernel; 7 x 7 x 7 has 343. */
#define LT_MAX_KERNEL 1024
/* Components of a pipeline that diffusers' metadata gives a config each. */
#define LT_MAX_COMPONENT_CONFIGS 8
/* Patterns in PEFT configs. */
#define LT_MAX_PATTERN_SIZE 2048
#define LT_MAX_PATTERN_DEPTH 16
#define LT_MAX_PATTERN_STEPS 20000u /* of one match; ordinary ones take some hundred */
#define LT_MAX_PATTERN_HEAP 4096u   /* KiB of one match */
#define LT_MAX_PATTERN_MEMORY (16u << 20)
#define LT_MAX_PATTERN_WORK 1000000000u /* steps of some nanoseconds, of one adapter */

typedef enum lt_limit_id {
    LT_LIMIT_HEADER_SIZE,
    LT_LIMIT_TENSORS,
    LT_LIMIT_METADATA_ENTRIES,
    LT_LIMIT_NAME_SIZE,
    LT_LIMIT_JSON_DEPTH,
    LT_LIMIT_JSON_VALUES,
    LT_LIMIT_SHARDS,
    LT_LIMIT_SPOOL_SIZE,
    LT_LIMIT_GLOBALS,
    LT_LIMIT_PICKLE_SIZE,
    LT_LIMIT_PICKLE_VALUES,
    LT_LIMIT_PICKLE_MEMORY,
    LT_LIMIT_PICKLE_MEMO,
    LT_LIMIT_PICKLE_STACK,
    LT_LIMIT_PICKLE_MARKS,
    LT_LIMIT_PICKLE_STRING,
    LT_LIMIT_TORCH_DEPTH,
    LT_LIMIT_OVERLAP_SIZE,
    LT_LIMIT_ZIP_ENTRIES,
    LT_LIMIT_ZIP_RATIO,
    LT_LIMIT_PATTERN_MEMORY,
    LT_LIMIT_PATTERN_WORK,
    LT_LIMIT_COUNT
} lt_limit_id;

/* The ceiling as it is set; safe from any thread. */
unsigned long long lt_limit(lt_limit_id id);
const char *lt_limit_name(lt_limit_id id); /* "header-size": as --limit takes it */
/* For the whole process, from then on. LT_ERR_ARG, with the names there are, for an
 * unknown name, and for a value that is 0 or above what the code can handle. */
lt_status lt_limit_set(const char *name, uint64_t value, lt_error *err) LT_MUST_USE;

#endif
