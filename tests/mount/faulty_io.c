/* Stands between a process and libc (LD_PRELOAD): records, fails or ends at calls on some files.
 *
 * FAULTY_PREFIX   only files whose path begins with this are looked at
 * FAULTY_LOG      what is done to them is appended here, in the form that faulty_io.py reads
 * FAULTY_KILL_AT  the process kills itself at the n-th change of these files
 * FAULTY_RULES    a file, read anew at each call: lines `OPERATION SUFFIX ERRNO`, for r(ead), w(rite), s(ync) and
 *                 paths that end with SUFFIX; ERRNO 0 cuts a read to half of what was asked for
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (real == NULL) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

struct head {
    char operation[8];
    uint64_t inode, offset, length, path_length;
};

static int log_fd = -1;
static long changes_left = -1;

__attribute__((constructor)) static void begin(void) {
    const char *log = getenv("FAULTY_LOG"), *kill_at = getenv("FAULTY_KILL_AT");
    if (log != NULL) log_fd = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (kill_at != NULL) changes_left = atol(kill_at);
}

static int is_watched(const char *path) {
    const char *prefix = getenv("FAULTY_PREFIX");
    return prefix != NULL && strncmp(path, prefix, strlen(prefix)) == 0;
}

/* The path of an open file that is watched, or "". */
static const char *path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int saved = errno;
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    errno = saved;
    path[length > 0 ? length : 0] = 0;
    if (!is_watched(path)) path[0] = 0;
    return path;
}

static uint64_t inode_of(int fd) {
    struct stat found;
    return fstat(fd, &found) == 0 ? found.st_ino : 0;
}

static void note(char operation, uint64_t inode, uint64_t offset, const char *path, const void *data, size_t length) {
    if (log_fd < 0) return;
    struct head head = {{operation}, inode, offset, length, strlen(path)};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)path, strlen(path)}, {(void *)data, length}};
    int saved = errno;
    if (writev(log_fd, parts, 3) < 0) abort();
    errno = saved;
}

static void count_change(void) {
    if (changes_left > 0 && --changes_left == 0) kill(getpid(), SIGKILL);
}

/* The error that the rules ask for: -1 none, 0 a short read. */
static int fault(char operation, const char *path) {
    const char *rules = getenv("FAULTY_RULES");
    char wanted, suffix[256];
    int code, found = -1, saved = errno;
    FILE *file = rules != NULL ? fopen(rules, "re") : NULL;
    if (file == NULL) {
        errno = saved;
        return -1;
    }
    while (found < 0 && fscanf(file, " %c %255s %d", &wanted, suffix, &code) == 3) {
        size_t tail = strlen(suffix), all = strlen(path);
        if (wanted == operation && all >= tail && strcmp(path + all - tail, suffix) == 0) found = code;
    }
    fclose(file);
    errno = saved;
    return found;
}

static ssize_t faulty_pread(int fd, void *data, size_t length, off_t offset) {
    REAL(ssize_t, "pread64", int, void *, size_t, off_t);
    char path[PATH_MAX];
    if (*path_of(fd, path)) {
        int code = fault('r', path);
        if (code > 0) return errno = code, -1;
        if (code == 0) length = (length + 1) / 2;
    }
    return real(fd, data, length, offset);
}

ssize_t pread(int fd, void *data, size_t length, off_t offset) { return faulty_pread(fd, data, length, offset); }
ssize_t pread64(int fd, void *data, size_t length, off_t offset) { return faulty_pread(fd, data, length, offset); }

static ssize_t faulty_pwrite(int fd, const void *data, size_t length, off_t offset) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off_t);
    char path[PATH_MAX];
    if (!*path_of(fd, path)) return real(fd, data, length, offset);
    int code = fault('w', path);
    if (code > 0) return errno = code, -1;
    count_change();
    ssize_t written = real(fd, data, length, offset);
    if (written > 0) note('w', inode_of(fd), offset, path, data, written);
    return written;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
    return faulty_pwrite(fd, data, length, offset);
}
ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) {
    return faulty_pwrite(fd, data, length, offset);
}

ssize_t write(int fd, const void *data, size_t length) {
    REAL(ssize_t, "write", int, const void *, size_t);
    char path[PATH_MAX];
    if (!*path_of(fd, path)) return real(fd, data, length);
    int code = fault('w', path);
    if (code > 0) return errno = code, -1;
    count_change();
    ssize_t written = real(fd, data, length);
    if (written > 0) note('w', inode_of(fd), lseek(fd, 0, SEEK_CUR) - written, path, data, written);
    return written;
}

static int faulty_truncate(int fd, off_t length) {
    REAL(int, "ftruncate64", int, off_t);
    char path[PATH_MAX];
    if (!*path_of(fd, path)) return real(fd, length);
    count_change();
    int done = real(fd, length);
    if (done == 0) note('t', inode_of(fd), length, path, NULL, 0);
    return done;
}

int ftruncate(int fd, off_t length) { return faulty_truncate(fd, length); }
int ftruncate64(int fd, off_t length) { return faulty_truncate(fd, length); }

static int faulty_sync(int (*real)(int), int fd) {
    char path[PATH_MAX];
    if (!*path_of(fd, path)) return real(fd);
    int code = fault('s', path);
    if (code > 0) return errno = code, -1;
    count_change();
    note('b', inode_of(fd), gettid(), path, NULL, 0);
    int done = real(fd);
    if (done == 0) note('s', inode_of(fd), gettid(), path, NULL, 0);
    return done;
}

int fsync(int fd) {
    REAL(int, "fsync", int);
    return faulty_sync(real, fd);
}

int fdatasync(int fd) {
    REAL(int, "fdatasync", int);
    return faulty_sync(real, fd);
}

static int faulty_open(int folder, const char *path, int flags, mode_t mode) {
    REAL(int, "openat64", int, const char *, int, ...);
    struct stat found;
    int is_new = (flags & O_CREAT) && is_watched(path) && lstat(path, &found) < 0;
    if (is_new) count_change();
    int fd = real(folder, path, flags, mode);
    if (fd >= 0 && is_new) note('c', inode_of(fd), 0, path, NULL, 0);
    if (fd >= 0 && (flags & O_TRUNC) && !is_new && is_watched(path)) note('t', inode_of(fd), 0, path, NULL, 0);
    return fd;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more); \
        return faulty_open(AT_FDCWD, path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    if (!is_watched(path)) return real(path);
    count_change();
    int done = real(path);
    if (done == 0) note('u', 0, 0, path, NULL, 0);
    return done;
}

int rename(const char *old, const char *new) {
    REAL(int, "rename", const char *, const char *);
    if (!is_watched(new)) return real(old, new);
    count_change();
    int done = real(old, new);
    if (done == 0) note('r', 0, 0, old, new, strlen(new));
    return done;
}

int mkdir(const char *path, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t);
    int done = real(path, mode);
    if (done == 0 && is_watched(path)) note('m', 0, 0, path, NULL, 0);
    return done;
}
