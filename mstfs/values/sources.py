"""What a value is stored as, as something that can be read by ranges: a block, a UnixFS file, bytes."""

from typing import Protocol

from mstfs.blocks.interface import BlockReader
from mstfs.codec import cid as cids
from mstfs.errors import Refused
from mstfs.tree.unixfs.file import RawPart, raw_parts
from mstfs.tree.unixfs.tree import UnixfsTree
from mstfs.values.cache import ByteCache
from mstfs.values.interface import ReadRange

_SMALL_BYTES = 64 << 10
"""A block up to this size is read again as cheaply as it is held."""

_NODES_BYTES = 8 << 20
"""Memory for the decoded nodes of UnixFS files."""


class Source(Protocol):
    """Bytes that can be read by ranges. Raises what block readers raise, and NodeError for no file."""

    @property
    def size(self) -> int:
        """The number of bytes."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """A range; shorter than `length` only at the end."""
        ...


class BytesSource(Source):
    """Bytes that are there."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size(self) -> int:
        return len(self._data)

    def read(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]


class BlockSource(Source):
    """A block. A large one of which a part was read goes into the cache, as the rest is what comes next."""

    def __init__(self, blocks: BlockReader, cache: ByteCache[bytes], cid: bytes) -> None:
        self._blocks = blocks
        self._cache = cache
        self._cid = cid

    @property
    def size(self) -> int:
        return self._blocks.length(self._cid)

    def read(self, offset: int, length: int) -> bytes:
        data = self._cache.get(self._cid)
        if data is None:
            data = self._blocks.get(self._cid)
            if len(data) > length and len(data) > _SMALL_BYTES:
                self._cache.put(self._cid, data)
        return data if length >= len(data) and not offset else data[offset : offset + length]


class UnixfsSource(Source):
    """A UnixFS file; its size is what it claims."""

    def __init__(self, tree: UnixfsTree, cid: bytes) -> None:
        self._tree = tree
        self._cid = cid

    @property
    def size(self) -> int:
        return self._tree.size(self._cid)

    def read(self, offset: int, length: int) -> bytes:
        return self._tree.read(self._cid, offset, length)


class Stored:
    """The values of a tree as they are stored, read from its blocks."""

    def __init__(self, blocks: BlockReader, cache: ByteCache[bytes]) -> None:
        self.unixfs = UnixfsTree(blocks, cache_bytes=_NODES_BYTES)
        self._blocks = blocks
        self._cache = cache

    def source(self, cid: bytes) -> Source:
        """What a CID names: the content of a UnixFS file where its codec is dag-pb, else a block."""
        if cids.codec_of(cid) == cids.DAG_PB:
            return UnixfsSource(self.unixfs, cid)
        return BlockSource(self._blocks, self._cache, cid)

    def raw_parts(self, cid: bytes, offset: int, most: int) -> list[RawPart]:
        """As `Values.raw_parts`, of what a CID names."""
        if cids.codec_of(cid) == cids.DAG_PB:
            return raw_parts(self.unixfs.node, cid, offset, most)
        return [RawPart(0, self._blocks.length(cid), cid)]

    def whole(self, cid: bytes) -> bytes:
        """All of what a CID names."""
        if cids.codec_of(cid) != cids.DAG_PB:
            return self._blocks.get(cid)
        source = UnixfsSource(self.unixfs, cid)
        return source.read(0, source.size)


class RangeStream:
    """The bytes `head`, then the `size` bytes that `read` gives, one after the other."""

    def __init__(self, head: bytes, read: ReadRange, size: int) -> None:
        self._head = head
        self._read = read
        self._size = size
        self._at = -len(head)

    def read(self, size: int, /) -> bytes:
        """The next `size` bytes, fewer only at the end. Refused where `read` gives too few."""
        end = min(self._at + size, self._size)
        behind = len(self._head) + self._at
        data = self._head[behind : behind + size] if self._at < 0 else b""
        start = self._at + len(data)
        if start < end:
            data += self._exactly(start, end - start)
        self._at = max(end, self._at)
        return data

    def _exactly(self, offset: int, length: int) -> bytes:
        data = self._read(offset, length)
        if len(data) != length:
            # The head has said already how many bytes there are.
            raise Refused(f"a file of {self._size} bytes has become shorter while it was read")
        return data


def whole(head: bytes, read: ReadRange, size: int) -> bytes:
    """The bytes `head` and all `size` bytes of a file. Refused if it is shorter."""
    return RangeStream(head, read, size).read(len(head) + size)
