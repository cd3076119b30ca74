/* SPDX-License-Identifier: MIT */
#include "loratool/tensor.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const lt_dtype_info table[LT_DTYPE_COUNT] = {
    [LT_BOOL] = { "BOOL", 8, false, false, 0, "bool", 1 },
    [LT_F4] = { "F4", 4, true, false, 0, NULL, 1 },
    [LT_F6_E2M3] = { "F6_E2M3", 6, true, false, 0, NULL, 1 },
    [LT_F6_E3M2] = { "F6_E3M2", 6, true, false, 0, NULL, 1 },
    [LT_U8] = { "U8", 8, false, false, 0, "uint8", 1 },
    [LT_I8] = { "I8", 8, false, false, 0, "int8", 1 },
    [LT_F8_E5M2] = { "F8_E5M2", 8, true, true, 61440, "float8_e5m2", 1 },
    [LT_F8_E4M3] = { "F8_E4M3", 8, true, true, 0x1.d000000000001p8, "float8_e4m3fn", 1 },
    [LT_F8_E8M0] = { "F8_E8M0", 8, true, false, 0, "float8_e8m0fnu", 1 },
    [LT_F8_E4M3FNUZ] = { "F8_E4M3FNUZ", 8, true, false, 0, "float8_e4m3fnuz", 1 },
    [LT_F8_E5M2FNUZ] = { "F8_E5M2FNUZ", 8, true, false, 0, "float8_e5m2fnuz", 1 },
    [LT_I16] = { "I16", 16, false, false, 0, "int16", 2 },
    [LT_U16] = { "U16", 16, false, false, 0, "uint16", 2 },
    [LT_F16] = { "F16", 16, true, true, 65520, "float16", 2 },
    [LT_BF16] = { "BF16", 16, true, true, 0x1.ffp127, "bfloat16", 2 },
    [LT_I32] = { "I32", 32, false, false, 0, "int32", 4 },
    [LT_U32] = { "U32", 32, false, false, 0, "uint32", 4 },
    [LT_F32] = { "F32", 32, true, true, 0x1.ffffffp127, "float32", 4 },
    [LT_C64] = { "C64", 64, false, false, 0, "complex64", 4 },
    [LT_F64] = { "F64", 64, true, true, HUGE_VAL, "float64", 8 },
    [LT_I64] = { "I64", 64, false, false, 0, "int64", 8 },
    [LT_U64] = { "U64", 64, false, false, 0, "uint64", 8 },
    [LT_C32] = { "C32", 32, false, false, 0, "complex32", 2 },
    [LT_C128] = { "C128", 128, false, false, 0, "complex128", 8 },
};

const lt_dtype_info *lt_dtype_get(lt_dtype dtype)
{
    return &table[dtype];
}

bool lt_dtype_by_name(const char *name, lt_dtype *out)
{
    for (int i = 0; i < LT_C32; i++) {
        const char *its = table[i].name;
        /* Most differ in the first two letters, and every tensor asks. */
        if (its[0] != name[0] || its[1] != name[1] || strcmp(its, name)) continue;
        *out = (lt_dtype)i;
        return true;
    }
    return false;
}

bool lt_dtype_by_torch(const char *name, lt_dtype *out)
{
    for (int i = 0; i < LT_DTYPE_COUNT; i++) {
        if (!table[i].torch || strcmp(table[i].torch, name)) continue;
        *out = (lt_dtype)i;
        return true;
    }
    return false;
}

bool lt_dtype_by_option(const char *text, lt_dtype *out)
{
    static const struct {
        const char *text;
        lt_dtype dtype;
    } words[] = {
        { "f32", LT_F32 },
        { "fp32", LT_F32 },
        { "float", LT_F32 },
        { "float32", LT_F32 },
        { "f16", LT_F16 },
        { "fp16", LT_F16 },
        { "half", LT_F16 },
        { "float16", LT_F16 },
        { "bf16", LT_BF16 },
        { "bfloat16", LT_BF16 },
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcasecmp(words[i].text, text)) continue;
        *out = words[i].dtype;
        return true;
    }
    return false;
}

lt_status lt_tensor_measure(lt_tensor *t, lt_error *err)
{
    uint64_t count = 1, bits;
    for (unsigned i = 0; i < t->n_dims; i++)
        if (__builtin_mul_overflow(count, t->shape[i], &count))
            return lt_error_set(
                err, LT_ERR_FORMAT, "the shape's product overflows 64 bits");
    if (__builtin_mul_overflow(count, (uint64_t)table[t->dtype].bits, &bits))
        return lt_error_set(err, LT_ERR_FORMAT, "the tensor's size overflows 64 bits");
    if (bits % 8)
        return lt_error_set(err, LT_ERR_FORMAT,
            "%llu elements of %s do not fill whole bytes", (unsigned long long)count,
            table[t->dtype].name);
    t->count = count;
    t->size = bits / 8;
    return LT_OK;
}

uint64_t lt_tensor_rows(const lt_tensor *t)
{
    return t->n_dims ? t->shape[0] : 1;
}

uint64_t lt_tensor_columns(const lt_tensor *t)
{
    uint64_t rows = lt_tensor_rows(t);
    return rows ? t->count / rows : 0;
}

void lt_tensor_shape_text(const lt_tensor *t, char *dst, size_t dst_size)
{
    size_t used = (size_t)snprintf(dst, dst_size, "[");
    for (unsigned i = 0; i < t->n_dims && used < dst_size; i++)
        used += (size_t)snprintf(dst + used, dst_size - used, "%s%llu", i ? ", " : "",
            (unsigned long long)t->shape[i]);
    if (used < dst_size) snprintf(dst + used, dst_size - used, "]");
}
