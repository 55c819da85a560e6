/* Contents of files given to the kernel unasked. See fast_push.c. */
#ifndef MSTFS_FAST_PUSH_H
#define MSTFS_FAST_PUSH_H

#include <stddef.h>
#include <stdint.h>

/* The kernel asked for contents on behalf of a thread. */
void mstfs_push_saw(uint32_t reader);

/* In fast_files.c: take what was offered of a file, to be freed; NULL if nothing is. */
char *mstfs_take_offer(uint64_t inode, uint32_t *size);

/* In fast_path.c: the session's descriptor, or -1. */
int mstfs_device(void);

#endif
