"""What turns one HAMT into another.

A node stands at the same level in every tree that has it. So both trees are read level by level, from the
roots down, and what they have in common in a level is left out with all that hangs below it. This needs to
know nothing about hashes and layouts: two trees without a node in common are compared entry by entry.
"""

from mstfs.errors import LimitExceeded, MissingBlock, MissingBlocks, NodeError
from mstfs.limits import TREE_HEIGHT
from mstfs.tree.hamt.node import HamtNode, Load
from mstfs.tree.interface import Change, TreeDiff


def diff(load_a: Load, a: bytes, load_b: Load, b: bytes) -> TreeDiff:
    """The changed entries, and the nodes that only `b` has (created) or only `a` has (deleted).

    Reads these nodes and no others. Raises MissingBlocks with all missing nodes of the first level where
    some are missing, NodeError for a tree that links a node or holds a key more than once.
    """
    if a == b:
        return TreeDiff((), frozenset(), frozenset())
    old, new = sides = _Side(load_a, a), _Side(load_b, b)
    for level in range(TREE_HEIGHT):
        if not (old.level or new.level):
            break
        common = old.level & new.level
        missing = [cid for side in sides for cid in side.descend(level, common)]
        if missing:
            raise MissingBlocks(dict.fromkeys(missing))
    else:
        raise LimitExceeded(f"the tree is higher than {TREE_HEIGHT} levels")
    before, after = old.entries(), new.entries()
    changed = [key for key, value in before.items() if after.get(key) != value]
    changed += [key for key in after if key not in before]
    changed.sort()
    changes = tuple([Change(key, before.get(key), after.get(key)) for key in changed])
    return TreeDiff(changes, frozenset(new.nodes.keys() - old.nodes), frozenset(old.nodes.keys() - new.nodes))


class _Side:
    """One of the two trees: its own nodes so far, and those of the level that comes next."""

    def __init__(self, load: Load, root: bytes) -> None:
        self.load = load
        self.root = root
        self.level: set[bytes] = {root}
        self.nodes: dict[bytes, HamtNode] = {}

    def descend(self, level: int, common: set[bytes]) -> list[bytes]:
        """Read this level but for the common nodes, and go on to the next one; returns what is missing."""
        nodes = self.nodes
        missing: list[bytes] = []
        below: set[bytes] = set()
        links = 0
        for cid in self.level - common:
            if cid in nodes:
                raise NodeError(cid, "repeated-node", "is linked more than once")
            try:
                node = self.load(cid, level)
            except MissingBlock:
                missing.append(cid)
                continue
            nodes[cid] = node
            below.update(node.links.values())
            links += len(node.links)
        if len(below) != links:
            raise NodeError(self.root, "repeated-node", "is the root of a tree that links a node twice")
        self.level = below
        return missing

    def entries(self) -> dict[bytes, bytes]:
        """The entries of this tree's own nodes."""
        entries: dict[bytes, bytes] = {}
        count = 0
        for node in self.nodes.values():
            entries.update(node.entries)
            count += len(node.entries)
        if count != len(entries):
            raise NodeError(self.root, "key-duplicate", "is the root of a tree that holds a key twice")
        return entries
