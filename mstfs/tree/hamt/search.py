"""Reading a HAMT along the hash of a key, and all of its nodes in order."""

from collections.abc import Callable, Iterator
from typing import TypeAlias

from mstfs.errors import LimitExceeded, NodeError
from mstfs.limits import TREE_HEIGHT
from mstfs.tree.hamt.layout import Layout
from mstfs.tree.hamt.node import HamtNode, Load
from mstfs.tree.interface import UNREADABLE, Entry

Find: TypeAlias = Callable[[bytes], bytes | None]
"""From a key to its CID, or None."""

SAMPLE_NODES = 64
"""Nodes that are read for a sample of entries."""


def get(load: Load, root: bytes, layout: Layout, key: bytes) -> bytes | None:
    """The CID under `key`, or None; `layout` has the placement of the tree."""
    return finder(load, root, layout)(key)


def finder(load: Load, root: bytes, layout: Layout) -> Find:
    """`get` for one root. It holds the root's node."""
    digest_of = layout.hash
    assert digest_of is not None
    hashed, slots_of = digest_of, layout.slots
    top: HamtNode | None = None

    def find(key: bytes) -> bytes | None:
        nonlocal top
        level = 0
        link: bytes | None = root
        for slot in slots_of(hashed(key)):
            assert link is not None
            if level:
                node = load(link, level)
            elif top is None:
                node = top = load(root, 0)
            else:
                node = top
            link = node.links.get(slot)
            if link is None:
                # The verifier minds in which bucket of the node the key stands, readers need not.
                return node.entries.get(key)
            level += 1
        if level >= TREE_HEIGHT:
            raise LimitExceeded(f"the tree is higher than {TREE_HEIGHT} levels")
        return None  # no key with this hash can stand so deep

    return find


def entries_about(load: Load, root: bytes) -> int:
    """About how many entries a tree has: hashes spread them evenly, so one way down stands for all.

    Where that way cannot be read, what hangs there counts as nothing.
    """
    entries, alike = 0, 1
    cid = root
    for level in range(TREE_HEIGHT):
        try:
            node = load(cid, level)
        except UNREADABLE:
            break
        entries += alike * len(node.entries)
        if not node.links:
            break
        alike *= len(node.links)
        cid = next(iter(node.links.values()))
    return entries


def sample(load: Load, root: bytes, count: int) -> list[Entry]:
    """At most `count` entries, those of the first nodes in pre-order; reads few nodes and no values.

    Raises what `load` raises for the root, and passes over other nodes that cannot be read.
    """
    found: list[Entry] = []
    stack = [(root, 0)]
    for _ in range(SAMPLE_NODES):
        if not stack or len(found) >= count:
            break
        cid, level = stack.pop()
        try:
            node = load(cid, level)
        except UNREADABLE:
            if cid == root:
                raise
            continue
        found += [Entry(*entry) for entry in node.entries.items()]
        links = [node.links[slot] for slot in sorted(node.links)[:SAMPLE_NODES]]
        stack += [(link, level + 1) for link in reversed(links)]
    return found[:count]


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
