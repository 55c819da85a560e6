"""One node of a UnixFS tree: its value, and what makes a block one.

Source: https://specs.ipfs.tech/unixfs. A node is a raw block, or a DAG-PB block whose data is a UnixFS
message; other DAG-PB blocks are none.
"""

from collections.abc import Callable
from itertools import accumulate
from typing import NamedTuple, TypeAlias

from mstfs.codec import cid as cids
from mstfs.codec import dag_pb
from mstfs.codec.dag_pb import (
    KIND_DIRECTORY,
    KIND_FILE,
    KIND_METADATA,
    KIND_RAW,
    KIND_SHARD,
    KIND_SYMLINK,
    Mtime,
    PBNode,
    UnixfsData,
)
from mstfs.errors import CidError, DagPbError, LimitExceeded, NodeError
from mstfs.limits import FILE_BYTES, SHARD_SLOTS

FANOUT_LEAST = 8
"""Slots in a shard are a power of two, at least these and at most SHARD_SLOTS. Kubo writes 256."""

MURMUR3 = 0x22
"""The multicodec of the only hash function that UnixFS knows for names."""

FILES = frozenset((KIND_RAW, KIND_FILE))
DIRECTORIES = frozenset((KIND_DIRECTORY, KIND_SHARD))


class UnixfsNode(NamedTuple):
    """A decoded node.

    `links`, `names` and `tsizes` are as long as each other; an absent name is empty, an absent Tsize 0.
    `data` is the file's own content, the target of a symbolic link or the bit field of a shard. For files
    `ends` holds the offset in the file behind each link's content, counted from this node's start, and
    `size` all bytes below this node; both are claims. `fanout` and `hash_type` are those of shards, else 0.
    `mode` and `mtime` are as they were written, or None.
    """

    kind: int
    data: bytes
    links: tuple[bytes, ...] = ()
    names: tuple[bytes, ...] = ()
    tsizes: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()
    size: int = 0
    fanout: int = 0
    hash_type: int = 0
    mode: int | None = None
    mtime: Mtime | None = None


Load: TypeAlias = Callable[[bytes], UnixfsNode]
"""From a CID to the node; raises BlockError, NodeError or LimitExceeded."""

_HEX = {1: "%X", 2: "%02X", 3: "%03X"}


def prefix_width(fanout: int) -> int:
    """How many hexadecimal digits stand in front of each name in a shard."""
    return (fanout - 1).bit_length() + 3 >> 2


def slot_prefix(fanout: int, slot: int) -> bytes:
    """The digits of a slot: upper case, as wide as those of the last slot."""
    return (_HEX[prefix_width(fanout)] % slot).encode()


PREFIXES = {
    1 << bits: {slot_prefix(1 << bits, slot): slot for slot in range(1 << bits)} for bits in range(3, 11)
}
"""For each fanout the digits of every slot."""


def codec_of(cid: bytes) -> int:
    """The codec of a CID that was found in a node or given by a caller. NodeError if it is malformed."""
    try:
        return cids.codec_of(cid)
    except CidError as error:
        raise NodeError(cid, "codec", str(error)) from None


def decode(cid: bytes, block: bytes) -> UnixfsNode:
    """The node in a block.

    Raises NodeError with the rule that is broken (`codec`, `dag-pb`, `unixfs-data`, `file-links`,
    `file-size`, `shard-fanout`, `shard-name`), LimitExceeded for a node over the limits.
    """
    codec = codec_of(cid)
    if codec == cids.RAW:
        return UnixfsNode(KIND_RAW, block, size=len(block))
    if codec != cids.DAG_PB:
        raise NodeError(cid, "codec", f"has the codec {codec:#x}, which UnixFS does not use")
    try:
        node = dag_pb.decode(block)
    except LimitExceeded as error:
        raise LimitExceeded(f"node {cids.to_text(cid)}: {error}") from None
    except DagPbError as error:
        raise NodeError(cid, "dag-pb", str(error)) from None
    if node.data is None:
        raise NodeError(cid, "unixfs-data", "has no UnixFS message")
    try:
        message = dag_pb.decode_data(node.data)
    except LimitExceeded as error:
        raise LimitExceeded(f"node {cids.to_text(cid)}: {error}") from None
    except DagPbError as error:
        raise NodeError(cid, "unixfs-data", str(error)) from None
    return _assemble(cid, node, message)


def _assemble(cid: bytes, node: PBNode, message: UnixfsData) -> UnixfsNode:
    kind = message.kind
    data = message.data or b""
    links: tuple[bytes, ...] = ()
    names: tuple[bytes, ...] = ()
    tsizes: tuple[int, ...] = ()
    if node.links:
        links = tuple([link.cid for link in node.links])
        names = tuple([link.name or b"" for link in node.links])
        tsizes = tuple([link.tsize or 0 for link in node.links])
    ends: tuple[int, ...] = ()
    size = 0
    fanout = 0
    if kind in FILES:
        ends, size = _extents(cid, len(links), len(data), message)
    elif kind == KIND_SYMLINK:
        size = len(data)
    elif kind == KIND_SHARD:
        fanout = message.fanout or 0
        table = PREFIXES.get(fanout)
        if table is None:
            reason = (
                f"is a shard of {fanout} slots, not of a power of two from {FANOUT_LEAST} to {SHARD_SLOTS}"
            )
            raise NodeError(cid, "shard-fanout", reason)
        width = prefix_width(fanout)
        if not table.keys() >= {name[:width] for name in names}:
            raise NodeError(cid, "shard-name", "is a shard with a link whose name does not begin with a slot")
    hash_type = message.hash_type or 0
    return UnixfsNode(
        kind, data, links, names, tsizes, ends, size, fanout, hash_type, message.mode, message.mtime
    )


def _extents(cid: bytes, links: int, own: int, message: UnixfsData) -> tuple[tuple[int, ...], int]:
    # Where the content of each link ends, and the size of the whole.
    sizes = message.blocksizes
    if len(sizes) != links:
        raise NodeError(cid, "file-links", f"is a file of {links} links and {len(sizes)} block sizes")
    offsets = list(accumulate(sizes, initial=own))
    size = offsets[-1]
    if size > FILE_BYTES:
        raise NodeError(cid, "file-size", f"claims {size} bytes, more than a file can have")
    if message.filesize is not None and message.filesize != size:
        reason = f"is a file that claims {message.filesize} bytes, and {size} bytes in its parts"
        raise NodeError(cid, "file-size", reason)
    return tuple(offsets[1:]), size


def content(load: Load, cid: bytes) -> tuple[bytes, UnixfsNode]:
    """The node that `cid` stands for, with its CID: itself, or the file that a metadata node describes."""
    node = load(cid)
    if node.kind == KIND_METADATA:
        # A metadata node describes something by its first link. Nobody writes them any more.
        if not node.links:
            raise NodeError(cid, "metadata", "is a metadata node without a link to what it describes")
        cid = node.links[0]
        node = load(cid)
        if node.kind == KIND_METADATA:
            raise NodeError(cid, "metadata", "is a metadata node that describes a metadata node")
    return cid, node
