/* The listings of large folders, and the attributes in them, answered without Python. See fast_listing.c. */
#ifndef MSTFS_FAST_LISTING_H
#define MSTFS_FAST_LISTING_H

#include <fuse_lowlevel.h>
#include <stdint.h>

/* The functions of libfuse that a listing is answered with. Returns 0 where libfuse does not have them. */
int mstfs_listing_init(void *libfuse);

/* Whether READDIRPLUS of a folder, from a place on, can be answered here. */
int mstfs_listing_answers(uint64_t folder, uint64_t place);

/* Answer it. */
void mstfs_listing_reply(fuse_req_t req, uint64_t folder, size_t size, uint64_t place);

/* Whether GETATTR of an inode can be answered here. */
int mstfs_listing_knows(uint64_t inode);

/* Answer it. */
void mstfs_listing_attributes(fuse_req_t req, uint64_t inode);

#endif
