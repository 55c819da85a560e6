"""The values of a sharded Zarr store: metadata and chunks, each a block or a UnixFS file. Read only."""

from collections.abc import Iterator

from mstfs.codec import cid as cids
from mstfs.errors import LimitExceeded, ReadOnly
from mstfs.limits import LOADED_BYTES
from mstfs.tree.sharded.tree import ShardedTree
from mstfs.tree.unixfs.file import RawPart
from mstfs.values.cache import ByteCache
from mstfs.values.interface import (
    NO_ATTRIBUTES,
    Making,
    ReadRange,
    ValueAttributes,
    ValueKind,
    ValueOptions,
    Values,
)
from mstfs.values.sources import Stored


class BlobValues(Values):
    """Each value is a blob: the content of a UnixFS file where its CID is dag-pb, else the block itself."""

    suffix = b""

    def __init__(self, tree: ShardedTree, options: ValueOptions) -> None:
        self.tree = tree
        self.cache = ByteCache[bytes](options.cache_bytes)
        self._stored = Stored(tree.blocks, self.cache)

    def kind(self, key: bytes, cid: bytes) -> ValueKind:
        return "blob"

    def portable(self, key: bytes, other: bytes) -> bool:
        return True

    def new_kind(self, key: bytes) -> ValueKind:
        return "blob"

    def size(self, key: bytes, cid: bytes) -> int:
        return self._stored.source(cid).size

    def read(self, key: bytes, cid: bytes, offset: int, length: int) -> bytes:
        return self._stored.source(cid).read(offset, length)

    def raw_parts(self, key: bytes, cid: bytes, offset: int, most: int) -> list[RawPart]:
        return self._stored.raw_parts(cid, offset, most)

    def attributes(self, key: bytes, cid: bytes) -> ValueAttributes:
        return NO_ATTRIBUTES

    def load(self, key: bytes, cid: bytes) -> bytes:
        """The bytes. LimitExceeded for too many."""
        size = self.size(key, cid)
        if size > LOADED_BYTES:
            raise LimitExceeded(f"a file of {size} bytes is too large for one value; read it in ranges")
        return self.read(key, cid, 0, size)

    def stored(self, cid: bytes) -> bytes:
        return self.tree.blocks.get(cid)

    def blocks(self, key: bytes, cid: bytes) -> Iterator[tuple[bytes, bytes]]:
        if cids.codec_of(cid) == cids.DAG_PB:
            yield from self._stored.unixfs.nodes(cid)
        elif cids.identity_data(cid) is None:
            yield cid, self.tree.blocks.get(cid)

    def make(self, key: bytes, kind: ValueKind, read: ReadRange, size: int) -> Making:
        """ReadOnly: sharded Zarr stores cannot be changed."""
        raise ReadOnly("sharded Zarr stores can be read, not changed")

    def make_loaded(self, key: bytes, value: object) -> Making:
        """ReadOnly: sharded Zarr stores cannot be changed."""
        raise ReadOnly("sharded Zarr stores can be read, not changed")
