/* SPDX-License-Identifier: MIT */
/* The names that transformers and diffusers give to files of weights:
 *
 *   model.safetensors                      diffusion_pytorch_model.fp16.safetensors
 *   model-00001-of-00003.safetensors       ....fp16-00001-of-00003.safetensors
 *   model.safetensors.index.json           ....safetensors.index.fp16.json
 *
 * and, in older releases of diffusers, ...-00001-of-00003.fp16.safetensors with
 * ....safetensors.fp16.index.json. */
#ifndef LT_FORMAT_WEIGHT_NAME_H
#define LT_FORMAT_WEIGHT_NAME_H

#include <stdbool.h>
#include <stddef.h>

typedef struct lt_weight_name {
    char stem[256], variant[64], extension[16]; /* "model", "fp16" or "", "safetensors" */
    bool is_index;
    unsigned shard, shards; /* 0 of 0 when the name counts none */
} lt_weight_name;

/* False when name is not that of a file of weights or of an index. */
bool lt_weight_name_parse(const char *name, lt_weight_name *out);
/* A file of weights of any program, or an index of them, also of formats that are not
 * read (.h5, .msgpack, .onnx, .gguf). */
bool lt_is_weight_file(const char *name);
/* stem[.variant][-0000k-of-0000n].extension, k from 1; n 0: without a count. */
void lt_weight_name_shard(
    const lt_weight_name *w, unsigned shard, unsigned shards, char *dst, size_t size);
void lt_weight_name_index(const lt_weight_name *w, char *dst, size_t size);

#endif
