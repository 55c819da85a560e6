/* Reads blocks before they are asked for, and hashes them, in a thread that needs nothing of Python.
 *
 * Hashing takes most of the time that it takes to read a large block. While the kernel is given one part of a file,
 * the next ones are hashed on another processor. A thread of Python would wait for the interpreter's lock each time
 * that it is through with a block; here, who asks for a block looks whether it is done.
 *
 * A Reader holds PLACES blocks at most. The interpreter's lock is held by whoever calls it, never by its thread; the
 * mutex is held for moments only, and nothing of Python is called meanwhile.
 */
#define PY_SSIZE_T_CLEAN
#include "fast_crypto.h"

#include <Python.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#define PLACES 16
#define MOST (1 << 20)           /* bytes of a block: a larger one is read when it is asked for */
#define DIGEST 32

enum state { FREE, WAITING, READING, DONE };

struct place {
    enum state state;
    int sound;                   /* its bytes are those of the CID */
    uint64_t number;             /* in which order they were expected */
    uint64_t offset;
    unsigned char digest[DIGEST];
    PyObject *data;              /* the bytes object that is filled */
};

typedef struct {
    PyObject_HEAD
    int file;
    int started, stopping;
    uint64_t count;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wanted, done;
    struct place places[PLACES];
} Reader;

/* --- the thread ------------------------------------------------------------------------------------------ */

static int read_whole(int file, struct place *place)
{
    char *bytes = PyBytes_AS_STRING(place->data);
    size_t size = (size_t)PyBytes_GET_SIZE(place->data), filled = 0;

    while (filled < size) {
        ssize_t more = pread(file, bytes + filled, size - filled, (off_t)(place->offset + filled));
        if (more <= 0)
            return 0;
        filled += (size_t)more;
    }
    return 1;
}

static struct place *first_waiting(Reader *self)
{
    struct place *first = NULL;

    for (int index = 0; index < PLACES; index++) {
        struct place *place = &self->places[index];
        if (place->state == WAITING && (!first || place->number < first->number))
            first = place;
    }
    return first;
}

static void *work(void *argument)
{
    Reader *self = argument;
    void *context = mstfs_sha256_new();

    pthread_mutex_lock(&self->lock);
    while (!self->stopping) {
        struct place *place = first_waiting(self);
        if (!place) {
            pthread_cond_wait(&self->wanted, &self->lock);
            continue;
        }
        place->state = READING;
        pthread_mutex_unlock(&self->lock);
        int sound = context && read_whole(self->file, place)
            && mstfs_sha256_is(context, PyBytes_AS_STRING(place->data), (size_t)PyBytes_GET_SIZE(place->data),
                               place->digest);
        pthread_mutex_lock(&self->lock);
        place->sound = sound;
        place->state = DONE;
        pthread_cond_broadcast(&self->done);
    }
    pthread_mutex_unlock(&self->lock);
    mstfs_sha256_free(context);
    return NULL;
}

/* --- who asks -------------------------------------------------------------------------------------------- */

static const unsigned char *digest_of(PyObject *cid)
{
    if (!PyBytes_Check(cid) || PyBytes_GET_SIZE(cid) != 4 + DIGEST) {
        PyErr_Format(PyExc_TypeError, "only a CID with a digest of 32 bytes can be expected");
        return NULL;
    }
    return (const unsigned char *)PyBytes_AS_STRING(cid) + 4;
}

static struct place *place_of(Reader *self, const unsigned char *digest)
{
    for (int index = 0; index < PLACES; index++)
        if (self->places[index].state != FREE && !memcmp(self->places[index].digest, digest, DIGEST))
            return &self->places[index];
    return NULL;
}

/* A free place, or that which has been held for longest, but for one that is being read. */
static struct place *room(Reader *self)
{
    struct place *oldest = NULL;

    for (int index = 0; index < PLACES; index++) {
        struct place *place = &self->places[index];
        if (place->state == FREE)
            return place;
        if (place->state != READING && (!oldest || place->number < oldest->number))
            oldest = place;
    }
    return oldest;
}

/* Signals are for the thread that knows what to do about them. */
static void start(Reader *self)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    self->started = !pthread_create(&self->thread, NULL, work, self);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

PyDoc_STRVAR(expect_doc,
"expect(cid, offset, length)\n--\n\n"
"Begin to read the block that stands there, unless that has begun already. Nothing happens where it is too large.\n\n"
"The CID is one of sha2-256. What was expected first, and nobody asked for, makes room for what comes last.");

static PyObject *expect(Reader *self, PyObject *const *args, Py_ssize_t given)
{
    if (given != 3)
        return PyErr_Format(PyExc_TypeError, "expect takes a CID and two numbers");
    const unsigned char *digest = digest_of(args[0]);
    if (!digest)
        return NULL;
    long long offset = PyLong_AsLongLong(args[1]), length = PyLong_AsLongLong(args[2]);
    if (PyErr_Occurred())
        return NULL;
    if (length < 0 || length > MOST || offset < 0 || offset > INT64_MAX - MOST || self->stopping)
        Py_RETURN_NONE;
    PyObject *data = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)length), *old = NULL;
    if (!data)
        return NULL;
    pthread_mutex_lock(&self->lock);
    struct place *place = place_of(self, digest) ? NULL : room(self);
    if (place) {
        old = place->state == FREE ? NULL : place->data;
        *place = (struct place){.state = WAITING, .number = self->count++, .offset = (uint64_t)offset, .data = data};
        memcpy(place->digest, digest, DIGEST);
        if (!self->started)
            start(self);
        pthread_cond_signal(&self->wanted);
    } else {
        old = data;
    }
    pthread_mutex_unlock(&self->lock);
    Py_XDECREF(old);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(take_doc,
"take(cid)\n--\n\n"
"The bytes of a block that was expected, which were hashed; they are not held any more.\n\n"
"None if it was not expected, if nobody has begun with it yet, or if there is something wrong with it.");

static PyObject *take(Reader *self, PyObject *cid)
{
    const unsigned char *digest = digest_of(cid);
    if (!digest)
        return NULL;
    pthread_mutex_lock(&self->lock);
    struct place *place = place_of(self, digest);
    if (place && place->state == READING) {
        pthread_mutex_unlock(&self->lock);
        Py_BEGIN_ALLOW_THREADS
        pthread_mutex_lock(&self->lock);
        /* Meanwhile another thread may take it, and the place may be given to another block. */
        while ((place = place_of(self, digest)) && place->state == READING)
            pthread_cond_wait(&self->done, &self->lock);
        pthread_mutex_unlock(&self->lock);
        Py_END_ALLOW_THREADS
        pthread_mutex_lock(&self->lock);
        place = place_of(self, digest);
    }
    PyObject *data = NULL;
    int sound = 0;
    if (place && place->state != READING) {
        data = place->data;
        sound = place->state == DONE && place->sound;
        place->state = FREE;
        place->data = NULL;
    }
    pthread_mutex_unlock(&self->lock);
    if (sound)
        return data;
    Py_XDECREF(data);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(close_doc,
"close()\n--\n\n"
"End the thread, once it is through with the block that it reads, and hold nothing any more.");

static PyObject *close_reader(Reader *self, PyObject *unused)
{
    (void)unused;
    pthread_mutex_lock(&self->lock);
    int join = self->started && !self->stopping, alone = join || !self->started;
    self->stopping = 1;
    pthread_cond_broadcast(&self->wanted);
    pthread_mutex_unlock(&self->lock);
    if (join) {
        Py_BEGIN_ALLOW_THREADS
        pthread_join(self->thread, NULL);
        Py_END_ALLOW_THREADS
    }
    for (int index = 0; alone && index < PLACES; index++) {
        self->places[index].state = FREE;
        Py_CLEAR(self->places[index].data);
    }
    Py_RETURN_NONE;
}

/* --- the type -------------------------------------------------------------------------------------------- */

static PyObject *new_reader(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    int file;

    (void)keywords;
    if (!PyArg_ParseTuple(args, "i", &file))
        return NULL;
    Reader *self = (Reader *)type->tp_alloc(type, 0);
    if (self) {
        self->file = file;
        pthread_mutex_init(&self->lock, NULL);
        pthread_cond_init(&self->wanted, NULL);
        pthread_cond_init(&self->done, NULL);
    }
    return (PyObject *)self;
}

static void free_reader(Reader *self)
{
    PyTypeObject *type = Py_TYPE(self);

    Py_XDECREF(close_reader(self, NULL));
    pthread_cond_destroy(&self->done);
    pthread_cond_destroy(&self->wanted);
    pthread_mutex_destroy(&self->lock);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef METHODS[] = {
    {"expect", (PyCFunction)(void (*)(void))expect, METH_FASTCALL, expect_doc},
    {"take", (PyCFunction)take, METH_O, take_doc},
    {"close", (PyCFunction)close_reader, METH_NOARGS, close_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot SLOTS[] = {
    {Py_tp_doc, "Reader(file)\n--\n\nReads blocks of an open file before they are asked for, in a thread of its own."},
    {Py_tp_new, new_reader},
    {Py_tp_dealloc, free_reader},
    {Py_tp_methods, METHODS},
    {0, NULL},
};

static PyType_Spec SPEC = {
    .name = "mstfs.blocks.fast_ahead.Reader", .basicsize = sizeof(Reader), .flags = Py_TPFLAGS_DEFAULT,
    .slots = SLOTS,
};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, .m_name = "fast_ahead", .m_doc = "Blocks that are read ahead, in C.", .m_size = -1,
};

PyMODINIT_FUNC PyInit_fast_ahead(void)
{
    Py_XDECREF(PyImport_ImportModule("_hashlib"));
    PyErr_Clear();
    mstfs_crypto_find();
    PyObject *module = PyModule_Create(&MODULE), *type = PyType_FromSpec(&SPEC);
    if (!module || !type || PyModule_AddObjectRef(module, "Reader", type))
        Py_CLEAR(module);
    Py_XDECREF(type);
    return module;
}
