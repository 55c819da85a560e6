"""Blocks: bytes with a CID, and the stores that hold them.

Terminology
    A reader answers for blocks (`get`, `has`); a store also takes and drops them. An overlay is
    one writable store above any number of readers.

Tricky bits
    Blocks are matched by multihash: the same bytes under another codec are the same block.
    Absent, corrupt and unreachable are three different errors, and a block that does not match
    its CID is never returned. Identity CIDs carry their block, so every store "holds" them and
    none keeps them.

Hacking
    `memory` is the strict fake that tests build on; a new store must pass the same contract suite
    (tests/contracts/block_store.py). `sqlite` is the only importer of sqlite3: the connection that
    `sqlite_blocks` and the layers above keep their tables in, guarded by `lock_file`.
"""
