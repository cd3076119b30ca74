/* SPDX-License-Identifier: MIT */
#include "base/digest.h"

#include <openssl/evp.h>

lt_status lt_sha256_new(lt_sha256 **out, lt_error *err)
{
    *out = NULL;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (!ctx) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    if (EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(ctx);
        return lt_error_set(err, LT_ERR_INTERNAL, "libcrypto has no SHA-256");
    }
    *out = (lt_sha256 *)ctx;
    return LT_OK;
}

void lt_sha256_update(lt_sha256 *h, const void *p, size_t size)
{
    EVP_DigestUpdate((EVP_MD_CTX *)h, p, size);
}

void lt_sha256_hex(lt_sha256 *h, char hex[LT_SHA256_HEX])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char md[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    EVP_DigestFinal_ex((EVP_MD_CTX *)h, md, &n);
    for (unsigned i = 0; i < 32; i++) {
        hex[2 * i] = digits[md[i] >> 4];
        hex[2 * i + 1] = digits[md[i] & 15];
    }
    hex[64] = '\0';
}

void lt_sha256_free(lt_sha256 *h)
{
    EVP_MD_CTX_free((EVP_MD_CTX *)h);
}
