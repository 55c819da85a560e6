"""What turns one tree into another.

Equal entries give equal nodes, and a node stands at the same layer in every tree. So both trees are
read layer by layer, from the top down, and what they have in common in a layer is left out with all
that hangs below it. What remains is exactly the nodes that only one of the trees has.
"""

from mstfs.errors import MissingBlock, MissingBlocks, NodeError
from mstfs.tree.interface import Change, TreeDiff
from mstfs.tree.mst.edit import layer_of
from mstfs.tree.mst.node import Load, MstNode


def diff(load: Load, a: bytes, b: bytes) -> TreeDiff:
    """The changed entries, and the nodes that only `b` has (created) or only `a` has (deleted).

    Reads these nodes and no others. Raises MissingBlocks with all missing nodes of the first layer where
    some are missing, NodeError for a tree that links a node or holds a key more than once.
    """
    if a == b:
        return TreeDiff((), frozenset(), frozenset())
    layers: list[int] = []
    missing: list[bytes] = []
    for root in (a, b):
        try:
            layers.append(layer_of(load, root))
        except MissingBlock as error:
            missing.append(error.cid)
    if missing:
        raise MissingBlocks(missing)
    sides = _Side(load, a), _Side(load, b)
    old, new = sides
    for layer in range(max(layers), -1, -1):
        for side, top in zip(sides, layers, strict=True):
            if layer == top:
                side.level = {side.root}
        common = old.level & new.level
        missing = [cid for side in sides for cid in side.descend(common)]
        if missing:
            raise MissingBlocks(missing)
    for side in sides:
        if side.level:
            raise NodeError(min(side.level), "node-layer", "stands below the lowest layer of its tree")
    before, after = old.entries(), new.entries()
    changed = [key for key, value in before.items() if after.get(key) != value]
    changed += [key for key in after if key not in before]
    changed.sort()
    changes = tuple([Change(key, before.get(key), after.get(key)) for key in changed])
    return TreeDiff(changes, frozenset(new.nodes.keys() - old.nodes), frozenset(old.nodes.keys() - new.nodes))


class _Side:
    """One of the two trees: its own nodes so far, and those of the layer that comes next."""

    def __init__(self, load: Load, root: bytes) -> None:
        self.load = load
        self.root = root
        self.level: set[bytes] = set()
        self.nodes: dict[bytes, MstNode] = {}

    def descend(self, common: set[bytes]) -> list[bytes]:
        """Read this layer but for the common nodes, and go on to the next one; returns what is missing."""
        load = self.load
        nodes = self.nodes
        missing: list[bytes] = []
        below: set[bytes | None] = set()
        links = 0
        for cid in self.level - common:
            if cid in nodes:
                raise NodeError(cid, "repeated-node", "is linked more than once")
            try:
                node = load(cid)
            except MissingBlock:
                missing.append(cid)
                continue
            nodes[cid] = node
            below.update(node.links)
            links += len(node.links) - node.links.count(None)
        below.discard(None)
        if len(below) != links:
            raise NodeError(self.root, "repeated-node", "is the root of a tree that links a node twice")
        self.level = below  # type: ignore[assignment]
        return missing

    def entries(self) -> dict[bytes, bytes]:
        """The entries of this tree's own nodes."""
        entries: dict[bytes, bytes] = {}
        count = 0
        for keys, values, _ in self.nodes.values():
            entries.update(zip(keys, values, strict=True))
            count += len(keys)
        if count != len(entries):
            raise NodeError(self.root, "key-order", "is the root of a tree that holds a key twice")
        return entries
