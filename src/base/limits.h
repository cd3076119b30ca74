/* SPDX-License-Identifier: MIT */
/* Every ceiling on what a file may ask of us. Counts and lengths read from a file are
 * compared with these before anything is allocated from them. */
#ifndef LT_BASE_LIMITS_H
#define LT_BASE_LIMITS_H

/* safetensors: the reference reader's own cap on the JSON header. */
#define LT_MAX_HEADER_SIZE 100000000u
#define LT_MAX_TENSORS 500000u
#define LT_MAX_METADATA_ENTRIES 8192u
#define LT_MAX_NAME_SIZE 65536u
/* Nesting of any JSON text we read; real headers nest three deep. */
#define LT_MAX_JSON_DEPTH 64
/* Values in one JSON text, counted before any tree is built from it. */
#define LT_MAX_JSON_VALUES 8000000u
#define LT_MAX_CONFIG_SIZE 16777216u
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
/* A view that repeats elements of its storage may be that large. */
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
/* Elements of a convolution's kernel; 7 x 7 x 7 has 343. */
#define LT_MAX_KERNEL 1024
/* Patterns in PEFT configs. */
#define LT_MAX_PATTERN_SIZE 2048
#define LT_MAX_PATTERN_DEPTH 16

#endif
