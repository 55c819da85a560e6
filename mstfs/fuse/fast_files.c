/* Contents of small files that Python offered, and who has these files open.
 *
 * READ gives what was offered, once: the kernel keeps it. Where files are opened at all, OPEN for reading only is
 * answered for what is offered or ever was, and counted until its RELEASE; `mstfs_stand_down` tells Python of the
 * counts before anything changes.
 */
#define FUSE_USE_VERSION 32
#define _GNU_SOURCE
#include "fast_files.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "fast_push.h"

#define SLOTS_MIN 1024

size_t mstfs_held = 0;           /* bytes that are offered */
size_t mstfs_offered = 0;        /* files that are in the table */

static int opens_here = 0;       /* files are opened, and that may happen here */

static int (*reply_buf)(fuse_req_t, const char *, size_t);
static int (*reply_err)(fuse_req_t, int);
static int (*reply_open)(fuse_req_t, const struct fuse_file_info *);

int mstfs_files_init(void *libfuse)
{
    reply_buf = dlsym(libfuse, "fuse_reply_buf");
    reply_err = dlsym(libfuse, "fuse_reply_err");
    reply_open = dlsym(libfuse, "fuse_reply_open");
    return reply_buf && reply_err && reply_open;
}

/* --- a hash table with linear probing ----------------------------------------------------------------- */

struct file {
    uint64_t ino;                /* 0: free */
    char *data;                  /* NULL once the kernel has it */
    uint32_t size;
    uint32_t readers;            /* handles that were opened here */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct file *files = NULL;
static size_t slots = 0;

static size_t slot_of(uint64_t ino)
{
    return (ino * 0x9E3779B97F4A7C15ull) >> 17 & (slots - 1);
}

static struct file *find(uint64_t ino)
{
    if (!slots)
        return NULL;
    for (size_t at = slot_of(ino); files[at].ino; at = (at + 1) & (slots - 1))
        if (files[at].ino == ino)
            return &files[at];
    return NULL;
}

/* Make the table anew, with so many slots, of the files that are offered or open, or that ever were. */
static int rebuild(size_t wanted, int all)
{
    struct file *old = files, *made = calloc(wanted, sizeof(*made));
    size_t count = slots;

    if (!made)
        return 0;
    files = made;
    slots = wanted;
    mstfs_offered = 0;
    for (size_t index = 0; index < count; index++) {
        if (!old[index].ino || !(all || old[index].data || old[index].readers))
            continue;
        size_t at = slot_of(old[index].ino);
        while (files[at].ino)
            at = (at + 1) & (slots - 1);
        files[at] = old[index];
        mstfs_offered++;
    }
    free(old);
    return 1;
}

/* --- what Python calls ------------------------------------------------------------------------------ */

static void offer(uint64_t ino, const char *data, uint32_t size)
{
    struct file *file = find(ino);
    if (!file && (2 * (mstfs_offered + 1) <= slots || rebuild(slots ? 2 * slots : SLOTS_MIN, 1))) {
        size_t at = slot_of(ino);
        while (files[at].ino)
            at = (at + 1) & (slots - 1);
        file = &files[at];
        file->ino = ino;
        mstfs_offered++;
    }
    char *copy = file ? malloc(size ? size : 1) : NULL;
    if (copy) {
        memcpy(copy, data, size);
        if (file->data) {
            mstfs_held -= file->size;
            free(file->data);
        }
        file->data = copy;
        file->size = size;
        mstfs_held += size;
    }
}

/* Offer the contents of files, which stand one behind the other. Without memory for them, they are not offered. */
void mstfs_offer(const uint64_t *inodes, const char *data, const uint32_t *sizes, size_t count)
{
    pthread_mutex_lock(&lock);
    for (size_t index = 0; index < count; index++) {
        offer(inodes[index], data, sizes[index]);
        data += sizes[index];
    }
    pthread_mutex_unlock(&lock);
}

char *mstfs_take_offer(uint64_t inode, uint32_t *size)
{
    char *data = NULL;

    pthread_mutex_lock(&lock);
    struct file *file = find(inode);
    if (file && file->data) {
        data = file->data;
        *size = file->size;
        mstfs_held -= file->size;
        file->data = NULL;
    }
    pthread_mutex_unlock(&lock);
    return data;
}

/* Take back what was offered and not asked for; what is open here stays so. */
void mstfs_forget_offers(void)
{
    pthread_mutex_lock(&lock);
    for (size_t index = 0; index < slots; index++) {
        free(files[index].data);
        files[index].data = NULL;
    }
    mstfs_held = 0;
    if (slots)
        rebuild(slots, 0);
    pthread_mutex_unlock(&lock);
}

/* Offer nothing any more. Gives the inodes that are open here and how often, at most `most` of them, and forgets
 * that they are; returns their number, which is `most` where there may be more. */
int mstfs_stand_down(uint64_t *inodes, uint32_t *counts, int most)
{
    int found = 0;

    pthread_mutex_lock(&lock);
    for (size_t index = 0; index < slots && found < most; index++) {
        if (!files[index].readers)
            continue;
        inodes[found] = files[index].ino;
        counts[found++] = files[index].readers;
        files[index].readers = 0;
    }
    if (found < most) {
        for (size_t index = 0; index < slots; index++)
            free(files[index].data);
        free(files);
        files = NULL;
        slots = mstfs_offered = mstfs_held = 0;
    }
    pthread_mutex_unlock(&lock);
    return found;
}

/* From now on files are opened, and OPEN of what was offered is answered here. */
void mstfs_open_here(void)
{
    opens_here = 1;
}

/* --- requests ----------------------------------------------------------------------------------------- */

int mstfs_files_answers(const struct fuse_in_header *head, const void *argument)
{
    if (head->opcode != FUSE_READ && head->opcode != FUSE_OPEN && head->opcode != FUSE_RELEASE)
        return 0;
    pthread_mutex_lock(&lock);
    const struct file *file = find(head->nodeid);
    int answer = 0;
    if (file && head->opcode == FUSE_READ) {
        uint64_t handle = ((const struct fuse_read_in *)argument)->fh;
        answer = file->data && (!handle || handle == (head->nodeid | MSTFS_READER));
    } else if (file && head->opcode == FUSE_OPEN) {
        uint32_t flags = ((const struct fuse_open_in *)argument)->flags;
        answer = opens_here && (flags & O_ACCMODE) == O_RDONLY && !(flags & O_TRUNC);
    } else if (file) {
        uint64_t handle = ((const struct fuse_release_in *)argument)->fh;
        answer = file->readers && handle == (head->nodeid | MSTFS_READER);
    }
    pthread_mutex_unlock(&lock);
    return answer;
}

void mstfs_files_read(fuse_req_t req, uint64_t inode, size_t size, off_t offset)
{
    pthread_mutex_lock(&lock);
    struct file *file = find(inode);
    size_t end = file->size, from = (size_t)offset < end ? (size_t)offset : end;
    size_t count = end - from < size ? end - from : size;
    reply_buf(req, file->data + from, count);
    if (from + count == end) {
        /* The kernel keeps it from now on. */
        mstfs_held -= end;
        free(file->data);
        file->data = NULL;
    }
    pthread_mutex_unlock(&lock);
}

void mstfs_files_open(fuse_req_t req, uint64_t inode, struct fuse_file_info *fi)
{
    fi->fh = inode | MSTFS_READER;
    fi->keep_cache = 1;
    MSTFS_NO_FLUSH(fi);
    if (reply_open(req, fi) == 0) {
        pthread_mutex_lock(&lock);
        find(inode)->readers++;
        pthread_mutex_unlock(&lock);
    }
}

void mstfs_files_release(fuse_req_t req, uint64_t inode)
{
    pthread_mutex_lock(&lock);
    find(inode)->readers--;
    pthread_mutex_unlock(&lock);
    reply_err(req, 0);
}
