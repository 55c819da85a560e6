"""The strict check of a whole HAMT: every node, every key, in one walk over untrusted blocks.

Rules: those of `codec.lenient` for blocks that are not canonical DAG-CBOR, and those that the layouts give to
NodeError (`node-fields`, `slot`, `bucket-empty`, ...); `limit`; `node-form` (what readers
put up with: empty buckets, entries out of order), `bucket-order`, `bucket-size`, `key-slot` (a key that its
hash would put elsewhere), `empty-node`, `sparse-subtree` (a linked subtree whose entries fit into a bucket,
where the layout is canonical), `node-link-kind` (a link that is not version 1, dag-cbor), `shared-node` (a
node linked twice), `tree-height`; for the tree as a whole `hash-declared`, `hash-offset` and `hash-unknown`;
and for blocks that cannot be had `missing-block`, `block-hash`, `unreachable-block`, `block-hash-unknown`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from mstfs.blocks.interface import BlockReader
from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor, lenient
from mstfs.errors import (
    BlockError,
    CborError,
    CidError,
    LimitExceeded,
    NodeError,
)
from mstfs.limits import NODE_BYTES, TREE_HEIGHT
from mstfs.tree.defect import Defect, block_defect
from mstfs.tree.hamt import hashes, placement
from mstfs.tree.hamt.hashmap import HashMap
from mstfs.tree.hamt.layout import Layout
from mstfs.tree.hamt.node import HamtNode

OnEntries = Callable[[bytes, Sequence[bytes], Sequence[bytes]], Iterable[Defect]]
"""Given the CID of a node, its keys and their CIDs; the defects that it gives are passed on.

Values that stand in the node itself are left out: who knows the node knows them.
"""

_MANY = 1 << 32
"""Stands for the entries of a subtree that could not be counted."""


class _Place(NamedTuple):
    """Where a node hangs: its level, the slots on the way to it as one number, its parent."""

    cid: bytes
    level: int
    way: int
    parent: int


def verify_tree(blocks: BlockReader, root: bytes, layout: Layout) -> Iterator[Defect]:
    """Every defect of the tree under `root`, nodes in pre-order. Values are not read."""
    return iter(TreeVerification(blocks, root, layout))


class TreeVerification:
    """One walk over one tree. Iterate for the defects; the counts are complete when it ends.

    `layout` is what `sniff` says of the root, or what the caller knows. `nodes` and `entries` count what was
    reached. `complete` is False if a part of the tree could not be read. After some nodes for finding the
    placement, `blocks.get` is called once for each node.
    """

    def __init__(
        self, blocks: BlockReader, root: bytes, layout: Layout, on_entries: OnEntries | None = None
    ) -> None:
        self.nodes = 0
        self.entries = 0
        self.complete = True
        self._blocks = blocks
        self._root = root
        self._layout = layout
        self._on_entries = on_entries
        self._placed = True
        # For each node in the order of the walk: its CID, its parent's turn, the entries below it so far.
        self._walk: list[tuple[bytes, int]] = []
        self._below: list[int] = []

    def __iter__(self) -> Iterator[Defect]:
        yield from self._find_placement()
        stack = [_Place(self._root, 0, 0, -1)]
        # Hashes and not CIDs: a quarter of the memory, and nobody outside can make two of them collide.
        seen = {hash(self._root)}
        while stack:
            place = stack.pop()
            node, defects = self._read(place)
            yield from defects
            turn = len(self._walk)
            self._walk.append((place.cid, place.parent))
            self._below.append(_MANY if node is None else len(node.entries))
            if node is None:
                self.complete = False
                continue
            self.nodes += 1
            yield from self._check(place, node)
            if node.links and place.level + 1 >= min(self._layout.levels, TREE_HEIGHT):
                self.complete = False
                self._below[turn] = _MANY
                message = "the node links others that are deeper than the hash of a key reaches"
                yield Defect("tree-height", message, place.cid)
                continue
            for slot, link in sorted(node.links.items(), reverse=True):
                mark = hash(link)
                if mark in seen:
                    self._below[turn] = _MANY
                    yield Defect("shared-node", "the node is linked from more than one place", link)
                    continue
                seen.add(mark)
                stack.append(_Place(link, place.level + 1, place.way << self._layout.width | slot, turn))
        yield from self._sparse()

    def _find_placement(self) -> Iterator[Defect]:
        layout = self._layout
        try:
            found = placement.find(self._load, self._root, layout).layout
        except (BlockError, CidError, NodeError, LimitExceeded):
            return  # the walk says so too
        if found is None:
            self._placed = False
            message = f"most keys are not where {hashes.name_of(layout.key_hash)} puts them"
            yield Defect("hash-unknown", f"{message}, nor any other function that is known", self._root)
            return
        self._layout = found
        if isinstance(found, HashMap) and found.key_hash != found.declared:
            declared, real = hashes.name_of(found.declared), hashes.name_of(found.key_hash)
            message = f"the root says that {declared} places the keys, but it is {real}"
            yield Defect("hash-declared", message, self._root)
        elif found.skip != layout.skip:
            message = (
                "the keys stand one level off, as py-hamt 2.0.0 to 2.0.4 put them: others cannot look them up"
            )
            yield Defect("hash-offset", message, self._root)

    def _load(self, cid: bytes, level: int) -> HamtNode:
        return self._layout.decode(cid, self._blocks.get(cid), level)

    def _read(self, place: _Place) -> tuple[HamtNode | None, list[Defect]]:
        cid = place.cid
        try:
            data = self._blocks.get(cid)
        except BlockError as error:
            return None, [block_defect(error)]
        except CidError as error:
            return None, [Defect("block-hash-unknown", str(error), cid)]
        try:
            node = self._layout.decode(cid, data, place.level)
            return node, self._form_defects(cid, place.level, node, data)
        except (NodeError, LimitExceeded) as error:
            return self._read_remains(place, data, error)

    def _read_remains(
        self, place: _Place, data: bytes, error: NodeError | LimitExceeded
    ) -> tuple[HamtNode | None, list[Defect]]:
        """A node that the strict reader refused: say why, and go on if only its CBOR is bad."""
        cid = place.cid
        if len(data) > NODE_BYTES:
            return None, [_node_defect(cid, error)]
        reading = lenient.read(data)
        defects = [
            Defect(departure.rule, f"the node is not canonical: {departure.message}", cid)
            for departure in reading.departures
        ]
        try:
            sound = dag_cbor.encode(reading.value)
            return self._layout.decode(cid, sound, place.level), defects or [_node_defect(cid, error)]
        except (CborError, CidError):
            return None, defects or [_node_defect(cid, error)]
        except (NodeError, LimitExceeded) as other:
            return None, [*defects, _node_defect(cid, other)]

    def _form_defects(self, cid: bytes, level: int, node: HamtNode, data: bytes) -> list[Defect]:
        """What readers put up with: a node that says the same as another block would."""
        layout = self._layout
        if layout.writable and layout.encode(node.buckets(), node.links, node.inline, level) != data:
            return [
                Defect("node-form", "the node has empty buckets, or entries that are not in key order", cid)
            ]
        return []

    def _check(self, place: _Place, node: HamtNode) -> Iterator[Defect]:
        layout = self._layout
        cid = place.cid
        if place.level and not node.entries and not node.links:
            yield Defect("empty-node", "the node has neither entries nor children, and is not the root", cid)
        for link in node.links.values():
            if link[:2] != bytes((1, cids.DAG_CBOR)):
                yield Defect("node-link-kind", "a link to a child is not version 1, dag-cbor", cid)
        self.entries += len(node.entries)
        for slot, bucket in node.buckets().items():
            first = next(iter(bucket))
            if len(bucket) > layout.bucket_size:
                message = f"a bucket has {len(bucket)} entries, {layout.bucket_size} are allowed"
                yield Defect("bucket-size", message, cid, first)
            if not layout.writable and len(bucket) > 1 and list(bucket) != sorted(bucket):
                yield Defect("bucket-order", "the entries of a bucket are not in key order", cid, first)
            yield from self._check_slot(place, slot, bucket)
        if self._on_entries is not None and node.entries:
            entries = node.entries
            if node.inline:
                entries = {key: value for key, value in entries.items() if key not in node.inline}
            yield from self._on_entries(cid, tuple(entries), tuple(entries.values()))

    def _check_slot(self, place: _Place, slot: int, bucket: Iterable[bytes]) -> Iterator[Defect]:
        layout = self._layout
        function = layout.hash
        if function is None or not self._placed:
            return
        levels = place.level + 1
        way = place.way << layout.width | slot
        for key in bucket:
            if layout.way(function(key), levels) != way:
                message = "the hash of the key puts it elsewhere than where it stands"
                yield Defect("key-slot", message, place.cid, key)

    def _sparse(self) -> Iterator[Defect]:
        """Add up the entries from the bottom, then name the topmost node of each sparse subtree."""
        if not self._layout.canonical:
            return
        below = self._below
        for turn in range(len(below) - 1, 0, -1):
            below[self._walk[turn][1]] += below[turn]
        for turn in range(1, len(below)):
            cid, parent = self._walk[turn]
            size = self._layout.bucket_size
            if 0 < below[turn] <= size and (parent == 0 or below[parent] > size):
                message = f"the subtree has {below[turn]} entries, which fit into a bucket of its parent"
                yield Defect("sparse-subtree", message, cid)


def _node_defect(cid: bytes, error: NodeError | LimitExceeded) -> Defect:
    rule = error.rule if isinstance(error, NodeError) else "limit"
    return Defect(rule, str(error).partition(": ")[2] or str(error), cid)
