"""Hash array mapped tries: maps from keys to CIDs, of py-hamt, IPLD and Filecoin.

Terminology
    The hash of a key is read as numbers of a fixed width in bits, one for each level from the root (level 0)
    down: the slot in which the key stands there. A slot of a node holds nothing, a bucket of
    entries, or a link to the node of the next level. A subtree is sparse if it is linked though a bucket
    could hold its entries; a tree without sparse subtrees is canonical.
    A layout is what a kind of HAMT writes down, with its parameters. A placement is the function and
    the level of its digest at which the keys of one tree really are.
    A bare pointer is a multihash in a byte string, where a layout has a link otherwise.

Tricky bits
    Keys have no order in the tree. What needs one (pages, seek, walk) works on the key table of a root: all
    entries, sorted, made by one walk. Look-ups of single keys follow the hash and need one path.
    What a file says about its hash function may be wrong, and py-hamt's files do not say it: where
    the first keys of a tree sit tells (`placement`). If nothing fits, the tree can still be listed,
    look-ups use the key table, and edits and proofs are refused.
    py-hamt 2.x trees depend on their history: edits do what py-hamt 2.4 would do, key by key. All others
    that are written are canonical on every path that an edit touches.
    A value can stand inside a node. It gets the identity CID of its DAG-CBOR form, or if that is too long for
    a CID its sha2-256 CID: no store holds that block, but `HamtTree.values` does.
    A hostile tree may link the same node many times. An honest one never does, so walks refuse it.

Hacking
    `layout` is what all layouts have in common, `pyhamt2`, `pyhamt3`, `hashmap` and `filecoin` are the
    layouts, `sniff` tells them apart. `node` is a decoded node, which is the same for all of them.
    `placement` finds out where keys are, `table` is the key table, `search` reads, `edit` makes a new tree,
    `diff` compares, `proof` gathers and checks paths, `verify` is the strict check. `tree` has the class
    that ties all together.
"""
