"""Copying whole trees: from an archive, a folder, a tar or a zip into a new CAR of any kind of tree.

Terminology
    A source gives items: files, records, symbolic links and empty folders, each under a key. A target
    makes values of them and, at the end, the tree. A path is the key of a file in a folder, a tar, a zip or a
    UnixFS tree; the keys of other archives are keys.
    The ledger is what is remembered of each key: the CID of its value and a digest of its content.

Tricky bits
    Everything streams: what stays in memory is the ledger and, at the end, the nodes of the new tree. So the
    root is known last. It is written into the head of the file then, in the room that was kept for it.
    The new file is read back before it gets its name. What the ledger says is compared with what any
    reader of the file sees, so a copy that is reported as done was read from beginning to end.
    A key may come again (a tar): the last one counts, and blocks of the others stay in the file, unlinked.

Hacking
    `items` is what sources give. `archives`, `folders`, `tars` and `zips` are the sources, `sources` finds
    the one for a path. `targets` makes values and trees; `names` turns keys into paths and back.
    `copy` is the pipeline, `symlinks` follows links inside of a source, `ledger` is what is remembered,
    `check` reads back, `car_output` is the file.
"""
