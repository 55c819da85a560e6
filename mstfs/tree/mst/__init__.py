"""The Merkle search tree of atproto repositories.

Terminology
    The depth of a key is the number of leading zero bits of its sha-256, halved; it is the layer
    at which the key stands. Layer 0 is at the bottom. A node of layer n holds keys of depth n, in
    order, and before, between and behind them links to nodes of layer n - 1.
    An empty node holds no key. It is the whole of the tree without entries, or an intermediate that
    carries one link down a layer where no key stands.
    The spine of a subtree is the chain of its leftmost (or rightmost) nodes, from its top down.

Tricky bits
    The shape of a tree follows from its keys alone: equal entries give equal roots. The root is
    never a bare pointer (an empty node with a link): such tops are trimmed.
    Keys are stored with the part that they share with their left neighbour in the node cut off,
    so a small block can spell many long keys: `node` limits what it is willing to spell.
    A node does not say its layer. It is derived from the first key, which also bounds the height of
    a tree: whoever wants a path of n nodes must find a key with 2 (n - 1) zero bits.
    A hostile tree may link the same node many times. Every walk therefore checks that the keys of a
    child lie between its neighbours, and that no empty node comes twice.

Hacking
    `node` is one block, `search` reads, `edit` makes a new tree out of an old one and a sorted
    batch, `diff` compares, `proof` gathers and checks the nodes that prove something. These take a
    `load` function, from CID to decoded node; `tree` has the class that caches nodes and ties all
    together. `verify` is the strict check of a whole tree.
    Source: https://atproto.com/specs/repository, section "MST Structure".
"""
