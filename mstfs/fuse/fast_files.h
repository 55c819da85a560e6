/* Small files that are read, and opened for it, without Python. See fast_files.c. */
#ifndef MSTFS_FAST_FILES_H
#define MSTFS_FAST_FILES_H

#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <stdint.h>

#define MSTFS_READER (1ull << 63) /* set in the handle of who only reads; as in mstfs/fuse/fast_path.py */

#if FUSE_MINOR_VERSION >= 11
#define MSTFS_NO_FLUSH(fi) ((fi)->noflush = 1)
#else
#define MSTFS_NO_FLUSH(fi) ((void)(fi))
#endif

/* The functions of libfuse that these requests are answered with. Returns 0 where libfuse does not have them. */
int mstfs_files_init(void *libfuse);

/* Whether READ, OPEN or RELEASE can be answered here; `argument` is what follows the header. */
int mstfs_files_answers(const struct fuse_in_header *head, const void *argument);

/* Answer these requests. */
void mstfs_files_read(fuse_req_t req, uint64_t inode, size_t size, off_t offset);
void mstfs_files_open(fuse_req_t req, uint64_t inode, struct fuse_file_info *fi);
void mstfs_files_release(fuse_req_t req, uint64_t inode);

#endif
