"""Merkle trees from keys to CIDs: one interface, one package for each kind of tree.

Terminology
    A node is a block of a tree, a root is the CID of its topmost node, an entry is one key and
    the CID that it maps to. An edit puts a CID under a key, or is a tombstone.

Tricky bits
    Trees are values: functions take a root and return a root, and no node is ever changed in
    place. An operation finishes reading before it returns new blocks, so that running it
    again after a `MissingBlock` is safe. Blocks of a tree come from strangers: nothing here
    recurses on the depth of a tree, and every answer is bounded by what was really read.

Hacking
    `mst`, `hamt` and `unixfs` never import each other. What they share is in `interface`
    (the protocol and its values) and `defect` (what a verifier reports).
"""
