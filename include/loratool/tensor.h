/* SPDX-License-Identifier: MIT */
/* Element types and tensor descriptions. */
#ifndef LORATOOL_TENSOR_H
#define LORATOOL_TENSOR_H

#include "loratool/error.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LT_MAX_DIMS 16

/* In the safetensors format's own order (alignment ascending): its reference writer
 * sorts tensors by this order descending, then by name. */
typedef enum lt_dtype {
    LT_BOOL,
    LT_F4,
    LT_F6_E2M3,
    LT_F6_E3M2,
    LT_U8,
    LT_I8,
    LT_F8_E5M2,
    LT_F8_E4M3,
    LT_F8_E8M0,
    LT_F8_E4M3FNUZ,
    LT_F8_E5M2FNUZ,
    LT_I16,
    LT_U16,
    LT_F16,
    LT_BF16,
    LT_I32,
    LT_U32,
    LT_F32,
    LT_C64,
    LT_F64,
    LT_I64,
    LT_U64,
    /* Not in safetensors: torch's complex32 and complex128. */
    LT_C32,
    LT_C128,
    LT_DTYPE_COUNT
} lt_dtype;

typedef struct lt_dtype_info {
    const char *name;  /* as safetensors spells it: "BF16" */
    unsigned bits;     /* per element */
    bool is_float;     /* a real floating type */
    bool computes;     /* lt_load_f32 and lt_store_f64 handle it */
    double overflow;   /* magnitudes from here on are stored as infinity or NaN; 0 for
                          others */
    const char *torch; /* torch's name: "bfloat16"; NULL when torch has none */
    unsigned unit;     /* bytes that the byte order turns round: 4 for C64 */
} lt_dtype_info;

/* Static storage. dtype must be below LT_DTYPE_COUNT. */
const lt_dtype_info *lt_dtype_get(lt_dtype dtype);

/* By safetensors name (exact case); false when safetensors has no such type. */
bool lt_dtype_by_name(const char *name, lt_dtype *out);

/* By torch's name ("bfloat16"); false when it names no type that is handled. */
bool lt_dtype_by_torch(const char *name, lt_dtype *out);

/* By what people type: f32 float fp32 f16 fp16 half bf16 bfloat16, any case. */
bool lt_dtype_by_option(const char *text, lt_dtype *out);

/* What a tensor is, without its bytes. name is borrowed from the store or writer. */
typedef struct lt_tensor {
    const char *name;
    lt_dtype dtype;
    unsigned n_dims; /* 0: a scalar, one element */
    uint64_t shape[LT_MAX_DIMS];
    uint64_t count;  /* elements: the product of shape */
    uint64_t size;   /* bytes */
    uint64_t offset; /* of the first element in its file, or LT_NO_OFFSET where it has no
                        such place (compressed) */
} lt_tensor;

/* Computes count and size from dtype and shape. LT_ERR_FORMAT on overflow of 64 bits or
 * when a sub-byte type does not fill whole bytes. */
lt_status lt_tensor_measure(lt_tensor *t, lt_error *err) LT_MUST_USE;

/* Weight matrices: rows = shape[0], columns = everything after it (in * kernel). */
uint64_t lt_tensor_rows(const lt_tensor *t);
uint64_t lt_tensor_columns(const lt_tensor *t);

/* "[320, 320, 3, 3]" into dst; always terminated. */
void lt_tensor_shape_text(const lt_tensor *t, char *dst, size_t dst_size);

#ifdef __cplusplus
}
#endif
#endif
