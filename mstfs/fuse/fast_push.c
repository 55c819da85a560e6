/* Gives the kernel the contents of files before it asks for them, so that it need not.
 *
 * Tricky bits
 *   The kernel locks a page that it asks for until it has the answer, and who gives it that page unasked waits for
 *   the lock, beyond the reach of any signal. So a thread of its own does it: should it have to wait, the others go
 *   on, answer the request, and free it. They wait for it for a moment only, and it gives nothing but while they do.
 *   What nobody can help is a process that is killed while the thread waits: the mount then hangs until
 *   `mstfs umount --force`.
 *   To come near that, two programs must read the same file in the same microseconds. So contents are given only
 *   while one thread alone reads, which waits for an answer itself all the while.
 *
 *   Contents that were given stay what the kernel shows. So only what never changes may be given: read-only mounts.
 *
 * Source: Linux fs/fuse/dev.c, FUSE_NOTIFY_STORE; include/uapi/linux/fuse.h.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>

#include "fast_push.h"

#define PATIENCE_NS 2000000      /* how long the thread may take for one file */
#define MOST 64                  /* files that are given at a time */
#define ALONE 8                  /* requests in a row of one thread, after which it is taken to read alone */

size_t mstfs_pushed = 0;         /* files that the kernel took */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work, done;
static pthread_t thread;
static int running = 0;          /* the thread was started */
static uint64_t wanted[MOST];
static size_t wanted_count = 0;  /* 0 once nobody waits for them any more */
static int busy = 0;             /* the thread has not come back */
static size_t steps = 0;         /* files that it is through with */

static uint32_t last_reader = 0;
static unsigned int in_a_row = 0;

void mstfs_push_saw(uint32_t reader)
{
    in_a_row = reader == last_reader ? in_a_row + 1 : 0;
    last_reader = reader;
}

/* Whether one thread alone reads at the moment. */
int mstfs_reads_alone(void)
{
    return in_a_row >= ALONE;
}

/* Whether the kernel took the contents of a file. What it does not take, it asks for when it is wanted. */
static int give(uint64_t inode, char *data, uint32_t size)
{
    struct fuse_notify_store_out store = {.nodeid = inode, .offset = 0, .size = size};
    struct fuse_out_header head = {
        .len = (uint32_t)(sizeof(head) + sizeof(store)) + size, .error = FUSE_NOTIFY_STORE, .unique = 0};
    struct iovec parts[3] = {{&head, sizeof(head)}, {&store, sizeof(store)}, {data, size}};

    return writev(mstfs_device(), parts, 3) == (ssize_t)head.len;
}

static void *give_all(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&lock);
    for (;;) {
        while (!busy)
            pthread_cond_wait(&work, &lock);
        for (size_t at = 0; at < wanted_count; at++) {
            uint64_t inode = wanted[at];
            uint32_t size;
            char *data = mstfs_take_offer(inode, &size);
            if (!data)
                continue;
            pthread_mutex_unlock(&lock);
            int taken = size && give(inode, data, size);
            free(data);
            pthread_mutex_lock(&lock);
            steps++;
            mstfs_pushed += taken ? 1 : 0;
        }
        busy = 0;
        pthread_cond_signal(&done);
    }
    return NULL;
}

static int start(void)
{
    pthread_condattr_t attributes;
    sigset_t all, before;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&work, &attributes);
    pthread_cond_init(&done, &attributes);
    pthread_condattr_destroy(&attributes);
    /* Signals are for Python's threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    running = !pthread_create(&thread, NULL, give_all, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return running;
}

/* Wait until the thread has come back; 0 if it stands still. Then it gives no more than it is about to. */
static int wait_for_it(void)
{
    size_t before = steps - 1;

    while (busy && steps != before) {
        struct timespec end;
        before = steps;
        clock_gettime(CLOCK_MONOTONIC, &end);
        end.tv_nsec += PATIENCE_NS;
        if (end.tv_nsec >= 1000000000) {
            end.tv_nsec -= 1000000000;
            end.tv_sec++;
        }
        while (busy && pthread_cond_timedwait(&done, &lock, &end) != ETIMEDOUT)
            ;
    }
    if (busy)
        wanted_count = 0;
    return !busy;
}

/* Begin to give the kernel what is offered of some files, at most 64. Returns 0 if those before do not get on;
 * what is not given stays offered. Whoever calls this calls `mstfs_push_end` before answering the reader. */
int mstfs_push(const uint64_t *inodes, size_t count)
{
    int ready = 0;

    pthread_mutex_lock(&lock);
    if (count <= MOST && (running || start()) && wait_for_it()) {
        if (count)
            memcpy(wanted, inodes, count * sizeof(*inodes));
        wanted_count = count;
        busy = ready = 1;
        pthread_cond_signal(&work);
    }
    pthread_mutex_unlock(&lock);
    return ready;
}

/* Let that come to its end. Returns 0 if it does not get on. */
int mstfs_push_end(void)
{
    pthread_mutex_lock(&lock);
    int ready = wait_for_it();
    pthread_mutex_unlock(&lock);
    return ready;
}
