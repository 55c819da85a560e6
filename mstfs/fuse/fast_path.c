/* Lets pyfuse3 serve a mount whose files are never opened.
 *
 * After ENOSYS to OPEN and OPENDIR the kernel sends neither again, nor RELEASE, and its requests carry the
 * handle 0. pyfuse3 hands its handlers the handle alone, so they could not know the file. This object, loaded
 * with RTLD_GLOBAL before pyfuse3 is imported, stands before libfuse's fuse_session_new: it wraps the handlers
 * so that handle 0 becomes the inode's number. With real handles it changes nothing.
 *
 * It needs no Python and no libfuse at link time. Where pyfuse3 calls another function (libfuse 3.17 and later
 * rename it), `mstfs_inode_handles` stays 0, and mounts go on with OPEN requests.
 */
#define FUSE_USE_VERSION 32
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fuse_lowlevel.h>
#include <stddef.h>

#undef fuse_session_new

int mstfs_inode_handles = 0;

static struct fuse_lowlevel_ops theirs;

#define OWN_HANDLE(fi, ino)               \
    struct fuse_file_info own = *(fi);    \
    if (own.fh == 0)                      \
        own.fh = (ino)

static void own_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    OWN_HANDLE(fi, ino);
    theirs.read(req, ino, size, off, &own);
}

static void own_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    OWN_HANDLE(fi, ino);
    theirs.flush(req, ino, &own);
}

static void own_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    OWN_HANDLE(fi, ino);
    theirs.fsync(req, ino, datasync, &own);
}

static void own_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    OWN_HANDLE(fi, ino);
    theirs.fsyncdir(req, ino, datasync, &own);
}

static void own_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    OWN_HANDLE(fi, ino);
    theirs.readdirplus(req, ino, size, off, &own);
}

struct fuse_session *fuse_session_new(struct fuse_args *args, const struct fuse_lowlevel_ops *op, size_t op_size,
                                      void *userdata)
{
    struct fuse_session *(*real)(struct fuse_args *, const struct fuse_lowlevel_ops *, size_t, void *);
    void *libfuse = dlopen("libfuse3.so.3", RTLD_LAZY);

    real = libfuse ? dlsym(libfuse, "fuse_session_new") : NULL;
    if (!real)
        return NULL;
    if (op_size != sizeof(theirs))
        return real(args, op, op_size, userdata);
    theirs = *op;
    struct fuse_lowlevel_ops own = theirs;
    own.read = theirs.read ? own_read : NULL;
    own.flush = theirs.flush ? own_flush : NULL;
    own.fsync = theirs.fsync ? own_fsync : NULL;
    own.fsyncdir = theirs.fsyncdir ? own_fsyncdir : NULL;
    own.readdirplus = theirs.readdirplus ? own_readdirplus : NULL;
    mstfs_inode_handles = 1;
    return real(args, &own, sizeof(own), userdata);
}
