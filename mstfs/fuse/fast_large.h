/* Large files that are read without Python. See fast_large.c. */
#ifndef MSTFS_FAST_LARGE_H
#define MSTFS_FAST_LARGE_H

#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <stdint.h>

/* The functions of libfuse that READ is answered with. Returns 0 where libfuse does not have them. */
int mstfs_large_init(void *libfuse);

/* Whether READ can be answered here; `argument` is what follows the header. */
int mstfs_large_answers(const struct fuse_in_header *head, const void *argument);

/* Answer it, at once or by the other thread. */
void mstfs_large_read(fuse_req_t req, uint64_t inode, size_t size, off_t offset);

#endif
