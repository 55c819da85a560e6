"""Reading a HAMT along the hash of a key, and all of its nodes in order."""

from collections.abc import Callable, Iterator

from mstfs.errors import LimitExceeded, NodeError
from mstfs.limits import TREE_HEIGHT
from mstfs.tree.hamt.layout import Layout
from mstfs.tree.hamt.node import HamtNode, Load


def get(load: Load, root: bytes, layout: Layout, key: bytes) -> bytes | None:
    """The CID under `key`, or None; `layout` has the placement of the tree."""
    function = layout.hash
    assert function is not None
    digest = function(key)
    slot_of = layout.slot
    cid = root
    try:
        for level in range(TREE_HEIGHT):
            slot = slot_of(digest, level)
            node = load(cid, level)
            link = node.links.get(slot)
            if link is None:
                # The verifier minds in which bucket of the node the key stands, readers need not.
                return node.entries.get(key)
            cid = link
    except IndexError:
        return None  # no key with this hash can stand so deep
    raise LimitExceeded(f"the tree is higher than {TREE_HEIGHT} levels")


def stream(
    read: Callable[[bytes], bytes], root: bytes, layout: Layout
) -> Iterator[tuple[bytes, bytes | None]]:
    """The CIDs of a tree in pre-order: nodes with their blocks, and values, each with None, between them.

    A node comes before its values and children, these in the order of their slots. Values that stand inside a
    node are left out. Raises NodeError for a node that is linked twice.
    """
    seen = {root}
    pending: list[Iterator[bytes | tuple[bytes, None]]] = [iter((root,))]
    while pending:
        item = next(pending[-1], None)
        if item is None:
            pending.pop()
        elif isinstance(item, tuple):
            yield item
        else:
            level = len(pending) - 1
            if level >= TREE_HEIGHT:
                raise LimitExceeded(f"the tree is higher than {TREE_HEIGHT} levels")
            block = read(item)
            node = layout.decode(item, block, level)
            for link in node.links.values():
                if link in seen:
                    raise NodeError(link, "repeated-node", "is linked more than once")
                seen.add(link)
            yield item, block
            pending.append(_parts(node))


def _parts(node: HamtNode) -> Iterator[bytes | tuple[bytes, None]]:
    buckets = node.buckets()
    for slot in sorted((*buckets, *node.links)):
        link = node.links.get(slot)
        if link is not None:
            yield link
            continue
        for key, cid in buckets[slot].items():
            if key not in node.inline:
                yield cid, None
