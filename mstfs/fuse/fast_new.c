/* Makes new files without Python, one at a time.
 *
 * A program that makes many files does the same for each: LOOKUP of a name that is not there, CREATE, one WRITE or a
 * few, perhaps SETATTR of its time, owner and mode, FLUSH, RELEASE. Python answers LOOKUP, and says here which file may
 * come of it: one whose name is free and can be a file's. CREATE of just that, the writes that continue it from its
 * beginning, its attributes, and RELEASE after a close that left nothing to do are answered here.
 *
 * So there may be a file of which Python does not know yet. Whatever Python is asked for next, and before it changes
 * anything by itself, it takes that file over first (`mstfs_new_take`), and what was expected ends. At the close this
 * is FLUSH, which stages it. Nothing is made here that Python could refuse.
 *
 * Requests are received, and this is called by Python, in one thread: nothing here is locked.
 */
#define FUSE_USE_VERSION 32
#define _GNU_SOURCE
#include "fast_new.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define NAME_BYTES 255
#define ROOM (64 << 10)          /* what is held of a file */
#define FOREVER 1073741824.0     /* seconds; as in mstfs/fuse/attributes.py */
#define PREFERRED (128 << 10)

#define ASKED UINT32_MAX

/* What may be set here: nothing that changes what is in the file. */
#define SETTABLE (FATTR_MODE | FATTR_UID | FATTR_GID | FATTR_ATIME | FATTR_MTIME | FATTR_FH | FATTR_ATIME_NOW \
                  | FATTR_MTIME_NOW)
#define LATEST (1ull << 33)      /* seconds since 1970 that are kept as they are; Python knows about others */

/* What Python takes over; as in mstfs/fuse/fast_path.py. */
struct {
    uint64_t waiting;            /* whether anything was made or closed, or may be next */
    uint64_t closed;             /* the inode that RELEASE came for, or 0; Python sets it to 0 */
    uint64_t mode;               /* permission bits that were asked for, or set since */
    int64_t mtime;               /* ns since 1970 */
    uint64_t write_only;         /* whether who made it may only write */
    uint64_t size;
    char data[ROOM];
} mstfs_new;

static uint64_t parent, inode;   /* what is expected, or was made */
static char name[NAME_BYTES + 1];
static uint32_t shown_mode;      /* permission bits; ASKED: those that are asked for */
static uint32_t uid, gid;
static int expected = 0, made = 0;
static uint64_t closing = 0;     /* the inode whose RELEASE leaves nothing to do */

static int (*reply_create)(fuse_req_t, const struct fuse_entry_param *, const struct fuse_file_info *);
static int (*reply_write)(fuse_req_t, size_t);
static int (*reply_attr)(fuse_req_t, const struct stat *, double);
static int (*reply_err)(fuse_req_t, int);
static const struct fuse_ctx *(*context)(fuse_req_t);

int mstfs_new_init(void *libfuse)
{
    reply_create = dlsym(libfuse, "fuse_reply_create");
    reply_write = dlsym(libfuse, "fuse_reply_write");
    reply_attr = dlsym(libfuse, "fuse_reply_attr");
    reply_err = dlsym(libfuse, "fuse_reply_err");
    context = dlsym(libfuse, "fuse_req_ctx");
    return reply_create && reply_write && reply_attr && reply_err && context;
}

/* --- what Python calls ------------------------------------------------------------------------------ */

/* CREATE of a name in a folder may make a file of this inode. `mode` is ASKED, or what is shown whatever is asked. */
void mstfs_new_expect(uint64_t in, const char *of, uint64_t number, uint32_t mode, uint32_t user, uint32_t group)
{
    size_t length = strlen(of);

    if (length > NAME_BYTES)
        return;
    memcpy(name, of, length + 1);
    parent = in;
    inode = number;
    shown_mode = mode;
    uid = user;
    gid = group;
    expected = mstfs_new.waiting = 1;
}

/* A close was answered, and the RELEASE that belongs to it leaves nothing to do. */
void mstfs_new_close(uint64_t number)
{
    closing = number;
    mstfs_new.waiting = 1;
}

/* Python knows everything from now on. Gives whether a file was made, of which `mstfs_new` says more. */
int mstfs_new_take(void)
{
    int found = made;

    expected = made = 0;
    closing = 0;
    mstfs_new.waiting = 0;
    return found;
}

/* --- requests ----------------------------------------------------------------------------------------- */

int mstfs_new_made(void)
{
    return made;
}

static int creates(const struct fuse_in_header *head, const void *argument, size_t size)
{
    const struct fuse_create_in *in = argument;
    const char *of = (const char *)(in + 1);

    return expected && head->nodeid == parent && size > sizeof(*in) && !strncmp(of, name, size - sizeof(*in));
}

static int writes(const struct fuse_in_header *head, const void *argument, size_t size)
{
    const struct fuse_write_in *in = argument;

    return made && head->nodeid == inode && size >= sizeof(*in) && in->fh == inode && in->offset == mstfs_new.size
        && size - sizeof(*in) == in->size && in->size <= ROOM - mstfs_new.size
        && !(in->write_flags & FUSE_WRITE_CACHE);
}

static int sets(const struct fuse_in_header *head, const void *argument, size_t size)
{
    const struct fuse_setattr_in *in = argument;

    return made && head->nodeid == inode && size >= sizeof(*in) && !(in->valid & ~SETTABLE)
        && (!(in->valid & FATTR_UID) || in->uid == uid) && (!(in->valid & FATTR_GID) || in->gid == gid)
        && (!(in->valid & FATTR_MTIME) || in->mtime < LATEST);
}

int mstfs_new_answers(const struct fuse_in_header *head, const void *argument, size_t size)
{
    if (head->opcode == FUSE_CREATE)
        return creates(head, argument, size);
    if (head->opcode == FUSE_WRITE)
        return writes(head, argument, size);
    if (head->opcode == FUSE_SETATTR)
        return sets(head, argument, size);
    if (head->opcode == FUSE_GETATTR)
        return made && head->nodeid == inode;
    return head->opcode == FUSE_RELEASE && closing && head->nodeid == closing
        && ((const struct fuse_release_in *)argument)->fh == closing;
}

static int64_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_REALTIME, &time);
    return time.tv_sec * 1000000000ll + time.tv_nsec;
}

static struct stat attributes(void)
{
    struct stat found;

    memset(&found, 0, sizeof(found));
    found.st_ino = inode;
    found.st_mode = S_IFREG | (shown_mode == ASKED ? mstfs_new.mode : shown_mode);
    found.st_nlink = 1;
    found.st_uid = uid;
    found.st_gid = gid;
    found.st_size = (off_t)mstfs_new.size;
    found.st_blocks = ((off_t)mstfs_new.size + 511) / 512;
    found.st_blksize = PREFERRED;
    found.st_mtim.tv_sec = mstfs_new.mtime / 1000000000;
    found.st_mtim.tv_nsec = mstfs_new.mtime % 1000000000;
    found.st_atim = found.st_ctim = found.st_mtim;
    return found;
}

void mstfs_new_create(fuse_req_t req, mode_t mode, struct fuse_file_info *fi)
{
    struct fuse_entry_param entry;

    mstfs_new.mode = mode & ~context(req)->umask & 0777;
    mstfs_new.mtime = now();
    mstfs_new.size = 0;
    memset(&entry, 0, sizeof(entry));
    entry.ino = inode;
    entry.attr_timeout = entry.entry_timeout = FOREVER;
    entry.attr = attributes();
    fi->fh = inode;
    fi->keep_cache = 1;
    /* Past its cache the kernel writes at once: else it asks for security.capability first, for each new file. */
    fi->direct_io = mstfs_new.write_only = (fi->flags & O_ACCMODE) == O_WRONLY;
    expected = 0;
    /* Where the kernel does not take the answer, it knows of no such file. */
    made = reply_create(req, &entry, fi) == 0;
}

void mstfs_new_write(fuse_req_t req, const struct fuse_bufvec *data)
{
    size_t size = data->buf[0].size;

    memcpy(mstfs_new.data + mstfs_new.size, data->buf[0].mem, size);
    mstfs_new.size += size;
    mstfs_new.mtime = now();
    reply_write(req, size);
}

void mstfs_new_set(fuse_req_t req, const struct stat *wanted, int which)
{
    if (which & FATTR_MODE)
        mstfs_new.mode = wanted->st_mode & 0777;
    /* Where it is to be the time of now, the kernel says which that is. */
    if (which & FATTR_MTIME)
        mstfs_new.mtime = wanted->st_mtim.tv_sec * 1000000000ll + wanted->st_mtim.tv_nsec;
    mstfs_new_attributes(req);
}

void mstfs_new_attributes(fuse_req_t req)
{
    struct stat found = attributes();

    reply_attr(req, &found, FOREVER);
}

void mstfs_new_release(fuse_req_t req)
{
    mstfs_new.closed = closing;
    closing = 0;
    reply_err(req, 0);
}
