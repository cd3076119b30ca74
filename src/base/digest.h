/* SPDX-License-Identifier: MIT */
/* SHA-256, through libcrypto. */
#ifndef LT_BASE_DIGEST_H
#define LT_BASE_DIGEST_H

#include "loratool/error.h"

#define LT_SHA256_HEX 65 /* 64 digits and the terminating NUL */

typedef struct lt_sha256 lt_sha256;

lt_status lt_sha256_new(lt_sha256 **out, lt_error *err) LT_MUST_USE;
void lt_sha256_update(lt_sha256 *h, const void *p, size_t size);
void lt_sha256_hex(lt_sha256 *h, char hex[LT_SHA256_HEX]); /* ends the computation */
void lt_sha256_free(lt_sha256 *h);

#endif
