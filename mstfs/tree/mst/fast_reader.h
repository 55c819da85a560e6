/* The blocks of MST nodes of the common shape. See fast_reader.c. */
#ifndef MSTFS_FAST_READER_H
#define MSTFS_FAST_READER_H

#include "../../codec/fast_cbor.h"

#define KEY_MOST 8192            /* bytes that a key may have (limits.KEY_BYTES), and a block that is read here */

struct mstfs_entry {
    long length;
    const unsigned char *value, *link;   /* CIDs in the block; the link may be NULL */
    unsigned char key[KEY_MOST];         /* the keys of a block have no more bytes than it */
};

/* How many entries the node in a block says it has, which come next; -1 if it is not of the common shape. */
long mstfs_node_begin(struct mstfs_reader *in, PyObject *block);

/* The next entry, in place of the one before it; the first one replaces one of length 0. 0 if there is none of the
 * common shape. */
int mstfs_node_entry(struct mstfs_reader *in, struct mstfs_entry *entry);

/* What follows the last entry: the link before the first one, and nothing more. 0 if that is not so. */
int mstfs_node_end(struct mstfs_reader *in, const unsigned char **link);

/* The CID that stands somewhere, or None. */
PyObject *mstfs_cid_at(const unsigned char *link);

/* The node in a block as a tuple of a type; NULL without an exception if the block is not of the common shape. */
PyObject *mstfs_node_in(PyTypeObject *type, PyObject *block);
int mstfs_is_node_type(PyObject *type);

/* The keys, values and links of a node; 0 with an exception if it is none. */
int mstfs_node_parts(PyObject *node, PyObject *parts[3]);

/* The bytes that a node or its block takes in memory, as in node.py; -1 with an exception. */
Py_ssize_t mstfs_node_weight(PyObject *node);

#endif
