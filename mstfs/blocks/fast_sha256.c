/* sha2-256, of the libcrypto that Python's hashlib uses: there is no faster one, and none to link with. */
#define PY_SSIZE_T_CLEAN
#include "fast_sha256.h"

#include <Python.h>
#include <dlfcn.h>
#include <string.h>

static const void *sha256;       /* NULL: there is none */
static void *(*context_new)(void);
static void (*context_free)(void *);
static int (*digest_init)(void *, const void *, void *);
static int (*digest_update)(void *, const void *, size_t);
static int (*digest_final)(void *, unsigned char *, unsigned int *);

void mstfs_sha256_find(void)
{
    PyObject *hashlib = PyImport_ImportModule("_hashlib");
    if (!hashlib) {
        PyErr_Clear();
        return;
    }
    Py_DECREF(hashlib);
    void *crypto = dlopen("libcrypto.so.3", RTLD_LAZY | RTLD_NOLOAD);
    if (!crypto)
        return;
    const void *(*fetch)(void *, const char *, const char *) = dlsym(crypto, "EVP_MD_fetch");
    context_new = dlsym(crypto, "EVP_MD_CTX_new");
    context_free = dlsym(crypto, "EVP_MD_CTX_free");
    digest_init = dlsym(crypto, "EVP_DigestInit_ex");
    digest_update = dlsym(crypto, "EVP_DigestUpdate");
    digest_final = dlsym(crypto, "EVP_DigestFinal_ex");
    if (fetch && context_new && context_free && digest_init && digest_update && digest_final)
        sha256 = fetch(NULL, "SHA256", NULL);
}

void *mstfs_sha256_new(void)
{
    return sha256 ? context_new() : NULL;
}

void mstfs_sha256_free(void *context)
{
    if (context)
        context_free(context);
}

int mstfs_sha256_is(void *context, const void *data, size_t size, const unsigned char *digest)
{
    unsigned char found[64];
    unsigned int length = 0;

    return digest_init(context, sha256, NULL) && digest_update(context, data, size)
        && digest_final(context, found, &length) && length == 32 && !memcmp(found, digest, 32);
}
