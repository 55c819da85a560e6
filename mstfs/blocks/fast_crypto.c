/* sha2-256 and AES-128-GMAC (NIST SP 800-38D), of the libcrypto that Python's hashlib uses: there is no faster one,
 * and none to link with. */
#include "fast_crypto.h"

#include <dlfcn.h>
#include <string.h>

#define GET_TAG 0x10             /* EVP_CTRL_AEAD_GET_TAG */

static const void *sha256;       /* NULL: there is none */
static void *(*digest_new)(void);
static void (*digest_free)(void *);
static int (*digest_init)(void *, const void *, void *);
static int (*digest_update)(void *, const void *, size_t);
static int (*digest_final)(void *, unsigned char *, unsigned int *);

static const void *gcm;          /* NULL: there is none */
static void *(*cipher_new)(void);
static void (*cipher_free)(void *);
static int (*cipher_init)(void *, const void *, void *, const unsigned char *, const unsigned char *);
static int (*cipher_update)(void *, unsigned char *, int *, const unsigned char *, int);
static int (*cipher_final)(void *, unsigned char *, int *);
static int (*cipher_control)(void *, int, int, void *);

void mstfs_crypto_find(void)
{
    void *crypto = dlopen("libcrypto.so.3", RTLD_LAZY | RTLD_NOLOAD);
    if (!crypto)
        return;
    const void *(*fetch)(void *, const char *, const char *) = dlsym(crypto, "EVP_MD_fetch");
    digest_new = dlsym(crypto, "EVP_MD_CTX_new");
    digest_free = dlsym(crypto, "EVP_MD_CTX_free");
    digest_init = dlsym(crypto, "EVP_DigestInit_ex");
    digest_update = dlsym(crypto, "EVP_DigestUpdate");
    digest_final = dlsym(crypto, "EVP_DigestFinal_ex");
    if (fetch && digest_new && digest_free && digest_init && digest_update && digest_final)
        sha256 = fetch(NULL, "SHA256", NULL);
    fetch = dlsym(crypto, "EVP_CIPHER_fetch");
    cipher_new = dlsym(crypto, "EVP_CIPHER_CTX_new");
    cipher_free = dlsym(crypto, "EVP_CIPHER_CTX_free");
    cipher_init = dlsym(crypto, "EVP_EncryptInit_ex");
    cipher_update = dlsym(crypto, "EVP_EncryptUpdate");
    cipher_final = dlsym(crypto, "EVP_EncryptFinal_ex");
    cipher_control = dlsym(crypto, "EVP_CIPHER_CTX_ctrl");
    if (fetch && cipher_new && cipher_free && cipher_init && cipher_update && cipher_final && cipher_control)
        gcm = fetch(NULL, "AES-128-GCM", NULL);
}

/* --- sha2-256 -------------------------------------------------------------------------------------------- */

void *mstfs_sha256_new(void)
{
    return sha256 ? digest_new() : NULL;
}

void mstfs_sha256_free(void *context)
{
    if (context)
        digest_free(context);
}

int mstfs_sha256(void *context, const void *data, size_t size, unsigned char *digest)
{
    unsigned int length = 0;

    return digest_init(context, sha256, NULL) && digest_update(context, data, size)
        && digest_final(context, digest, &length) && length == MSTFS_DIGEST;
}

int mstfs_sha256_is(void *context, const void *data, size_t size, const unsigned char *digest)
{
    unsigned char found[64];

    return mstfs_sha256(context, data, size, found) && !memcmp(found, digest, MSTFS_DIGEST);
}

/* --- AES-128-GMAC ---------------------------------------------------------------------------------------- */

void *mstfs_gmac_new(void)
{
    return gcm ? cipher_new() : NULL;
}

void mstfs_gmac_free(void *context)
{
    if (context)
        cipher_free(context);
}

int mstfs_gmac_key(void *context, const unsigned char *key)
{
    return cipher_init(context, gcm, NULL, key, NULL);
}

int mstfs_gmac(void *context, uint32_t number, const void *data, size_t size, unsigned char *tag)
{
    unsigned char nonce[12] = {0}, none[16];
    int length;

    memcpy(nonce, &number, sizeof(number));
    return cipher_init(context, NULL, NULL, NULL, nonce) && cipher_update(context, NULL, &length, data, (int)size)
        && cipher_final(context, none, &length) && cipher_control(context, GET_TAG, MSTFS_TAG, tag);
}
