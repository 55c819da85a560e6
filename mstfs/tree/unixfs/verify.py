"""The strict check of a whole UnixFS tree: every block, every name, every size.

Source: https://specs.ipfs.tech/unixfs.

Each block is read once. What a parent says about a child (what it is, how many bytes its content and all its
blocks have) is checked wherever it is said; where in the hash of names a shard stands is checked once, as no
sound directory links a shard twice.

Rules: those that `node.decode` raises; `dag-pb-form` and `unixfs-form` (not the canonical encoding, such as
links that are not in the order of their names), `unixfs-mtime`; `file-child`, `child-size`, `link-size` (a
Tsize that is not what the blocks below take; 0 tells nothing), `entry-name`, `entry-duplicate`,
`symlink-links`, `metadata`; `shard-bits` (the bit field does not tell the slots), `shard-order`, `shard-slot`
(a name that its hash does not lead to), `shard-child`, `shard-mixed` (another fanout than its parent),
`shard-lonely` (a sub-shard with less than two names), `shard-hash`, `shard-depth`, `shared-shard`; `depth`,
`limit`; and for blocks that cannot be had `missing-block`, `block-hash`, `block-hash-unknown`,
`unreachable-block`.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

from mstfs.blocks.interface import BlockReader
from mstfs.codec import cid as cids
from mstfs.codec import dag_pb
from mstfs.codec.dag_pb import KIND_DIRECTORY, KIND_METADATA, KIND_SHARD
from mstfs.errors import (
    BlockError,
    CidError,
    CorruptBlock,
    FormatError,
    LimitExceeded,
    MissingBlock,
    NodeError,
)
from mstfs.limits import FILE_DEPTH, NESTING
from mstfs.tree.defect import Defect
from mstfs.tree.unixfs.directory import HASH_BITS, slot_bits
from mstfs.tree.unixfs.file import NANOS
from mstfs.tree.unixfs.murmur3 import murmur3
from mstfs.tree.unixfs.node import FILES, MURMUR3, PREFIXES, UnixfsNode, decode, prefix_width

DEPTH = NESTING + FILE_DEPTH + HASH_BITS
"""Links on the way from the root to a block."""


Way: TypeAlias = "tuple[Way, bytes] | None"
"""The names on the way from the root: None, or a pair of the way to the directory and the name in it."""


class _Place(NamedTuple):
    """A block to look at, and what its parent says about it.

    `way` leads to what the block belongs to. `extent` is the bytes of content of a part of a file, else None.
    `tsize` is 0 where none is told. `shard` is the fanout of the parent shard, the bits of the hash that the
    way to this shard has used, and how many they are; None for what is no sub-shard.
    """

    cid: bytes
    parent: bytes | None
    way: Way
    depth: int
    tsize: int
    extent: int | None = None
    shard: tuple[int, int, int] | None = None


class _Known(NamedTuple):
    """What is remembered of a block: enough to check what other parents say about it."""

    kind: int
    size: int
    tsize: int


def verify_tree(blocks: BlockReader, root: bytes) -> Iterator[Defect]:
    """Every defect of the tree under `root`; `Defect.key` is the path in the tree, where there is one."""
    return iter(TreeVerification(blocks, root))


class TreeVerification:
    """One walk over one tree. Iterate for the defects; the counts are complete when it ends.

    `blocks_read` counts blocks, `entries` the dirents in them. `complete` is False if a part of the tree
    could not be read.
    """

    def __init__(self, blocks: BlockReader, root: bytes) -> None:
        self.blocks_read = 0
        self.entries = 0
        self.complete = True
        self._blocks = blocks
        self._known: dict[bytes, _Known | None] = {}
        self._stack = [_Place(root, None, None, 0, 0)]

    def __iter__(self) -> Iterator[Defect]:
        while self._stack:
            place = self._stack.pop()
            for defect in self._look(place):
                yield defect if defect.key is not None else defect._replace(key=_path_of(place.way))

    def _look(self, place: _Place) -> Iterator[Defect]:
        if place.cid not in self._known:
            yield from self._visit(place)
        elif place.shard is not None:
            yield Defect("shared-shard", "the shard is linked more than once", place.cid)
        known = self._known[place.cid]
        if known is not None:
            yield from _check_claims(place, known)

    def _visit(self, place: _Place) -> Iterator[Defect]:
        cid = place.cid
        self._known[cid] = None
        try:
            block = self._blocks.get(cid)
            self.blocks_read += 1
            node = decode(cid, block)
        except BlockError as error:
            self.complete = False
            yield _block_defect(error, place)
            return
        except (NodeError, LimitExceeded, CidError) as error:
            self.complete = False
            yield _form_defect(error, place)
            return
        self._known[cid] = _Known(node.kind, node.size, len(block) + sum(node.tsizes))
        if cids.codec_of(cid) == cids.DAG_PB:
            yield from _check_form(cid, block, node)
        if node.kind in FILES:
            yield from self._descend_file(place, node)
        elif node.kind == KIND_SHARD:
            yield from self._descend_shard(place, node)
        elif node.kind == KIND_DIRECTORY:
            yield from _check_names(place, node.names)
            self.entries += len(node.names)
            yield from self._descend(place, [(at, name) for at, name in enumerate(node.names)], node)
        elif node.kind == KIND_METADATA:
            if not node.links:
                yield Defect("metadata", "the metadata describes nothing", cid)
            yield from self._descend(place, [(at, None) for at in range(len(node.links))], node)
        elif node.links:
            yield Defect("symlink-links", "a symbolic link has links of its own", cid)

    def _descend(
        self, place: _Place, rows: list[tuple[int, bytes | None]], node: UnixfsNode
    ) -> Iterator[Defect]:
        # Put what a directory holds on the stack, the first one on top; rows are places in `links` and names.
        if place.depth >= DEPTH:
            self.complete = False
            yield Defect("depth", f"the tree is deeper than {DEPTH} links", place.cid)
            return
        for at, name in reversed(rows):
            way = place.way if name is None else (place.way, name)
            self._stack.append(_Place(node.links[at], place.cid, way, place.depth + 1, node.tsizes[at]))

    def _descend_file(self, place: _Place, node: UnixfsNode) -> Iterator[Defect]:
        if node.links and place.depth >= DEPTH:
            self.complete = False
            yield Defect("depth", f"the tree is deeper than {DEPTH} links", place.cid)
            return
        starts = (len(node.data), *node.ends)
        for at in range(len(node.links) - 1, -1, -1):
            extent = starts[at + 1] - starts[at]
            tsize = node.tsizes[at]
            self._stack.append(_Place(node.links[at], place.cid, place.way, place.depth + 1, tsize, extent))

    def _descend_shard(self, place: _Place, node: UnixfsNode) -> Iterator[Defect]:
        cid = place.cid
        table, width = PREFIXES[node.fanout], prefix_width(node.fanout)
        slots = [table[name[:width]] for name in node.names]
        names = [name[width:] for name in node.names]
        yield from _check_slots(cid, slots, node)
        parent, above, used = place.shard or (node.fanout, 0, 0)
        if parent != node.fanout:
            reason = f"a shard of {node.fanout} slots hangs below one of {parent}"
            yield Defect("shard-mixed", reason, cid)
        used += slot_bits(node.fanout)
        if used > HASH_BITS or place.depth >= DEPTH:
            self.complete = False
            yield Defect("shard-depth", "the shard stands below the last bit of the hash", cid)
            return
        found = [name for name in names if name]
        yield from _check_names(place, found)
        self.entries += len(found)
        if place.shard is not None and len(found) == len(names) < 2:
            yield Defect("shard-lonely", "a sub-shard has less than two names", cid)
        for at in range(len(names) - 1, -1, -1):
            way = above << slot_bits(node.fanout) | slots[at]
            link, tsize, name = node.links[at], node.tsizes[at], names[at]
            if not name:
                shard = (node.fanout, way, used)
                self._stack.append(_Place(link, cid, place.way, place.depth + 1, tsize, shard=shard))
                continue
            if node.hash_type == MURMUR3 and murmur3(name) >> HASH_BITS - used != way:
                message = "the hash of the name does not lead to its slot"
                yield Defect("shard-slot", message, cid, _path_of((place.way, name)))
            self._stack.append(_Place(link, cid, (place.way, name), place.depth + 1, tsize))


def _path_of(way: Way) -> bytes | None:
    """The path that a way spells; None for that of the root."""
    names: list[bytes] = []
    while way is not None:
        way, name = way
        names.append(name)
    return b"/".join(reversed(names)) if names else None


def _check_claims(place: _Place, known: _Known) -> Iterator[Defect]:
    """What a parent says about a child, against what the child is."""
    if place.extent is not None:
        if known.kind not in FILES:
            yield Defect("file-child", "a part of a file is something else", place.cid)
        elif known.size != place.extent:
            reason = f"a part of {place.extent} bytes has {known.size} bytes"
            yield Defect("child-size", reason, place.parent)
    if place.shard is not None and known.kind != KIND_SHARD:
        yield Defect("shard-child", "what hangs below a shard is no shard", place.cid)
    if place.tsize and place.tsize != known.tsize:
        reason = f"a link says {place.tsize} bytes of blocks, there are {known.tsize}"
        yield Defect("link-size", reason, place.parent)


def _check_form(cid: bytes, block: bytes, node: UnixfsNode) -> Iterator[Defect]:
    """What a reader lets through and a writer must not do."""
    raw = dag_pb.decode(block)
    if dag_pb.encode(dag_pb.sort_links(raw)) != block:
        yield Defect("dag-pb-form", "the links are not sorted by name, or stand behind the data", cid)
    if raw.data is not None and dag_pb.encode_data(dag_pb.decode_data(raw.data)) != raw.data:
        reason = "the UnixFS message has unknown fields, or is not encoded in the canonical form"
        yield Defect("unixfs-form", reason, cid)
    if node.mtime is not None and node.mtime.nanos is not None and not 0 < node.mtime.nanos < NANOS:
        yield Defect("unixfs-mtime", f"{node.mtime.nanos} is no number of nanoseconds", cid)


def _check_names(place: _Place, names: Sequence[bytes]) -> Iterator[Defect]:
    seen: set[bytes] = set()
    for name in names:
        if name in seen:
            message = "the directory has the name more than once"
            yield Defect("entry-duplicate", message, place.cid, _path_of((place.way, name)))
        elif name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
            message = "the name is none that a file can have"
            yield Defect("entry-name", message, place.cid, _path_of((place.way, name)))
        seen.add(name)


def _check_slots(cid: bytes, slots: list[int], node: UnixfsNode) -> Iterator[Defect]:
    if node.hash_type != MURMUR3:
        yield Defect("shard-hash", f"the hash function of the shard is {node.hash_type:#x}", cid)
    if any(one >= other for one, other in pairwise(slots)):
        yield Defect("shard-order", "the slots of the shard do not ascend", cid)
    field = 0
    for slot in slots:
        field |= 1 << slot
    if int.from_bytes(node.data, "big") != field:
        yield Defect("shard-bits", "the bit field of the shard does not tell the slots that it has", cid)


def _block_defect(error: BlockError, place: _Place) -> Defect:
    message = str(error).partition(": ")[2]
    if isinstance(error, MissingBlock):
        return Defect("missing-block", "the block is missing", place.cid)
    if isinstance(error, CorruptBlock):
        return Defect("block-hash", message, place.cid)
    return Defect("unreachable-block", message, place.cid)


def _form_defect(error: FormatError, place: _Place) -> Defect:
    if isinstance(error, NodeError):
        return Defect(error.rule, str(error).partition(": ")[2], place.cid)
    rule = "limit" if isinstance(error, LimitExceeded) else "block-hash-unknown"
    return Defect(rule, str(error), place.cid)
