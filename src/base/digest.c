/* SPDX-License-Identifier: MIT */
#include "base/digest.h"

#include "base/library.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdbool.h>

#define ROUTINES(X)      \
    X(EVP_MD_CTX_new)    \
    X(EVP_MD_CTX_free)   \
    X(EVP_sha256)        \
    X(EVP_DigestInit_ex) \
    X(EVP_DigestUpdate)  \
    X(EVP_DigestFinal_ex)

static struct {
#define MEMBER(name) __typeof__(name) *name;
    ROUTINES(MEMBER)
} crypto;

static lt_loading loading;

static void load(void)
{
#define ROW(name) { #name, &crypto.name },
    static const lt_routine routines[] = { ROUTINES(ROW) };
    static const lt_library library = { "libcrypto", LORATOOL_LIBCRYPTO,
        LORATOOL_LIBCRYPTO_PATH, routines, sizeof routines / sizeof *routines };
    void *handle;
    loading.status = lt_library_open(&handle, &library, &loading.error);
}

lt_status lt_sha256_new(lt_sha256 **out, lt_error *err)
{
    *out = NULL;
    lt_status st = lt_loading_run(&loading, load, err);
    if (st) return st;
    EVP_MD_CTX *ctx = crypto.EVP_MD_CTX_new();
    if (!ctx) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    errno = 0;
    if (crypto.EVP_DigestInit_ex(ctx, crypto.EVP_sha256(), NULL) != 1) {
        bool no_memory = errno == ENOMEM;
        crypto.EVP_MD_CTX_free(ctx);
        if (no_memory) return lt_error_set(err, LT_ERR_NOMEM, "out of memory for a hash");
        return lt_error_set(err, LT_ERR_INTERNAL, "libcrypto has no SHA-256");
    }
    *out = (lt_sha256 *)ctx;
    return LT_OK;
}

void lt_sha256_update(lt_sha256 *h, const void *p, size_t size)
{
    crypto.EVP_DigestUpdate((EVP_MD_CTX *)h, p, size);
}

void lt_sha256_hex(lt_sha256 *h, char hex[LT_SHA256_HEX])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char md[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    crypto.EVP_DigestFinal_ex((EVP_MD_CTX *)h, md, &n);
    for (unsigned i = 0; i < 32; i++) {
        hex[2 * i] = digits[md[i] >> 4];
        hex[2 * i + 1] = digits[md[i] & 15];
    }
    hex[64] = '\0';
}

void lt_sha256_free(lt_sha256 *h)
{
    if (h) crypto.EVP_MD_CTX_free((EVP_MD_CTX *)h);
}
