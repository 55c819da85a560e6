/* Answers READDIRPLUS of large folders, and GETATTR of what is in them, from pages that Python made
 * (mstfs/view/pages.py).
 *
 * A page holds the attributes of up to some hundred entries of a folder as columns, in memory that belongs to
 * Python. What is handed out is counted in the page, so that Python needs no object for a file of which nothing is
 * known but its name: FORGET gives the counts back, and whoever asks for one of these inodes is told its place.
 *
 * A folder is answered here while it is offered. Entries that Python has to be asked for are named with the offer;
 * a reply ends before such an entry, and the next request begins with it. What comes after the last page is
 * Python's too. A place in a folder is 2 more than the number of entries before it: "." and ".." come first.
 */
#define FUSE_USE_VERSION 32
#define _GNU_SOURCE
#include "fast_listing.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PAGE 256                 /* entries; as in mstfs/view/pages.py */
#define SLOTS_MIN 4096
#define FOREVER 1073741824.0     /* seconds; as in mstfs/fuse/attributes.py */
#define BLOCK 512
#define PREFERRED (128 << 10)
#define NO_TIME INT64_MIN        /* the folder's own time stands for it; as in mstfs/view/pages.py */

enum type { A_FILE, A_FOLDER, ASK };

/* The columns of a page: as mstfs/view/pages.py packs them. */
struct page {
    uint32_t folder, start;      /* which folder's, and how many entries of it come before */
    uint32_t count;
    const uint64_t *inode;       /* NULL once the folder was dropped */
    const uint64_t *size;
    const int64_t *mtime;
    const uint32_t *name_end;    /* behind the 0 that ends each name */
    const uint8_t *type;
    const char *names;
    uint32_t *handed;            /* how often the kernel was given each */
};

struct folder {
    uint64_t inode, parent;
    uint32_t *pages;
    size_t page_count, page_room;
    uint64_t total;              /* entries in all pages */
    int offered;
    uint32_t file_mode, folder_mode, uid, gid;
    int64_t mtime;
    uint64_t *exceptions;        /* inodes to ask Python for, in order */
    size_t exception_count;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct folder **folders = NULL;
static size_t folder_count = 0, folder_room = 0;
static struct page *pages = NULL;
static size_t page_count = 0, page_room = 0;

static size_t (*add_entry)(fuse_req_t, char *, size_t, const char *, const struct fuse_entry_param *, off_t);
static int (*reply_buf)(fuse_req_t, const char *, size_t);
static int (*reply_err)(fuse_req_t, int);
static int (*reply_attr)(fuse_req_t, const struct stat *, double);

int mstfs_listing_init(void *libfuse)
{
    add_entry = dlsym(libfuse, "fuse_add_direntry_plus");
    reply_buf = dlsym(libfuse, "fuse_reply_buf");
    reply_err = dlsym(libfuse, "fuse_reply_err");
    reply_attr = dlsym(libfuse, "fuse_reply_attr");
    return add_entry && reply_buf && reply_err && reply_attr;
}

/* --- where each inode stands: a hash table with linear probing -------------------------------------- */

/* Each slot is 1 more than a place, which is PAGE times the number of a page, and an index in it; 0 is free. */
static uint32_t *places = NULL;
static size_t slots = 0, used = 0;

static size_t slot_of(uint64_t inode)
{
    return (inode * 0x9E3779B97F4A7C15ull) >> 20 & (slots - 1);
}

static uint64_t inode_at(uint32_t place)
{
    const struct page *page = &pages[place / PAGE];

    return page->inode ? page->inode[place % PAGE] : 0;
}

/* The slot of an inode, or NULL. */
static uint32_t *find(uint64_t inode)
{
    if (!slots)
        return NULL;
    for (size_t at = slot_of(inode); places[at]; at = (at + 1) & (slots - 1))
        if (inode_at(places[at] - 1) == inode)
            return &places[at];
    return NULL;
}

static uint32_t *free_slot(uint64_t inode)
{
    size_t at = slot_of(inode);

    while (places[at])
        at = (at + 1) & (slots - 1);
    return &places[at];
}

static int grow(size_t wanted)
{
    uint32_t *old = places, *made = calloc(wanted, sizeof(*made));
    size_t count = slots;

    if (!made)
        return 0;
    places = made;
    slots = wanted;
    used = 0;
    for (size_t at = 0; at < count; at++) {
        uint64_t inode = old[at] ? inode_at(old[at] - 1) : 0;
        if (inode) {
            *free_slot(inode) = old[at];
            used++;
        }
    }
    free(old);
    return 1;
}

static uint32_t *handed_of(uint32_t slot)
{
    return &pages[(slot - 1) / PAGE].handed[(slot - 1) % PAGE];
}

static const char *name_of(const struct page *page, uint32_t within)
{
    return page->names + (within ? page->name_end[within - 1] : 0);
}

/* Room for one more item in an array that is twice as large each time it is full. Returns 0 without memory. */
static int has_room(void **array, size_t count, size_t *room, size_t size)
{
    if (count < *room)
        return 1;
    size_t wanted = *room ? 2 * *room : 16;
    void *made = realloc(*array, wanted * size);
    if (!made)
        return 0;
    *array = made;
    *room = wanted;
    return 1;
}

/* --- what Python calls ------------------------------------------------------------------------------ */

/* A new folder without pages. Returns its number, or -1. */
int mstfs_folder_new(void)
{
    int number = -1;

    pthread_mutex_lock(&lock);
    struct folder *folder = calloc(1, sizeof(*folder));
    if (folder && has_room((void **)&folders, folder_count, &folder_room, sizeof(*folders))) {
        number = folder_count;
        folders[folder_count++] = folder;
    } else {
        free(folder);
    }
    pthread_mutex_unlock(&lock);
    return number;
}

/* Whether an inode stands somewhere already, and not as an older page's entry of the same name. */
static int is_taken(uint32_t number, const struct page *page, uint32_t index)
{
    const uint32_t *slot = find(page->inode[index]);

    if (!slot)
        return 0;
    const struct page *older = &pages[(*slot - 1) / PAGE];
    return older->folder == number || strcmp(name_of(older, (*slot - 1) % PAGE), name_of(page, index));
}

/* Add a page, of PAGE entries unless it is the last one. All of its memory must stay where it is until the folder is
 * dropped. What an older page of the same folder has handed out counts as handed out by this one. Returns 0 where
 * the page cannot be taken: there is no memory, or another file has the same inode. */
int mstfs_folder_add(int number, uint32_t count, const uint64_t *inode, const uint64_t *size, const int64_t *mtime,
                     const uint32_t *name_end, const uint8_t *type, const char *names, uint32_t *handed)
{
    int taken = 0;

    pthread_mutex_lock(&lock);
    struct folder *folder = folders[number];
    struct page page = {number, folder->total, count, inode, size, mtime, name_end, type, names, handed};
    if (folder->total % PAGE || count > PAGE || page_count >= UINT32_MAX / PAGE)
        goto out;
    for (uint32_t index = 0; index < count; index++)
        if (is_taken(number, &page, index))
            goto out;
    if (2 * (used + count) > slots) {
        size_t wanted = slots ? slots : SLOTS_MIN;
        while (2 * (used + count) > wanted)
            wanted *= 2;
        if (!grow(wanted))
            goto out;
    }
    if (!has_room((void **)&folder->pages, folder->page_count, &folder->page_room, sizeof(*folder->pages))
        || !has_room((void **)&pages, page_count, &page_room, sizeof(*pages)))
        goto out;
    pages[page_count] = page;
    for (uint32_t index = 0; index < count; index++) {
        uint32_t *slot = find(inode[index]);
        if (slot) {
            handed[index] = *handed_of(*slot);
            *handed_of(*slot) = 0;
        } else {
            slot = free_slot(inode[index]);
            used++;
        }
        *slot = page_count * PAGE + index + 1;
    }
    folder->pages[folder->page_count++] = page_count++;
    folder->total += count;
    taken = 1;
out:
    pthread_mutex_unlock(&lock);
    return taken;
}

/* Forget the pages of a folder, of which nothing is handed out. */
void mstfs_folder_drop(int number)
{
    pthread_mutex_lock(&lock);
    struct folder *folder = folders[number];
    for (size_t at = 0; at < folder->page_count; at++)
        pages[folder->pages[at]].inode = NULL;
    free(folder->pages);
    free(folder->exceptions);
    memset(folder, 0, sizeof(*folder));
    pthread_mutex_unlock(&lock);
}

/* From now on a folder is answered here, but for some of its entries. */
int mstfs_folder_offer(int number, uint64_t inode, uint64_t parent, uint32_t file_mode, uint32_t folder_mode,
                       uint32_t uid, uint32_t gid, int64_t mtime, const uint64_t *exceptions, size_t count)
{
    uint64_t *copy = malloc((count ? count : 1) * sizeof(*copy));

    if (!copy)
        return 0;
    if (count)
        memcpy(copy, exceptions, count * sizeof(*copy));
    pthread_mutex_lock(&lock);
    struct folder *folder = folders[number];
    free(folder->exceptions);
    folder->exceptions = copy;
    folder->exception_count = count;
    folder->inode = inode;
    folder->parent = parent;
    folder->file_mode = S_IFREG | file_mode;
    folder->folder_mode = S_IFDIR | folder_mode;
    folder->uid = uid;
    folder->gid = gid;
    folder->mtime = mtime;
    folder->offered = 1;
    pthread_mutex_unlock(&lock);
    return 1;
}

/* No folder is answered here any more. */
void mstfs_folders_withdraw(void)
{
    pthread_mutex_lock(&lock);
    for (size_t number = 0; number < folder_count; number++)
        folders[number]->offered = 0;
    pthread_mutex_unlock(&lock);
}

/* How often the kernel was given an inode from a page, and where that one stands. */
uint32_t mstfs_handed(uint64_t inode, uint32_t *folder, uint32_t *index)
{
    uint32_t count = 0;

    pthread_mutex_lock(&lock);
    const uint32_t *slot = find(inode);
    if (slot) {
        const struct page *page = &pages[(*slot - 1) / PAGE];
        count = *handed_of(*slot);
        *folder = page->folder;
        *index = page->start + (*slot - 1) % PAGE;
    }
    pthread_mutex_unlock(&lock);
    return count;
}

/* The kernel forgets an inode `count` times. Returns how many of these are none of ours. */
uint64_t mstfs_take_back(uint64_t inode, uint64_t count)
{
    pthread_mutex_lock(&lock);
    const uint32_t *slot = find(inode);
    if (slot) {
        uint32_t *handed = handed_of(*slot);
        uint64_t own = *handed < count ? *handed : count;
        *handed -= own;
        count -= own;
    }
    pthread_mutex_unlock(&lock);
    return count;
}

/* --- requests ----------------------------------------------------------------------------------------- */

static struct folder *offered(uint64_t inode)
{
    for (size_t number = 0; number < folder_count; number++)
        if (folders[number]->offered && folders[number]->inode == inode)
            return folders[number];
    return NULL;
}

static int is_exception(const struct folder *folder, const struct page *page, uint32_t within)
{
    uint64_t inode = page->inode[within];
    size_t low = 0, high = folder->exception_count;

    if (page->type[within] == ASK)
        return 1;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (folder->exceptions[middle] < inode)
            low = middle + 1;
        else
            high = middle;
    }
    return low < folder->exception_count && folder->exceptions[low] == inode;
}

int mstfs_listing_answers(uint64_t inode, uint64_t place)
{
    int answer = 0;

    pthread_mutex_lock(&lock);
    struct folder *folder = offered(inode);
    if (folder && place < 2) {
        answer = 1;
    } else if (folder && place - 2 < folder->total) {
        uint32_t within = (place - 2) % PAGE;
        struct page *page = &pages[folder->pages[(place - 2) / PAGE]];
        answer = !is_exception(folder, page, within);
    }
    pthread_mutex_unlock(&lock);
    return answer;
}

/* What the kernel asks for; of a file or a folder it asks for no more. */
static void set_stat(struct stat *found, uint64_t inode, uint32_t mode, uint32_t uid, uint32_t gid, uint64_t size,
                     int64_t mtime)
{
    memset(found, 0, sizeof(*found));
    found->st_ino = inode;
    found->st_mode = mode;
    found->st_nlink = 1;
    found->st_uid = uid;
    found->st_gid = gid;
    found->st_size = size;
    found->st_blocks = (size + BLOCK - 1) / BLOCK;
    found->st_blksize = PREFERRED;
    found->st_mtim.tv_sec = mtime / 1000000000;
    found->st_mtim.tv_nsec = mtime % 1000000000;
    if (found->st_mtim.tv_nsec < 0) {
        found->st_mtim.tv_sec--;
        found->st_mtim.tv_nsec += 1000000000;
    }
    found->st_atim = found->st_ctim = found->st_mtim;
}

/* The attributes of an entry. */
static void describe(struct fuse_entry_param *entry, const struct folder *folder, const struct page *page,
                     uint32_t within)
{
    int64_t mtime = page->mtime[within] == NO_TIME ? folder->mtime : page->mtime[within];

    memset(entry, 0, sizeof(*entry));
    entry->ino = page->inode[within];
    entry->attr_timeout = entry->entry_timeout = FOREVER;
    set_stat(&entry->attr, entry->ino, page->type[within] == A_FOLDER ? folder->folder_mode : folder->file_mode,
             folder->uid, folder->gid, page->size[within], mtime);
}

/* A folder in which files are being made: the kernel asks for its attributes before each. */
static struct stat busy;         /* of inode 0 where there is none */

void mstfs_folder_busy(uint64_t inode, uint32_t mode, uint32_t uid, uint32_t gid, int64_t mtime)
{
    pthread_mutex_lock(&lock);
    set_stat(&busy, inode, mode, uid, gid, 0, mtime);
    pthread_mutex_unlock(&lock);
}

/* The page of an inode of which all is said there, and its index in it; NULL if Python has to be asked. */
static struct page *known(uint64_t inode, uint32_t *within)
{
    const uint32_t *slot = find(inode);

    if (!slot)
        return NULL;
    struct page *page = &pages[(*slot - 1) / PAGE];
    *within = (*slot - 1) % PAGE;
    const struct folder *folder = folders[page->folder];
    return folder->offered && page->handed[*within] && !is_exception(folder, page, *within) ? page : NULL;
}

int mstfs_listing_knows(uint64_t inode)
{
    uint32_t within;

    pthread_mutex_lock(&lock);
    int answer = busy.st_ino == inode || known(inode, &within) != NULL;
    pthread_mutex_unlock(&lock);
    return answer;
}

void mstfs_listing_attributes(fuse_req_t req, uint64_t inode)
{
    struct fuse_entry_param entry;
    uint32_t within;

    pthread_mutex_lock(&lock);
    const struct page *page = known(inode, &within);
    int found = busy.st_ino == inode || page;
    if (page)
        describe(&entry, folders[page->folder], page, within);
    if (busy.st_ino == inode)
        entry.attr = busy;
    pthread_mutex_unlock(&lock);
    if (found)
        reply_attr(req, &entry.attr, FOREVER);
    else
        reply_err(req, EAGAIN);  /* Withdrawn just now, by another thread: there is none that does so. */
}

static size_t fill(fuse_req_t req, struct folder *folder, char *buffer, size_t size, uint64_t place)
{
    struct fuse_entry_param entry;
    size_t filled = 0;

    while (place < 2) {
        memset(&entry, 0, sizeof(entry));
        /* Without an inode the kernel takes the name and the number alone. */
        entry.attr.st_ino = place ? folder->parent : folder->inode;
        entry.attr.st_mode = S_IFDIR;
        size_t need = add_entry(req, buffer + filled, size - filled, place ? ".." : ".", &entry, place + 1);
        if (need > size - filled)
            return filled;
        filled += need;
        place++;
    }
    while (place - 2 < folder->total) {
        uint32_t within = (place - 2) % PAGE;
        struct page *page = &pages[folder->pages[(place - 2) / PAGE]];
        if (is_exception(folder, page, within))
            break;
        describe(&entry, folder, page, within);
        size_t need = add_entry(req, buffer + filled, size - filled, name_of(page, within), &entry, place + 1);
        if (need > size - filled)
            break;
        filled += need;
        place++;
        page->handed[within]++;
    }
    return filled;
}

void mstfs_listing_reply(fuse_req_t req, uint64_t inode, size_t size, uint64_t place)
{
    char *buffer = malloc(size);

    if (!buffer) {
        reply_err(req, ENOMEM);
        return;
    }
    pthread_mutex_lock(&lock);
    size_t filled = fill(req, offered(inode), buffer, size, place);
    pthread_mutex_unlock(&lock);
    reply_buf(req, buffer, filled);
    free(buffer);
}
