/* Finds a block in the index of a CAR, and reads it: what CarIndex.find (car_index.py) and CarFile.get (car.py) do.
 *
 * Rows of six native 64-bit words stand behind a header, sorted by the first four, which are the digest. Digests
 * are spread evenly, so the search begins where the row should be, and looks further and further around it: that
 * takes one or two pages of a large index into memory, and never longer than halving, whatever an attacker made.
 */
#define PY_SSIZE_T_CLEAN
#include "fast_crypto.h"

#include <Python.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#define ROW_WORDS 6
#define SMALL 4096               /* bytes up to which to hash again takes less than to remember what was hashed */
#define SHA2_256 0x12

static uint64_t big_endian(const unsigned char *at)
{
    uint64_t word = 0;

    for (int index = 0; index < 8; index++)
        word = word << 8 | at[index];
    return word;
}

/* The first row whose first word is not less than the key. */
static size_t first_row(const uint64_t *rows, size_t count, uint64_t key)
{
    size_t low = 0, high = count;
    size_t at = (size_t)((unsigned __int128)key * count >> 64), step = 16;

    while (low < high) {
        if (at < low || at >= high)
            at = low + (high - low) / 2;
        if (rows[at * ROW_WORDS] < key) {
            low = at + 1;
            at = step < high - low ? low + step : low + (high - low) / 2;
        } else {
            high = at;
            at = step < high - low ? high - step : low + (high - low) / 2;
        }
        step *= 4;
    }
    return low;
}

/* Where a block is: 1 if it is there, 0 if not, -1 if that takes more, -2 with an exception. */
struct place {
    size_t row;
    uint64_t offset;
    long long length;
};

static int locate(PyObject *const *args, PyObject *name, struct place *place)
{
    Py_buffer table;

    if (!PyBytes_Check(name)) {
        PyErr_Format(PyExc_TypeError, "a CID is bytes");
        return -2;
    }
    Py_ssize_t header = PyLong_AsSsize_t(args[1]), count = PyLong_AsSsize_t(args[2]);
    if (PyErr_Occurred())
        return -2;
    const unsigned char *cid = (const unsigned char *)PyBytes_AS_STRING(name);
    /* Version 1, one byte of codec, one of hash function, 32 of digest. */
    if (PyBytes_GET_SIZE(name) != 36 || cid[0] != 1 || cid[1] >= 0x80 || cid[2] >= 0x80 || cid[3] != 32)
        return -1;
    if (PyObject_GetBuffer(args[0], &table, PyBUF_SIMPLE))
        return -2;
    if (header < 0 || header > table.len || header % 8 || count < 0 ||
        count > (table.len - header) / (8 * ROW_WORDS)) {
        PyBuffer_Release(&table);
        PyErr_Format(PyExc_ValueError, "the table is too short");
        return -2;
    }
    const uint64_t *rows = (const uint64_t *)((const char *)table.buf + header);
    uint64_t key[4];
    for (int word = 0; word < 4; word++)
        key[word] = big_endian(cid + 4 + 8 * word);
    size_t at = first_row(rows, (size_t)count, key[0]);
    const uint64_t *row = rows + at * ROW_WORDS;
    int found = -1;
    if (at == (size_t)count || row[0] != key[0]) {
        found = 0;
    } else if (row[1] == key[1] && row[2] == key[2] && row[3] == key[3] && row[5] >> 40 == cid[2]) {
        uint64_t size = row[5] >> 32 & 0xff;
        place->row = at;
        place->offset = row[4] + size;
        place->length = (long long)(row[5] & 0xffffffff) - (long long)size;
        found = 1;
    }
    PyBuffer_Release(&table);
    return found;
}

PyDoc_STRVAR(find_doc,
"find(table, header, rows, cid)\n--\n\n"
"Row, offset and size of the first copy of a block; None if there is none.\n\n"
"NotImplemented if that takes more: for uncommon CIDs, and for digests that begin alike.");

static PyObject *find(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
    struct place place;

    (void)module;
    if (given != 4)
        return PyErr_Format(PyExc_TypeError, "find takes a table, two numbers and a CID");
    switch (locate(args, args[3], &place)) {
    case 1:
        return Py_BuildValue("nKL", (Py_ssize_t)place.row, (unsigned long long)place.offset, place.length);
    case 0:
        Py_RETURN_NONE;
    case -1:
        return Py_NewRef(Py_NotImplemented);
    default:
        return NULL;
    }
}

static void *context;            /* used while the interpreter's lock is held; NULL: nothing can be hashed */

PyDoc_STRVAR(read_doc,
"read(table, header, rows, file, cid)\n--\n\n"
"The bytes of a block, which were hashed.\n\n"
"None if it takes more to say what is with it: for large blocks, other hash functions, and all trouble.");

static PyObject *read_block(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
    struct place place;

    (void)module;
    if (given != 5)
        return PyErr_Format(PyExc_TypeError, "read takes a table, three numbers and a CID");
    int file = (int)PyLong_AsLong(args[3]);
    if (PyErr_Occurred())
        return NULL;
    int found = locate(args, args[4], &place);
    if (found == -2)
        return NULL;
    const unsigned char *cid = (const unsigned char *)PyBytes_AS_STRING(args[4]);
    if (found != 1 || !context || cid[2] != SHA2_256 || place.length < 0 || place.length > SMALL
        || place.offset > INT64_MAX - SMALL)
        Py_RETURN_NONE;
    PyObject *data = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)place.length);
    if (!data)
        return NULL;
    ssize_t count;
    Py_BEGIN_ALLOW_THREADS
    count = pread(file, PyBytes_AS_STRING(data), (size_t)place.length, (off_t)place.offset);
    Py_END_ALLOW_THREADS
    if (count == place.length && mstfs_sha256_is(context, PyBytes_AS_STRING(data), (size_t)count, cid + 4))
        return data;
    Py_DECREF(data);
    Py_RETURN_NONE;
}

static PyMethodDef METHODS[] = {
    {"find", (PyCFunction)(void (*)(void))find, METH_FASTCALL, find_doc},
    {"read", (PyCFunction)(void (*)(void))read_block, METH_FASTCALL, read_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, .m_name = "fast_index", .m_doc = "Look-ups in the index of a CAR, and reads, in C.",
    .m_methods = METHODS,
};

PyMODINIT_FUNC PyInit_fast_index(void)
{
    Py_XDECREF(PyImport_ImportModule("_hashlib"));
    PyErr_Clear();
    mstfs_crypto_find();
    context = mstfs_sha256_new();
    return PyModule_Create(&MODULE);
}
