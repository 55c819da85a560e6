"""A new tree out of an old one and a sorted batch of edits.

The old tree and the edits are read side by side in key order. What no edit falls into goes to the
`Builder` as a whole subtree, unread; the rest as runs of entries. The builder keeps the right spine of
the new tree open and closes each node once, when a key of a higher layer comes. A whole subtree stays
as it is unless something new stands beside it within its own layers, which happens where a key
between two subtrees went away or came in: then it is opened, along one spine and no further than needed.
"""

from bisect import bisect_left
from collections.abc import Sequence

from mstfs.codec import cid as cids
from mstfs.errors import LimitExceeded, MissingBlock, MissingBlocks, NodeError, Refused
from mstfs.limits import KEY_BYTES, TREE_HEIGHT
from mstfs.tree.interface import Applied, Edit
from mstfs.tree.mst.node import EMPTY, Load, MstNode, cid_of, depth_of, encode


def apply(load: Load, root: bytes, edits: Sequence[Edit]) -> Applied:
    """The tree with the edits made, and the nodes that the old tree does not have.

    Reads the nodes on the paths to the edited keys, and beside keys that go away those on the two
    spines that meet. Raises MissingBlocks with all nodes on the paths that can be named as missing,
    Refused for edits out of order and for empty keys, LimitExceeded for keys over `limits.KEY_BYTES`.
    """
    _check(edits)
    if not edits:
        return Applied(root, {})
    keys = [edit.key for edit in edits]
    try:
        builder = Builder(load, root)
        _merge(load, builder, root, edits, keys)
        return builder.finish()
    except MissingBlock as error:
        raise MissingBlocks(dict.fromkeys([*frontier(load, root, keys), error.cid])) from None


def _check(edits: Sequence[Edit]) -> None:
    previous = b""
    for key, cid in edits:
        if key <= previous:
            raise Refused("edits must be in ascending key order, and no key may be empty")
        if len(key) > KEY_BYTES:
            raise LimitExceeded(f"a key of {len(key)} bytes is over the limit of {KEY_BYTES} bytes")
        if cid is not None:
            cids.check(cid)
        previous = key


def layer_of(load: Load, root: bytes) -> int:
    """The layer of a root. An empty node stands one layer above the node that it links."""
    cid = root
    for above in range(TREE_HEIGHT + 1):
        node = load(cid)
        if node.keys:
            return above + depth_of(node.keys[0])
        link = node.links[0]
        if link is None:
            return above
        cid = link
    raise LimitExceeded(f"the tree is higher than {TREE_HEIGHT} layers")


def _merge(load: Load, builder: "Builder", root: bytes, edits: Sequence[Edit], wanted: list[bytes]) -> None:
    # Hand the old tree with the edits made to the builder. `wanted` are the keys of the edits,
    # `turn` is the next edit. `at` is the gap (link) of the node that comes next, and the key behind it.
    layer = layer_of(load, root)
    keys, values, links = builder.open(root, layer)
    high: bytes | None = None
    stack: list[tuple[MstNode, bytes | None, int]] = []
    at = turn = 0
    total = len(edits)
    while True:
        behind = keys[at] if at < len(keys) else high
        link = links[at]
        if turn == total or (behind is not None and wanted[turn] >= behind):
            builder.subtree(link, layer - 1)
        elif link is None:
            stop = total if behind is None else bisect_left(wanted, behind, turn)
            for key, cid in edits[turn:stop]:
                if cid is not None:
                    builder.run(depth_of(key), (key,), (cid,), ())
            turn = stop
        else:
            stack.append((MstNode(keys, values, links), high, at))
            layer -= 1
            high = behind
            keys, values, links = builder.open(link, layer, high)
            at = 0
            continue
        while at == len(keys):
            if not stack:
                return
            (keys, values, links), high, at = stack.pop()
            layer += 1
        if turn == total or (high is not None and wanted[turn] >= high):
            stop = len(keys)
        else:
            stop = bisect_left(keys, wanted[turn], at)
        if stop > at:
            builder.run(layer, keys[at:stop], values[at:stop], links[at + 1 : stop])
            at = stop
        else:
            # Every edit before this key is made, so the next one is for the key itself.
            edit = edits[turn]
            if edit.cid is not None:
                builder.run(layer, (edit.key,), (edit.cid,), ())
            turn += 1
            at += 1


class _Open:
    """A node whose right end is still open: as many links as keys, the last link is yet to come."""

    __slots__ = ("keys", "layer", "links", "values")

    def __init__(self, layer: int) -> None:
        self.layer = layer
        self.keys: list[bytes] = []
        self.values: list[bytes] = []
        self.links: list[bytes | None] = []


class Builder:
    """Builds the tree of a sequence of entries and whole subtrees that come in key order.

    The open nodes form the right spine of what was built, top first; each has a key. Behind the last
    key may hang one whole subtree that nobody looked into yet, of a lower layer than every open node.
    """

    def __init__(self, load: Load, root: bytes) -> None:
        self._load = load
        self._root = root
        self._spine: list[_Open] = []
        self._whole: bytes | None = None
        self._whole_layer = 0
        self._last = b""
        self._opened: set[bytes] = set()
        self._made: dict[bytes, bytes] = {}

    def open(self, cid: bytes, layer: int, high: bytes | None = None) -> MstNode:
        """A node of the old tree that will be made anew. NodeError if it cannot stand here."""
        node = self._load(cid)
        keys = node.keys
        if keys:
            if keys[0] <= self._last or (high is not None and keys[-1] >= high):
                raise NodeError(cid, "key-range", "has keys outside of the gap in its parent")
            if depth_of(keys[0]) != layer:
                raise NodeError(cid, "key-depth", f"has keys that do not belong to layer {layer}")
        elif layer < 0 or (node.links[0] is None and self._opened):
            raise NodeError(cid, "empty-leaf", "is empty without being a root")
        self._opened.add(cid)
        return node

    def run(
        self,
        layer: int,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        links: Sequence[bytes | None],
    ) -> None:
        """Entries of one layer, with the links (of the layer below) that stand between them."""
        while self._whole is not None and self._whole_layer >= layer:
            self._reopen()
        if keys[0] <= self._last:
            raise NodeError(self._root, "key-order", "is the root of a tree whose keys do not ascend")
        self._last = keys[-1]
        left = self._close_below(layer)
        if not self._spine or self._spine[-1].layer != layer:
            self._spine.append(_Open(layer))
        node = self._spine[-1]
        node.keys += keys
        node.values += values
        node.links.append(left)
        node.links += links

    def subtree(self, cid: bytes | None, layer: int) -> None:
        """A whole subtree whose top is at `layer`; None stands for no subtree."""
        opened: list[tuple[MstNode, int]] = []
        while cid is not None:
            while self._whole is not None and self._whole_layer >= layer:
                self._reopen()
            if self._whole is None and (not self._spine or self._spine[-1].layer > layer):
                self._whole = cid
                self._whole_layer = layer
                break
            # Its left neighbour reaches into its layers: they merge, so its left spine is opened.
            node = self.open(cid, layer)
            opened.append((node, layer))
            cid = node.links[0]
            layer -= 1
        for node, layer in reversed(opened):
            if node.keys:
                self.run(layer, node.keys, node.values, node.links[1:-1])
                self._whole = node.links[-1]
                self._whole_layer = layer - 1

    def _reopen(self) -> None:
        # Something must go into the subtree behind the last key: its top joins the spine.
        assert self._whole is not None
        layer = self._whole_layer
        keys, values, links = self.open(self._whole, layer)
        if keys:
            node = _Open(layer)
            node.keys += keys
            node.values += values
            node.links += links[:-1]
            self._spine.append(node)
            self._last = keys[-1]
        self._whole = links[-1]
        self._whole_layer = layer - 1

    def _close_below(self, layer: int) -> bytes | None:
        # Close every open node below a layer, and return the link for a node of that layer.
        cid = self._whole
        height = self._whole_layer
        self._whole = None
        spine = self._spine
        while spine and spine[-1].layer < layer:
            node = spine.pop()
            last = self._lift(cid, height, node.layer - 1)
            cid = self._make(MstNode(tuple(node.keys), tuple(node.values), (*node.links, last)))
            height = node.layer
        return self._lift(cid, height, layer - 1)

    def _lift(self, cid: bytes | None, height: int, layer: int) -> bytes | None:
        # A link never skips a layer: empty nodes carry it up.
        if cid is not None:
            for _ in range(height, layer):
                cid = self._make(MstNode((), (), (cid,)))
        return cid

    def _make(self, node: MstNode) -> bytes:
        block = encode(node)
        cid = cid_of(block)
        self._made[cid] = block
        return cid

    def finish(self) -> Applied:
        """The new root and the new nodes."""
        root = self._close_below(self._spine[0].layer + 1) if self._spine else self._trimmed()
        if root is None:
            root = self._make(EMPTY)
        # A node that was read and made again is one of the old tree's own.
        nodes = {cid: block for cid, block in self._made.items() if cid not in self._opened}
        return Applied(root, nodes)

    def _trimmed(self) -> bytes | None:
        # No key is left beside one whole subtree: its first node that is not empty is the root.
        cid = self._whole
        while cid is not None:
            node = self._load(cid)
            if node.keys:
                break
            cid = node.links[0]
        return cid


def frontier(load: Load, root: bytes, keys: list[bytes]) -> list[bytes]:
    """The missing nodes nearest to the root on the paths to ascending `keys`."""
    missing: list[bytes] = []
    level = [(root, 0, len(keys))]
    for _ in range(TREE_HEIGHT + 1):
        below: list[tuple[bytes, int, int]] = []
        for cid, first, end in level:
            try:
                node = load(cid)
            except MissingBlock:
                missing.append(cid)
                continue
            at = first
            while at < end:
                gap = bisect_left(node.keys, keys[at])
                stop = end if gap == len(node.keys) else bisect_left(keys, node.keys[gap], at, end)
                link = node.links[gap]
                if stop == at:
                    at += 1  # the key stands in this node
                    continue
                if link is not None:
                    below.append((link, at, stop))
                at = stop
        level = below
    return missing
