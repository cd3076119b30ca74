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
#define LT_MAX_THREADS 256
#define LT_MAX_RANK 65536
/* Elements of a convolution's kernel; 7 x 7 x 7 has 343. */
#define LT_MAX_KERNEL 1024
/* Patterns in PEFT configs. */
#define LT_MAX_PATTERN_SIZE 2048
#define LT_MAX_PATTERN_DEPTH 16

#endif
