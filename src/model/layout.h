/* SPDX-License-Identifier: MIT */
/* Layouts as data: the tensors of a denoiser in the layout it was published in (native)
 * and in diffusers' (public), row by row. One table serves to recognise tensors in either
 * layout, to cut fused weights into the modules that adapters name, and to list what a
 * model of given sizes consists of.
 *
 * A row is a module, or a bare tensor, of one group of blocks. A native weight may hold
 * several public modules, one below the other: its rows are theirs. */
#ifndef LT_MODEL_LAYOUT_H
#define LT_MODEL_LAYOUT_H

#include "loratool/store.h"

#define LT_MAX_PARTS 4 /* public modules in one native weight */
#define LT_MAX_GROUPS 64

enum {
    LT_ROW_BIAS = 1,      /* has a .bias of as many elements as the weight has rows */
    LT_ROW_TENSOR = 2,    /* the names are whole: no .weight follows */
    LT_ROW_SWAP = 4,      /* the halves of the rows stand in the other order in public */
    LT_ROW_POINTWISE = 8, /* native a 1x1 convolution, public a matrix */
    LT_ROW_UNDERSCORE = 16, /* native ends in _weight and _bias */
    LT_ROW_TRANSPOSED = 32, /* native a whole name, of the public .weight's transpose */
};

typedef struct lt_layout_row {
    const char *native;
    const char *public; /* in the order of rows, blanks between; NULL: as native; "": the
                           public layout has no such tensor */
    const char *shape;  /* of the weight, "3d,d": factor and parameter, or a number */
    unsigned char flags;
    unsigned char lead; /* so many of the parts have as many rows as the weight has
                           columns; the others share what is left equally */
} lt_layout_row;

/* Which blocks of its kind a group describes. */
typedef enum lt_span { LT_SPAN_ALL, LT_SPAN_ALL_BUT_LAST, LT_SPAN_LAST } lt_span;

typedef struct lt_layout_group {
    const char *native,
        *public; /* what precedes the rows' names; # is the block's index */
    char count;  /* the parameter that says how many blocks; 0: one */
    char from;   /* that says at which one it begins; 0: the first */
    lt_span span;
    const lt_layout_row *rows; /* native NULL ends */
    const char *params; /* that hold in this group, "i=2c x=10": a number or a multiple of
                           the variant's; NULL: none */
} lt_layout_group;

/* A published model: the values of the parameters, "d=3072 n=19". */
typedef struct lt_layout_variant {
    const char *id, *params;
} lt_layout_variant;

/* Another name of a native module or bare tensor, of a module's first parts or of each of
 * them. Files may have those of whole modules and tensors. */
typedef struct lt_layout_alias {
    const char *name, *native; /* whole paths, # being the block's index in both */
    unsigned char parts;       /* how many public modules it covers; 0: all of it; 1: one,
                                  name being the names of all in their order, blanks
                                  between */
} lt_layout_alias;

typedef struct lt_layout {
    const lt_layout_group *groups;     /* native NULL ends; at most LT_MAX_GROUPS */
    const lt_layout_variant *variants; /* id NULL ends */
    const lt_layout_alias *aliases;    /* name NULL ends; NULL: none */
} lt_layout;

/* What a file in one of the layouts says about the blocks. */
typedef struct lt_layout_view {
    const lt_layout *layout;
    bool is_public;
    unsigned char heads[LT_MAX_GROUPS]; /* characters of the name before its index */
    unsigned blocks[LT_MAX_GROUPS]; /* of the kind, for groups that span some of them */
} lt_layout_view;

void lt_layout_view_init(lt_layout_view *view, const lt_layout *layout, bool is_public,
    const lt_store *store, const char *prefix);

/* Where a tensor of a file stands in the table. */
typedef struct lt_layout_place {
    const lt_layout_row *row;
    const lt_layout_group *group;
    unsigned index; /* of the block */
    unsigned part;  /* of the row's public modules; 0 in a native file */
    unsigned parts; /* 0: the public layout has no such tensor */
    bool bias;
} lt_layout_place;

/* Finds a tensor by its name without the component's prefix; false when the table has
 * none. */
bool lt_layout_find(const lt_layout_view *view, const char *name, lt_layout_place *place);
/* The same for the weights of modules: not for biases and bare tensors. */
bool lt_layout_find_weight(
    const lt_layout_view *view, const char *name, lt_layout_place *place);

/* The alias' name for the module of that native path, or for that part of it, into dst;
 * false when it is not one of that module. */
bool lt_layout_alias_name(const lt_layout_alias *alias, const char *native, unsigned part,
    char *dst, size_t size);

/* Module paths, without ".weight", into dst; false when that does not fit. */
bool lt_layout_native_path(const lt_layout_place *place, char *dst, size_t size);
bool lt_layout_public_path(
    const lt_layout_place *place, unsigned part, char *dst, size_t size);

/* Names of whole tensors, the same way. */
bool lt_layout_native_name(const lt_layout_place *place, char *dst, size_t size);
bool lt_layout_public_name(
    const lt_layout_place *place, unsigned part, char *dst, size_t size);

/* Rows [*row0, *row0 + *rows) of a native weight of that shape are the part; false when
 * the rows cannot be cut like that. */
bool lt_layout_part_rows(const lt_layout_place *place, unsigned part, uint64_t all_rows,
    uint64_t columns, uint64_t *row0, uint64_t *rows);

/* The value of a variant's parameter; 0 when it has none of that letter. */
uint64_t lt_layout_parameter(const char *params, char letter);

/* Tells every tensor of a variant in one of the layouts, in no particular order. */
typedef void (*lt_layout_fn)(
    void *ctx, const char *name, const uint64_t *shape, unsigned n_dims);
void lt_layout_each(const lt_layout *layout, const char *params, bool is_public,
    lt_layout_fn tell, void *ctx);

#endif
