/* SPDX-License-Identifier: MIT */
#include "ops/cast.h"

#include "tensor/convert.h"

#include <math.h>
#include <string.h>

#define CHUNK ((uint64_t)1 << 18) /* elements */

static bool ends_in(const char *s, const char *ending)
{
    size_t n = strlen(s), m = strlen(ending);
    return n >= m && !strcmp(s + n - m, ending);
}

/* What scales of fp8 weights are called: a number or one a block of the weight; then
 * those of their inputs. */
static const char *const fp8_scales[] = { ".scale_weight", ".weight_scale",
    ".weight_scale_inv", ".scale_inv", "_proj_scale", "_proj_scale_inv", ".qscale_weight",
    ".scale_input", ".input_scale", ".activation_scale", ".qscale_act" };
#define N_FP8_SCALES (sizeof fp8_scales / sizeof *fp8_scales)

static bool is_scale(const lt_tensor *t)
{
    for (size_t i = 0; i < N_FP8_SCALES; i++)
        if (ends_in(t->name, fp8_scales[i])) return true;
    return t->count == 1 && (ends_in(t->name, ".alpha") || ends_in(t->name, ".scale"));
}

lt_dtype lt_cast_dtype(const lt_tensor *t, lt_dtype dtype)
{
    return lt_dtype_get(t->dtype)->computes && !is_scale(t) ? dtype : t->dtype;
}

/* The scale that belongs to the weight of that name, or NULL. */
static const lt_tensor *find_scale(
    const lt_store *store, const char *weight, lt_arena *arena, lt_error *err)
{
    static const struct {
        const char *weight, *scale; /* endings */
    } rows[] = { { ".weight", ".scale_weight" }, { ".weight", ".scale_inv" },
        { ".weight", ".qscale_weight" }, { "", "_scale" }, { "", "_scale_inv" } };
    size_t size = strlen(weight);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!ends_in(weight, rows[i].weight)) continue;
        char *name = lt_arena_printf(arena, err, "%.*s%s",
            (int)(size - strlen(rows[i].weight)), weight, rows[i].scale);
        const lt_tensor *found = name ? lt_store_find(store, name) : NULL;
        if (!name || found) return found;
    }
    return NULL;
}

lt_status lt_refuse_scaled(const lt_store *store, const lt_tensor *t, lt_error *err)
{
    lt_arena arena = { 0 };
    lt_error failed = LT_ERROR_INIT;
    if (t->dtype != LT_F8_E4M3 && t->dtype != LT_F8_E5M2) return LT_OK;
    const lt_tensor *scale = find_scale(store, t->name, &arena, &failed);
    lt_arena_release(&arena);
    if (!scale) {
        if (failed.code && err) *err = failed;
        return failed.code;
    }
    lt_error_set(err, LT_ERR_UNSUPPORTED, "is scaled fp8 (see '%.200s')", scale->name);
    return lt_store_blame(store, t, err);
}

enum slot { S_RAW, S_VALUES };

static lt_status check_range(const lt_store *store, const lt_tensor *t, lt_dtype dtype,
    uint64_t first, const double *p, size_t n, lt_error *err)
{
    double limit = lt_dtype_get(dtype)->overflow;
    for (size_t i = 0; (i += lt_find_beyond_f64(p + i, n - i, limit)) < n; i++) {
        if (!isfinite(p[i])) continue;
        lt_error_set(err, LT_ERR_NUMERIC, "element %llu is %g, which %s cannot hold",
            (unsigned long long)(first + i), p[i], lt_dtype_get(dtype)->name);
        return lt_store_blame(store, t, err);
    }
    return LT_OK;
}

lt_status lt_cast_copy(lt_writer *writer, size_t index, lt_dtype dtype,
    const lt_store *store, const lt_tensor *t, lt_scratch *scratch, lt_error *err)
{
    if (dtype == t->dtype) return lt_writer_copy(writer, index, store, t, err);
    uint64_t chunk = t->count < CHUNK ? t->count : CHUNK;
    size_t in = lt_dtype_get(t->dtype)->bits / 8, out = lt_dtype_get(dtype)->bits / 8;
    void *raw = lt_scratch_get(scratch, S_RAW, chunk, 8, err);
    double *values = lt_scratch_get(scratch, S_VALUES, chunk, sizeof *values, err);
    if (!raw || !values) return LT_ERR_NOMEM;
    for (uint64_t at = 0; at < t->count; at += chunk) {
        size_t n = (size_t)(t->count - at < chunk ? t->count - at : chunk);
        lt_status st = lt_store_read(store, t, at * in, raw, n * in, err);
        if (st) return st;
        lt_load_f64(values, raw, t->dtype, n);
        st = check_range(store, t, dtype, at, values, n, err);
        if (st) return st;
        lt_store_f64(raw, values, dtype, n);
        st = lt_writer_put(writer, index, at * out, raw, n * out, err);
        if (st) return st;
    }
    return LT_OK;
}
