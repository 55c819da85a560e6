/* Nodes of py-hamt 3 from their blocks, in C: what pyhamt3.py does for blocks of the common shape.
 *
 * What is accepted here is canonical in every byte, so nothing has to be encoded again to prove that. For anything
 * else (an uncommon CID, a key that is too long, a defect) the answer is None, and Python does it.
 *
 * Source: as in pyhamt3.py.
 */
#include "../../codec/fast_cbor.h"

#define SLOTS 256
#define SLOTS_HEAD "\x99\x01\x00"
#define EMPTY 0xa0               /* a map of nothing */
#define CHILD 0x81               /* a list of one item */
#define KEY_MOST 8192            /* bytes that a key may have (limits.KEY_BYTES) */
#define BLOCK_MOST (8 << 20)     /* limits.NODE_BYTES */

/* A node that is being read. */
struct node {
    PyObject *entries, *links;
    long slots[SLOTS], sizes[SLOTS];
    int buckets;
    Py_ssize_t count;
};

/* As `COMMON` in node.py: version 1; raw, dag-cbor or dag-pb; blake3 or sha2-256; 32 bytes of digest. */
static int is_common(const unsigned char *link)
{
    return link[0] == 0x01 && (link[1] == 0x55 || link[1] == 0x71 || link[1] == 0x70)
        && (link[2] == 0x1e || link[2] == 0x12) && link[3] == 0x20;
}

static PyObject *cid_in(struct mstfs_reader *in)
{
    const unsigned char *link = mstfs_link(in);

    return link && is_common(link) ? PyBytes_FromStringAndSize((const char *)link, LINK) : NULL;
}

static int is_text(const unsigned char *key, long length)
{
    for (long at = 0; at < length; at++) {
        if (key[at] < 0x80)
            continue;
        PyObject *text = PyUnicode_DecodeUTF8((const char *)key, length, "strict");
        if (text)
            Py_DECREF(text);
        else if (PyErr_ExceptionMatches(PyExc_UnicodeDecodeError))
            PyErr_Clear();
        return text != NULL;
    }
    return 1;
}

static int put(PyObject *map, PyObject *key, PyObject *value)
{
    int done = key && value && PyDict_SetItem(map, key, value) == 0;

    Py_XDECREF(key);
    Py_XDECREF(value);
    return done;
}

/* The entries of a bucket. The keys of a map are in order, the shorter ones first. */
static int bucket(struct mstfs_reader *in, struct node *node, long size)
{
    const unsigned char *before = NULL;
    long length, length_before = -1;

    for (long index = 0; index < size; index++) {
        length = mstfs_argument(in, 0x60);
        if (length < length_before || length < 0 || length > KEY_MOST || in->end - in->at < length)
            return 0;
        const unsigned char *key = in->at;
        in->at += length;
        if (length == length_before && memcmp(before, key, (size_t)length) >= 0)
            return 0;
        if (!is_text(key, length))
            return 0;
        PyObject *cid = cid_in(in);
        if (!cid || !put(node->entries, PyBytes_FromStringAndSize((const char *)key, length), cid))
            return 0;
        before = key;
        length_before = length;
    }
    return 1;
}

static int slot(struct mstfs_reader *in, struct node *node, long number)
{
    if (in->at == in->end)
        return 0;
    if (*in->at == EMPTY) {
        in->at++;
        return 1;
    }
    if (*in->at == CHILD) {
        in->at++;
        PyObject *cid = cid_in(in);
        return cid && put(node->links, PyLong_FromLong(number), cid);
    }
    long size = mstfs_argument(in, 0xa0);
    if (size <= 0 || !bucket(in, node, size))
        return 0;
    node->slots[node->buckets] = number;
    node->sizes[node->buckets++] = size;
    node->count += size;
    return 1;
}

static PyObject *numbers(const long *from, int count)
{
    PyObject *tuple = PyTuple_New(count);

    for (int index = 0; tuple && index < count; index++) {
        PyObject *number = PyLong_FromLong(from[index]);
        if (!number)
            Py_CLEAR(tuple);
        else
            PyTuple_SET_ITEM(tuple, index, number);
    }
    if (tuple)
        PyObject_GC_UnTrack(tuple);  /* Numbers make no cycles. */
    return tuple;
}

/* Reads all of a block; 0 if it is not of the common shape, or with an exception. */
static int read_node(struct mstfs_reader *in, struct node *node)
{
    if (!mstfs_literal(in, SLOTS_HEAD, sizeof SLOTS_HEAD - 1))
        return 0;
    for (long number = 0; number < SLOTS; number++)
        if (!slot(in, node, number))
            return 0;
    /* A key that stands in two buckets counts twice. */
    return in->at == in->end && PyDict_GET_SIZE(node->entries) == node->count;
}

PyDoc_STRVAR(decode_doc,
"decode(data)\n--\n\n"
"Entries, slots, sizes and links of the node in a block. None if the block is not of the common shape.");

static PyObject *decode(PyObject *module, PyObject *data)
{
    (void)module;
    if (!PyBytes_Check(data))
        return PyErr_Format(PyExc_TypeError, "decode takes bytes");
    struct mstfs_reader in = mstfs_reader_of(data);
    struct node node = {.entries = PyDict_New(), .links = PyDict_New()};
    PyObject *parts = NULL;
    if (node.entries && node.links && in.end - in.at <= BLOCK_MOST && read_node(&in, &node)) {
        PyObject *slots = numbers(node.slots, node.buckets), *sizes = numbers(node.sizes, node.buckets);
        if (slots && sizes)
            parts = PyTuple_Pack(4, node.entries, slots, sizes, node.links);
        Py_XDECREF(slots);
        Py_XDECREF(sizes);
    }
    Py_XDECREF(node.entries);
    Py_XDECREF(node.links);
    if (parts || PyErr_Occurred())
        return parts;
    Py_RETURN_NONE;
}

static PyMethodDef METHODS[] = {
    {"decode", decode, METH_O, decode_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, .m_name = "fast_node", .m_doc = "HAMT nodes from their blocks, in C.", .m_methods = METHODS,
};

PyMODINIT_FUNC PyInit_fast_node(void)
{
    return PyModule_Create(&MODULE);
}
