/* Reads parts of large blocks without hashing all of them each time.
 *
 * A block is hashed when a part of it is read for the first time. Then each of its pages of 16 KiB gets a tag, which
 * only who knows a secret of this user can make: AES-GMAC, under a key that is made of the secret and the digest of
 * the block, with the number of the page. Later reads, in later mounts too, check the pages that they need by their
 * tags, at five times the speed. So every byte that is given was hashed as a part of that block, or is that which was.
 *
 * Tags stand in a sparse file, at a place that follows from that of the block in the CAR, and nothing in it needs to
 * be believed: a tag that is missing, old, damaged or false does not fit, and then the block is hashed once more.
 * Several processes may write it at once: they write the same.
 */
#include "fast_parts.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE (16u << 10)
#define PAGES (MSTFS_BLOCK_MOST / PAGE)
#define SHA2_256 0x12
#define HEADER 64                /* bytes before the first tag; as in car_tags.py */

struct mstfs_checker {
    void *sha256, *gmac;
    char block[MSTFS_BLOCK_MOST];
    unsigned char tags[PAGES * MSTFS_TAG];
};

struct mstfs_checker *mstfs_checker_new(void)
{
    struct mstfs_checker *made = malloc(sizeof(*made));

    if (!made)
        return NULL;
    made->sha256 = mstfs_sha256_new();
    made->gmac = mstfs_gmac_new();
    if (made->sha256 && made->gmac)
        return made;
    mstfs_checker_free(made);
    return NULL;
}

void mstfs_checker_free(struct mstfs_checker *checker)
{
    if (!checker)
        return;
    mstfs_sha256_free(checker->sha256);
    mstfs_gmac_free(checker->gmac);
    free(checker);
}

static int read_all(int file, void *out, size_t size, uint64_t offset)
{
    for (size_t filled = 0; filled < size;) {
        ssize_t more = pread(file, (char *)out + filled, size - filled, (off_t)(offset + filled));
        if (more <= 0)
            return 0;
        filled += (size_t)more;
    }
    return 1;
}

/* --- tags -------------------------------------------------------------------------------------------------- */

/* Where the tag of a page stands. A block of n whole pages has room for 2n tags before those of the next one. */
static off_t place(const struct mstfs_block *block, uint32_t page)
{
    return HEADER + (off_t)(2 * (block->offset / PAGE) + page) * MSTFS_TAG;
}

static int use_key(struct mstfs_checker *checker, const struct mstfs_source *source, const struct mstfs_block *block)
{
    unsigned char text[sizeof(source->secret) + MSTFS_DIGEST], key[MSTFS_DIGEST];

    memcpy(text, source->secret, sizeof(source->secret));
    memcpy(text + sizeof(source->secret), block->digest, MSTFS_DIGEST);
    return mstfs_sha256(checker->sha256, text, sizeof(text), key) && mstfs_gmac_key(checker->gmac, key);
}

static uint32_t page_size(const struct mstfs_block *block, uint32_t page)
{
    uint64_t left = block->length - (uint64_t)page * PAGE;

    return left < PAGE ? (uint32_t)left : PAGE;
}

/* Whether these bytes are those of the pages from one to another. */
static int tags_fit(struct mstfs_checker *checker, const struct mstfs_source *source,
                    const struct mstfs_block *block, uint32_t first, uint32_t last, const char *data)
{
    unsigned char made[MSTFS_TAG];
    const unsigned char *tag = checker->tags;

    if (!read_all(source->tags, checker->tags, (last - first + 1) * MSTFS_TAG, (uint64_t)place(block, first))
        || !use_key(checker, source, block))
        return 0;
    for (uint32_t page = first; page <= last; page++, tag += MSTFS_TAG, data += PAGE)
        if (!mstfs_gmac(checker->gmac, page, data, page_size(block, page), made) || memcmp(made, tag, MSTFS_TAG))
            return 0;
    return 1;
}

/* Without room for them there are no tags. */
void mstfs_tag_block(struct mstfs_checker *checker, const struct mstfs_source *source,
                     const struct mstfs_block *block, const char *data)
{
    uint32_t pages = (uint32_t)((block->length + PAGE - 1) / PAGE);

    if (source->tags < 0 || block->length <= PAGE || !use_key(checker, source, block))
        return;
    for (uint32_t page = 0; page < pages; page++)
        if (!mstfs_gmac(checker->gmac, page, data + (size_t)page * PAGE, page_size(block, page),
                        checker->tags + (size_t)page * MSTFS_TAG))
            return;
    (void)!pwrite(source->tags, checker->tags, (size_t)pages * MSTFS_TAG, place(block, 0));
}

/* --- parts ------------------------------------------------------------------------------------------------- */

int mstfs_read_part(struct mstfs_checker *checker, const struct mstfs_source *source,
                    const struct mstfs_block *block, uint32_t from, uint32_t count, char *out)
{
    if (!count)
        return 1;
    if (source->tags >= 0 && block->length > PAGE) {
        uint32_t first = from / PAGE, last = (from + count - 1) / PAGE, start = first * PAGE;
        uint64_t end = (uint64_t)(last + 1) * PAGE < block->length ? (uint64_t)(last + 1) * PAGE : block->length;
        /* Whole pages need not be copied. */
        char *data = from == start && from + count == end ? out : checker->block;
        if (!read_all(source->file, data, end - start, block->offset + start))
            return 0;
        if (tags_fit(checker, source, block, first, last, data)) {
            if (data != out)
                memcpy(out, data + (from - start), count);
            return 1;
        }
    }
    if (block->hash != SHA2_256)
        return -1;
    if (!read_all(source->file, checker->block, block->length, block->offset)
        || !mstfs_sha256_is(checker->sha256, checker->block, block->length, block->digest))
        return 0;
    mstfs_tag_block(checker, source, block, checker->block);
    memcpy(out, checker->block + from, count);
    return 1;
}
