/* SPDX-License-Identifier: MIT */
/* libzip, which is loaded when the first archive is opened. Files that include this call
 * its routines by their own names, after lt_libzip_load. */
#ifndef LT_FORMAT_ZIP_LIBRARY_H
#define LT_FORMAT_ZIP_LIBRARY_H

#include "loratool/error.h"

#include <zip.h>

#define LT_LIBZIP_ROUTINES(X)         \
    X(zip_close)                      \
    X(zip_discard)                    \
    X(zip_error_code_zip)             \
    X(zip_error_fini)                 \
    X(zip_error_init)                 \
    X(zip_error_set)                  \
    X(zip_error_strerror)             \
    X(zip_error_to_data)              \
    X(zip_fclose)                     \
    X(zip_file_add)                   \
    X(zip_file_extra_field_set)       \
    X(zip_file_get_error)             \
    X(zip_file_set_dostime)           \
    X(zip_fopen_index)                \
    X(zip_fread)                      \
    X(zip_get_error)                  \
    X(zip_get_name)                   \
    X(zip_get_num_entries)            \
    X(zip_open_from_source)           \
    X(zip_set_file_compression)       \
    X(zip_source_free)                \
    X(zip_source_function)            \
    X(zip_source_function_create)     \
    X(zip_source_make_command_bitmap) \
    X(zip_source_seek_compute_offset) \
    X(zip_stat_index)                 \
    X(zip_stat_init)

struct lt_libzip {
#define LT_LIBZIP_MEMBER(name) __typeof__(name) *name;
    LT_LIBZIP_ROUTINES(LT_LIBZIP_MEMBER)
#undef LT_LIBZIP_MEMBER
};
extern struct lt_libzip lt_libzip;

/* The first call loads it, later ones give the same result. */
lt_status lt_libzip_load(lt_error *err) LT_MUST_USE;

#ifndef LT_LIBZIP_PLAIN_NAMES
#define zip_close lt_libzip.zip_close
#define zip_discard lt_libzip.zip_discard
#define zip_error_code_zip lt_libzip.zip_error_code_zip
#define zip_error_fini lt_libzip.zip_error_fini
#define zip_error_init lt_libzip.zip_error_init
#define zip_error_set lt_libzip.zip_error_set
#define zip_error_strerror lt_libzip.zip_error_strerror
#define zip_error_to_data lt_libzip.zip_error_to_data
#define zip_fclose lt_libzip.zip_fclose
#define zip_file_add lt_libzip.zip_file_add
#define zip_file_extra_field_set lt_libzip.zip_file_extra_field_set
#define zip_file_get_error lt_libzip.zip_file_get_error
#define zip_file_set_dostime lt_libzip.zip_file_set_dostime
#define zip_fopen_index lt_libzip.zip_fopen_index
#define zip_fread lt_libzip.zip_fread
#define zip_get_error lt_libzip.zip_get_error
#define zip_get_name lt_libzip.zip_get_name
#define zip_get_num_entries lt_libzip.zip_get_num_entries
#define zip_open_from_source lt_libzip.zip_open_from_source
#define zip_set_file_compression lt_libzip.zip_set_file_compression
#define zip_source_free lt_libzip.zip_source_free
#define zip_source_function lt_libzip.zip_source_function
#define zip_source_function_create lt_libzip.zip_source_function_create
#define zip_source_make_command_bitmap lt_libzip.zip_source_make_command_bitmap
#define zip_source_seek_compute_offset lt_libzip.zip_source_seek_compute_offset
#define zip_stat_index lt_libzip.zip_stat_index
#define zip_stat_init lt_libzip.zip_stat_init
#endif
#endif
