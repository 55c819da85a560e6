/* New files, made without Python. See fast_new.c. */
#ifndef MSTFS_FAST_NEW_H
#define MSTFS_FAST_NEW_H

#include <fuse_lowlevel.h>
#include <linux/fuse.h>

/* The functions of libfuse that these requests are answered with. Returns 0 where libfuse does not have them. */
int mstfs_new_init(void *libfuse);

/* Whether CREATE, WRITE, SETATTR, GETATTR or RELEASE can be answered here: `argument` is what follows the header, of
 * so many bytes. */
int mstfs_new_answers(const struct fuse_in_header *head, const void *argument, size_t size);

/* Whether there is a file of which Python does not know: then nothing else can be said of its folder here. */
int mstfs_new_made(void);

/* Answer these requests. */
void mstfs_new_create(fuse_req_t req, mode_t mode, struct fuse_file_info *fi);
void mstfs_new_write(fuse_req_t req, const struct fuse_bufvec *data);
void mstfs_new_set(fuse_req_t req, const struct stat *wanted, int which);
void mstfs_new_attributes(fuse_req_t req);
void mstfs_new_release(fuse_req_t req);

#endif
