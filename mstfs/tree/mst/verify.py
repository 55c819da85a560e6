"""The strict check of a whole MST: every node, every key, in one walk over untrusted blocks.

Source: https://atproto.com/specs/repository, section "MST Structure".

Each node is checked against what its parent says about it: the layer, and the two keys that all of its
keys must lie between. As keys ascend within each node, this is the same as ascending over the whole walk,
and nothing but the way down has to be remembered.

Rules: those of `node_rules`; `key-range`, `key-duplicate` (a key outside of its parent's range, or equal to
its bound), `key-layer` (one key in a node of another layer), `child-layer` (a whole node of a layer that is
not its parent's minus one), `empty-leaf`, `bare-root`, `node-link-kind`, `value-link-kind` (a link that is
not version 1, dag-cbor, sha2-256), `shared-node` (a node linked twice), `tree-height`, and for blocks that
cannot be had `missing-block`, `block-hash`, `unreachable-block`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from mstfs.blocks.interface import BlockReader
from mstfs.errors import (
    BlockError,
    CidError,
    LimitExceeded,
    NodeError,
)
from mstfs.limits import TREE_HEIGHT
from mstfs.tree.defect import Defect, block_defect
from mstfs.tree.mst import node_rules
from mstfs.tree.mst.node import LINK_BYTES, LINK_PREFIX, decode, depth_of

OnEntries = Callable[[bytes, Sequence[bytes | None], Sequence[bytes | None]], Iterable[Defect]]
"""Given the CID of a node, its keys and its values; the defects that it gives are passed on.

A key or value is None where a defective node does not tell it.
"""


class _Place(NamedTuple):
    """Where a node hangs: the keys that it must stay between, its layer if known, steps from the root."""

    cid: bytes
    low: bytes | None
    high: bytes | None
    layer: int | None
    level: int


def verify_tree(blocks: BlockReader, root: bytes) -> Iterator[Defect]:
    """Every defect of the tree under `root`, nodes in key order. Values are not read."""
    return iter(TreeVerification(blocks, root))


class TreeVerification:
    """One walk over one tree. Iterate for the defects; the counts are complete when it ends.

    `nodes` and `entries` count what was reached. `complete` is False if a part of the tree could not be
    read. `blocks.get` is called once for each node.
    """

    def __init__(self, blocks: BlockReader, root: bytes, on_entries: OnEntries | None = None) -> None:
        self.nodes = 0
        self.entries = 0
        self.complete = True
        self._blocks = blocks
        self._on_entries = on_entries
        self._stack = [_Place(root, None, None, None, 0)]
        # Hashes and not CIDs: a quarter of the memory, and nobody outside can make two of them collide.
        self._seen: set[int] = set()

    def __iter__(self) -> Iterator[Defect]:
        while self._stack:
            place = self._stack.pop()
            mark = hash(place.cid)
            if mark in self._seen:
                yield Defect(
                    "shared-node", "the node is linked from more than one place", place.cid, place.low
                )
                continue
            self._seen.add(mark)
            yield from self._visit(place)

    def _visit(self, place: _Place) -> Iterator[Defect]:
        cid = place.cid
        try:
            data = self._blocks.get(cid)
        except BlockError as error:
            self.complete = False
            yield block_defect(error)
            return
        except CidError as error:
            self.complete = False
            yield Defect("block-hash-unknown", str(error), cid)
            return
        self.nodes += 1
        try:
            keys, values, links = decode(cid, data)
        except (NodeError, LimitExceeded) as error:
            yield from self._visit_remains(place, data, error)
            return
        layer = place.layer
        self.entries += len(keys)
        if keys:
            low, high = place.low, place.high
            if (low is not None and keys[0] <= low) or (high is not None and keys[-1] >= high):
                yield from _range_defects(place, keys)
            depths = [depth_of(key) for key in keys]
            if layer is None:
                layer = max(depths)
            if depths.count(layer) != len(depths):
                layer, defects = _layer_defects(place, keys, depths, layer)
                yield from defects
            for key, value in zip(keys, values, strict=True):
                if value[:4] != LINK_PREFIX or len(value) != LINK_BYTES:
                    yield _value_link_defect(cid, key)
            if self._on_entries is not None:
                yield from self._on_entries(cid, keys, values)
        else:
            yield from _hollow_defects(place, links[0] is not None)
        if any(links):
            bounds = (place.low, *keys, place.high)
            yield from self._descend(place, links, bounds, layer)

    def _descend(
        self,
        place: _Place,
        links: Sequence[bytes | None],
        bounds: Sequence[bytes | None],
        layer: int | None,
    ) -> Iterator[Defect]:
        """Put the children on the stack, the first one on top; child i lies between bounds i and i + 1."""
        below = None if layer is None else layer - 1
        if place.level >= TREE_HEIGHT:
            self.complete = False
            yield Defect("tree-height", f"the tree has more than {TREE_HEIGHT + 1} layers", place.cid)
            return
        for index in range(len(links) - 1, -1, -1):
            link = links[index]
            if link is not None:
                self._stack.append(_Place(link, bounds[index], bounds[index + 1], below, place.level + 1))

    def _visit_remains(self, place: _Place, data: bytes, error: Exception) -> Iterator[Defect]:
        """A node that the strict reader refused: say why, and go on with what is left of it."""
        cid = place.cid
        remains, defects = node_rules.examine(cid, data)
        if remains is None:
            self.complete = False
            yield from defects
            return
        left, rows, ordered = remains
        self.entries += len(rows)
        keys = [row.key for row in rows if row.key is not None]
        layer = place.layer
        if keys:
            if ordered:
                defects += _range_defects(place, keys)
            depths = [depth_of(key) for key in keys]
            layer, more = _layer_defects(place, keys, depths, max(depths) if layer is None else layer)
            defects += more
        elif not rows:
            defects += _hollow_defects(place, left is not None)
        for row in rows:
            if row.value is not None and (row.value[:4] != LINK_PREFIX or len(row.value) != LINK_BYTES):
                defects.append(_value_link_defect(cid, row.key))
        links = [left, *(row.right for row in rows)]
        for link in links:
            if link is not None and (link[:4] != LINK_PREFIX or len(link) != LINK_BYTES):
                message = "a link to a subtree is not version 1, dag-cbor, sha2-256"
                defects.append(Defect("node-link-kind", message, cid))
        yield from defects or [Defect("node-form", str(error), cid)]
        if self._on_entries is not None and rows:
            yield from self._on_entries(cid, [row.key for row in rows], [row.value for row in rows])
        yield from self._descend(place, links, _bounds(place, rows, ordered), layer)


def _bounds(place: _Place, rows: Sequence[node_rules.Row], ordered: bool) -> list[bytes | None]:
    """The bounds of the children of a defective node: the nearest keys that are known and can be trusted."""
    known = [row.key if ordered else None for row in rows]
    if None in known:
        return [place.low, *([None] * len(known)), place.high]
    return [place.low, *known, place.high]


def _value_link_defect(cid: bytes, key: bytes | None) -> Defect:
    return Defect("value-link-kind", "the link to the record is not version 1, dag-cbor, sha2-256", cid, key)


def _range_defects(place: _Place, keys: Sequence[bytes]) -> Iterator[Defect]:
    low, high = place.low, place.high
    for key in keys:
        if key in (low, high):
            yield Defect("key-duplicate", "the key stands in a node above as well", place.cid, key)
        elif low is not None and key < low:
            yield Defect(
                "key-range", "the key is smaller than the key that its subtree hangs behind", place.cid, key
            )
        elif high is not None and key > high:
            yield Defect(
                "key-range", "the key is greater than the key that its subtree hangs before", place.cid, key
            )


def _layer_defects(
    place: _Place, keys: Sequence[bytes], depths: Sequence[int], layer: int
) -> tuple[int, list[Defect]]:
    """The layer that the node really has, and what is wrong with it or with single keys."""
    own = depths[0]
    if own != layer and depths.count(own) == len(depths):
        message = f"a node of layer {own} hangs where layer {layer} must be"
        return own, [Defect("child-layer", message, place.cid, keys[0])]
    message = "the key belongs to layer {}, its node is of layer {}"
    return layer, [
        Defect("key-layer", message.format(depth, layer), place.cid, key)
        for key, depth in zip(keys, depths, strict=True)
        if depth != layer
    ]


def _hollow_defects(place: _Place, has_child: bool) -> Iterator[Defect]:
    """What is wrong with a node without entries: only the empty root and nodes in the middle may be so."""
    if place.level == 0:
        if has_child:
            yield Defect("bare-root", "the root holds no key, only a link to a subtree", place.cid)
    elif not has_child:
        yield Defect("empty-leaf", "the node has neither entries nor a subtree", place.cid)
