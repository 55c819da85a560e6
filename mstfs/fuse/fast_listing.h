/* The listings of large folders, answered without Python. See fast_listing.c. */
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

#endif
