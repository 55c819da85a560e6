"""Blocks as Kubo writes them: files, directories, sharded directories, symbolic links.

What `ipfs add --cid-version=1` does: chunks of a fixed size as raw leaves, balanced trees of nodes with 174
links, a directory in one block until it is estimated to be too large, then in shards of 256 slots. The same
input always gives the same blocks and so the same root.

All builders are generators: they yield blocks as (CID, bytes), children before their parents, and return a
`Built`; `gather` drives one for a caller who keeps the blocks by a function. A block may come more than once.
A `mode` (permission bits) and an `mtime` are written where they are given: an absent one is not 0.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Literal, NamedTuple, Protocol, TypeAlias

from mstfs.codec import cid as cids
from mstfs.codec import dag_pb
from mstfs.codec.dag_pb import (
    KIND_DIRECTORY,
    KIND_FILE,
    KIND_SHARD,
    KIND_SYMLINK,
    Mtime,
    PBLink,
    PBNode,
    UnixfsData,
)
from mstfs.errors import Refused
from mstfs.limits import BLOCK_BYTES, NODE_BYTES
from mstfs.tree.unixfs.directory import HASH_BITS, Dirent, slot_bits
from mstfs.tree.unixfs.file import NANOS
from mstfs.tree.unixfs.murmur3 import murmur3
from mstfs.tree.unixfs.node import MURMUR3, PREFIXES, slot_prefix

CHUNK_BYTES = 262144
"""Kubo's chunks; later profiles have 1048576."""

LINKS_PER_NODE = 174
"""Links in a node of a file; later profiles of Kubo have 1024."""

FANOUT = 256

DIRECTORY_BYTES = 256 << 10
"""A directory whose estimate is greater is sharded."""

_ROOM = 64
"""Bytes that a node takes for a file beside its content, with a margin."""

Estimate: TypeAlias = Literal["links", "block"]
"""How large a directory is thought to be: the bytes of its names and CIDs, or those of its block."""


class Readable(Protocol):
    """What content comes from: any open file or stream."""

    def read(self, size: int, /) -> bytes:
        """The next bytes, fewer than `size` if there are no more by now; none at the end."""
        ...


class Built(NamedTuple):
    """What a builder made: the root, the bytes of content, and the bytes of all blocks (the Tsize)."""

    cid: bytes
    size: int
    tsize: int


Blocks: TypeAlias = Generator[tuple[bytes, bytes], None, Built]


def time_of(ns: int) -> Mtime:
    """A time in nanoseconds since 1970 as UnixFS has it; nanoseconds that are 0 are not written."""
    seconds, nanos = divmod(ns, NANOS)
    return Mtime(seconds, nanos or None)


def gather(blocks: Blocks, put: Callable[[bytes, bytes], object]) -> Built:
    """Run a builder to its end; each block goes to `put`."""
    while True:
        try:
            cid, block = next(blocks)
        except StopIteration as end:
            built: Built = end.value
            return built
        put(cid, block)


# --- files ------------------------------------------------------------------------------------


def build_file(
    source: Readable,
    chunk_bytes: int = CHUNK_BYTES,
    hash_code: int = cids.SHA2_256,
    links_per_node: int = LINKS_PER_NODE,
    mode: int | None = None,
    mtime: Mtime | None = None,
) -> Blocks:
    """A file out of a stream; holds two chunks and the links of one node of each level at a time.

    A file of at most one chunk is one raw block; with a mode or a time, which such a block cannot carry, it
    is one DAG-PB block. Refused for a size that makes no sense, CidError for a hash function that is not
    supported.
    """
    if not 0 < chunk_bytes <= BLOCK_BYTES or links_per_node < 2:
        raise Refused(f"a file cannot have chunks of {chunk_bytes} bytes and {links_per_node} links a node")
    chunk = _read_fully(source, chunk_bytes)
    following = _read_fully(source, chunk_bytes) if len(chunk) == chunk_bytes else b""
    plain = mode is None and mtime is None
    if not following and not plain and len(chunk) <= NODE_BYTES - _ROOM:
        message = UnixfsData(KIND_FILE, chunk or None, len(chunk), mode=mode, mtime=mtime)
        cid, block = _block((), message, hash_code)
        yield cid, block
        return Built(cid, len(chunk), len(block))
    levels: list[list[Built]] = [[]]
    while True:
        cid = cids.for_block(chunk, cids.RAW, hash_code)
        yield from _make_room(levels, 0, links_per_node, hash_code)
        yield cid, chunk
        levels[0].append(Built(cid, len(chunk), len(chunk)))
        if not following:
            break
        chunk = following
        following = _read_fully(source, chunk_bytes) if len(chunk) == chunk_bytes else b""
    # What is left over goes up level by level; a lone node on top is the root.
    height = 0
    while height + 1 < len(levels) or len(levels[height]) > 1:
        if height + 1 == len(levels):
            yield from _go_up(levels, height, hash_code, mode, mtime)
        elif levels[height]:
            yield from _make_room(levels, height + 1, links_per_node, hash_code)
            yield from _go_up(levels, height, hash_code)
        height += 1
    if height == 0 and not plain:
        yield from _go_up(levels, 0, hash_code, mode, mtime)
        height = 1
    return levels[height][0]


def _read_fully(source: Readable, size: int) -> bytes:
    # A pipe or a socket gives less than it is asked for, long before its end.
    data = source.read(size)
    if len(data) == size or not data:
        return data
    parts = [data]
    left = size - len(data)
    while left:
        data = source.read(left)
        if not data:
            break
        parts.append(data)
        left -= len(data)
    return b"".join(parts)


def _make_room(
    levels: list[list[Built]], height: int, links_per_node: int, hash_code: int
) -> Generator[tuple[bytes, bytes], None, None]:
    # A level goes up as one node once it is full and one more comes, so that the last node is the root.
    top = height
    while top < len(levels) and len(levels[top]) == links_per_node:
        top += 1
    for full in range(top - 1, height - 1, -1):
        yield from _go_up(levels, full, hash_code)


def _go_up(
    levels: list[list[Built]],
    height: int,
    hash_code: int,
    mode: int | None = None,
    mtime: Mtime | None = None,
) -> Generator[tuple[bytes, bytes], None, None]:
    # Make one node of what waits at a level, and let it wait at the next one.
    children = levels[height]
    size = sum(child.size for child in children)
    sizes = tuple([child.size for child in children])
    message = UnixfsData(KIND_FILE, filesize=size, blocksizes=sizes, mode=mode, mtime=mtime)
    links = tuple([PBLink(child.cid, b"", child.tsize) for child in children])
    cid, block = _block(links, message, hash_code)
    yield cid, block
    if height + 1 == len(levels):
        levels.append([])
    levels[height + 1].append(Built(cid, size, len(block) + sum(child.tsize for child in children)))
    children.clear()


def _block(links: tuple[PBLink, ...], message: UnixfsData, hash_code: int) -> tuple[bytes, bytes]:
    block = dag_pb.encode(PBNode(links, dag_pb.encode_data(message)))
    return cids.for_block(block, cids.DAG_PB, hash_code), block


# --- symbolic links and directories -----------------------------------------------------------


def build_symlink(
    target: bytes,
    hash_code: int = cids.SHA2_256,
    mode: int | None = None,
    mtime: Mtime | None = None,
) -> Blocks:
    """A symbolic link to `target`."""
    cid, block = _block((), UnixfsData(KIND_SYMLINK, target, mode=mode, mtime=mtime), hash_code)
    yield cid, block
    return Built(cid, len(target), len(block))


def build_directory(
    dirents: Iterable[Dirent],
    hash_code: int = cids.SHA2_256,
    directory_bytes: int = DIRECTORY_BYTES,
    estimate: Estimate = "links",
    mode: int | None = None,
    mtime: Mtime | None = None,
) -> Blocks:
    """A directory of dirents in strictly ascending order of their names, sharded if it is too large.

    Refused for names out of order, twice, empty or with a slash. The size of a directory is 0.
    """
    rows = list(dirents)
    previous = b""
    for row in rows:
        if row.name <= previous or b"/" in row.name:
            raise Refused("the names of a directory must ascend, and none is empty or holds a slash")
        previous = row.name
    links = tuple([PBLink(row.cid, row.name, row.tsize) for row in rows])
    estimated = sum(len(row.name) + len(row.cid) for row in rows)
    if estimated <= directory_bytes:
        cid, block = _block(links, UnixfsData(KIND_DIRECTORY, mode=mode, mtime=mtime), hash_code)
        if estimate == "links" or len(block) <= directory_bytes:
            yield cid, block
            return Built(cid, 0, len(block) + sum(row.tsize for row in rows))
    return (yield from build_sharded(rows, hash_code, mode=mode, mtime=mtime))


def build_sharded(
    dirents: Sequence[Dirent],
    hash_code: int = cids.SHA2_256,
    fanout: int = FANOUT,
    mode: int | None = None,
    mtime: Mtime | None = None,
) -> Blocks:
    """A sharded directory, whatever its size, of dirents in any order; names must differ.

    The topmost shard carries the mode and the time.

    Refused for two names that have the same hash, which no directory of UnixFS can hold.
    """
    if fanout not in PREFIXES:
        raise Refused(f"a shard cannot have {fanout} slots")
    rows = sorted([(murmur3(row.name), row) for row in dirents])
    return (yield from _shard(rows, HASH_BITS - slot_bits(fanout), fanout, hash_code, mode, mtime))


def _shard(
    rows: list[tuple[int, Dirent]],
    shift: int,
    fanout: int,
    hash_code: int,
    mode: int | None = None,
    mtime: Mtime | None = None,
) -> Blocks:
    # A shard of dirents that are sorted by hash and agree in the bits above its own. Each level takes
    # some of the 64 bits, so the recursion ends after eight levels of 256 slots.
    if shift < 0:
        raise Refused("two names of a directory are equal, or have the same hash")
    links: list[PBLink] = []
    field = 0
    at = 0
    while at < len(rows):
        slot = _slot(rows[at][0], shift, fanout)
        end = at + 1
        while end < len(rows) and _slot(rows[end][0], shift, fanout) == slot:
            end += 1
        prefix = slot_prefix(fanout, slot)
        if end - at == 1:
            name, cid, tsize = rows[at][1]
            links.append(PBLink(cid, prefix + name, tsize))
        else:
            below = yield from _shard(rows[at:end], shift - slot_bits(fanout), fanout, hash_code)
            links.append(PBLink(below.cid, prefix, below.tsize))
        field |= 1 << slot
        at = end
    bits = field.to_bytes(field.bit_length() + 7 >> 3, "big")
    message = UnixfsData(KIND_SHARD, bits or None, hash_type=MURMUR3, fanout=fanout, mode=mode, mtime=mtime)
    cid, block = _block(tuple(links), message, hash_code)
    yield cid, block
    return Built(cid, 0, len(block) + sum(link.tsize or 0 for link in links))


def _slot(hashed: int, shift: int, fanout: int) -> int:
    return hashed >> shift & fanout - 1
