/* Reads the blocks of MST nodes of the common shape: what is accepted here is canonical in every byte.
 *
 * It is spelled in the one way that there is to spell it, so nothing has to be encoded again to prove that. Anything
 * else (an uncommon CID, a very large node, a defect) is left to Python, which goes over the block rule by rule.
 *
 * Source: https://atproto.com/specs/repository, section "MST Structure".
 */
#include "fast_reader.h"

#define ENTRY_LEAST 54           /* bytes that an entry takes at least */

#define NODE_COST 480            /* as in node.py */
#define ENTRY_COST 140
#define LINK_COST 70
#define BLOCK_COST 200

static const unsigned char LINK_START[4] = {0x01, 0x71, 0x12, 0x20};

/* Where the CID of a link stands, which is passed over; NULL if there is none here of the common kind. */
static const unsigned char *link_of(struct mstfs_reader *in)
{
    const unsigned char *link = mstfs_link(in);

    return link && !memcmp(link, LINK_START, 4) ? link : NULL;
}

/* The same for a link that may be null: 0 if it is neither. */
static int link_or_null(struct mstfs_reader *in, const unsigned char **link)
{
    *link = NULL;
    return mstfs_literal(in, "\xf6", 1) || (*link = link_of(in)) != NULL;
}

/* The key must be greater than the one before it, and share no more bytes with it than is said. */
int mstfs_node_entry(struct mstfs_reader *in, struct mstfs_entry *entry)
{
    const unsigned char *suffix;
    long size, shared;

    if (!mstfs_literal(in, "\xa4" "ak", 3) || (size = mstfs_argument(in, 0x40)) <= 0 || in->end - in->at < size)
        return 0;
    suffix = in->at;
    in->at += size;
    if (!mstfs_literal(in, "ap", 2) || (shared = mstfs_argument(in, 0)) < 0 || shared > entry->length)
        return 0;
    if (shared < entry->length && entry->key[shared] >= suffix[0])
        return 0;
    memcpy(entry->key + shared, suffix, (size_t)size);
    entry->length = shared + size;
    return mstfs_literal(in, "at", 2) && link_or_null(in, &entry->link) && mstfs_literal(in, "av", 2)
        && (entry->value = link_of(in)) != NULL;
}

long mstfs_node_begin(struct mstfs_reader *in, PyObject *block)
{
    Py_ssize_t size = PyBytes_GET_SIZE(block);

    *in = mstfs_reader_of(block);
    if (size > KEY_MOST || !mstfs_literal(in, "\xa2" "ae", 3))
        return -1;
    long count = mstfs_argument(in, 0x80);
    return count > size / ENTRY_LEAST ? -1 : count;
}

int mstfs_node_end(struct mstfs_reader *in, const unsigned char **link)
{
    return mstfs_literal(in, "al", 2) && link_or_null(in, link) && in->at == in->end;
}

PyObject *mstfs_cid_at(const unsigned char *link)
{
    return link ? PyBytes_FromStringAndSize((const char *)link, LINK) : Py_NewRef(Py_None);
}

static int set_item(PyObject *tuple, Py_ssize_t index, PyObject *item)
{
    if (item)
        PyTuple_SET_ITEM(tuple, index, item);
    return item != NULL;
}

static int fill(struct mstfs_reader *in, long count, PyObject *keys, PyObject *values, PyObject *links)
{
    const unsigned char *first;
    struct mstfs_entry entry;

    entry.length = 0;
    for (long index = 0; index < count; index++)
        if (!mstfs_node_entry(in, &entry)
            || !set_item(keys, index, PyBytes_FromStringAndSize((const char *)entry.key, entry.length))
            || !set_item(values, index, mstfs_cid_at(entry.value))
            || !set_item(links, index + 1, mstfs_cid_at(entry.link)))
            return 0;
    return mstfs_node_end(in, &first) && set_item(links, 0, mstfs_cid_at(first));
}

PyObject *mstfs_node_in(PyTypeObject *type, PyObject *block)
{
    struct mstfs_reader in;
    long count = mstfs_node_begin(&in, block);
    if (count < 0)
        return NULL;
    PyObject *parts[3] = {PyTuple_New(count), PyTuple_New(count), PyTuple_New(count + 1)};
    PyObject *node = NULL;
    if (parts[0] && parts[1] && parts[2] && fill(&in, count, parts[0], parts[1], parts[2]))
        node = type->tp_alloc(type, 3);
    for (int part = 0; part < 3; part++) {
        if (!node) {
            Py_XDECREF(parts[part]);
            continue;
        }
        /* Bytes and None make no cycles: the collector need not look at them. */
        PyObject_GC_UnTrack(parts[part]);
        PyTuple_SET_ITEM(node, part, parts[part]);
    }
    return node;
}

/* --- nodes in memory ------------------------------------------------------------------------------------- */

int mstfs_is_node_type(PyObject *type)
{
    return PyType_Check(type) && PyType_IsSubtype((PyTypeObject *)type, &PyTuple_Type);
}

int mstfs_node_parts(PyObject *node, PyObject *parts[3])
{
    if (PyTuple_Check(node) && PyTuple_GET_SIZE(node) == 3) {
        for (int part = 0; part < 3; part++)
            parts[part] = PyTuple_GET_ITEM(node, part);
        if (PyTuple_Check(parts[0]) && PyTuple_Check(parts[1]) && PyTuple_Check(parts[2])) {
            Py_ssize_t count = PyTuple_GET_SIZE(parts[0]);
            if (PyTuple_GET_SIZE(parts[1]) == count && PyTuple_GET_SIZE(parts[2]) == count + 1)
                return 1;
        }
    }
    PyErr_Format(PyExc_TypeError, "this is no node");
    return 0;
}

Py_ssize_t mstfs_node_weight(PyObject *node)
{
    PyObject *parts[3];

    if (PyBytes_Check(node))
        return BLOCK_COST + PyBytes_GET_SIZE(node);
    if (!mstfs_node_parts(node, parts))
        return -1;
    Py_ssize_t count = PyTuple_GET_SIZE(parts[0]);
    Py_ssize_t bytes = NODE_COST + ENTRY_COST * count;
    for (Py_ssize_t index = 0; index < count; index++) {
        PyObject *key = PyTuple_GET_ITEM(parts[0], index);
        bytes += PyBytes_Check(key) ? PyBytes_GET_SIZE(key) : 0;
    }
    for (Py_ssize_t index = 0; index <= count; index++)
        bytes += PyTuple_GET_ITEM(parts[2], index) != Py_None ? LINK_COST : 0;
    return bytes;
}
