/* tools/sha256.c */
#include "tools/sha256.h"

#include <openssl/evp.h>
#include <stdio.h>

#include "base/mem.h"

struct sha256 {
    EVP_MD_CTX *md;
};

static enum err_code fail(struct err *err)
{
    return err_set(err, ERR_EXECUTION, "libcrypto cannot compute a SHA-256");
}

enum err_code sha256_new(struct sha256 **out, struct err *err)
{
    struct sha256 *sha = mem_calloc(MEM_TOOLS, 1, sizeof(*sha));
    *out = sha;
    if (sha) sha->md = EVP_MD_CTX_new();
    if (sha && sha->md) return ERR_OK;
    sha256_free(sha);
    *out = NULL;
    return err_set(err, ERR_NO_MEMORY, "no memory for a SHA-256");
}

void sha256_free(struct sha256 *sha)
{
    if (!sha) return;
    EVP_MD_CTX_free(sha->md);
    mem_free(sha);
}

enum err_code sha256_begin(struct sha256 *sha, struct err *err)
{
    return EVP_DigestInit_ex(sha->md, EVP_sha256(), NULL) == 1 ? ERR_OK : fail(err);
}

enum err_code sha256_add(struct sha256 *sha, struct bytes part, struct err *err)
{
    return EVP_DigestUpdate(sha->md, part.p, part.len) == 1 ? ERR_OK : fail(err);
}

enum err_code sha256_end(struct sha256 *sha, char hex[SHA256_HEX_BYTES], struct err *err)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (EVP_DigestFinal_ex(sha->md, digest, &n) != 1 || 2 * n + 1 != SHA256_HEX_BYTES)
        return fail(err);
    for (unsigned i = 0; i < n; i++) snprintf(hex + 2 * (size_t)i, 3, "%02x", digest[i]);
    return ERR_OK;
}
