"""The view, served to the kernel.

Terminology
    A handle is a number that the kernel gives back with each request on an open file. For files it is
    the inode's own number, with the highest bit set for those who only read; folders and files of the
    control folder have handles of their own, below 2^32.

Tricky bits
    Handlers run on one event loop, and between two `await`s nothing else runs: a handler that changes
    the view does so without awaiting. Invalidation waits for the kernel, which may wait for us, so it is
    always done in a worker thread, before the reply to the request that caused it.

Hacking
    `operations` is the only module that knows pyfuse3's handlers, `attributes` its structures, `errnos`
    which error becomes which errno, `kernel_cache` how the kernel is told that something changed.
    What is answered without Python is in C: `fast_path` is where it begins, `fast_files` has files that are
    read, `fast_listing` folders, `fast_new` new files, `fast_push` what the kernel is given unasked.
"""
