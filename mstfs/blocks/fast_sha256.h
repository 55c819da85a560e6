/* sha2-256, of the libcrypto that Python's hashlib uses. See fast_sha256.c. */
#ifndef MSTFS_FAST_SHA256_H
#define MSTFS_FAST_SHA256_H

#include <stddef.h>

/* Look for the library. Call it with the interpreter's lock, once, before anything else. */
void mstfs_sha256_find(void);

/* What one thread hashes with; NULL if there is no library, or no memory. */
void *mstfs_sha256_new(void);
void mstfs_sha256_free(void *context);

/* Whether this is the digest (32 bytes) of the data. */
int mstfs_sha256_is(void *context, const void *data, size_t size, const unsigned char *digest);

#endif
