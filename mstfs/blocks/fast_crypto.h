/* sha2-256 and AES-GMAC, of the libcrypto that Python's hashlib uses. See fast_crypto.c. */
#ifndef MSTFS_FAST_CRYPTO_H
#define MSTFS_FAST_CRYPTO_H

#include <stddef.h>
#include <stdint.h>

#define MSTFS_DIGEST 32          /* bytes of a sha2-256 */
#define MSTFS_TAG 16             /* bytes of a tag, and of a key for tags */

/* Look for the library, once, before anything else, and after hashlib was imported. */
void mstfs_crypto_find(void);

/* What one thread hashes with; NULL if there is no library, or no memory. */
void *mstfs_sha256_new(void);
void mstfs_sha256_free(void *context);

/* The digest of the data. 0 if there is no memory. */
int mstfs_sha256(void *context, const void *data, size_t size, unsigned char *digest);

/* Whether this is the digest of the data. */
int mstfs_sha256_is(void *context, const void *data, size_t size, const unsigned char *digest);

/* What one thread makes tags with; NULL if there is no library, or no memory. */
void *mstfs_gmac_new(void);
void mstfs_gmac_free(void *context);

/* From now on, make tags with this key. 0 if there is no memory. */
int mstfs_gmac_key(void *context, const unsigned char *key);

/* The tag of some data, at most 2^30 bytes. Under one key, a number stands for the same data always. */
int mstfs_gmac(void *context, uint32_t number, const void *data, size_t size, unsigned char *tag);

#endif
