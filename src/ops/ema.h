/* SPDX-License-Identifier: MIT */
/* Running averages (EMA) of a model's weights that a checkpoint holds beside them. */
#ifndef LT_OPS_EMA_H
#define LT_OPS_EMA_H

#include "ops/common.h"

/* What each tensor of a store is in that respect. */
typedef struct lt_ema_map {
    unsigned char *is_ema;   /* of each tensor: part of the EMA copy, */
    unsigned char *is_copy;  /* and of a tensor of the model, not a counter */
    const lt_tensor **of;    /* of each tensor: its EMA copy, or NULL */
    size_t count;            /* tensors of the EMA copy, its counters among them */
    size_t mapped;           /* of them copies of a tensor of the model */
    const lt_tensor *orphan; /* the first that is no copy and no counter, or NULL */
    const lt_tensor *second; /* the first of a tensor that has a copy already, or NULL */
    const lt_tensor *twice;  /* that tensor */
} lt_ema_map;

/* Two forms are known: the same names under "ema.", "ema_model.", "model_ema." and the
 * like; and that of CompVis, "model_ema." and the name without its "model." and without
 * dots. */
lt_status lt_ema_find(lt_ema_map *map, const lt_store *store, lt_error *err) LT_MUST_USE;
void lt_ema_release(lt_ema_map *map);

#endif
