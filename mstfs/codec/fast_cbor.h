/* Reads DAG-CBOR from start to end, as far as it is spelled in the one way that there is to spell it.
 *
 * Source: RFC 8949, section 3 (heads), section 4.2.1 (the shortest one); IPLD "DAG-CBOR", Links.
 */
#ifndef MSTFS_FAST_CBOR_H
#define MSTFS_FAST_CBOR_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <string.h>

#define LINK 36                  /* bytes of a CID: version 1, a codec, a hash, and 32 bytes of digest */
#define LINK_HEAD "\xd8\x2a\x58\x25\x00"  /* what stands before it: a tag, and a byte string that begins with 0 */
#define LINK_HEAD_SIZE 5

struct mstfs_reader {
    const unsigned char *at, *end;
};

static inline struct mstfs_reader mstfs_reader_of(PyObject *block)
{
    const unsigned char *start = (const unsigned char *)PyBytes_AS_STRING(block);

    return (struct mstfs_reader){start, start + PyBytes_GET_SIZE(block)};
}

/* Whether the bytes that come next are these; they are passed over. */
static inline int mstfs_literal(struct mstfs_reader *in, const void *bytes, size_t size)
{
    if ((size_t)(in->end - in->at) < size || memcmp(in->at, bytes, size))
        return 0;
    in->at += size;
    return 1;
}

/* The argument of a minimal head of a major type (shifted already), up to 65,535; or -1. */
static inline long mstfs_argument(struct mstfs_reader *in, unsigned char major)
{
    size_t left = (size_t)(in->end - in->at);
    const unsigned char *at = in->at;

    if (!left || (at[0] & 0xe0) != major)
        return -1;
    unsigned char info = at[0] & 0x1f;
    if (info < 24) {
        in->at += 1;
        return info;
    }
    if (info == 24 && left >= 2 && at[1] >= 24) {
        in->at += 2;
        return at[1];
    }
    if (info == 25 && left >= 3 && at[1]) {
        in->at += 3;
        return at[1] << 8 | at[2];
    }
    return -1;
}

/* Where the next CID of LINK bytes stands, which is passed over with what stands before it; NULL if there is none. */
static inline const unsigned char *mstfs_link(struct mstfs_reader *in)
{
    if (!mstfs_literal(in, LINK_HEAD, LINK_HEAD_SIZE) || in->end - in->at < LINK)
        return NULL;
    in->at += LINK;
    return in->at - LINK;
}

#endif
