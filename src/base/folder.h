/* SPDX-License-Identifier: MIT */
/* Listing folders. */
#ifndef LT_BASE_FOLDER_H
#define LT_BASE_FOLDER_H

#include "loratool/error.h"

#include <stdbool.h>

typedef struct lt_listing {
    struct lt_listed {
        char *name;
        bool is_folder, is_other; /* of what a link points to; other: neither file nor
                                     folder, or nothing that can be looked at */
        bool is_link;
    } * items;
    size_t count, capacity;
} lt_listing;

/* The entries of a folder but "." and "..", sorted by name. LT_ERR_LIMIT over
 * LT_MAX_FOLDER_ENTRIES. */
lt_status lt_listing_read(
    lt_listing *listing, const char *folder, lt_error *err) LT_MUST_USE;
void lt_listing_release(lt_listing *listing);
bool lt_listing_has(const lt_listing *listing, const char *name); /* a file */

/* A name of a file in a folder and nowhere else: not empty, "-", ".", "..", no
 * slash. */
bool lt_is_plain_name(const char *name);

#endif
