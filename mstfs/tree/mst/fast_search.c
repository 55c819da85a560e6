/* Finds a key in an MST: what search.get does, in C, as far as nodes are held or of the common shape. */
#include "fast_reader.h"

#include <string.h>

/* Which of two keys comes first: less than 0, 0 if they are the same, or more. */
static int order_of(const void *a, Py_ssize_t size, const void *b, Py_ssize_t length)
{
    int order = memcmp(a, b, (size_t)(size < length ? size : length));

    return order ? order : size < length ? -1 : size > length;
}

struct spot {
    PyObject *value, *link;      /* the CID of the key, or of the node in which it may be; one of them or neither */
};

/* Where a key stands in a node. 0 with an exception if it is none. */
static int place_in_node(PyObject *node, PyObject *key, struct spot *spot)
{
    PyObject *parts[3];

    if (!mstfs_node_parts(node, parts))
        return 0;
    Py_ssize_t low = 0, high = PyTuple_GET_SIZE(parts[0]), size = PyBytes_GET_SIZE(key);
    while (low < high) {
        Py_ssize_t middle = (low + high) / 2;
        PyObject *other = PyTuple_GET_ITEM(parts[0], middle);
        if (!PyBytes_Check(other)) {
            PyErr_Format(PyExc_TypeError, "this is no node");
            return 0;
        }
        int order = order_of(PyBytes_AS_STRING(other), PyBytes_GET_SIZE(other), PyBytes_AS_STRING(key), size);
        if (!order) {
            spot->value = Py_NewRef(PyTuple_GET_ITEM(parts[1], middle));
            return 1;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    PyObject *link = PyTuple_GET_ITEM(parts[2], low);
    spot->link = link == Py_None ? NULL : Py_NewRef(link);
    return 1;
}

/* Where a key stands in the block of a node. 0 if the block is not of the common shape, or with an exception. */
static int place_in_block(PyObject *block, PyObject *key, struct spot *spot)
{
    const unsigned char *first, *before = NULL, *value = NULL;
    struct mstfs_reader in;
    struct mstfs_entry entry;
    int passed = 0, order = -1;  /* entries that are less, and how the last one that was compared is ordered */

    entry.length = 0;
    for (long left = mstfs_node_begin(&in, block); left; left--) {
        if (left < 0 || !mstfs_node_entry(&in, &entry))
            return 0;
        if (order >= 0)
            continue;
        order = order_of(entry.key, entry.length, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key));
        if (!order)
            value = entry.value;
        if (order < 0) {
            passed = 1;
            before = entry.link;
        }
    }
    if (!mstfs_node_end(&in, &first))
        return 0;
    if (!passed)
        before = first;
    if (value)
        return (spot->value = mstfs_cid_at(value)) != NULL;
    return !before || (spot->link = mstfs_cid_at(before)) != NULL;
}

struct descent {
    PyTypeObject *type;
    PyObject *young, *old;       /* dicts of what is held: nodes, or their blocks */
    PyObject *read;              /* BlockReader.read_small */
    PyObject *fresh;             /* the list of what the young ones do not have yet */
};

/* Adds what is to be held; 0 with an exception. */
static int note(struct descent *way, PyObject *cid, PyObject *node)
{
    Py_ssize_t bytes = mstfs_node_weight(node);
    PyObject *item = bytes < 0 ? NULL : Py_BuildValue("OOn", cid, node, bytes);
    int noted = item && !PyList_Append(way->fresh, item);

    Py_XDECREF(item);
    return noted;
}

/* Where a key stands in a node. 0, maybe with an exception, if the node is not held and its block is not small and
 * of the common shape.
 *
 * Most nodes are passed once: the block of a node is searched as it is, and becomes a node when it is passed again.
 */
static int place_at(struct descent *way, PyObject *cid, PyObject *key, struct spot *spot)
{
    PyObject *held = PyDict_GetItemWithError(way->young, cid), *node = NULL;
    int is_new = 0, found = 0;

    if (!held && !PyErr_Occurred()) {
        held = PyDict_GetItemWithError(way->old, cid);
        is_new = 1;
    }
    if (PyErr_Occurred())
        return 0;
    if (!held) {
        PyObject *block = PyObject_CallOneArg(way->read, cid);
        if (block && PyBytes_Check(block))
            found = place_in_block(block, key, spot) && note(way, cid, block);
        Py_XDECREF(block);
        return found;
    }
    if (PyBytes_Check(held)) {
        node = mstfs_node_in(way->type, held);
        is_new = 1;
    } else {
        node = Py_NewRef(held);
    }
    found = node && (!is_new || note(way, cid, node)) && place_in_node(node, key, spot);
    Py_XDECREF(node);
    return found;
}

PyDoc_STRVAR(descend_doc,
"descend(type, held, read, fresh, cid, key, levels)\n--\n\n"
"The value of a key below a node, None if there is no such key.\n\n"
"Nodes are those that are held, a pair of dicts of which the first is the better one, and those whose blocks\n"
"can be read. What the first dict does not have is added to a list, with CID and weight: a node, or the block of\n"
"one that was not held. A pair where that does not do: the CID of the node at which to go on, and how many levels\n"
"are left.");

static PyObject *descend(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
    (void)module;
    if (given != 7 || !mstfs_is_node_type(args[0]) || !PyTuple_Check(args[1]) || PyTuple_GET_SIZE(args[1]) != 2
        || !PyDict_Check(PyTuple_GET_ITEM(args[1], 0)) || !PyDict_Check(PyTuple_GET_ITEM(args[1], 1))
        || !PyList_Check(args[3]) || !PyBytes_Check(args[4]) || !PyBytes_Check(args[5]))
        return PyErr_Format(PyExc_TypeError, "descend takes a type, two dicts, a function, a list, a CID, a key, "
                                             "and a number");
    struct descent way = {.type = (PyTypeObject *)args[0], .young = PyTuple_GET_ITEM(args[1], 0),
                          .old = PyTuple_GET_ITEM(args[1], 1), .read = args[2], .fresh = args[3]};
    long levels = PyLong_AsLong(args[6]);
    if (levels == -1 && PyErr_Occurred())
        return NULL;
    PyObject *cid = Py_NewRef(args[4]), *found = NULL;
    while (cid && !found) {
        struct spot spot = {NULL, NULL};
        if (levels <= 0 || !place_at(&way, cid, args[5], &spot)) {
            Py_CLEAR(spot.value);
            Py_CLEAR(spot.link);
            found = PyErr_Occurred() ? NULL : Py_BuildValue("Ol", cid, levels);
            break;
        }
        levels--;
        found = spot.value;
        Py_SETREF(cid, spot.link);
    }
    Py_XDECREF(cid);
    return found || PyErr_Occurred() ? found : Py_NewRef(Py_None);
}

static PyMethodDef METHODS[] = {
    {"descend", (PyCFunction)(void (*)(void))descend, METH_FASTCALL, descend_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, .m_name = "fast_search", .m_doc = "Keys in an MST, in C.", .m_methods = METHODS,
};

PyMODINIT_FUNC PyInit_fast_search(void)
{
    return PyModule_Create(&MODULE);
}
