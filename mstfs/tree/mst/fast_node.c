/* Reads and writes the blocks of MST nodes of the common shape, and finds keys: what node.py and search.py do, in C.
 *
 * Only blocks are read that are canonical in every byte: what is accepted here is spelled in the one way that there
 * is to spell it, so nothing has to be encoded again to prove that. For anything else (an uncommon CID, a very large
 * node, a defect) the answer is None, and Python goes over the block rule by rule.
 *
 * Source: https://atproto.com/specs/repository, section "MST Structure"; RFC 8949, section 3, for the heads.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define LINK 36                  /* bytes of a CID: version 1, dag-cbor, sha2-256, 32 bytes of digest */
#define ENTRY_LEAST 54           /* bytes that an entry takes at least */
#define KEY_MOST 8192            /* bytes that a key may have (limits.KEY_BYTES), and a block that is read here */

#define NODE_COST 480            /* as in node.py */
#define ENTRY_COST 140
#define LINK_COST 70

static const unsigned char LINK_START[4] = {0x01, 0x71, 0x12, 0x20};
static const unsigned char LINK_HEAD[5] = {0xd8, 0x2a, 0x58, 0x25, 0x00};

/* --- reading ------------------------------------------------------------------------------------------- */

struct reader {
    const unsigned char *at, *end;
};

/* Whether the bytes that come next are these; they are passed over. */
static int literal(struct reader *in, const void *bytes, size_t size)
{
    if ((size_t)(in->end - in->at) < size || memcmp(in->at, bytes, size))
        return 0;
    in->at += size;
    return 1;
}

/* The argument of a minimal head of a major type (shifted already), up to 65,535; or -1. */
static long argument(struct reader *in, unsigned char major)
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

/* A link to a node or to a record as bytes; NULL without an exception if the block has none here. */
static PyObject *link_of(struct reader *in)
{
    if (!literal(in, LINK_HEAD, sizeof LINK_HEAD) || in->end - in->at < LINK || memcmp(in->at, LINK_START, 4))
        return NULL;
    PyObject *cid = PyBytes_FromStringAndSize((const char *)in->at, LINK);
    in->at += LINK;
    return cid;
}

static PyObject *link_or_none(struct reader *in)
{
    if (in->at < in->end && *in->at == 0xf6) {
        in->at++;
        return Py_NewRef(Py_None);
    }
    return link_of(in);
}

/* The next key, which must be greater than the one before it and share no more bytes with it than is said. */
static PyObject *key_of(struct reader *in, const unsigned char *before, long length)
{
    const unsigned char *suffix;
    long size, shared;

    if (!literal(in, "\xa4" "ak", 3) || (size = argument(in, 0x40)) <= 0 || in->end - in->at < size)
        return NULL;
    suffix = in->at;
    in->at += size;
    if (!literal(in, "ap", 2) || (shared = argument(in, 0)) < 0 || shared > length)
        return NULL;
    if (shared < length && before[shared] >= suffix[0])
        return NULL;
    PyObject *key = PyBytes_FromStringAndSize(NULL, shared + size);
    if (key) {
        memcpy(PyBytes_AS_STRING(key), before, (size_t)shared);
        memcpy(PyBytes_AS_STRING(key) + shared, suffix, (size_t)size);
    }
    return key;
}

static int entries_of(struct reader *in, long count, PyObject *keys, PyObject *values, PyObject *links)
{
    const unsigned char *before = (const unsigned char *)"";
    long length = 0;

    for (long index = 0; index < count; index++) {
        PyObject *key = key_of(in, before, length);
        if (!key)
            return 0;
        PyTuple_SET_ITEM(keys, index, key);
        before = (const unsigned char *)PyBytes_AS_STRING(key);
        length = (long)PyBytes_GET_SIZE(key);
        if (!literal(in, "at", 2))
            return 0;
        PyObject *link = link_or_none(in);
        if (!link)
            return 0;
        PyTuple_SET_ITEM(links, index + 1, link);
        if (!literal(in, "av", 2))
            return 0;
        PyObject *value = link_of(in);
        if (!value)
            return 0;
        PyTuple_SET_ITEM(values, index, value);
    }
    return 1;
}

/* The node in a block; NULL without an exception if the block is not of the common shape. */
static PyObject *node_in(PyTypeObject *type, PyObject *data)
{
    struct reader in = {.at = (const unsigned char *)PyBytes_AS_STRING(data)};
    Py_ssize_t size = PyBytes_GET_SIZE(data);
    in.end = in.at + size;
    long count;
    if (size > KEY_MOST || !literal(&in, "\xa2" "ae", 3) || (count = argument(&in, 0x80)) < 0 ||
        count > size / ENTRY_LEAST)
        return NULL;
    PyObject *keys = PyTuple_New(count), *values = PyTuple_New(count), *links = PyTuple_New(count + 1);
    PyObject *node = NULL;
    if (keys && values && links && entries_of(&in, count, keys, values, links) && literal(&in, "al", 2)) {
        PyObject *left = link_or_none(&in);
        if (left) {
            PyTuple_SET_ITEM(links, 0, left);
            if (in.at == in.end)
                node = type->tp_alloc(type, 3);
        }
    }
    if (node) {
        /* Bytes and None make no cycles: the collector need not look at them. */
        PyObject *parts[3] = {keys, values, links};
        for (int part = 0; part < 3; part++) {
            PyObject_GC_UnTrack(parts[part]);
            PyTuple_SET_ITEM(node, part, parts[part]);
        }
        return node;
    }
    Py_XDECREF(keys);
    Py_XDECREF(values);
    Py_XDECREF(links);
    return NULL;
}

static int is_node_type(PyObject *type)
{
    return PyType_Check(type) && PyType_IsSubtype((PyTypeObject *)type, &PyTuple_Type);
}

PyDoc_STRVAR(decode_doc,
"decode(type, data)\n--\n\n"
"The node in a block as a tuple of the type: keys, values, links. None if the block is not of the common shape.");

static PyObject *decode(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
    (void)module;
    if (given != 2 || !is_node_type(args[0]) || !PyBytes_Check(args[1]))
        return PyErr_Format(PyExc_TypeError, "decode takes a type of tuple and bytes");
    PyObject *node = node_in((PyTypeObject *)args[0], args[1]);
    if (node || PyErr_Occurred())
        return node;
    Py_RETURN_NONE;
}

/* --- writing ------------------------------------------------------------------------------------------- */

static unsigned char *head(unsigned char *out, unsigned char major, size_t count)
{
    if (count < 24) {
        *out++ = (unsigned char)(major | count);
    } else if (count < 0x100) {
        *out++ = major | 24;
        *out++ = (unsigned char)count;
    } else if (count < 0x10000) {
        *out++ = major | 25;
        *out++ = (unsigned char)(count >> 8);
        *out++ = (unsigned char)count;
    } else {
        *out++ = major | 26;
        for (int shift = 24; shift >= 0; shift -= 8)
            *out++ = (unsigned char)(count >> shift);
    }
    return out;
}

static unsigned char *put(unsigned char *out, const void *bytes, size_t size)
{
    memcpy(out, bytes, size);
    return out + size;
}

static unsigned char *put_link(unsigned char *out, PyObject *link)
{
    if (link == Py_None) {
        *out++ = 0xf6;
        return out;
    }
    return put(put(out, LINK_HEAD, sizeof LINK_HEAD), PyBytes_AS_STRING(link), LINK);
}

static int is_link(PyObject *object)
{
    return PyBytes_Check(object) && PyBytes_GET_SIZE(object) == LINK;
}

/* The most bytes that the block can take, or 0 if the node is not of the common shape. */
static size_t room_for(PyObject *keys, PyObject *values, PyObject *links)
{
    Py_ssize_t count = PyTuple_GET_SIZE(keys);
    size_t room = 64;

    if (PyTuple_GET_SIZE(values) != count || PyTuple_GET_SIZE(links) != count + 1)
        return 0;
    for (Py_ssize_t index = 0; index <= count; index++) {
        PyObject *link = PyTuple_GET_ITEM(links, index);
        if (link != Py_None && !is_link(link))
            return 0;
        if (index == count)
            break;
        PyObject *key = PyTuple_GET_ITEM(keys, index);
        if (!PyBytes_Check(key) || PyBytes_GET_SIZE(key) > KEY_MOST || !is_link(PyTuple_GET_ITEM(values, index)))
            return 0;
        room += 128 + (size_t)PyBytes_GET_SIZE(key);
    }
    return room;
}

PyDoc_STRVAR(encode_doc,
"encode(keys, values, links)\n--\n\n"
"The canonical block of a node. None if the node is not of the common shape.");

static PyObject *encode(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
    (void)module;
    if (given != 3 || !PyTuple_Check(args[0]) || !PyTuple_Check(args[1]) || !PyTuple_Check(args[2]))
        return PyErr_Format(PyExc_TypeError, "encode takes three tuples");
    size_t room = room_for(args[0], args[1], args[2]);
    if (!room)
        Py_RETURN_NONE;
    PyObject *block = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)room);
    if (!block)
        return NULL;
    Py_ssize_t count = PyTuple_GET_SIZE(args[0]);
    unsigned char *start = (unsigned char *)PyBytes_AS_STRING(block);
    unsigned char *out = head(put(start, "\xa2" "ae", 3), 0x80, (size_t)count);
    const char *before = "";
    size_t length = 0;
    for (Py_ssize_t index = 0; index < count; index++) {
        PyObject *key = PyTuple_GET_ITEM(args[0], index);
        const char *text = PyBytes_AS_STRING(key);
        size_t size = (size_t)PyBytes_GET_SIZE(key), shared = 0;
        while (shared < length && shared < size && text[shared] == before[shared])
            shared++;
        out = head(put(out, "\xa4" "ak", 3), 0x40, size - shared);
        out = put(out, text + shared, size - shared);
        out = head(put(out, "ap", 2), 0, shared);
        out = put_link(put(out, "at", 2), PyTuple_GET_ITEM(args[2], index + 1));
        out = put_link(put(out, "av", 2), PyTuple_GET_ITEM(args[1], index));
        before = text;
        length = size;
    }
    out = put_link(put(out, "al", 2), PyTuple_GET_ITEM(args[2], 0));
    _PyBytes_Resize(&block, out - start);
    return block;
}

/* --- finding a key -------------------------------------------------------------------------------------- */

/* The three tuples of a node; 0 with an exception if it is none. */
static int parts_of(PyObject *node, PyObject *parts[3])
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

/* The first of some keys that is not less than this one; sets whether it is the same. -1 with an exception. */
static Py_ssize_t place_of(PyObject *keys, PyObject *key, int *same)
{
    Py_ssize_t low = 0, high = PyTuple_GET_SIZE(keys), size = PyBytes_GET_SIZE(key);

    *same = 0;
    while (low < high) {
        Py_ssize_t middle = (low + high) / 2;
        PyObject *other = PyTuple_GET_ITEM(keys, middle);
        if (!PyBytes_Check(other)) {
            PyErr_Format(PyExc_TypeError, "this is no node");
            return -1;
        }
        Py_ssize_t length = PyBytes_GET_SIZE(other);
        int order = memcmp(PyBytes_AS_STRING(other), PyBytes_AS_STRING(key), (size_t)(length < size ? length : size));
        if (order < 0 || (!order && length < size)) {
            low = middle + 1;
        } else {
            *same |= !order && length == size;
            high = middle;
        }
    }
    return low;
}

/* The bytes that a node takes in memory, as in node.py; -1 with an exception. */
static Py_ssize_t weight_of(PyObject *node)
{
    PyObject *parts[3];

    if (!parts_of(node, parts))
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

PyDoc_STRVAR(weigh_doc,
"weigh(node)\n--\n\n"
"About the bytes that a node takes in memory.");

static PyObject *weigh(PyObject *module, PyObject *node)
{
    (void)module;
    Py_ssize_t bytes = weight_of(node);
    return bytes < 0 ? NULL : PyLong_FromSsize_t(bytes);
}

struct descent {
    PyTypeObject *type;
    PyObject *young, *old;       /* dicts of nodes that are held */
    PyObject *read;              /* BlockReader.read_small */
    PyObject *fresh;             /* the list of nodes that the young ones do not have yet */
};

/* Adds a node to those that are to be held; 0 with an exception. */
static int note(struct descent *way, PyObject *cid, PyObject *node)
{
    Py_ssize_t bytes = weight_of(node);
    PyObject *item = bytes < 0 ? NULL : Py_BuildValue("OOn", cid, node, bytes);
    int noted = item && !PyList_Append(way->fresh, item);

    Py_XDECREF(item);
    return noted;
}

/* A node that is held, or whose block is small and of the common shape; NULL, maybe with an exception. */
static PyObject *node_at(struct descent *way, PyObject *cid)
{
    PyObject *node = PyDict_GetItemWithError(way->young, cid);
    if (node || PyErr_Occurred())
        return Py_XNewRef(node);
    node = Py_XNewRef(PyDict_GetItemWithError(way->old, cid));
    if (!node) {
        PyObject *data = PyErr_Occurred() ? NULL : PyObject_CallOneArg(way->read, cid);
        if (!data)
            return NULL;
        if (PyBytes_Check(data))
            node = node_in(way->type, data);
        Py_DECREF(data);
    }
    if (node && !note(way, cid, node))
        Py_CLEAR(node);
    return node;
}

PyDoc_STRVAR(descend_doc,
"descend(type, held, read, fresh, cid, key, levels)\n--\n\n"
"The value of a key below a node, None if there is no such key.\n\n"
"Nodes are those that are held, a pair of dicts of which the first is the better one, and those whose blocks\n"
"can be read; all that the first dict does not have are added to a list, with CID and weight. A pair where that\n"
"does not do: the CID of the node at which to go on, and how many levels are left.");

static PyObject *descend(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
    (void)module;
    if (given != 7 || !is_node_type(args[0]) || !PyTuple_Check(args[1]) || PyTuple_GET_SIZE(args[1]) != 2
        || !PyDict_Check(PyTuple_GET_ITEM(args[1], 0)) || !PyDict_Check(PyTuple_GET_ITEM(args[1], 1))
        || !PyList_Check(args[3]) || !PyBytes_Check(args[4]) || !PyBytes_Check(args[5]))
        return PyErr_Format(PyExc_TypeError, "descend takes a type, two dicts, a function, a list, a CID, a key, "
                                             "and a number");
    struct descent way = {.type = (PyTypeObject *)args[0], .young = PyTuple_GET_ITEM(args[1], 0),
                          .old = PyTuple_GET_ITEM(args[1], 1), .read = args[2], .fresh = args[3]};
    PyObject *cid = Py_NewRef(args[4]), *parts[3], *found = NULL;
    long levels = PyLong_AsLong(args[6]);
    if (levels == -1 && PyErr_Occurred())
        goto end;
    for (; cid != Py_None; levels--) {
        PyObject *node = levels > 0 ? node_at(&way, cid) : NULL;
        if (!node) {
            if (!PyErr_Occurred())
                found = Py_BuildValue("Ol", cid, levels);
            goto end;
        }
        int same = 0;
        Py_ssize_t at = parts_of(node, parts) ? place_of(parts[0], args[5], &same) : -1;
        if (at >= 0) {
            if (same)
                found = Py_NewRef(PyTuple_GET_ITEM(parts[1], at));
            else
                Py_SETREF(cid, Py_NewRef(PyTuple_GET_ITEM(parts[2], at)));
        }
        Py_DECREF(node);
        if (at < 0 || same)
            goto end;
    }
    found = Py_NewRef(Py_None);
end:
    Py_DECREF(cid);
    return found;
}

static PyMethodDef METHODS[] = {
    {"descend", (PyCFunction)(void (*)(void))descend, METH_FASTCALL, descend_doc},
    {"weigh", weigh, METH_O, weigh_doc},
    {"decode", (PyCFunction)(void (*)(void))decode, METH_FASTCALL, decode_doc},
    {"encode", (PyCFunction)(void (*)(void))encode, METH_FASTCALL, encode_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, .m_name = "fast_node", .m_doc = "MST nodes and their blocks, in C.", .m_methods = METHODS,
};

PyMODINIT_FUNC PyInit_fast_node(void)
{
    return PyModule_Create(&MODULE);
}
