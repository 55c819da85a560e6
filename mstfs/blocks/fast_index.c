/* Finds a block in the index of a CAR: what CarIndex.find does (car_index.py), in C.
 *
 * Rows of six native 64-bit words stand behind a header, sorted by the first four, which are the digest. Digests
 * are spread evenly, so the search begins where the row should be, and looks further and further around it: that
 * takes one or two pages of a large index into memory, and never longer than halving, whatever an attacker made.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

#define ROW_WORDS 6

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

PyDoc_STRVAR(find_doc,
"find(table, header, rows, cid)\n--\n\n"
"Row, offset and size of the first copy of a block; None if there is none.\n\n"
"NotImplemented if that takes more: for uncommon CIDs, and for digests that begin alike.");

static PyObject *find(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
    Py_buffer table;
    PyObject *answer = Py_NotImplemented;

    (void)module;
    if (given != 4 || !PyBytes_Check(args[3]))
        return PyErr_Format(PyExc_TypeError, "find takes a table, two numbers and a CID");
    Py_ssize_t header = PyLong_AsSsize_t(args[1]), count = PyLong_AsSsize_t(args[2]);
    if (PyErr_Occurred())
        return NULL;
    const unsigned char *cid = (const unsigned char *)PyBytes_AS_STRING(args[3]);
    /* Version 1, one byte of codec, one of hash function, 32 of digest. */
    if (PyBytes_GET_SIZE(args[3]) != 36 || cid[0] != 1 || cid[1] >= 0x80 || cid[2] >= 0x80 || cid[3] != 32)
        return Py_NewRef(Py_NotImplemented);
    if (PyObject_GetBuffer(args[0], &table, PyBUF_SIMPLE))
        return NULL;
    if (header < 0 || header > table.len || header % 8 || count < 0 ||
        count > (table.len - header) / (8 * ROW_WORDS)) {
        PyBuffer_Release(&table);
        return PyErr_Format(PyExc_ValueError, "the table is too short");
    }
    const uint64_t *rows = (const uint64_t *)((const char *)table.buf + header);
    uint64_t key[4];
    for (int word = 0; word < 4; word++)
        key[word] = big_endian(cid + 4 + 8 * word);
    size_t at = first_row(rows, (size_t)count, key[0]);
    const uint64_t *row = rows + at * ROW_WORDS;
    if (at == (size_t)count || row[0] != key[0]) {
        answer = Py_None;
    } else if (row[1] == key[1] && row[2] == key[2] && row[3] == key[3] && row[5] >> 40 == cid[2]) {
        uint64_t size = row[5] >> 32 & 0xff;
        long long length = (long long)(row[5] & 0xffffffff) - (long long)size;
        PyObject *hit = Py_BuildValue("nKL", (Py_ssize_t)at, (unsigned long long)row[4] + size, length);
        PyBuffer_Release(&table);
        return hit;
    }
    PyBuffer_Release(&table);
    return Py_NewRef(answer);
}

static PyMethodDef METHODS[] = {
    {"find", (PyCFunction)(void (*)(void))find, METH_FASTCALL, find_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, .m_name = "fast_index", .m_doc = "Look-ups in the index of a CAR, in C.",
    .m_methods = METHODS,
};

PyMODINIT_FUNC PyInit_fast_index(void)
{
    return PyModule_Create(&MODULE);
}
