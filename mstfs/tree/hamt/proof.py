"""Proofs: the nodes on the way to a key, which show what a tree holds under it.

The slot of a key in each node follows from its hash, so the way to the place where the key stands, or would
stand, proves both that it is there and that it is not.
"""

from collections.abc import Iterable

from mstfs.blocks.interface import BlockReader
from mstfs.codec import cid as cids
from mstfs.errors import CidError, LimitExceeded, MissingBlock, NodeError, ProofError
from mstfs.tree.hamt import search
from mstfs.tree.hamt.layout import Layout
from mstfs.tree.hamt.node import HamtNode

Blocks = list[tuple[bytes, bytes]]
"""CIDs and blocks of nodes, the root first."""


def prove(blocks: BlockReader, root: bytes, layout: Layout, key: bytes) -> Blocks:
    """The nodes that show what `root` has under `key`, or that it does not have the key.

    `layout` is that of the tree, with its placement (`HamtTree.layout`).
    """
    path: dict[bytes, bytes] = {}

    def load(cid: bytes, level: int) -> HamtNode:
        block = path[cid] = blocks.get(cid)
        return layout.decode(cid, block, level)

    search.get(load, root, layout, key)
    return list(path.items())


def check(root: bytes, layout: Layout, key: bytes, blocks: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The CID that the tree `root` has under `key`, None if it does not have the key.

    Trusts nothing but the root and the layout; who got the layout from elsewhere can compare it with what
    `sniff` says of the root's block. Blocks that have nothing to do with the proof do no harm. Raises
    ProofError if the blocks do not suffice, or do not fit together.
    """
    held = dict(blocks)
    path: list[HamtNode] = []

    def load(cid: bytes, level: int) -> HamtNode:
        block = held.get(cid)
        if block is None:
            raise MissingBlock(cid)
        if not cids.matches(cid, block):
            raise ProofError(f"block {cids.to_text(cid)} does not match its CID")
        path.append(layout.decode(cid, block, level))
        return path[-1]

    function = layout.hash
    if function is None:
        raise ProofError("nobody here knows the function that places the keys of this tree")
    try:
        found = search.get(load, root, layout, key)
    except MissingBlock as error:
        raise ProofError(f"the proof lacks node {cids.to_text(error.cid)}") from None
    except (NodeError, LimitExceeded, CidError) as error:
        raise ProofError(str(error)) from None
    if found is not None:
        slot = layout.slot(function(key), len(path) - 1)
        if key not in path[-1].buckets().get(slot, {}):
            raise ProofError("the key does not stand in the slot that its hash names")
    return found
