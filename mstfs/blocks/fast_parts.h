/* Parts of the blocks of a CAR, checked. See fast_parts.c. */
#ifndef MSTFS_FAST_PARTS_H
#define MSTFS_FAST_PARTS_H

#include <stdint.h>

#include "fast_crypto.h"

#define MSTFS_BLOCK_MOST (4u << 20) /* bytes of a block that can be read here */

/* Where blocks are read from. */
struct mstfs_source {
    int file;                    /* the CAR */
    int tags;                    /* the file of tags; -1: there is none */
    unsigned char secret[32];    /* what nobody else knows */
};

/* A block; its fields are in this order in what Python gives. */
struct mstfs_block {
    uint64_t offset;             /* of its bytes, in the CAR */
    uint64_t length;             /* at most MSTFS_BLOCK_MOST */
    uint64_t hash;               /* the multicodec of its hash function */
    unsigned char digest[MSTFS_DIGEST];
};

/* What one thread checks with; NULL if there is no memory, or no library that hashes. */
struct mstfs_checker;
struct mstfs_checker *mstfs_checker_new(void);
void mstfs_checker_free(struct mstfs_checker *checker);

/* Bytes of a block, from one of them on; the range is in the block. 0 if what stands there is not that block, -1 if
 * that can only be found out by hashing it, and this hash function is none that is known here. */
int mstfs_read_part(struct mstfs_checker *checker, const struct mstfs_source *source,
                    const struct mstfs_block *block, uint32_t from, uint32_t count, char *out);

/* Make the tags of a block, all of which was hashed. */
void mstfs_tag_block(struct mstfs_checker *checker, const struct mstfs_source *source,
                     const struct mstfs_block *block, const char *data);

#endif
