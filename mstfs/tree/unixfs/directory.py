"""Directories: listing them and looking up a name, in one block or spread over shards.

Source: https://specs.ipfs.tech/unixfs, sections on directories. In a shard each link's name begins with the
digits of its slot; digits alone link a sub-shard, else the dirent's name follows. The slots of a name, from
the topmost shard down, are the bits of its murmur3 hash from the most significant one on.

Nothing here believes the bit field of a shard, or that a name stands where its hash says: the names tell what
there is, as they do for every other reader. Looking up follows the hash and so reads one path.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, cast

from mstfs.codec import cid as cids
from mstfs.codec.dag_pb import KIND_DIRECTORY, KIND_SHARD
from mstfs.errors import MissingBlock, MissingBlocks, NodeError
from mstfs.tree.interface import UNREADABLE, OnMissing
from mstfs.tree.unixfs.murmur3 import murmur3
from mstfs.tree.unixfs.node import (
    DIRECTORIES,
    MURMUR3,
    Load,
    UnixfsNode,
    content,
    prefix_width,
    slot_prefix,
)

HASH_BITS = 64
"""Bits of the hash of a name; a path of shards that takes more cannot be."""


class Dirent(NamedTuple):
    """One name in a directory. `tsize` is what the directory claims that all blocks below take."""

    name: bytes
    cid: bytes
    tsize: int


_new_dirent = cast(Callable[[tuple[bytes, bytes, int]], Dirent], partial(tuple.__new__, Dirent))


def directory(load: Load, cid: bytes) -> UnixfsNode:
    """The topmost node of a directory. NodeError if `cid` is something else."""
    node = content(load, cid)[1]
    if node.kind not in DIRECTORIES:
        raise NodeError(cid, "not-a-directory", "is no directory")
    return node


def slot_bits(fanout: int) -> int:
    """Bits of the hash that a shard takes."""
    return fanout.bit_length() - 1


def lookup(load: Load, cid: bytes, name: bytes) -> bytes | None:
    """The CID under `name` in the directory `cid`, or None. Reads one path of shards.

    Raises NodeError if `cid` is no directory or a shard of it is broken, BlockError if one cannot be had.
    """
    node = directory(load, cid)
    if node.kind == KIND_DIRECTORY:
        # Two equal names: the first wins.
        return node.links[node.names.index(name)] if name in node.names else None
    if not name:
        return None  # In a shard, digits alone are a sub-shard.
    hashed = murmur3(name)
    left = HASH_BITS
    while True:
        if node.hash_type != MURMUR3:
            raise NodeError(cid, "shard-hash", f"is a shard of the unknown hash function {node.hash_type:#x}")
        left -= slot_bits(node.fanout)
        if left < 0:
            raise NodeError(cid, "shard-depth", "is a shard below the last bit of the hash")
        prefix = slot_prefix(node.fanout, hashed >> left & node.fanout - 1)
        if prefix + name in node.names:
            return node.links[node.names.index(prefix + name)]
        if prefix not in node.names:
            return None
        cid = node.links[node.names.index(prefix)]
        node = load_shard(load, cid)


def load_shard(load: Load, cid: bytes) -> UnixfsNode:
    """A shard below the topmost one. NodeError if the block is something else."""
    node = load(cid)
    if node.kind != KIND_SHARD:
        raise NodeError(cid, "shard-child", "hangs below a shard and is no shard")
    return node


def entries(load: Load, cid: bytes, on_missing: OnMissing | None = None) -> Iterator[Dirent]:
    """The dirents of the directory `cid`, each name once, in the order of its blocks; children are not read.

    The order is that of the links: by name for a plain directory, by hash for a sharded one. A shard that
    could not be read is told to `on_missing` and left out. Without it, broken shards are raised where they
    come, and missing ones as MissingBlocks with all that is missing, after everything else was listed.
    """
    node = directory(load, cid)
    if node.kind == KIND_DIRECTORY:
        seen: set[bytes] = set()
        for dirent in map(_new_dirent, zip(node.names, node.links, node.tsizes, strict=True)):
            if dirent.name not in seen:
                seen.add(dirent.name)
                yield dirent
        return
    missing: dict[bytes, None] = {}
    yield from _sharded(load, cid, node, on_missing, missing)
    if missing:
        raise MissingBlocks(missing)


def _sharded(
    load: Load, cid: bytes, top: UnixfsNode, on_missing: OnMissing | None, missing: dict[bytes, None]
) -> Iterator[Dirent]:
    seen: set[bytes] = set()
    # A shard holds the names of one range of hashes, so an honest directory never links one twice;
    # refusing the second bounds the listing by what was really read.
    shards = {cid}
    stack = [(top, 0, HASH_BITS - slot_bits(top.fanout))]
    while stack:
        node, at, left = stack.pop()
        width = prefix_width(node.fanout)
        names, links, tsizes = node.names, node.links, node.tsizes
        while at < len(names):
            name = names[at][width:]
            at += 1
            if name:
                if name not in seen:
                    seen.add(name)
                    yield _new_dirent((name, links[at - 1], tsizes[at - 1]))
                continue
            below = links[at - 1]
            try:
                if below in shards:
                    raise NodeError(below, "repeated-node", "is linked more than once")
                shards.add(below)
                child = load_shard(load, below)
                left_below = left - slot_bits(child.fanout)
                if left_below < 0:
                    raise NodeError(below, "shard-depth", "is a shard below the last bit of the hash")
            except UNREADABLE as error:
                if on_missing is not None:
                    on_missing(error)
                elif isinstance(error, MissingBlock):
                    missing[below] = None
                else:
                    raise
                continue
            stack.append((node, at, left))
            node, at, left = child, 0, left_below
            width = prefix_width(node.fanout)
            names, links, tsizes = node.names, node.links, node.tsizes


class Listing(NamedTuple):
    """The dirents of one directory in the order of their names; only names that can stand in a path."""

    names: list[bytes]
    cids: list[bytes]


def listing(load: Load, cid: bytes, on_missing: OnMissing | None = None) -> Listing:
    """The directory `cid` by name.

    `on_missing` as in `entries`; it is also told of names that are empty or hold a slash, with NodeError.
    """
    rows = sorted([(name, child) for name, child, _ in entries(load, cid, on_missing)])
    names = [row[0] for row in rows]
    if names and (not names[0] or b"/" in b"".join(names)):
        error = NodeError(cid, "entry-name", "has a name that is empty or holds a slash, so it has no path")
        if on_missing is None:
            raise error
        on_missing(error)
        rows = [row for row in rows if row[0] and b"/" not in row[0]]
        names = [row[0] for row in rows]
    return Listing(names, [row[1] for row in rows])


def is_raw(cid: bytes) -> bool:
    """Whether a CID names a raw block, which is a file without looking."""
    return cid[:2] == b"\x01\x55" or cids.codec_of(cid) == cids.RAW
