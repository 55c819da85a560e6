/* MST nodes and their blocks: what node.py does, in C, for blocks of the common shape.
 *
 * For anything else the answer is None, and Python does it. Source: as in node.py.
 */
#include "fast_reader.h"

#include <string.h>

PyDoc_STRVAR(decode_doc,
"decode(type, data)\n--\n\n"
"The node in a block as a tuple of the type: keys, values, links. None if the block is not of the common shape.");

static PyObject *decode(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
    (void)module;
    if (given != 2 || !mstfs_is_node_type(args[0]) || !PyBytes_Check(args[1]))
        return PyErr_Format(PyExc_TypeError, "decode takes a type of tuple and bytes");
    PyObject *node = mstfs_node_in((PyTypeObject *)args[0], args[1]);
    if (node || PyErr_Occurred())
        return node;
    Py_RETURN_NONE;
}

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
    return put(put(out, LINK_HEAD, LINK_HEAD_SIZE), PyBytes_AS_STRING(link), LINK);
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

PyDoc_STRVAR(weigh_doc,
"weigh(node)\n--\n\n"
"About the bytes that a node, or the block of one, takes in memory.");

static PyObject *weigh(PyObject *module, PyObject *node)
{
    (void)module;
    Py_ssize_t bytes = mstfs_node_weight(node);
    return bytes < 0 ? NULL : PyLong_FromSsize_t(bytes);
}

static PyMethodDef METHODS[] = {
    {"decode", (PyCFunction)(void (*)(void))decode, METH_FASTCALL, decode_doc},
    {"encode", (PyCFunction)(void (*)(void))encode, METH_FASTCALL, encode_doc},
    {"weigh", weigh, METH_O, weigh_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, .m_name = "fast_node", .m_doc = "MST nodes and their blocks, in C.", .m_methods = METHODS,
};

PyMODINIT_FUNC PyInit_fast_node(void)
{
    return PyModule_Create(&MODULE);
}
