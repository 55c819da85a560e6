/* Large files whose blocks Python has told of.
 *
 * Reading one is hashing and copying, so two threads do it: that which answers everything, and one beside it, which
 * is given what it can take while the first goes on. Neither needs anything of Python.
 *
 * A block that is not what it should be is not told of any more, and who asked for it is handed to Python, which
 * looks for other copies and knows what to say. So is who asks for a block of a hash function that is not known here
 * and that has no tags yet; Python hashes it, and `mstfs_large_tag` makes them. An eventfd wakes it,
 * `mstfs_large_failed` gives the request, and `mstfs_large_finish` answers it.
 *
 * What is being read when `mstfs_large_withdraw` is called is still answered, as if it had been a moment before.
 */
#define FUSE_USE_VERSION 32
#define _GNU_SOURCE
#include "fast_large.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../blocks/fast_parts.h"
#include "fast_files.h"

#define FILES 64                 /* that are known at a time; one more, and all are forgotten */
#define LEAVES (1u << 16)        /* of all files, likewise */
#define PIECES 64                /* leaves that one request may touch */
#define REQUEST_MOST (1u << 20)  /* bytes that one request may ask for */
#define HELPED (128u << 10)      /* bytes that are worth another thread's waking up */

/* A part of a file that is a block; its fields are in this order in what Python gives. */
struct leaf {
    uint64_t start;              /* in the file */
    struct mstfs_block block;    /* its length is 0 once there was something wrong with it */
};

struct large {
    uint64_t ino, size;
    struct leaf *leaves;         /* in the order of the file; there may be gaps */
    size_t count;
};

struct piece {
    struct mstfs_block block;
    uint64_t start;
    uint32_t from, count;
};

struct job {
    fuse_req_t req;
    uint64_t ino, offset;
    size_t size, count;
    struct piece pieces[PIECES];
};

/* What one thread works with. */
struct hand {
    struct mstfs_checker *checker;
    char *out;
};

struct failed {
    struct failed *next;
    fuse_req_t req;
    uint64_t ino, offset, size;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wanted = PTHREAD_COND_INITIALIZER;
static struct mstfs_source source = {.file = -1, .tags = -1};
static struct large files[FILES];
static size_t file_count = 0, leaf_count = 0;
static struct failed *failed_first = NULL, **failed_last = &failed_first;
static int wakes = -1;           /* the eventfd */

static struct hand own, other;
static pthread_t helper;
static enum { NONE, IDLE, GIVEN, WORKING, STOPPING } state = NONE; /* of the other thread */
static struct job given;

static int (*reply_buf)(fuse_req_t, const char *, size_t);
static int (*reply_err)(fuse_req_t, int);

int mstfs_large_init(void *libfuse)
{
    reply_buf = dlsym(libfuse, "fuse_reply_buf");
    reply_err = dlsym(libfuse, "fuse_reply_err");
    return reply_buf && reply_err;
}

static void *help(void *unused);

static int take_in_hand(struct hand *hand)
{
    hand->checker = mstfs_checker_new();
    hand->out = malloc(REQUEST_MOST);
    return hand->checker && hand->out;
}

static void let_go(struct hand *hand)
{
    mstfs_checker_free(hand->checker);
    free(hand->out);
    *hand = (struct hand){NULL, NULL};
}

/* --- the table ---------------------------------------------------------------------------------------------- */

static struct large *find(uint64_t ino)
{
    for (size_t index = 0; index < file_count; index++)
        if (files[index].ino == ino)
            return &files[index];
    return NULL;
}

static void forget_all(void)
{
    for (size_t index = 0; index < file_count; index++)
        free(files[index].leaves);
    file_count = leaf_count = 0;
}

/* The first leaf that starts behind an offset. */
static size_t leaf_behind(const struct large *file, uint64_t offset)
{
    size_t low = 0, high = file->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (file->leaves[middle].start > offset)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* The pieces of leaves that a range consists of; 0 if they are not all known, or too many. */
static size_t collect(const struct large *file, uint64_t offset, uint64_t end, struct piece *pieces)
{
    size_t at = leaf_behind(file, offset), count = 0;

    while (offset < end) {
        const struct leaf *leaf = at ? &file->leaves[at - 1] : NULL;
        if (!leaf || offset - leaf->start >= leaf->block.length || count == PIECES)
            return 0;
        uint64_t until = leaf->start + leaf->block.length < end ? leaf->start + leaf->block.length : end;
        pieces[count++] = (struct piece){
            leaf->block, leaf->start, (uint32_t)(offset - leaf->start), (uint32_t)(until - offset),
        };
        offset = until;
        at = at < file->count ? at + 1 : 0;
    }
    return count;
}

static uint64_t end_of(const struct large *file, uint64_t offset, uint64_t size)
{
    return size < file->size - offset ? offset + size : file->size;
}

/* Do not tell of a leaf any more. Whoever calls this, or what follows, holds the lock. */
static void spoil(uint64_t ino, uint64_t start)
{
    struct large *file = find(ino);
    size_t at = file ? leaf_behind(file, start) : 0;

    if (at && file->leaves[at - 1].start == start)
        file->leaves[at - 1].block.length = 0;
}

static void hand_to_python(fuse_req_t req, uint64_t ino, uint64_t offset, uint64_t size)
{
    struct failed *failed = malloc(sizeof(*failed));
    uint64_t one = 1;

    if (!failed) {
        reply_err(req, ENOMEM);
        return;
    }
    *failed = (struct failed){NULL, req, ino, offset, size};
    *failed_last = failed;
    failed_last = &failed->next;
    (void)!write(wakes, &one, sizeof(one));
}

/* Read what a job asks for; -2 if a block is not what it should be, -3 if that cannot be found out here. */
static ssize_t fill(const struct hand *hand, const struct job *job, char *out)
{
    size_t filled = 0;

    for (size_t index = 0; index < job->count; index++) {
        const struct piece *piece = &job->pieces[index];
        int sound = mstfs_read_part(hand->checker, &source, &piece->block, piece->from, piece->count, out + filled);
        if (sound < 0)
            return -3;
        if (!sound) {
            pthread_mutex_lock(&lock);
            spoil(job->ino, piece->start);
            pthread_mutex_unlock(&lock);
            return -2;
        }
        filled += piece->count;
    }
    return (ssize_t)filled;
}

/* --- what Python calls ---------------------------------------------------------------------------------------- */

/* Begin: where the blocks are, what tags are made with, and what wakes Python. 0 if that cannot be. */
int mstfs_large_begin(int file, int tags, const unsigned char *secret, int event)
{
    sigset_t all, before;

    mstfs_crypto_find();
    if (!take_in_hand(&own) || !take_in_hand(&other)) {
        let_go(&own);
        let_go(&other);
        return 0;
    }
    source.file = file;
    source.tags = tags;
    memcpy(source.secret, secret, sizeof(source.secret));
    wakes = event;
    /* Signals are for the thread that knows what to do about them. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    state = IDLE;
    if (pthread_create(&helper, NULL, help, NULL))
        state = NONE;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return 1;
}

/* Tell of some leaves of a file, in order; they take the place of those between the first and the last of them.
 * Returns whether all that was told before had to be forgotten. */
int mstfs_large_tell(uint64_t ino, uint64_t size, const struct leaf *leaves, size_t count)
{
    if (!count)
        return 0;
    pthread_mutex_lock(&lock);
    struct large *file = find(ino);
    int full = leaf_count + count > LEAVES || (!file && file_count == FILES);
    if (full) {
        forget_all();
        file = NULL;
    }
    if (!file) {
        file = &files[file_count++];
        *file = (struct large){.ino = ino};
    }
    file->size = size;
    const struct leaf *last = &leaves[count - 1];
    size_t low = leaf_behind(file, leaves[0].start), high = leaf_behind(file, last->start);
    if (low && file->leaves[low - 1].start == leaves[0].start)
        low--;
    size_t kept = file->count - (high - low);
    struct leaf *made = malloc((kept + count) * sizeof(*made));
    if (made) {
        if (low)
            memcpy(made, file->leaves, low * sizeof(*made));
        memcpy(made + low, leaves, count * sizeof(*made));
        if (high < file->count)
            memcpy(made + low + count, file->leaves + high, (file->count - high) * sizeof(*made));
        for (size_t index = low; index < low + count; index++)
            if (made[index].block.length > MSTFS_BLOCK_MOST)
                made[index].block.length = 0;
        free(file->leaves);
        leaf_count += kept + count - file->count;
        file->leaves = made;
        file->count = kept + count;
    }
    pthread_mutex_unlock(&lock);
    return full;
}

/* Before anything changes: Python answers for every file. */
void mstfs_large_withdraw(void)
{
    pthread_mutex_lock(&lock);
    forget_all();
    pthread_mutex_unlock(&lock);
}

/* Read some bytes of a file; -1 if not all of these blocks were told of, -2 if one is not what it should be, -3 if
 * one must be hashed by Python first. */
ssize_t mstfs_large_get(uint64_t ino, uint64_t offset, uint64_t size, char *out)
{
    struct job job = {.ino = ino, .offset = offset, .size = size};

    pthread_mutex_lock(&lock);
    const struct large *file = find(ino);
    if (file && offset < file->size)
        job.count = collect(file, offset, end_of(file, offset, size), job.pieces);
    pthread_mutex_unlock(&lock);
    return job.count ? fill(&own, &job, out) : -1;
}

/* A block was hashed by Python: these are its bytes. */
void mstfs_large_tag(const struct mstfs_block *block, const char *data)
{
    mstfs_tag_block(own.checker, &source, block, data);
}

/* A request that Python must answer, and what it asks for: inode, offset, size. NULL if there is none. */
struct failed *mstfs_large_failed(uint64_t *asked)
{
    pthread_mutex_lock(&lock);
    struct failed *failed = failed_first;
    if (failed) {
        failed_first = failed->next;
        if (!failed_first)
            failed_last = &failed_first;
        asked[0] = failed->ino;
        asked[1] = failed->offset;
        asked[2] = failed->size;
    }
    pthread_mutex_unlock(&lock);
    return failed;
}

/* Answer such a request: with an error, if there is one. */
void mstfs_large_finish(struct failed *failed, int error, const char *data, size_t size)
{
    if (error)
        reply_err(failed->req, error);
    else
        reply_buf(failed->req, data, size);
    free(failed);
}

/* End: nothing is read here any more, and the other thread is through with what it did. */
void mstfs_large_end(void)
{
    struct failed *failed;
    uint64_t asked[3];

    pthread_mutex_lock(&lock);
    int join = state != NONE;
    if (state == GIVEN)
        hand_to_python(given.req, given.ino, given.offset, given.size);
    state = STOPPING;
    pthread_cond_broadcast(&wanted);
    pthread_mutex_unlock(&lock);
    if (join)
        pthread_join(helper, NULL);
    mstfs_large_withdraw();
    while ((failed = mstfs_large_failed(asked)))
        mstfs_large_finish(failed, EIO, NULL, 0);
    let_go(&own);
    let_go(&other);
    state = NONE;
}

/* --- reading -------------------------------------------------------------------------------------------------- */

static void do_job(const struct hand *hand, const struct job *job)
{
    ssize_t filled = fill(hand, job, hand->out);

    if (filled >= 0) {
        reply_buf(job->req, hand->out, (size_t)filled);
        return;
    }
    pthread_mutex_lock(&lock);
    hand_to_python(job->req, job->ino, job->offset, job->size);
    pthread_mutex_unlock(&lock);
}

static void *help(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&lock);
    while (state != STOPPING) {
        if (state != GIVEN) {
            pthread_cond_wait(&wanted, &lock);
            continue;
        }
        struct job job = given;
        state = WORKING;
        pthread_mutex_unlock(&lock);
        do_job(&other, &job);
        pthread_mutex_lock(&lock);
        if (state != STOPPING)
            state = IDLE;
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

/* --- requests ------------------------------------------------------------------------------------------------- */

int mstfs_large_answers(const struct fuse_in_header *head, const void *argument)
{
    const struct fuse_read_in *read = argument;
    struct piece pieces[PIECES];

    if (head->opcode != FUSE_READ || !file_count || read->size > REQUEST_MOST
        || (read->fh && read->fh != (head->nodeid | MSTFS_READER)))
        return 0;
    pthread_mutex_lock(&lock);
    const struct large *file = find(head->nodeid);
    int answer = file && read->offset < file->size
        && collect(file, read->offset, end_of(file, read->offset, read->size), pieces);
    pthread_mutex_unlock(&lock);
    return answer;
}

void mstfs_large_read(fuse_req_t req, uint64_t inode, size_t size, off_t offset)
{
    struct job job = {.req = req, .ino = inode, .offset = (uint64_t)offset, .size = size};
    int is_given = 0;

    pthread_mutex_lock(&lock);
    const struct large *file = find(inode);
    job.count = collect(file, job.offset, end_of(file, job.offset, size), job.pieces);
    if (!job.count) {
        /* What was all right a moment ago is not any more. */
        hand_to_python(req, inode, job.offset, size);
        is_given = 1;
    } else if (size >= HELPED && state == IDLE) {
        given = job;
        state = GIVEN;
        is_given = 1;
        pthread_cond_signal(&wanted);
    }
    pthread_mutex_unlock(&lock);
    if (!is_given)
        do_job(&own, &job);
}
