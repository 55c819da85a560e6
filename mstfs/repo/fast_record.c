/* Shows records of the common shape as JSON: what record.render does, in C.
 *
 * Only blocks are taken that are canonical DAG-CBOR in every byte, with a map at the top, moderate in size and depth,
 * and without what is spelled in an uncommon way (floats, integers beyond 64 bits with sign, other CIDs, maps that
 * spell "$link" or "$bytes" themselves). For anything else the answer is None, and Python decides.
 *
 * Source: https://ipld.io/specs/codecs/dag-cbor/spec/ and https://atproto.com/specs/data-model.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define BLOCK_MOST 16384         /* larger blocks may have to be laid out in another way (json_text.laid_out) */
#define DEPTH_MOST 32
#define CID_BYTES 36

static const unsigned char LINK_HEAD[3] = {0x58, 0x25, 0x00}; /* behind the tag */
static const char BASE32[] = "abcdefghijklmnopqrstuvwxyz234567";
static const char BASE64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

struct work {
    const unsigned char *at, *end;   /* what is read */
    char *out, *room;                /* what is written, and how far it may go */
    char *start;
};

/* --- writing --------------------------------------------------------------------------------------------- */

/* Make sure that so many bytes can be written. */
static int reserve(struct work *work, size_t count)
{
    if ((size_t)(work->room - work->out) >= count)
        return 1;
    size_t used = (size_t)(work->out - work->start), size = 2 * (used + count);
    char *grown = PyMem_Malloc(size);
    if (!grown)
        return 0;
    memcpy(grown, work->start, used);
    PyMem_Free(work->start);
    work->start = grown;
    work->out = grown + used;
    work->room = grown + size;
    return 1;
}

/* What was reserved before. */
static void put(struct work *work, const char *text, size_t size)
{
    memcpy(work->out, text, size);
    work->out += size;
}

static void new_line(struct work *work, int depth)
{
    *work->out++ = '\n';
    memset(work->out, ' ', 2 * (size_t)depth);
    work->out += 2 * depth;
}

/* Bytes as text, so many bits to a letter, without padding (RFC 4648). */
static void put_base(struct work *work, const unsigned char *data, size_t size, int width, const char *letters)
{
    uint32_t bits = 0, mask = (1u << width) - 1;
    int held = 0;

    for (size_t index = 0; index < size; index++) {
        bits = bits << 8 | data[index];
        for (held += 8; held >= width; held -= width)
            *work->out++ = letters[bits >> (held - width) & mask];
    }
    if (held)
        *work->out++ = letters[bits << (width - held) & mask];
}

/* The bytes of a UTF-8 sequence of several bytes; 0 if it is not sound (RFC 3629). */
static int sequence(const unsigned char *at, const unsigned char *end)
{
    unsigned char first = at[0];
    int size = first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;

    if (!size || end - at < size)
        return 0;
    for (int index = 1; index < size; index++)
        if ((at[index] & 0xc0) != 0x80)
            return 0;
    if ((first == 0xe0 && at[1] < 0xa0) || (first == 0xed && at[1] > 0x9f) || (first == 0xf0 && at[1] < 0x90)
        || (first == 0xf4 && at[1] > 0x8f))
        return 0;
    return size;
}

/* A text in quotes; room for six times its size must have been reserved. */
static int put_text(struct work *work, const unsigned char *at, size_t size)
{
    static const char SHORT[] = "btn\0fr"; /* from 8 on */
    const unsigned char *end = at + size;
    char *out = work->out;

    *out++ = '"';
    while (at < end) {
        unsigned char byte = *at;
        if (byte >= 0x80) {
            int count = sequence(at, end);
            if (!count)
                return 0;
            memcpy(out, at, (size_t)count);
            out += count;
            at += count;
            continue;
        }
        at++;
        if (byte == '"' || byte == '\\') {
            *out++ = '\\';
            *out++ = (char)byte;
        } else if (byte >= 0x20) {
            *out++ = (char)byte;
        } else if (byte >= 8 && byte <= 13 && SHORT[byte - 8]) {
            *out++ = '\\';
            *out++ = SHORT[byte - 8];
        } else {
            memcpy(out, "\\u00", 4);
            out[4] = "01"[byte >> 4];
            out[5] = "0123456789abcdef"[byte & 15];
            out += 6;
        }
    }
    *out++ = '"';
    work->out = out;
    return 1;
}

/* --- reading --------------------------------------------------------------------------------------------- */

/* The head of an item: its major type, and its argument, spelled as short as can be. */
static int head(struct work *work, int *major, uint64_t *argument)
{
    if (work->at >= work->end)
        return 0;
    unsigned char first = *work->at++;
    int info = first & 0x1f;

    *major = first >> 5;
    *argument = (uint64_t)info;
    if (info < 24)
        return 1;
    if (info > 27)
        return 0;
    int size = 1 << (info - 24);
    if (work->end - work->at < size)
        return 0;
    uint64_t value = 0;
    for (int index = 0; index < size; index++)
        value = value << 8 | *work->at++;
    *argument = value;
    return value >= (size == 1 ? 24 : 1ull << 4 * size);
}

static int item(struct work *work, int depth);

static int number(struct work *work, uint64_t argument, int negative)
{
    char digits[24];
    int at = sizeof digits;

    if (negative) {
        if (argument >> 63)
            return 0;
        argument++;
    }
    do {
        digits[--at] = (char)('0' + argument % 10);
        argument /= 10;
    } while (argument);
    if (negative)
        digits[--at] = '-';
    if (!reserve(work, sizeof digits))
        return 0;
    put(work, digits + at, sizeof digits - (size_t)at);
    return 1;
}

/* A map with one field, which stands for what JSON has no word for: its name as it stands, then letters. */
static int spelled(struct work *work, int depth, const char *name, const unsigned char *data, size_t size, int width,
                   const char *letters)
{
    if (!reserve(work, 2 * size + 4 * (size_t)depth + 64))
        return 0;
    *work->out++ = '{';
    new_line(work, depth + 1);
    put(work, name, strlen(name));
    put_base(work, data, size, width, letters);
    *work->out++ = '"';
    new_line(work, depth);
    *work->out++ = '}';
    return 1;
}

static int link_of(struct work *work, int depth)
{
    /* The tag was read. What follows is a byte string of 37, whose first is 0. */
    const unsigned char *at = work->at;

    if (work->end - at < 3 + CID_BYTES || memcmp(at, LINK_HEAD, sizeof LINK_HEAD))
        return 0;
    at += 3;
    if (at[0] != 1 || (at[1] != 0x71 && at[1] != 0x55) || at[2] != 0x12 || at[3] != 0x20)
        return 0;
    work->at = at + CID_BYTES;
    return spelled(work, depth, "\"$link\": \"b", at, CID_BYTES, 5, BASE32);
}

static int list(struct work *work, uint64_t count, int depth)
{
    if (count > (uint64_t)(work->end - work->at) || !reserve(work, 2))
        return 0;
    *work->out++ = '[';
    for (uint64_t index = 0; index < count; index++) {
        if (!reserve(work, 2 * (size_t)depth + 8))
            return 0;
        if (index)
            *work->out++ = ',';
        new_line(work, depth + 1);
        if (!item(work, depth + 1))
            return 0;
    }
    if (!reserve(work, 2 * (size_t)depth + 4))
        return 0;
    if (count)
        new_line(work, depth);
    *work->out++ = ']';
    return 1;
}

static int map(struct work *work, uint64_t count, int depth)
{
    const unsigned char *before = NULL;
    size_t before_size = 0;

    if (count > (uint64_t)(work->end - work->at) || !reserve(work, 2))
        return 0;
    *work->out++ = '{';
    for (uint64_t index = 0; index < count; index++) {
        uint64_t size;
        int major;
        if (!head(work, &major, &size) || major != 3 || size > (uint64_t)(work->end - work->at))
            return 0;
        const unsigned char *key = work->at;
        work->at += size;
        /* Shorter keys come first, and none twice. */
        if (before && (size < before_size || (size == before_size && memcmp(before, key, size) >= 0)))
            return 0;
        before = key;
        before_size = size;
        if ((size == 5 && !memcmp(key, "$link", 5)) || (size == 6 && !memcmp(key, "$bytes", 6)))
            return 0;
        if (!reserve(work, 6 * size + 2 * (size_t)depth + 16))
            return 0;
        if (index)
            *work->out++ = ',';
        new_line(work, depth + 1);
        if (!put_text(work, key, size))
            return 0;
        put(work, ": ", 2);
        if (!item(work, depth + 1))
            return 0;
    }
    if (!reserve(work, 2 * (size_t)depth + 4))
        return 0;
    if (count)
        new_line(work, depth);
    *work->out++ = '}';
    return 1;
}

static int simple(struct work *work, uint64_t value)
{
    static const char *const WORDS[] = {"false", "true", "null"};

    /* Longer heads than one byte are floats, or not canonical. */
    if (value < 20 || value > 22 || !reserve(work, 8))
        return 0;
    put(work, WORDS[value - 20], strlen(WORDS[value - 20]));
    return 1;
}

static int item(struct work *work, int depth)
{
    const unsigned char *start = work->at;
    uint64_t argument;
    int major;

    if (depth > DEPTH_MOST || !head(work, &major, &argument))
        return 0;
    if (major == 2 || major == 3) {
        const unsigned char *data = work->at;
        if (argument > (uint64_t)(work->end - data))
            return 0;
        work->at += argument;
        if (major == 2)
            return spelled(work, depth, "\"$bytes\": \"", data, argument, 6, BASE64);
        return reserve(work, 6 * argument + 8) && put_text(work, data, argument);
    }
    switch (major) {
    case 0:
    case 1:
        return number(work, argument, major);
    case 4:
        return list(work, argument, depth);
    case 5:
        return map(work, argument, depth);
    case 6:
        return argument == 42 && link_of(work, depth);
    default:
        return work->at == start + 1 && simple(work, argument);
    }
}

PyDoc_STRVAR(render_doc,
"render(block)\n--\n\n"
"The JSON of a record, as record.render gives it. None if the block is not of the common shape.");

static PyObject *render(PyObject *module, PyObject *block)
{
    (void)module;
    if (!PyBytes_Check(block))
        return PyErr_Format(PyExc_TypeError, "render takes bytes");
    size_t size = (size_t)PyBytes_GET_SIZE(block);
    struct work work = {.at = (const unsigned char *)PyBytes_AS_STRING(block)};
    work.end = work.at + size;
    /* Only maps. */
    if (!size || size > BLOCK_MOST || *work.at >> 5 != 5)
        Py_RETURN_NONE;
    work.start = work.out = PyMem_Malloc(3 * size + 256);
    if (!work.start)
        return PyErr_NoMemory();
    work.room = work.out + 3 * size + 256;
    PyObject *text = NULL;
    if (item(&work, 0) && work.at == work.end && reserve(&work, 1)) {
        *work.out++ = '\n';
        text = PyBytes_FromStringAndSize(work.start, work.out - work.start);
        PyMem_Free(work.start);
        return text;
    }
    PyMem_Free(work.start);
    Py_RETURN_NONE;
}

static PyMethodDef METHODS[] = {
    {"render", render, METH_O, render_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, .m_name = "fast_record", .m_doc = "Records as JSON, in C.", .m_methods = METHODS,
};

PyMODINIT_FUNC PyInit_fast_record(void)
{
    return PyModule_Create(&MODULE);
}
