"""What turns one tree into another, by path.

Both trees are read side by side; what has the same CID on both sides is not read. Sharded directories are
compared shard by shard.
"""

from collections.abc import Iterable
from typing import NamedTuple

from mstfs.codec import cid as cids
from mstfs.codec.dag_pb import KIND_DIRECTORY
from mstfs.errors import LimitExceeded, MissingBlock, MissingBlocks, NodeError
from mstfs.limits import KEY_BYTES, NESTING, REPEATED
from mstfs.tree.interface import Change, TreeDiff
from mstfs.tree.unixfs.directory import HASH_BITS, directory, load_shard, slot_bits
from mstfs.tree.unixfs.file import DIRECTORY
from mstfs.tree.unixfs.node import Load, UnixfsNode, prefix_width
from mstfs.tree.unixfs.path import kind_of

_Pair = tuple[bytes | None, bytes | None]


class _Place(NamedTuple):
    """A path (with a slash in front) at which the trees differ, how deep it is, and what stands there."""

    path: bytes
    depth: int
    old: bytes | None
    new: bytes | None


def diff(load: Load, a: bytes, b: bytes) -> TreeDiff:
    """The changed entries, and the blocks that were found where the trees differ.

    Entries are files and symbolic links; an empty directory that comes or goes shows in the blocks only.
    `created` holds the CIDs of all blocks (directories, shards, nodes and chunks of files) that were reached
    where `b` differs and not where `a` differs, `deleted` the other way round. A part that both trees have is
    not read: a block that such a part has as well (an equal file elsewhere) is in these sets all the same. So
    `created` is enough to complete `a` to `b`, but `deleted` is no licence to drop blocks.

    Raises MissingBlocks with all blocks that are missing, as far as the blocks that are there can name them.
    """
    run = _Run(load)
    stack = [_Place(b"", 0, a, b)] if a != b else []
    while stack:
        stack.extend(run.compare(stack.pop()))
    if run.missing:
        raise MissingBlocks(run.missing)
    changes = tuple(sorted(run.changes))
    old, new = run.blocks
    return TreeDiff(changes, frozenset(new - old), frozenset(old - new))


class _Run:
    """One comparison: what was found so far."""

    def __init__(self, load: Load) -> None:
        self.changes: list[Change] = []
        self.blocks: tuple[set[bytes], set[bytes]] = set(), set()
        self.missing: dict[bytes, None] = {}
        self._load = load
        self._seen: set[_Pair] = set()
        self._repeated = 0

    def compare(self, place: _Place) -> list[_Place]:
        """Take in what differs at one place; returns the places below it that differ."""
        path, depth, old, new = place
        if depth > NESTING or len(path) > KEY_BYTES:
            raise LimitExceeded(f"directories are nested deeper than {NESTING} or {KEY_BYTES} bytes")
        folders: list[bytes | None] = []
        leaves: list[bytes | None] = []
        for cid, blocks in zip((old, new), self.blocks, strict=True):
            try:
                # A block of another codec is no part of the file system, and still something that changed.
                is_folder = (
                    cid is not None
                    and cids.codec_of(cid) == cids.DAG_PB
                    and kind_of(self._load, cid) == DIRECTORY
                )
            except MissingBlock as error:
                self.missing[error.cid] = None
                continue
            folders.append(cid if is_folder else None)
            leaves.append(None if is_folder else cid)
            if cid is not None and not is_folder:
                self._collect(cid, blocks)
        if len(leaves) < 2:
            return []
        if leaves[0] != leaves[1]:
            self.changes.append(Change(path[1:], leaves[0], leaves[1]))
        if folders == [None, None]:
            return []
        return self._compare_folders(path, depth, (folders[0], folders[1]))

    def _compare_folders(self, path: bytes, depth: int, pair: _Pair) -> list[_Place]:
        dirents: tuple[dict[bytes, bytes], dict[bytes, bytes]] = {}, {}
        self._compare_directories(pair, dirents)
        old, new = dirents
        below = [
            _Place(path + b"/" + name, depth + 1, old.get(name), new.get(name))
            for name in old.keys() | new.keys()
            if old.get(name) != new.get(name)
        ]
        for name in (*old, *new):
            if not name or b"/" in name:
                bad = pair[0] if name in old else pair[1]
                raise NodeError(bad or b"", "entry-name", "has a name that is empty or holds a slash")
        if pair in self._seen:
            self._repeated += len(below) + 1
            if self._repeated > REPEATED:
                raise LimitExceeded(f"the same directories come again with more than {REPEATED} names")
        self._seen.add(pair)
        return below

    def _compare_directories(
        self, pair: _Pair, dirents: tuple[dict[bytes, bytes], dict[bytes, bytes]]
    ) -> None:
        # Fill in the dirents of two directories, but for those in equal sub-shards.
        seen: set[tuple[int, bytes | None]] = set()
        top = True
        stack = [(pair, HASH_BITS)]
        while stack:
            pair, left = stack.pop()
            subs: list[dict[bytes, bytes]] = [{}, {}]
            bits = 0
            for side, cid in enumerate(pair):
                if cid is None:
                    continue
                try:
                    node = directory(self._load, cid) if top else load_shard(self._load, cid)
                except MissingBlock as error:
                    self.missing[error.cid] = None
                    continue
                self.blocks[side].add(cid)
                subs[side] = _take(node, dirents[side])
                if node.fanout:
                    bits = max(bits, slot_bits(node.fanout))
            top = False
            if left - bits < 0:
                raise LimitExceeded("shards are nested deeper than the hash of a name has bits")
            for prefix in subs[0].keys() | subs[1].keys():
                below = subs[0].get(prefix), subs[1].get(prefix)
                if below[0] == below[1]:
                    continue
                for side, cid in enumerate(below):
                    if cid is not None and (side, cid) in seen:
                        raise NodeError(cid, "repeated-node", "is linked more than once")
                    seen.add((side, cid))
                stack.append((below, left - bits))

    def _collect(self, cid: bytes, blocks: set[bytes]) -> None:
        # All blocks of a file or symbolic link.
        stack = [cid]
        while stack:
            cid = stack.pop()
            if cid in blocks:
                continue
            blocks.add(cid)
            if cids.codec_of(cid) != cids.DAG_PB:
                continue
            try:
                stack.extend(self._load(cid).links)
            except MissingBlock as error:
                self.missing[error.cid] = None


def _take(node: UnixfsNode, dirents: dict[bytes, bytes]) -> dict[bytes, bytes]:
    # Put a node's dirents with the others, the first of equal names wins; returns its sub-shards by digits.
    rows: Iterable[tuple[bytes, bytes]] = zip(node.names, node.links, strict=True)
    if node.kind == KIND_DIRECTORY:
        for name, cid in rows:
            dirents.setdefault(name, cid)
        return {}
    subs: dict[bytes, bytes] = {}
    width = prefix_width(node.fanout)
    for name, cid in rows:
        if len(name) > width:
            dirents.setdefault(name[width:], cid)
        else:
            subs.setdefault(name, cid)
    return subs
