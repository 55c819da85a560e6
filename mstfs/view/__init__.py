"""A tree seen as folders and files: plain synchronous code, without the kernel.

Terminology
    A path is a tuple of names, each a `bytes` of at most 255; the mount's root is the empty
    tuple. A source is where the bytes of a file come from. A buffer holds what was written to
    an open file and is not staged yet.

Tricky bits
    An inode outlives its name: a file that was unlinked or replaced while somebody has it open
    keeps its source. The kernel caches without end, so every change that does not come through
    the same path must be told to it: `FileSystem` collects those changes in `stale`.

Hacking
    `names` maps keys to paths and back; `namespace` finds what a path names; `inodes` numbers
    it; `sources` and `buffers` hold contents; `filesystem` is the set of operations and
    `rename` its longest; `control` is the folder `.mstfs`.
"""
