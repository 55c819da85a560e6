"""The values of UnixFS trees: files of any layout as blobs, and symbolic links. Read only.

The size of a file is what its topmost node claims. Reading believes no claim: a part that has other bytes
than its parent says is an error, so what is read is never shorter than the size, and never shifted.
"""

from collections.abc import Iterator
from typing import Any

from mstfs.codec.dag_pb import KIND_SYMLINK, Mtime
from mstfs.errors import LimitExceeded, NodeError, ReadOnly
from mstfs.limits import LOADED_BYTES
from mstfs.tree.node_cache import NodeCache
from mstfs.tree.unixfs import file as files
from mstfs.tree.unixfs.directory import is_raw
from mstfs.tree.unixfs.file import DIRECTORY, NANOS, SYMLINK, RawPart
from mstfs.tree.unixfs.node import FILES, UnixfsNode, content, decode
from mstfs.tree.unixfs.tree import UnixfsTree, cost_of
from mstfs.values.interface import (
    NO_ATTRIBUTES,
    Making,
    ReadRange,
    ValueAttributes,
    ValueKind,
    ValueOptions,
    Values,
)

_TIMES = range(-(1 << 63), 1 << 63)


class UnixfsValues(Values):
    """Each value is the CID of a file or a symbolic link; NodeError for that of a directory.

    The leaves that were read last are held, in at most about `options.cache_bytes` bytes: the kernel reads a
    file in pieces that are smaller than its blocks. Metadata nodes count as what they describe.
    """

    suffix = b""
    carries_attributes = True

    def __init__(self, tree: UnixfsTree, options: ValueOptions) -> None:
        self.tree = tree
        # Without the spare place, a block that is larger than its share would be read for each of its pieces.
        self._leaves: NodeCache[UnixfsNode] = NodeCache(options.cache_bytes, cost_of, spare=True)

    def _load(self, cid: bytes) -> UnixfsNode:
        node = self._leaves.get(cid)
        if node is None:
            node = self.tree.node(cid)
            if node.data and not node.links and node.kind in FILES:
                self._leaves.put(cid, node)
        return node

    def _attributes(self, cid: bytes) -> files.Attributes:
        # Those of a file or a symbolic link.
        told = files.attributes(self._load, cid)
        if told.kind == DIRECTORY:
            raise NodeError(cid, "not-a-file", "is a directory, not a file")
        return told

    # --- reading ------------------------------------------------------------------------------

    def kind(self, key: bytes, cid: bytes) -> ValueKind:
        if is_raw(cid):
            return "blob"
        return "symlink" if self._attributes(cid).kind == SYMLINK else "blob"

    def new_kind(self, key: bytes) -> ValueKind:
        return "blob"

    def portable(self, key: bytes, other: bytes) -> bool:
        return True

    def size(self, key: bytes, cid: bytes) -> int:
        return self.tree.blocks.length(cid) if is_raw(cid) else self._attributes(cid).size

    def read(self, key: bytes, cid: bytes, offset: int, length: int) -> bytes:
        node = content(self._load, cid)[1]
        if node.kind == KIND_SYMLINK:
            return node.data[offset : offset + length]
        return files.read(self._load, cid, offset, length, self.tree.expect_after(cid, offset, length))

    def raw_parts(self, key: bytes, cid: bytes, offset: int, most: int) -> list[RawPart]:
        if is_raw(cid):
            return [RawPart(0, self.tree.blocks.length(cid), cid)]
        return files.raw_parts(self._load, cid, offset, most)

    def attributes(self, key: bytes, cid: bytes) -> ValueAttributes:
        if is_raw(cid):
            return NO_ATTRIBUTES
        told = files.attributes(self._load, cid)
        return ValueAttributes(told.mode, _nanoseconds(told.mtime), told.kind == SYMLINK)

    def load(self, key: bytes, cid: bytes) -> Any:
        """The bytes of a file, or the target of a symbolic link. LimitExceeded for too many bytes."""
        size = self.size(key, cid)
        if size > LOADED_BYTES:
            raise LimitExceeded(f"a file of {size} bytes is too large for one value; read it in ranges")
        return self.read(key, cid, 0, size)

    def stored(self, cid: bytes) -> bytes:
        return self.tree.blocks.get(cid)

    def blocks(self, key: bytes, cid: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The blocks in pre-order, each once; errors come where the walk meets them."""
        top = cid
        if not is_raw(cid):
            self._attributes(cid)
            top = content(self._load, cid)[0]
            if top != cid:
                yield cid, self.tree.blocks.get(cid)
        seen: set[bytes] = set()
        stack = [top]
        while stack:
            below = stack.pop()
            if below in seen:
                continue
            seen.add(below)
            block = self.tree.blocks.get(below)
            node = decode(below, block)
            if node.kind not in FILES and below != top:
                raise NodeError(below, "file-child", "is linked as a part of a file, and is something else")
            yield below, block
            if node.kind in FILES:
                stack.extend(reversed(node.links))

    # --- writing ------------------------------------------------------------------------------

    def make(self, key: bytes, kind: ValueKind, read: ReadRange, size: int) -> Making:
        """ReadOnly: UnixFS trees cannot be changed."""
        raise ReadOnly("UnixFS trees can be read, not changed")

    def make_loaded(self, key: bytes, value: Any) -> Making:
        """ReadOnly: UnixFS trees cannot be changed."""
        raise ReadOnly("UnixFS trees can be read, not changed")


def _nanoseconds(time: Mtime | None) -> int | None:
    # Seconds are any 64 bits; what `stat` cannot show becomes the first or the last time that it can.
    if time is None:
        return None
    return min(max(time.seconds * NANOS + (time.nanos or 0), _TIMES[0]), _TIMES[-1])
