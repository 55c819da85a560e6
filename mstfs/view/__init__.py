"""A tree seen as folders and files: plain synchronous code, without the kernel.

Terminology
    A path is bytes, names joined by `/`; the mount's root is the empty path. (In `names` and
    `namespace` it is a tuple of those names.) A node is what a path names. A buffer holds what
    was written to an open file and is not staged yet. A pinned inode goes on saying what it said.

Tricky bits
    An inode outlives its name: a file that was unlinked or replaced while somebody has it open
    keeps what it said, and so do readers when a publication, a revert or a checkout gives the name
    another meaning. Rows of the overlay that only such inodes still read are their `orphans`. The
    kernel caches without end, so every change that does not come through the same path must be told
    to it: `View.stale` collects those changes.

    Nothing here waits or gives others a turn. What takes long for a large file is a generator of short
    steps (`Keeper.prepare`, `Keeper.forgetting`): whoever runs it lets others change what they like between
    two steps, and the change that counts is made at once, at the end.

Hacking
    `names` maps keys to paths and back; `namespace` finds the keys below a path; `inodes` numbers
    paths; `contents` renders records and `buffers` hold what is written. `view` is what can be read,
    `writer` and `rename` what programs change, `keeper` what is stored of it; `changes` and `revert`
    are changes that no program made through the mount; `control` is the folder `.mstfs`.
    tests/test_view_machine.py plays random programs against a plain model of all of this.
"""
