/* Answers the commonest requests of the kernel without Python, and lets pyfuse3 serve files that are never opened.
 *
 * This object is loaded with RTLD_GLOBAL before pyfuse3 is imported, so that pyfuse3 finds some functions of
 * libfuse here first. Each calls the real one:
 *
 * fuse_session_new wraps the handlers. After ENOSYS to OPEN and OPENDIR the kernel sends neither again, nor
 * RELEASE, and its requests carry the handle 0; pyfuse3 hands its handlers the handle alone, so they could not know
 * the file. The wrapped ones put the inode's number where the handle is 0.
 *
 * fuse_session_receive_buf looks at what came. Some requests are answered here, and the next one is awaited for a
 * moment; everything else goes the usual way:
 *   READ of a file whose contents were offered, OPEN of it, for reading only, its RELEASE (fast_files.c), and FLUSH
 *   of such a handle, if it comes;
 *   READ of a large file whose blocks were told of (fast_large.c);
 *   READDIRPLUS of a folder that was offered, and GETATTR of what is in it (fast_listing.c);
 *   CREATE of a file that Python expects, the WRITE that follows, its attributes, and RELEASE (fast_new.c);
 *   GETXATTR of names that no file here has (security.*, system.*), which the kernel asks for at each write.
 * Whoever changes anything calls `mstfs_stand_down` before: then nothing is offered any more, and who has what open
 * is told. So what is answered here is always what Python would have answered.
 *
 * fuse_reply_open says what pyfuse3 has no word for: that the kernel may keep the listings of folders, and need not
 * tell of the end of who only reads. Handles below 2^32 are those of folders, or of snapshots that are read past the
 * cache (mstfs/fuse/operations.py).
 *
 * The interpreter's lock is let go while requests are answered here. It needs no headers of Python, and no libfuse
 * at link time. Where pyfuse3 calls another function (libfuse 3.17 and later rename fuse_session_new),
 * `mstfs_fast_path` stays 0, and mounts work with more requests, all answered by Python.
 */
#define FUSE_USE_VERSION 32
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "fast_files.h"
#include "fast_large.h"
#include "fast_listing.h"
#include "fast_new.h"
#include "fast_push.h"

#undef fuse_session_new

#define AWAIT_NS 60000           /* how long the next request is awaited here */
#define STREAK_NS 4000000        /* how long others may have to wait for us */

extern void *PyEval_SaveThread(void);
extern void PyEval_RestoreThread(void *);

int mstfs_fast_path = 0;
uint64_t mstfs_answered = 0;     /* requests that were answered here */

static struct fuse_lowlevel_ops theirs;
static int answering = 0;        /* the request that is being processed is answered here */
static int is_large = 0;         /* it reads a large file */
static int device = -1;          /* /dev/fuse, once there was a request */

static int (*real_receive)(struct fuse_session *, struct fuse_buf *);
static void (*real_process)(struct fuse_session *, const struct fuse_buf *);
static int (*real_fd)(struct fuse_session *);
static int (*reply_err)(fuse_req_t, int);
static int (*reply_open)(fuse_req_t, const struct fuse_file_info *);

int mstfs_device(void)
{
    return device;
}

/* --- handlers ------------------------------------------------------------------------------------- */

#define OWN_HANDLE(fi, ino)               \
    struct fuse_file_info own = *(fi);    \
    if (own.fh == 0)                      \
        own.fh = (ino)

static void own_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    if (answering && is_large) {
        mstfs_large_read(req, ino, size, off);
        return;
    }
    if (answering) {
        mstfs_files_read(req, ino, size, off);
        return;
    }
    OWN_HANDLE(fi, ino);
    theirs.read(req, ino, size, off, &own);
}

static void own_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    if (answering) {
        mstfs_files_open(req, ino, fi);
        return;
    }
    theirs.open(req, ino, fi);
}

static void own_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
    if (answering) {
        mstfs_new_create(req, mode, fi);
        return;
    }
    theirs.create(req, parent, name, mode, fi);
}

static void own_write_buf(fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec *data, off_t off,
                          struct fuse_file_info *fi)
{
    if (answering) {
        mstfs_new_write(req, data);
        return;
    }
    theirs.write_buf(req, ino, data, off, fi);
}

static void own_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    if (answering && fi->fh == ino) {
        mstfs_new_release(req);
        return;
    }
    if (answering) {
        mstfs_files_release(req, ino);
        return;
    }
    theirs.release(req, ino, fi);
}

static void own_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    if (answering) {
        reply_err(req, 0);
        return;
    }
    OWN_HANDLE(fi, ino);
    theirs.flush(req, ino, &own);
}

static void own_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
    if (answering) {
        reply_err(req, ENODATA);
        return;
    }
    theirs.getxattr(req, ino, name, size);
}

static void own_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    if (answering && mstfs_new_made()) {
        mstfs_new_attributes(req);
        return;
    }
    if (answering) {
        mstfs_listing_attributes(req, ino);
        return;
    }
    theirs.getattr(req, ino, fi);
}

static void own_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *wanted, int which, struct fuse_file_info *fi)
{
    if (answering) {
        mstfs_new_set(req, wanted, which);
        return;
    }
    theirs.setattr(req, ino, wanted, which, fi);
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
    if (answering) {
        mstfs_listing_reply(req, ino, size, off);
        return;
    }
    OWN_HANDLE(fi, ino);
    theirs.readdirplus(req, ino, size, off, &own);
}

static void own_init(void *userdata, struct fuse_conn_info *conn)
{
    if (theirs.init)
        theirs.init(userdata, conn);
    /* A request is looked at before it is processed, and two system calls for each are one too many. */
    conn->want &= ~FUSE_CAP_SPLICE_READ;
}

int fuse_reply_open(fuse_req_t req, const struct fuse_file_info *fi)
{
    struct fuse_file_info own = *fi;

    if (!reply_open)
        reply_open = dlsym(dlopen("libfuse3.so.3", RTLD_LAZY), "fuse_reply_open");
    if (own.fh < 1ull << 32 && !own.direct_io) {
        own.cache_readdir = 1;
        own.keep_cache = 1;
    }
    if (own.fh & MSTFS_READER || own.fh < 1ull << 32)
        MSTFS_NO_FLUSH(&own);
    return reply_open(req, &own);
}

/* --- the session ---------------------------------------------------------------------------------- */

/* Whether a request is answered here. */
static int is_ours(const struct fuse_buf *buf)
{
    const struct fuse_in_header *head = buf->mem;
    const void *argument = head + 1;

    if ((buf->flags & FUSE_BUF_IS_FD) || buf->size < sizeof(*head) + 8)
        return 0;
    if (head->opcode == FUSE_READDIRPLUS)
        return mstfs_listing_answers(head->nodeid, ((const struct fuse_read_in *)argument)->offset);
    if (head->opcode == FUSE_GETATTR && !mstfs_new_made())
        return mstfs_listing_knows(head->nodeid);
    if (head->opcode == FUSE_FLUSH)
        return ((const struct fuse_flush_in *)argument)->fh == (head->nodeid | MSTFS_READER);
    if (head->opcode == FUSE_GETXATTR) {
        const char *name = (const char *)((const struct fuse_getxattr_in *)argument + 1);
        return buf->size > sizeof(*head) + sizeof(struct fuse_getxattr_in) + 10
            && (!strncmp(name, "security.", 9) || !strncmp(name, "system.", 7));
    }
    if (head->opcode == FUSE_READ)
        mstfs_push_saw(head->pid);
    is_large = mstfs_large_answers(head, argument);
    return is_large || mstfs_files_answers(head, argument)
        || mstfs_new_answers(head, argument, buf->size - sizeof(*head));
}

static int64_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ll + time.tv_nsec;
}

/* Whether the next request comes soon. To sleep until then would cost more than all the rest: the processor that
 * has to be woken up is slower than the program that asks. */
static int comes(int number)
{
    struct pollfd fd = {.fd = number, .events = POLLIN};
    int64_t end = now() + AWAIT_NS;

    while (poll(&fd, 1, 0) <= 0) {
        if (now() > end)
            return 0;
        sched_yield();
    }
    return 1;
}

/* Whether a request is there. */
int mstfs_asked(void)
{
    struct pollfd fd = {.fd = device, .events = POLLIN};

    return device >= 0 && poll(&fd, 1, 0) > 0;
}

/* Whether the next request comes soon, before the event loop goes to sleep. */
int mstfs_comes(void)
{
    return device >= 0 && comes(device);
}

int fuse_session_receive_buf(struct fuse_session *se, struct fuse_buf *buf)
{
    int result;

    if (!real_receive)
        real_receive = dlsym(dlopen("libfuse3.so.3", RTLD_LAZY), "fuse_session_receive_buf");
    result = real_receive(se, buf);
    if (device < 0 && mstfs_fast_path)
        device = real_fd(se);
    if (!mstfs_fast_path || result <= 0 || !is_ours(buf))
        return result;
    void *python = PyEval_SaveThread();
    int64_t end = now() + STREAK_NS;
    do {
        answering = 1;
        real_process(se, buf);
        answering = 0;
        mstfs_answered++;
        /* -EINTR sends pyfuse3 back to waiting, and lets others have their turn. */
        result = -EINTR;
        if (now() > end || !comes(device))
            break;
        result = real_receive(se, buf);
    } while (result > 0 && is_ours(buf));
    PyEval_RestoreThread(python);
    return result;
}

static int find_real(void *libfuse)
{
    if (!libfuse)
        return 0;
    real_receive = dlsym(libfuse, "fuse_session_receive_buf");
    real_process = dlsym(libfuse, "fuse_session_process_buf");
    real_fd = dlsym(libfuse, "fuse_session_fd");
    reply_err = dlsym(libfuse, "fuse_reply_err");
    reply_open = dlsym(libfuse, "fuse_reply_open");
    return real_receive && real_process && real_fd && reply_err && reply_open
        && mstfs_files_init(libfuse) && mstfs_large_init(libfuse) && mstfs_listing_init(libfuse) && mstfs_new_init(libfuse);
}

struct fuse_session *fuse_session_new(struct fuse_args *args, const struct fuse_lowlevel_ops *op, size_t op_size,
                                      void *userdata)
{
    struct fuse_session *(*real)(struct fuse_args *, const struct fuse_lowlevel_ops *, size_t, void *);
    void *libfuse = dlopen("libfuse3.so.3", RTLD_LAZY);

    real = libfuse ? dlsym(libfuse, "fuse_session_new") : NULL;
    if (!real)
        return NULL;
    if (op_size != sizeof(theirs) || !find_real(libfuse))
        return real(args, op, op_size, userdata);
    theirs = *op;
    struct fuse_lowlevel_ops own = theirs;
    own.init = own_init;
    own.read = theirs.read ? own_read : NULL;
    own.open = theirs.open ? own_open : NULL;
    own.create = theirs.create ? own_create : NULL;
    own.write_buf = theirs.write_buf ? own_write_buf : NULL;
    own.release = theirs.release ? own_release : NULL;
    own.flush = theirs.flush ? own_flush : NULL;
    own.getxattr = theirs.getxattr ? own_getxattr : NULL;
    own.getattr = theirs.getattr ? own_getattr : NULL;
    own.setattr = theirs.setattr ? own_setattr : NULL;
    own.fsync = theirs.fsync ? own_fsync : NULL;
    own.fsyncdir = theirs.fsyncdir ? own_fsyncdir : NULL;
    own.readdirplus = theirs.readdirplus ? own_readdirplus : NULL;
    mstfs_fast_path = 1;
    return real(args, &own, sizeof(own), userdata);
}
