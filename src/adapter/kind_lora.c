/* SPDX-License-Identifier: MIT */
/* LoRA (Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021): delta =
 * scale * up * down with scale = alpha / r. On a convolution (LoCon) the factors are
 * flattened: up (out, r, 1, 1), down (r, in, kh, kw) and delta is the product of the
 * (out, r) and (r, in*kh*kw) matrices, reshaped. With a Tucker core mid (r, r, kh, kw)
 * and down (r, in, 1, 1), the effective down is
 *   D[a, j, k] = sum_b mid[a, b, k] down[b, j].
 *
 * loralib's MergedLinear changes e of the g equal blocks of rows of a fused weight (m,
 * n): lora_A (e r, n), lora_B (e m / g, r); block t of the change is B_t A_t, with B_t
 * the t-th (m / g) rows of lora_B and A_t the t-th r rows of lora_A. That is one pair of
 * rank e r whose up factor is block-diagonal. */
#include "adapter/kind.h"

#include "base/limits.h"
#include "base/mem.h"
#include "tensor/convert.h"
#include "tensor/linalg.h"

#include <string.h>

static const lt_suffix lora_suffixes[] = {
    LT_SUFFIX(".lora_down.weight", LT_PART_DOWN),
    LT_SUFFIX(".lora_up.weight", LT_PART_UP),
    LT_SUFFIX(".lora_mid.weight", LT_PART_MID),
    LT_SUFFIX(".lora_A.weight", LT_PART_DOWN),
    LT_SUFFIX(".lora_B.weight", LT_PART_UP),
    LT_SUFFIX(".lora.down.weight", LT_PART_DOWN),
    LT_SUFFIX(".lora.up.weight", LT_PART_UP),
    LT_SUFFIX(".lora_linear_layer.down.weight", LT_PART_DOWN),
    LT_SUFFIX(".lora_linear_layer.up.weight", LT_PART_UP),
    LT_SUFFIX("_lora.down.weight", LT_PART_DOWN),
    LT_SUFFIX("_lora.up.weight", LT_PART_UP),
    LT_SUFFIX(".lora_A", LT_PART_DOWN),
    LT_SUFFIX(".lora_B", LT_PART_UP),
    LT_NO_SUFFIX,
};

static const lt_suffix dora_suffixes[] = {
    LT_SUFFIX(".dora_scale", LT_PART_MAGNITUDE),
    LT_SUFFIX(".lora_magnitude_vector", LT_PART_MAGNITUDE),
    LT_SUFFIX(".lora_magnitude_vector.weight", LT_PART_MAGNITUDE),
    LT_SUFFIX(".magnitude", LT_PART_MAGNITUDE),
    LT_NO_SUFFIX,
};

static const lt_suffix bias_suffixes[] = {
    LT_SUFFIX(".lora_B.bias", LT_PART_UP_BIAS),
    LT_NO_SUFFIX,
};

static lt_status bad_shapes(const lt_module *m, const char *why, lt_error *err)
{
    char up[160], down[160];
    lt_tensor_shape_text(m->part[LT_PART_UP], up, sizeof up);
    lt_tensor_shape_text(m->part[LT_PART_DOWN], down, sizeof down);
    lt_error_set(err, LT_ERR_MISMATCH, "%s: up is %s, down is %s", why, up, down);
    return lt_error_where(err, "module '%s'", m->name);
}

static lt_status measure_core(lt_module *m, const lt_tensor *mid, lt_error *err)
{
    if (mid->n_dims < 3 || mid->shape[0] != m->rank || mid->shape[1] != m->rank)
        return bad_shapes(m, "the Tucker core does not fit the factors", err);
    const lt_tensor *down = m->part[LT_PART_DOWN];
    uint64_t kernel = lt_tensor_columns(mid) / m->rank;
    bool plain = down->n_dims == mid->n_dims && m->in == down->shape[1];
    if (!plain || !kernel)
        return bad_shapes(m, "the Tucker core and the down factor do not fit", err);
    if (kernel > LT_MAX_KERNEL || m->in > LT_MAX_SIDE / kernel)
        return bad_shapes(m, "the Tucker core's kernel is too large", err);
    m->in *= kernel;
    return LT_OK;
}

/* Shapes of a MergedLinear: down has e times the rows that up has columns. */
static bool is_merged(const lt_module *m)
{
    const lt_tensor *up = m->part[LT_PART_UP], *down = m->part[LT_PART_DOWN];
    uint64_t r = lt_tensor_columns(up);
    return m->kind == &lt_kind_lora && !m->part[LT_PART_MID] && !m->part[LT_PART_ALPHA]
        && lt_module_lacks_alpha(m) && up->n_dims == 2 && down->n_dims == 2 && r
        && r < m->rank && m->rank % r == 0 && m->out % (m->rank / r) == 0;
}

static lt_status measure_parts(lt_module *m, lt_error *err)
{
    const lt_tensor *up = m->part[LT_PART_UP], *down = m->part[LT_PART_DOWN];
    if (!up || !down) {
        lt_error_set(
            err, LT_ERR_MISMATCH, "the %s factor is missing", up ? "down" : "up");
        return lt_error_where(err, "module '%s'", m->name);
    }
    static const lt_part computed[] = { LT_PART_DOWN, LT_PART_UP, LT_PART_MID,
        LT_PART_UP_BIAS };
    for (size_t k = 0; k < sizeof computed / sizeof *computed; k++) {
        lt_part i = computed[k];
        if (m->part[i] && !lt_dtype_get(m->part[i]->dtype)->computes) {
            lt_error_set(err, LT_ERR_UNSUPPORTED, "dtype %s is not computed with",
                lt_dtype_get(m->part[i]->dtype)->name);
            return lt_error_where(err, "tensor '%s'", m->part[i]->name);
        }
    }
    m->rank = lt_tensor_rows(down);
    m->out = lt_tensor_rows(up);
    m->in = lt_tensor_columns(down);
    if (!m->rank || !m->out || !m->in) return bad_shapes(m, "a factor is empty", err);
    if (m->rank > LT_MAX_RANK) return bad_shapes(m, "the rank is over the ceiling", err);
    if (m->out > LT_MAX_SIDE || m->in > LT_MAX_SIDE)
        return bad_shapes(m, "a side is over the ceiling", err);
    if (is_merged(m)) {
        m->kind = &lt_kind_lora_merged;
        m->groups = m->rank / lt_tensor_columns(up);
        if (m->groups > LT_MAX_PADDING)
            return bad_shapes(m, "a MergedLinear of too many blocks", err);
        return LT_OK;
    }
    if (up->n_dims < 2 || down->n_dims < 2 || lt_tensor_columns(up) != m->rank)
        return bad_shapes(m, "the factors' ranks differ", err);
    return m->part[LT_PART_MID] ? measure_core(m, m->part[LT_PART_MID], err) : LT_OK;
}

/* Whoever works on a module may multiply these and the size of a double unchecked. */
static bool products_fit(const lt_module *m)
{
    uint64_t up, down, size;
    return lt_mul_size(m->out, m->rank, &up) && lt_mul_size(m->rank, m->in, &down)
        && lt_mul_size(up, sizeof(double), &size)
        && lt_mul_size(down, sizeof(double), &size);
}

static lt_status measure(lt_module *m, lt_error *err)
{
    lt_status st = measure_parts(m, err);
    if (st || products_fit(m)) return st;
    lt_error_set(err, LT_ERR_LIMIT, "the factors' sizes overflow 64 bits");
    return lt_error_where(err, "module '%s'", m->name);
}

static lt_status load_tensor(
    const lt_store *store, const lt_tensor *t, double *dst, lt_error *err)
{
    void *raw = lt_alloc_work(t->size, 1, err);
    if (!raw) return LT_ERR_NOMEM;
    lt_status st = lt_store_read(store, t, 0, raw, (size_t)t->size, err);
    if (!st) lt_load_f64(dst, raw, t->dtype, (size_t)t->count);
    lt_free(raw);
    if (!st && lt_find_nonfinite_f64(dst, (size_t)t->count) != t->count) {
        lt_error_set(err, LT_ERR_NUMERIC, "holds NaN or infinity");
        st = lt_store_blame(store, t, err);
    }
    return st;
}

/* down (r x in*K) from mid (r, r, K) and flat (r x in): one small product per kernel
 * element, written with stride K. */
static lt_status fold_core(
    const lt_store *store, const lt_module *m, double *down, lt_error *err)
{
    const lt_tensor *mid = m->part[LT_PART_MID], *flat = m->part[LT_PART_DOWN];
    size_t r = (size_t)m->rank, in = (size_t)flat->count / r;
    size_t kernel = (size_t)(m->in / in);
    double *core = lt_alloc_work(mid->count, sizeof *core, err);
    double *f = lt_alloc_work(flat->count, sizeof *f, err);
    double *slice = lt_alloc_work(r * r, sizeof *slice, err);
    double *product = lt_alloc_work(r * in, sizeof *product, err);
    lt_status st = core && f && slice && product ? LT_OK : LT_ERR_NOMEM;
    if (!st) st = load_tensor(store, mid, core, err);
    if (!st) st = load_tensor(store, flat, f, err);
    for (size_t k = 0; k < kernel && !st; k++) {
        for (size_t i = 0; i < r * r; i++)
            slice[i] = core[i * kernel + k];
        lt_gemm_f64(r, in, r, 1, (lt_matd){ slice, r, false }, (lt_matd){ f, in, false },
            0, product);
        for (size_t i = 0; i < r * in; i++)
            down[i * kernel + k] = product[i];
    }
    lt_free(product);
    lt_free(slice);
    lt_free(f);
    lt_free(core);
    return st;
}

static lt_status load(
    const lt_store *store, const lt_module *m, double *up, double *down, lt_error *err)
{
    lt_status st = load_tensor(store, m->part[LT_PART_UP], up, err);
    if (st) return st;
    if (m->part[LT_PART_MID]) return fold_core(store, m, down, err);
    return load_tensor(store, m->part[LT_PART_DOWN], down, err);
}

/* lora_B's blocks (rows / e x r, one below the other) onto the diagonal. */
static lt_status load_merged(
    const lt_store *store, const lt_module *m, double *up, double *down, lt_error *err)
{
    size_t rank = (size_t)m->rank, r = rank / (size_t)m->groups, out = (size_t)m->out;
    size_t rows = out / (size_t)m->groups;
    double *stacked = lt_alloc_work(m->out * r, sizeof *stacked, err);
    if (!stacked) return LT_ERR_NOMEM;
    lt_status st = load_tensor(store, m->part[LT_PART_UP], stacked, err);
    if (!st) st = load_tensor(store, m->part[LT_PART_DOWN], down, err);
    memset(up, 0, out * rank * sizeof *up);
    for (size_t i = 0; i < out && !st; i++)
        memcpy(up + i * rank + i / rows * r, stacked + i * r, r * sizeof *up);
    lt_free(stacked);
    return st;
}

static const lt_suffix no_suffixes[] = { LT_NO_SUFFIX };

const lt_kind lt_kind_lora = { "lora", "LoRA", lora_suffixes, measure, load, false,
    true };
const lt_kind lt_kind_lora_merged = { "lora-merged", "loralib MergedLinear", no_suffixes,
    measure, load_merged, false, false };
const lt_kind lt_kind_dora = { "dora", "DoRA", dora_suffixes, measure, NULL, true,
    false };
const lt_kind lt_kind_lora_bias = { "lora-bias", "LoRA with biases", bias_suffixes,
    measure, load, false, false };
